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
		// What is refused is refused before anything happens to the mount.
		if _, err := Discard(ctx, st, dir, paths, force, true); err != nil {
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
	return errors.Join(err, os.RemoveAll(aside))
}

func discard(ctx context.Context, st *store.Store, dir string, u *upper.Dir, paths []string, dry bool) ([]diff.Change, error) {
	l, err := newLayer(ctx, st, dir, u)
	if err != nil {
		if len(paths) > 0 || dry {
			return nil, err
		}
		return nil, u.Reset(u.Base()) // whatever it was: it goes
	}
	if len(paths) == 0 {
		if dry {
			return l.Changes, nil
		}
		return l.Changes, u.Reset(u.Base())
	}
	var gone []diff.Change
	for _, p := range paths {
		below, err := l.revertible(p)
		if err != nil {
			return nil, err
		}
		gone = append(gone, below...)
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

// revertible returns what the overlay changes at and below a path, which must be in a
// directory that is where the tree has it.
func (l *Layer) revertible(p string) ([]diff.Change, error) {
	if !fs.ValidPath(p) || p == "." {
		return nil, fmt.Errorf("%q is no path in the environment: name it relative to its top", p)
	}
	var below []diff.Change
	for _, c := range l.Changes {
		switch {
		case c.Path == p || strings.HasPrefix(c.Path, p+"/"):
			below = append(below, c)
		case c.Kind == diff.Added && strings.HasPrefix(p, c.Path+"/") && l.hasLower(p):
			return nil, fmt.Errorf("%q was replaced as a whole: discard that", c.Path)
		}
	}
	if len(below) == 0 {
		return nil, fmt.Errorf("%q is %w in the overlay %q; `sitefs diff` shows what is changed", p, ErrUnchanged, l.Dir)
	}
	return below, l.movedTo(p)
}

// movedTo refuses a path whose content lies elsewhere now: it would be at two places.
func (l *Layer) movedTo(p string) error {
	return l.upper.Scan(func(dir string, listing *upper.Listing) error {
		for _, r := range listing.Records {
			at := path.Join(dir, r.Name)
			if at != p && (r.Lower == p || strings.HasPrefix(r.Lower, p+"/") || strings.HasPrefix(p, r.Lower+"/")) {
				return fmt.Errorf("%q was renamed to %q: discard both, or rename it back in the mount", r.Lower, at)
			}
		}
		return nil
	})
}

// hasLower reports whether the tree has a path.
func (l *Layer) hasLower(p string) bool {
	_, _, err := l.Tree.Find(p)
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
		if err != nil && !errors.Is(err, mount.ErrNotMounted) {
			return err
		}
	}
	return nil
}
