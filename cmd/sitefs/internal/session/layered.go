package session

import (
	"encoding/json"
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/view"
	"github.com/sitefs/sitefs/manifest/tree"
)

// layered is a view with changes over it.
type layered interface {
	fuse.RawFileSystem
	LastError() string
	Path(node uint64) string
	Report() json.RawMessage
	Idle() error
}

// overlay returns the tree with the changes over it.
func (v Worker) overlay(*tree.Tree, *view.FS, mount.Session) (layered, error) {
	return nil, errors.New("overlays can't be served by this version of sitefs")
}
