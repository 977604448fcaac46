package overlay

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An op is one thing done in a folder: to a path in it, mostly. What it means that
// its fields hold is its kind's business.
type op struct {
	Kind string
	A, B string
	N, M int
}

func (o op) String() string { return fmt.Sprintf("{%q, %q, %q, %d, %d}", o.Kind, o.A, o.B, o.N, o.M) }

// A world is a folder that ops are done in, with the files that are open.
type world struct {
	dir  string
	open [3]int // -1: none
}

func newWorld(dir string) *world { return &world{dir, [3]int{-1, -1, -1}} }

// close closes what is open.
func (w *world) close() {
	for i, fd := range w.open {
		unix.Close(fd)
		w.open[i] = -1
	}
}

// kinds are the ops that are done, each as often as it is written here, and what
// it answers besides the error.
var kinds = map[string]struct {
	often int
	do    func(w *world, o op) (string, error)
}{
	"create": {10, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, func(fd int) error { return write(fd, o.N, o.M, 0) })
	}},
	"write": {8, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_WRONLY, func(fd int) error { return write(fd, o.N, o.M, int64(o.N)) })
	}},
	"overwrite": {4, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, func(fd int) error { return write(fd, o.N, o.M, 0) })
	}},
	"append": {5, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_WRONLY|unix.O_APPEND, func(fd int) error { return write(fd, o.N, o.M, 0) })
	}},
	"map": {3, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_RDWR, func(fd int) error {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil || st.Size == 0 {
				return err
			}
			m, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			m[o.N%len(m)] = byte(o.M)
			return errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m))
		})
	}},
	"truncate": {3, func(w *world, o op) (string, error) { return "", unix.Truncate(w.path(o.A), int64(o.N)) }},
	"read": {5, func(w *world, o op) (string, error) {
		if st := w.stat(o.A); st.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Sprint(st.Mode), nil
		}
		b, err := os.ReadFile(w.path(o.A))
		return string(b), err
	}},
	"list": {3, func(w *world, o op) (string, error) {
		entries, err := os.ReadDir(w.path(o.A))
		var found []string
		for _, e := range entries {
			found = append(found, e.Name())
		}
		slices.Sort(found)
		return strings.Join(found, " "), err
	}},
	"mkdir":  {6, func(w *world, o op) (string, error) { return "", unix.Mkdir(w.path(o.A), 0o755) }},
	"rmdir":  {5, func(w *world, o op) (string, error) { return "", unix.Rmdir(w.path(o.A)) }},
	"unlink": {8, func(w *world, o op) (string, error) { return "", unix.Unlink(w.path(o.A)) }},
	"rm -r": {2, func(w *world, o op) (string, error) {
		// RemoveAll would open a fifo that is in a folder's place, and wait.
		if err := unix.Lstat(w.path(o.A), new(unix.Stat_t)); err != nil {
			return "", err
		}
		return "", os.RemoveAll(w.path(o.A))
	}},
	"link":                     {5, func(w *world, o op) (string, error) { return "", unix.Link(w.path(o.A), w.path(o.B)) }},
	"symlink":                  {3, func(w *world, o op) (string, error) { return "", unix.Symlink(o.A, w.path(o.B)) }},
	"fifo":                     {1, func(w *world, o op) (string, error) { return "", unix.Mkfifo(w.path(o.A), 0o600) }},
	"rename":                   {16, func(w *world, o op) (string, error) { return "", w.rename(o, 0) }},
	"rename without replacing": {3, func(w *world, o op) (string, error) { return "", w.rename(o, unix.RENAME_NOREPLACE) }},
	"exchange":                 {6, func(w *world, o op) (string, error) { return "", w.rename(o, unix.RENAME_EXCHANGE) }},
	"chmod": {4, func(w *world, o op) (string, error) {
		var st unix.Stat_t // of what a symlink leads to; whose folders stay open
		if err := unix.Stat(w.path(o.A), &st); err != nil {
			return "", err
		}
		modes := []uint32{0o644, 0o600, 0o444, 0o755}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			modes = []uint32{0o755, 0o700, 0o750, 0o1755}
		}
		return "", unix.Fchmodat(unix.AT_FDCWD, w.path(o.A), modes[o.N%len(modes)], 0)
	}},
	"utimes": {3, func(w *world, o op) (string, error) {
		ts := []unix.Timespec{{Sec: 900_000_000}, {Sec: int64(900_000_000 + o.N), Nsec: int64(o.M)}}
		return "", unix.UtimesNanoAt(unix.AT_FDCWD, w.path(o.A), ts, unix.AT_SYMLINK_NOFOLLOW)
	}},
	"setxattr": {2, func(w *world, o op) (string, error) {
		return "", unix.Lsetxattr(w.path(o.A), fmt.Sprint("user.", o.N%3), fmt.Append(nil, o.M), 0)
	}},
	"removexattr": {1, func(w *world, o op) (string, error) {
		return "", unix.Lremovexattr(w.path(o.A), fmt.Sprint("user.", o.N%3))
	}},
	"edit": {3, func(w *world, o op) (string, error) { // as editors do: beside it, then over it
		beside := o.A + "~"
		if err := w.with(beside, unix.O_CREAT|unix.O_WRONLY, func(fd int) error { return write(fd, o.N, o.M, 0) }); err != nil {
			return "", err
		}
		return "", w.rename(op{A: beside, B: o.A}, 0)
	}},
	"copy": {2, func(w *world, o op) (string, error) {
		return "", w.with(o.A, unix.O_RDONLY, func(from int) error {
			return w.with(o.B, unix.O_CREAT|unix.O_WRONLY, func(to int) error {
				_, err := unix.CopyFileRange(from, nil, to, nil, o.M, 0)
				return err
			})
		})
	}},
	"open": {6, func(w *world, o op) (string, error) {
		i := o.N % len(w.open)
		unix.Close(w.open[i])
		fd, err := unix.Open(w.path(o.A), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		w.open[i] = fd
		return "", err
	}},
	"write open": {5, func(w *world, o op) (string, error) { return "", write(w.open[o.N%3], o.N, o.M, int64(o.N)) }},
	"truncate open": {2, func(w *world, o op) (string, error) {
		return "", unix.Ftruncate(w.open[o.N%3], int64(o.N))
	}},
	"read open": {5, func(w *world, o op) (string, error) {
		p := make([]byte, 1<<16)
		n, err := unix.Pread(w.open[o.N%3], p, 0)
		return string(p[:max(n, 0)]), err
	}},
	"stat open": {4, func(w *world, o op) (string, error) {
		var st unix.Stat_t
		err := unix.Fstat(w.open[o.N%3], &st)
		return fmt.Sprintf("mode %o size %d nlink %d", st.Mode, st.Size, st.Nlink), err
	}},
	"sync open": {1, func(w *world, o op) (string, error) { return "", unix.Fsync(w.open[o.N%3]) }},
}

// do does an op and returns what it answers, the error's number included.
func (w *world) do(o op) string {
	said, err := kinds[o.Kind].do(w, o)
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case err != nil:
		return err.Error()
	}
	return "ok " + said
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) stat(name string) (st unix.Stat_t) {
	_ = unix.Lstat(w.path(name), &st) // the zero Stat_t is what is not there
	return st
}

func (w *world) rename(o op, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, w.path(o.A), unix.AT_FDCWD, w.path(o.B), flags)
}

// with opens a file for f. No fifo makes it wait.
func (w *world) with(name string, flags int, f func(fd int) error) error {
	fd, err := unix.Open(w.path(name), flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// write writes n bytes that a number tells.
func write(fd, number, n int, off int64) error {
	text := []byte(strings.Repeat(fmt.Sprintf("<%d,%d>", number, n), n/6+1))[:n]
	for {
		k, err := unix.Pwrite(fd, text, off)
		if err != nil || k == len(text) {
			return err
		}
		text, off = text[k:], off+int64(k)
	}
}

// components are few, so that ops meet.
var components = []string{"a", "b", "c", "d", "e"}

func randomPath(r *rand.Rand) string {
	path := components[r.IntN(len(components))]
	for range r.IntN(3) {
		path += "/" + components[r.IntN(len(components))]
	}
	return path
}

// start is what the folder holds at first. Some names are taken at every depth.
var start = map[string]string{
	"a/a":     "a file",
	"a/b/c":   "another file",
	"a/b/d":   strings.Repeat("a long one", 1500),
	"a/c":     "",
	"b/a":     "b's a",
	"b/d/a":   "deep",
	"b/d/e/a": "deeper",
	"c":       "top",
	"d":       strings.Repeat("middling ", 300),
}

// randomOps returns a sequence of n ops.
func randomOps(r *rand.Rand, n int) []op {
	var names []string // each as often as its kind is to be done
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for range kinds[name].often {
			names = append(names, name)
		}
	}
	ops := make([]op, n)
	for i := range ops {
		ops[i] = op{names[r.IntN(len(names))], randomPath(r), randomPath(r), r.IntN(9000), r.IntN(3000)}
	}
	return ops
}
