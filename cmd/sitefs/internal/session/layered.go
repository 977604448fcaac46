package session

import (
	"errors"
	"fmt"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/overlay"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
	"github.com/sitefs/sitefs/manifest/tree"
)

// The overlay's part of a session's area, behind that of the bytecode's client.
const overlayArea = 2048

// overlay returns the tree with the changes over it. What can be opened beside a
// worker that still serves is open: from here on requests wait.
func (v Worker) overlay(t *tree.Tree, lower *view.FS, s mount.Session) (*overlay.FS, error) {
	base, err := baseOf(t, v.Layout)
	if err != nil {
		return nil, err
	}
	if len(s.Files) != 1 {
		return nil, fmt.Errorf("overlay %q: the supervisor gave %d files, want its lock: it is of another version of sitefs", v.Overlay, len(s.Files))
	}
	if err := s.Turn(); err != nil {
		return nil, err
	}
	dir, err := upper.Open(v.Overlay, upper.Options{
		Base:   base,
		Rebase: v.Rebase,
		Area:   s.Area[overlayArea : overlayArea+upper.AreaSize],
		Locked: s.Files[0],
	})
	if err != nil {
		return nil, err
	}
	fs, err := overlay.New(lower, dir, overlay.Options{UID: v.UID, GID: v.GID, Notify: s.Notify, Progress: s.Progress})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return fs, nil
}
