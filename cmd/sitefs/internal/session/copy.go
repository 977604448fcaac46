package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store"
)

// copiesFolder is the folder of the store for environments that are copied, each
// by the digest of its tree. A name that is there is complete.
const copiesFolder = "copies"

// enterCopy returns a lease on a plain copy of the environment, which any machine
// can have. It is made once and stays.
func (s *Session) enterCopy(ctx context.Context, env *Environment) (*Lease, error) {
	dir := filepath.Join(s.Store.Dir(), copiesFolder, env.Tree.String())
	if err := checkPrefix(dir); err != nil {
		return nil, err
	}
	t, err := s.Store.OpenTree(env.Tree, dir)
	if err != nil {
		return nil, err
	}
	files, size, err := measure(t)
	if err != nil {
		return nil, err
	}
	if err := s.provide(ctx, t, dir); err != nil {
		return nil, fmt.Errorf("copy the environment to %q: %w", dir, err)
	}
	s.Warn(fmt.Sprintf("the environment is a copy, not a view: %d files, %.1f MB, in %s", files, float64(size)/1e6, dir))
	return &Lease{Prefix: dir, Prompt: env.Name}, nil
}

// measure counts the files of a tree and their bytes.
func measure(t *tree.Tree) (files int, size int64, err error) {
	err = t.Walk(func(_ string, _ tree.ID, a tree.Attr) error {
		if a.Kind != tree.Dir {
			files++
			size += a.Size
		}
		return nil
	})
	return files, size, err
}

// provide makes the copy where there is none: beside its name, which it takes
// when it is complete and on the disk. Of two processes that make one at the same
// time the first wins.
func (s *Session) provide(ctx context.Context, t *tree.Tree, dir string) (err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	scratch, err := s.Store.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	made := filepath.Join(scratch.Path(), "venv")
	if err := writeTree(ctx, s.Store, t, made); err != nil {
		return err
	}
	if err := syncTree(made); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err = os.Rename(made, dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// writeTree writes t to the new directory dir, byte for byte what a mount shows.
// When it fails, or ctx ends, what it has written stays.
func writeTree(ctx context.Context, st *store.Store, t *tree.Tree, dir string) error {
	type written struct {
		path string
		a    tree.Attr
	}
	root, err := t.Stat(tree.Root)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	dirs := []written{{dir, root}}
	err = t.Walk(func(name string, id tree.ID, a tree.Attr) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if a.Kind == tree.Dir {
			dirs = append(dirs, written{path, a})
			return os.Mkdir(path, 0o755)
		}
		return writeNode(st, t, id, a, path)
	})
	// A directory's time is set when nothing more is written to it.
	for _, d := range slices.Backward(dirs) {
		if err == nil {
			err = setTime(d.path, d.a)
		}
	}
	return err
}

// writeNode writes what is no directory.
func writeNode(st *store.Store, t *tree.Tree, id tree.ID, a tree.Attr, path string) error {
	if a.Kind == tree.Symlink {
		target, err := t.Link(id)
		if err != nil {
			return err
		}
		return os.Symlink(string(target), path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = writeContent(f, st, t, id, a)
	if a.Exec {
		err = errors.Join(err, f.Chmod(0o755))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return setTime(path, a)
}

// writeContent writes the bytes of a regular file.
func writeContent(f *os.File, st *store.Store, t *tree.Tree, id tree.ID, a tree.Attr) error {
	if a.Kind != tree.File {
		b, err := t.Bytes(id)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return err
	}
	fd, err := st.OpenBlob(a.Digest)
	if err != nil {
		return err
	}
	blob := os.NewFile(uintptr(fd), a.Digest.String())
	defer blob.Close()
	n, err := io.Copy(f, blob)
	if err == nil && n != a.Size {
		err = fmt.Errorf("blob %s has %d bytes, want %d", a.Digest, n, a.Size)
	}
	return err
}

func setTime(path string, a tree.Attr) error {
	at := time.Unix(a.Mtime, 0)
	return os.Chtimes(path, at, at)
}
