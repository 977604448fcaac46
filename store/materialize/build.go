package materialize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

// The modes of everything in a tree. See package tree.
const (
	dirMode  = 0o755
	fileMode = 0o644
	execMode = 0o755
)

// A builder writes one tree into one new directory.
type builder struct {
	ctx    context.Context
	tree   *tree.Tree
	src    Source
	mode   Mode
	dir    string
	chmod  bool // what is made doesn't get the mode that it is made with
	report *Report
	buf    []byte
}

// bufferSize holds nine in ten files of a wheel whole.
const bufferSize = 64 << 10

// build writes t into the new directory dir, with modes and times, in a mode that
// is not [Auto], and adds to r what it wrote. From, the environment that dir will
// replace, may be nil. Nothing is synced; see [durable]. When build fails, what it
// has written stays.
func build(ctx context.Context, t *tree.Tree, src Source, dir string, from *previous, mode Mode, o Options, r *Report) error {
	if mode != Copy {
		return fmt.Errorf("link mode %v: this sitefs has no such mode yet: use copy", mode)
	}
	root, err := t.Stat(tree.Root)
	if err != nil {
		return err
	}
	if err := retry(func() error { return unix.Mkdir(dir, dirMode) }); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	b := &builder{ctx: ctx, tree: t, src: src, mode: mode, dir: dir, report: r, buf: make([]byte, bufferSize)}
	return b.directory(fd, tree.Root, root)
}

// A previous is the environment that is being replaced.
type previous struct {
	tree *tree.Tree // what it was made from
	dir  string
	mode Mode // how it was made, never [Auto]
}

// directory fills the new, empty directory that is open as fd.
func (b *builder) directory(fd int, id tree.ID, a tree.Attr) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	b.report.Dirs++
	children, err := b.tree.Children(id)
	if err != nil {
		return err
	}
	for i := range children.Len() {
		name, child, ca, err := children.At(i)
		if err != nil {
			return err
		}
		if err := b.entry(fd, string(name), child, ca); err != nil {
			return b.pathError(child, err)
		}
	}
	// What is written below a subdirectory doesn't change this one's time.
	if err := setTime(fd, ".", a.Mtime); err != nil {
		return b.pathError(id, err)
	}
	for i := range children.Len() {
		name, child, ca, err := children.At(i)
		if err != nil {
			return err
		}
		if ca.Kind == tree.Dir {
			if err := b.descend(fd, string(name), child, ca); err != nil {
				return err
			}
		}
	}
	return nil
}

// descend fills the directory that entry has made.
func (b *builder) descend(parent int, name string, id tree.ID, a tree.Attr) error {
	fd, err := openDir(parent, name)
	if err != nil {
		return b.pathError(id, err)
	}
	defer unix.Close(fd)
	return b.directory(fd, id, a)
}

// entry makes one name of the directory dir.
func (b *builder) entry(dir int, name string, id tree.ID, a tree.Attr) error {
	switch a.Kind {
	case tree.Dir:
		if err := retry(func() error { return unix.Mkdirat(dir, name, dirMode) }); err != nil {
			return err
		}
		if b.chmod {
			return retry(func() error { return unix.Fchmodat(dir, name, dirMode, 0) })
		}
		return nil
	case tree.Symlink:
		b.report.Files++
		target, err := b.tree.Link(id)
		if err != nil {
			return err
		}
		return symlink(dir, name, string(target), a.Mtime)
	}
	b.report.Files++
	b.report.Bytes += a.Size
	b.report.Copied++
	return b.copyFile(dir, name, id, a)
}

func symlink(dir int, name, target string, mtime int64) error {
	if err := retry(func() error { return unix.Symlinkat(target, dir, name) }); err != nil {
		return err
	}
	return setTime(dir, name, mtime)
}

// copyFile writes a regular file with bytes of its own.
func (b *builder) copyFile(dir int, name string, id tree.ID, a tree.Attr) error {
	fd, err := b.create(dir, name, a.Exec)
	if err != nil {
		return err
	}
	err = b.content(fd, id, a)
	if closeErr := unix.Close(fd); err == nil && closeErr != unix.EINTR { // a close that was interrupted has closed
		err = closeErr
	}
	if err != nil {
		return err
	}
	return setTime(dir, name, a.Mtime)
}

// create makes an empty file.
func (b *builder) create(dir int, name string, exec bool) (fd int, err error) {
	var mode uint32 = fileMode
	if exec {
		mode = execMode
	}
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	if b.chmod {
		if err := retry(func() error { return unix.Fchmod(fd, mode) }); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// content writes the bytes of a regular file.
func (b *builder) content(fd int, id tree.ID, a tree.Attr) error {
	if a.Kind != tree.File {
		text, err := b.tree.Bytes(id)
		if err != nil {
			return err
		}
		return writeAll(fd, text)
	}
	if a.Size == 0 {
		return nil
	}
	from, err := b.src.OpenBlob(a.Digest)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return copyBytes(fd, from, a.Size, b.buf)
}

// copyBytes copies size bytes between two files that are open at their beginning.
func copyBytes(to, from int, size int64, buf []byte) error {
	for left := size; left > 0; {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Read(from, buf[:min(int64(len(buf)), left)])
			return err
		})
		if err != nil {
			return fmt.Errorf("read from the store: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("the store's file has %d bytes, want %d: the store is damaged", size-left, size)
		}
		if err := writeAll(to, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// pathError says at which node of the tree err came up.
func (b *builder) pathError(id tree.ID, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	name, pathErr := b.tree.Path(id)
	if pathErr != nil {
		return errors.Join(err, pathErr)
	}
	return fmt.Errorf("write %q: %w", filepath.Join(b.dir, filepath.FromSlash(name)), err)
}

// openDir opens a directory, not through a symlink.
func openDir(dir int, name string) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// setTime sets the modification time of name in dir, not through a symlink.
func setTime(dir int, name string, mtime int64) error {
	ts := []unix.Timespec{{Sec: mtime}, {Sec: mtime}}
	return retry(func() error { return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW) })
}

// retry calls f until no signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
