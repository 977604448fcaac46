package sandbox

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Snapshot is what stands beneath a directory, by path: for each the kind, the
// permissions, the size and the digest, or where a symlink leads, and perhaps the
// time. Two directories of equal snapshots are the same to whoever reads them.
type Snapshot map[string]string

// TakeSnapshot reads all that is beneath dir but the paths for which leave is
// true.
func TakeSnapshot(dir string, leave func(path string) bool) (Snapshot, error) {
	return TakeDated(dir, leave, func(string) bool { return false })
}

// TakeDated is TakeSnapshot with the time of the last modification of the paths for
// which dated is true.
func TakeDated(dir string, leave, dated func(path string) bool) (Snapshot, error) {
	s := Snapshot{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || leave(rel) {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s[rel], err = describe(path, info)
		if dated(rel) {
			s[rel] += ", of " + info.ModTime().UTC().Format(time.RFC3339Nano)
		}
		return err
	})
	return s, err
}

func describe(path string, info fs.FileInfo) (string, error) {
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		to, err := os.Readlink(path)
		return "-> " + to, err
	case 0:
		content, err := os.ReadFile(path)
		return fmt.Sprintf("%v %d bytes %x", info.Mode(), len(content), sha256.Sum256(content)), err
	}
	return info.Mode().String(), nil
}

// Differ says how the snapshot differs from the one wanted. "" is not at all.
func (s Snapshot) Differ(want Snapshot) string {
	all := s.broken(want)
	for _, path := range slices.Sorted(maps.Keys(s)) {
		if _, ok := want[path]; !ok {
			all = append(all, fmt.Sprintf("%q should not be there", path))
		}
	}
	return some(all)
}

// Lacks is Differ for what may hold more than is wanted.
func (s Snapshot) Lacks(want Snapshot) string { return some(s.broken(want)) }

// broken says what is missing and what is other than wanted.
func (s Snapshot) broken(want Snapshot) (all []string) {
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if found, ok := s[path]; !ok {
			all = append(all, fmt.Sprintf("%q is missing", path))
		} else if found != want[path] {
			all = append(all, fmt.Sprintf("%q is %s, want %s", path, found, want[path]))
		}
	}
	return all
}

// some joins as many as it takes to see what is wrong.
func some(all []string) string {
	const enough = 5
	if n := len(all) - enough; n > 0 {
		all = append(all[:enough:enough], fmt.Sprintf("and %d more", n))
	}
	return strings.Join(all, "; ")
}
