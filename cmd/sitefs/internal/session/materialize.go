package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/materialize"
)

// Materialize makes the directory dest the environment. Of the options, those are
// filled in that the session knows.
func (s *Session) Materialize(ctx context.Context, env *Environment, dest string, o materialize.Options) (_ *materialize.Report, err error) {
	prefix := o.Prefix
	if prefix == "" {
		prefix = dest
	}
	if err := checkPrefix(prefix); err != nil {
		return nil, fmt.Errorf("%w: %w", materialize.ErrDest, err)
	}
	lease, err := s.Store.Lease(env.Tree)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lease.Close()) }()
	code, err := openBytecode(s.Store, env.Code)
	if err != nil {
		return nil, err
	}
	o.Bytecode = code.Export()
	o.Version, o.Warn, o.Progress = s.Version, s.Warn, s.Progress
	return materialize.Materialize(ctx, s.Store, env.Tree, dest, o)
}

// Named returns the environment that name stands for: a tree of the store by its
// digest, or a directory on which one is mounted or that one was materialized to.
func (s *Session) Named(ctx context.Context, name string) (*Environment, error) {
	if _, err := digest.Parse(name); err == nil {
		return s.Stored(ctx, name)
	}
	shown, err := s.treeAt(ctx, s.absolute(name))
	if err != nil {
		return nil, err
	}
	return s.Stored(ctx, shown)
}

// treeAt returns the tree that a directory shows.
func (s *Session) treeAt(ctx context.Context, dir string) (string, error) {
	status, err := mount.Look(ctx, dir)
	if err == nil {
		var info Info
		if err := json.Unmarshal(status.Info, &info); err != nil {
			return "", fmt.Errorf("the mount on %q doesn't say what it is of: %w", dir, err)
		}
		return info.Tree, nil
	}
	if !errors.Is(err, mount.ErrNotMounted) {
		return "", err
	}
	mark, err := materialize.ReadMark(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%q is neither an environment of sitefs nor the digest of a tree (`sitefs list --json` has those): make it from a lock file with -r", dir)
	}
	if err != nil {
		return "", err
	}
	return mark.Tree.String(), nil
}

// copiesFolder is the folder of the store for environments of commands where
// nothing can be mounted, each by the digest of its tree. A name that is there is
// complete.
const copiesFolder = "copies"

// enterCopy returns a lease on a directory with the environment, which any machine
// can have. It is made once and stays.
func (s *Session) enterCopy(ctx context.Context, env *Environment) (*Lease, error) {
	dir := filepath.Join(s.Store.Dir(), copiesFolder, env.Tree.String())
	t, err := s.Store.OpenTree(env.Tree, dir)
	if err != nil {
		return nil, err
	}
	files, size, err := measure(t)
	if err != nil {
		return nil, err
	}
	if err := s.provideCopy(ctx, env, dir); err != nil {
		return nil, fmt.Errorf("copy the environment: %w", err)
	}
	s.Warn(fmt.Sprintf("the environment is a copy, not a view: %d files, %.1f MB, in %s", files, float64(size)/1e6, dir))
	return &Lease{Prefix: dir, Prompt: env.Name}, nil
}

// provideCopy makes the copy, or makes it whole. In a store that can't be written to
// it has to be there.
func (s *Session) provideCopy(ctx context.Context, env *Environment, dir string) error {
	if err := s.Store.Writable(); err != nil {
		if _, merr := materialize.ReadMark(dir); merr == nil {
			return nil
		}
		return err
	}
	_, err := s.Materialize(ctx, env, dir, materialize.Options{InStore: true})
	return err
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
