package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Root is an environment outside of the store whose files are symlinks into it.
// It stands for as long as the environment says of itself that it is that tree.
type Root struct {
	Dir  string        `json:"dir"` // absolute path
	Tree digest.Digest `json:"tree"`
}

const rootsFolder = "roots"

// AddRoot notes durably that the environment dir needs the blobs of a tree from now
// on. One that needed those of another tree before is a root of both, since only
// the caller knows when it is replaced.
func (s *Store) AddRoot(dir string, d digest.Digest) error {
	if err := s.Writable(); err != nil {
		return err
	}
	r := Root{dir, d}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(rootsFolder), 0o700); err != nil {
		return s.diskError(err)
	}
	if err := s.put(map[string][]byte{r.file(): append(text, '\n')}); err != nil {
		return fmt.Errorf("note that %q needs tree %v: %w", dir, d, err)
	}
	return nil
}

// file returns the name of the root's file: there is one for each pair.
func (r Root) file() string {
	return filepath.Join(rootsFolder, digest.Of([]byte(r.Dir+"\x00"+r.Tree.String())).String())
}

// Roots returns what was added.
func (s *Store) Roots() ([]Root, error) {
	entries, err := os.ReadDir(s.path(rootsFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.diskError(err)
	}
	var roots []Root
	for _, e := range entries {
		file := s.path(rootsFolder, e.Name())
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, s.diskError(err)
		}
		var r Root
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		roots = append(roots, r)
	}
	return roots, nil
}
