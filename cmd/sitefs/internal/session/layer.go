package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sitefs/sitefs/fusefs/diff"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store"
)

// A Layer is what an overlay changes, with the tree that it was made over.
type Layer struct {
	*diff.Diff
	Dir   string // the overlay's directory
	Tree  *tree.Tree
	Store *store.Store

	upper *upper.Dir
}

// OverlayOf returns the directory of an overlay that is named by it, or by the
// environment that is mounted with it.
func OverlayOf(ctx context.Context, name string) (string, error) {
	mounts, err := mount.List(ctx)
	if err != nil {
		return "", err
	}
	at, err := filepath.EvalSymlinks(name)
	if err != nil {
		at = name // a mount that nobody serves is known by its path
	}
	for _, m := range mounts {
		var i Info
		if m.Dir != at && m.Dir != name || json.Unmarshal(m.Info, &i) != nil {
			continue
		}
		if i.Overlay == "" {
			return "", fmt.Errorf("%w: %q is mounted without one, and nothing in it can change", ErrOverlay, name)
		}
		return i.Overlay, nil
	}
	if err == nil {
		_, err = os.Lstat(filepath.Join(at, upper.SideDir))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %q is neither one nor an environment that is mounted with one: name the directory that --overlay had", ErrOverlay, name)
	}
	return at, err
}

// OpenLayer compares what the overlay in dir has with the tree that it was made over,
// which the store must have. It may be mounted, and in use.
func OpenLayer(ctx context.Context, st *store.Store, dir string) (*Layer, error) {
	u, err := upper.OpenReadOnly(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	l, err := newLayer(ctx, st, dir, u)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: its mode shuts you out too; chmod it where the overlay is mounted", err)
	}
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return l, nil
}

// newLayer is OpenLayer for an upper directory that is open.
func newLayer(ctx context.Context, st *store.Store, dir string, u *upper.Dir) (*Layer, error) {
	base := u.Base()
	id, err := digest.Parse(base.Tree)
	if err != nil {
		return nil, fmt.Errorf("%w: it isn't known what %q was made over: mount it once", ErrOverlay, dir)
	}
	t, err := st.OpenTree(id, base.Prefix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the overlay %q was made over tree %s, which the store %q doesn't have: mount it, or name its store in SITEFS_STORE", dir, id, st.Dir())
	}
	if err != nil {
		return nil, err
	}
	o := diff.Options{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if base.Layout == LayoutSitePackages {
		if o.Dir, err = sitePackages(t); err != nil {
			return nil, err
		}
	}
	d, err := diff.New(ctx, t, u, st, o)
	if err != nil {
		return nil, err
	}
	return &Layer{d, dir, t, st, u}, nil
}

// Close lets go of the overlay.
func (l *Layer) Close() error { return l.upper.Close() }
