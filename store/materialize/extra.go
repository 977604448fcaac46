package materialize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unlinkable are the errors by which a file system says that a file can't have
// another name, or no further one, or not by this user.
var unlinkable = []unix.Errno{unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOSYS, unix.EPERM, unix.EMLINK}

// keep gives what the user added to the environment at the site a place in the new
// one, made. Files are linked, so that a process that writes to one goes on doing
// so.
func (s *site) keep(ctx context.Context, made string, extra []string) (err error) {
	if len(extra) == 0 {
		return nil
	}
	root, err := os.OpenRoot(s.parent)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	k := &keeper{ctx: ctx, root: root, link: root.Link, from: filepath.Base(s.dest), to: filepath.Base(made)}
	for _, name := range extra {
		if err := k.extra(strings.TrimSuffix(name, "/")); err != nil {
			return fmt.Errorf("keep %q: %w", filepath.Join(s.dest, name), err)
		}
	}
	if len(k.clashes) > 0 {
		return fmt.Errorf("%w: the new environment has its own of what was added to %q: %s; move yours away, or give --discard-extra", ErrDest, s.dest, several(len(k.clashes), k.clashes[0]))
	}
	return nil
}

// A keeper takes files from one directory over to another.
type keeper struct {
	ctx      context.Context
	root     *os.Root // that both are in
	link     func(old, name string) error
	from, to string   // their names there
	clashes  []string // paths that are taken already
}

// extra takes over what is at the path name, with the folders above it.
func (k *keeper) extra(name string) error {
	err := k.root.MkdirAll(path.Join(k.to, path.Dir(name)), dirMode)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, fs.ErrExist) {
		k.clashes = append(k.clashes, name)
		return nil
	}
	if err != nil {
		return err
	}
	return k.take(name)
}

func (k *keeper) take(name string) error {
	if err := k.ctx.Err(); err != nil {
		return err
	}
	from, to := path.Join(k.from, name), path.Join(k.to, name)
	info, err := k.root.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the user removed it a moment ago
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return k.folder(name, info)
	}
	err = k.link(from, to)
	if isOf(err, unlinkable) {
		err = k.copy(from, to, info)
	}
	if errors.Is(err, fs.ErrExist) {
		same, err := k.same(from, to, info)
		if err == nil && !same {
			k.clashes = append(k.clashes, name)
		}
		return err
	}
	return err
}

// folder takes over a folder, or what is in it where the new environment has one.
func (k *keeper) folder(name string, info fs.FileInfo) error {
	from, to := path.Join(k.from, name), path.Join(k.to, name)
	err := k.root.Mkdir(to, 0o700)
	merge := errors.Is(err, fs.ErrExist)
	if merge {
		there, err := k.root.Lstat(to)
		if err != nil {
			return err
		}
		if !there.IsDir() {
			k.clashes = append(k.clashes, name)
			return nil
		}
		if path.Base(name) == pycache {
			return nil // each environment has its own bytecode
		}
	} else if err != nil {
		return err
	}
	entries, err := fs.ReadDir(k.root.FS(), from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := k.take(path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	if merge {
		return nil
	}
	return k.dress(to, info)
}

// dress gives what was made at to the owner, mode and time of its original. Whose a
// file is only root can say.
func (k *keeper) dress(to string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := k.root.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if info.Mode().Type() == fs.ModeSymlink {
		return nil // has no mode, and a time that nobody looks at
	}
	if err := k.root.Chmod(to, info.Mode()); err != nil { // after chown, which takes bits away
		return err
	}
	return k.root.Chtimes(to, info.ModTime(), info.ModTime())
}

// copy copies a file that can't be linked.
func (k *keeper) copy(from, to string, info fs.FileInfo) error {
	switch info.Mode().Type() {
	case 0:
	case fs.ModeSymlink:
		target, err := k.root.Readlink(from)
		if err != nil {
			return err
		}
		if err := k.root.Symlink(target, to); err != nil {
			return err
		}
		return k.dress(to, info)
	default:
		return fmt.Errorf("it is neither a file nor a folder (%v) and can't be linked: remove it, or give --discard-extra", info.Mode().Type())
	}
	r, err := k.root.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := k.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return k.dress(to, info)
}

// same reports whether two files hold the same.
func (k *keeper) same(a, b string, info fs.FileInfo) (bool, error) {
	there, err := k.root.Lstat(b)
	if err != nil || !info.Mode().IsRegular() || !there.Mode().IsRegular() || there.Size() != info.Size() {
		return false, err
	}
	x, err := k.root.ReadFile(a)
	if err != nil {
		return false, err
	}
	y, err := k.root.ReadFile(b)
	return bytes.Equal(x, y), err
}
