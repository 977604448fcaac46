package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/fusefs/diff"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/store"
)

// ErrUnchanged is a path that an overlay changes nothing at.
var ErrUnchanged = errors.New("unchanged")

// Discard takes back what the overlay in dir changes: all of it, or what it changes at
// and below some paths of the environment. It returns the changes that are gone, or
// with dry those that would be.
//
// A mount of the overlay that nobody uses is unmounted, one that is used is an error.
// With force it is taken away from new processes, and those in it are left with what
// they have open; all of the overlay goes then, not some paths.
func Discard(ctx context.Context, st *store.Store, dir string, paths []string, force, dry bool) ([]diff.Change, error) {
	if !dry && len(paths) > 0 {
		// What is refused is refused before anything happens to the mount. What its
		// modes shut is seen only when nobody has it.
		if _, err := Discard(ctx, st, dir, paths, force, true); err != nil && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
	}
	if !dry {
		if err := release(ctx, dir, force && len(paths) == 0); err != nil {
			return nil, err
		}
	}
	u, err := openToDiscard(dir, dry)
	if errors.Is(err, upper.ErrLocked) && force && len(paths) == 0 {
		return nil, replaceDir(dir)
	}
	if err != nil {
		return nil, err
	}
	gone, err := discard(ctx, st, dir, u, paths, dry)
	return gone, errors.Join(err, u.Close())
}

func openToDiscard(dir string, dry bool) (*upper.Dir, error) {
	if dry {
		return upper.OpenReadOnly(dir)
	}
	return upper.Open(dir, upper.Options{})
}

// replaceDir puts an empty directory in the place of one that a mount still serves to
// those who are in it.
func replaceDir(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".sitefs-discarded-")
	if err != nil {
		return err
	}
	if err = os.Rename(dir, filepath.Join(aside, "overlay")); err == nil {
		err = os.Mkdir(dir, fi.Mode().Perm())
	}
	return errors.Join(err, removeAll(aside))
}

func discard(ctx context.Context, st *store.Store, dir string, u *upper.Dir, paths []string, dry bool) ([]diff.Change, error) {
	l, err := newLayer(ctx, st, dir, u)
	if err != nil {
		if len(paths) > 0 || dry {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, err // nothing is wrong with it: the user has had second thoughts
		}
		return nil, u.Reset(u.Base()) // whatever it was: it goes
	}
	if len(paths) == 0 {
		if dry {
			return l.Changes, nil
		}
		return l.Changes, u.Reset(u.Base())
	}
	paths = outermost(paths)
	gone, err := l.revertible(paths)
	if err != nil {
		return nil, err
	}
	if dry {
		return gone, nil
	}
	err = u.Revert(paths...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: what was changed there came with a directory above it that was replaced or renamed: discard that one", err)
	}
	return gone, err
}

// outermost returns the paths that are not below others of them, each once.
func outermost(paths []string) []string {
	var outer []string
	for _, p := range paths {
		if !slices.ContainsFunc(paths, func(other string) bool { return isBelow(p, other) }) {
			outer = append(outer, p)
		}
	}
	slices.Sort(outer)
	return slices.Compact(outer)
}

// isBelow reports whether a path of an environment is in a directory, at any depth.
func isBelow(p, dir string) bool { return dir == "." || strings.HasPrefix(p, dir+"/") }

// revertible returns what the overlay changes at and below some paths. Each must be in
// a directory that is where the tree has it.
func (l *Layer) revertible(paths []string) ([]diff.Change, error) {
	var below []diff.Change
	for _, p := range paths {
		if !fs.ValidPath(p) || p == "." {
			return nil, fmt.Errorf("%q is no path in the environment: name it relative to its top", p)
		}
		had := len(below)
		for _, c := range l.Changes {
			switch {
			case c.Path == p || isBelow(c.Path, p):
				below = append(below, c)
			case (c.Kind == diff.Added || c.Kind == diff.Removed) && isBelow(p, c.Path) && l.hasLower(p):
				return nil, errWhole(c.Path)
			}
		}
		if len(below) == had {
			return nil, fmt.Errorf("%q is %w in the overlay %q; `sitefs diff` shows what is changed", p, ErrUnchanged, l.Dir)
		}
	}
	return below, l.upper.Scan(func(dir string, listing *upper.Listing) error {
		for _, p := range paths {
			if err := l.checkPlace(p, dir, listing); err != nil {
				return err
			}
		}
		return checkMoved(paths, dir, listing)
	})
}

// errWhole is why nothing in a directory can be taken back by itself.
func errWhole(dir string) error {
	return fmt.Errorf("%q was replaced or removed as a whole: discard that", dir)
}

// checkPlace refuses a path that the tree has, if what a directory of the upper says
// keeps the tree from showing through there.
func (l *Layer) checkPlace(p, dir string, listing *upper.Listing) error {
	if listing.Opaque && isBelow(p, dir) && l.hasLower(p) {
		return errWhole(dir)
	}
	for _, name := range listing.Whiteouts {
		if at := path.Join(dir, name); isBelow(p, at) && l.hasLower(p) {
			return errWhole(at)
		}
	}
	return nil
}

// checkMoved refuses paths if what the tree has there is, by what a directory of the
// upper says, at another path and would stay: it would be at two then.
func checkMoved(paths []string, dir string, listing *upper.Listing) error {
	for _, r := range listing.Records {
		at := path.Join(dir, r.Name)
		covers := func(what string) bool {
			return slices.ContainsFunc(paths, func(p string) bool { return what == p || isBelow(what, p) })
		}
		if covers(r.Lower) && !covers(at) {
			return fmt.Errorf("%q was renamed to %q: discard both, or rename it back in the mount", r.Lower, at)
		}
	}
	return nil
}

// hasLower reports whether the tree has a path of the environment.
func (l *Layer) hasLower(p string) bool {
	_, _, err := l.Tree.Find(path.Join(l.Diff.Dir, p))
	return err == nil
}

// release has the mount of an overlay make way.
func release(ctx context.Context, dir string, force bool) error {
	mounts, err := mount.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		var i Info
		if json.Unmarshal(m.Info, &i) != nil || i.Overlay != dir {
			continue
		}
		err := Unmount(ctx, m.Dir, force || m.State == mount.StateDead)
		if errors.Is(err, mount.ErrBusy) {
			return fmt.Errorf("%w; or discard all of the overlay with --force", err)
		}
		if err != nil && !errors.Is(err, mount.ErrNotMounted) {
			return err
		}
	}
	return nil
}
