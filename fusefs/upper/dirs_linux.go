package upper

import (
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The directories that are kept open are a small part of the descriptors that the
// process may have: all of maxDirs where these are 1,024, as they are by default.
const (
	maxDirs  = 128
	dirShare = 8
)

// dirLimit returns how many directories are kept open by a process that may have so
// many descriptors.
func dirLimit(descriptors uint64) int { return int(min(max(descriptors/dirShare, 1), maxDirs)) }

// dirs keeps directories open by path, as places only (O_PATH): a system call
// then walks one name. What a path leads to changes only by a move, which forgets it.
type dirs struct {
	root   int
	limit  int // of open
	mu     sync.Mutex
	open   map[string]*dir
	pinned map[string]*dir // of the side area: never forgotten
}

// A dir is an open directory, closed when it is forgotten and not in use.
type dir struct {
	fd        int
	pinned    bool
	users     int
	forgotten bool
}

func newDirs(root int) dirs {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		l.Cur = 0 // the least is slow, and right
	}
	return dirs{
		root:   root,
		limit:  dirLimit(l.Cur),
		open:   make(map[string]*dir),
		pinned: map[string]*dir{".": {fd: root, pinned: true}},
	}
}

// pin keeps a directory open until the end.
func (t *dirs) pin(path string, fd int) { t.pinned[path] = &dir{fd: fd, pinned: true} }

// acquire returns the directory at path, to be released.
func (t *dirs) acquire(path string) (*dir, error) {
	if d := t.pinned[path]; d != nil {
		return d, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.open[path]; d != nil {
		d.users++
		return d, nil
	}
	if t.open == nil {
		return nil, unix.EBADF
	}
	fd, err := openBeneath(t.root, path)
	if err != nil {
		return nil, err
	}
	if len(t.open) >= t.limit {
		for other := range t.open { // any: maps are walked in no order
			t.drop(other)
			break
		}
	}
	d := &dir{fd: fd, users: 1}
	t.open[path] = d
	return d, nil
}

// release gives back what acquire returned.
func (t *dirs) release(d *dir) {
	if d.pinned {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d.users--
	if d.forgotten && d.users == 0 {
		unix.Close(d.fd)
	}
}

// forget forgets a directory and all below it, for path leads elsewhere now.
func (t *dirs) forget(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.open {
		if within(p, path) {
			t.drop(p)
		}
	}
}

// drop forgets one directory. mu is held.
func (t *dirs) drop(path string) {
	d := t.open[path]
	delete(t.open, path)
	d.forgotten = true
	if d.users == 0 {
		unix.Close(d.fd)
	}
}

// close closes all that nobody uses; the rest goes with its last user.
func (t *dirs) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.open {
		t.drop(p)
	}
	t.open = nil
	for _, d := range t.pinned {
		unix.Close(d.fd)
	}
	t.pinned = nil
}

// pathMax is how long a path the kernel takes at once, its end not counted (PATH_MAX).
const pathMax = 4095

// openBeneath opens a directory as a place, in as many calls as the length of its path takes.
func openBeneath(at int, path string) (int, error) {
	for from := at; ; {
		head, rest := cutPath(path)
		fd, err := openPlace(from, head, unix.O_DIRECTORY)
		if from != at {
			unix.Close(from)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		from, path = fd, rest
	}
}

// cutPath cuts a path at a slash where the kernel can take its head.
func cutPath(path string) (head, rest string) {
	if len(path) <= pathMax {
		return path, ""
	}
	i := strings.LastIndexByte(path[:pathMax+1], '/')
	if i < 0 {
		return path, "" // one name: the kernel says ENAMETOOLONG
	}
	return path[:i], path[i+1:]
}

// openPlace opens what path leads to below at, without a link or another mount on the way.
func openPlace(at int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(at, path, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// in calls f with the directory of path and the name there.
func (d *Dir) in(path string, f func(dir int, name string) error) error {
	parent, name := split(path)
	if name == ".." || name == "" || name == "." && path != "." {
		return unix.EINVAL
	}
	at, err := d.dirs.acquire(parent)
	if err != nil {
		return err
	}
	defer d.dirs.release(at)
	return f(at.fd, name)
}

// pathError is what callers get of a failed system call.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// errno returns the error number in an error, EIO if it has none.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	if err == nil || errors.As(err, &e) {
		return e
	}
	return syscall.EIO
}
