package overlay

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A file is what a tree says of one name.
type file struct {
	mode    uint32
	nlink   uint64
	size    int64 // of all but folders, whose sizes differ between file systems
	mtime   time.Time
	content string // or target
	xattrs  string
	id      identity
}

// An identity tells a file from all others that ever were in its file system.
type identity struct {
	ino  uint64
	born unix.StatxTimestamp // zero where the file system doesn't know
}

// readTree returns what is in a folder, itself as ".".
func readTree(dir string) (map[string]file, error) {
	tree := make(map[string]file)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := readFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		tree[name] = f
		return err
	})
	return tree, err
}

func readFile(path string) (f file, err error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return file{}, fmt.Errorf("%s: %w", path, err)
	}
	f = file{mode: uint32(x.Mode), nlink: uint64(x.Nlink), size: int64(x.Size), mtime: time.Unix(x.Mtime.Sec, int64(x.Mtime.Nsec)), id: identity{ino: x.Ino}}
	if x.Mask&unix.STATX_BTIME != 0 {
		f.id.born = x.Btime
	}
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		f.size = 0
	case unix.S_IFLNK:
		f.content, err = os.Readlink(path)
	case unix.S_IFREG:
		var b []byte
		b, err = os.ReadFile(path)
		f.content = string(b)
	}
	if err != nil {
		return file{}, err
	}
	f.xattrs, err = readXattrs(path)
	return f, err
}

// readXattrs returns the user attributes of a file, one in a line.
func readXattrs(path string) (string, error) {
	p := make([]byte, 4096)
	n, err := unix.Llistxattr(path, p)
	if err != nil {
		return "", fmt.Errorf("attributes of %s: %w", path, err)
	}
	var lines []string
	for name := range strings.SplitSeq(strings.TrimRight(string(p[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return "", fmt.Errorf("attribute %s of %s: %w", name, path, err)
		}
		lines = append(lines, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// difference says in what a tree differs from the wanted one, "" in nothing.
// Times before since were set by somebody and have to be the same; later ones are
// those of changes, and have only to be later as well.
func difference(got, want map[string]file, since time.Time) string {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, there := got[name]
		w := want[name]
		switch {
		case !there:
			return fmt.Sprintf("%q is missing", name)
		case g.mode != w.mode:
			return fmt.Sprintf("%q has mode %o, want %o", name, g.mode, w.mode)
		case g.nlink != w.nlink:
			return fmt.Sprintf("%q has %d links, want %d", name, g.nlink, w.nlink)
		case g.size != w.size:
			return fmt.Sprintf("%q has %d bytes, want %d", name, g.size, w.size)
		case g.content != w.content:
			return fmt.Sprintf("%q holds %.60q, want %.60q", name, g.content, w.content)
		case g.xattrs != w.xattrs:
			return fmt.Sprintf("%q has the attributes %q, want %q", name, g.xattrs, w.xattrs)
		case w.mtime.Before(since) && !g.mtime.Equal(w.mtime):
			return fmt.Sprintf("%q was modified at %v, want %v", name, g.mtime, w.mtime)
		case !w.mtime.Before(since) && g.mtime.Before(since):
			return fmt.Sprintf("%q was modified at %v, want a time of the run, about %v", name, g.mtime, w.mtime)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			return fmt.Sprintf("%q is there, want nothing", name)
		}
	}
	return ""
}

// identities remember which inode number a file of the wanted tree has in the other
// one: each keeps its own for as long as the file lives.
type identities map[identity]uint64

// check says which file has lost its number, or has another's.
func (ids identities) check(got, want map[string]file) string {
	owner := make(map[uint64]identity)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		id, ino := want[name].id, got[name].id.ino
		if old, ok := ids[id]; ok && old != ino {
			return fmt.Sprintf("%q has inode number %#x, had %#x", name, ino, old)
		}
		if other, ok := owner[ino]; ok && other != id {
			return fmt.Sprintf("%q has inode number %#x, which is another file's", name, ino)
		}
		ids[id], owner[ino] = ino, id
	}
	return ""
}
