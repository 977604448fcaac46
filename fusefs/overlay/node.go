package overlay

import (
	"path"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// A node is what memory has of a node that was changed, moved, or made in the
// upper, or that stands above one.
type node struct {
	id   uint64
	kind uint32 // S_IFMT

	// What follows is guarded by FS.mu unless said.

	// places are its names; none means that it is unlinked. A directory has one.
	// A file with an ID of the lower has it by its first: it is the lower's own
	// place, without a whiteout, or has the record.
	places []place

	lower  uint64        // the view's node with its content or children; 0: none
	real   bool          // DIR has it: the content, or the directory
	record *upper.Record // what is recorded at its first place; nil: nothing
	named  history       // whether its names and its record are synced

	*directory // nil of any other type

	// content is read-held while bytes are read or written by descriptor, and
	// write-held by copy-up and truncation.
	content sync.RWMutex
}

// A directory is what a node has that is one. All of it is guarded by FS.mu.
type directory struct {
	// kids are the names that are not as the lower has them, or whose node has an
	// object for another reason. white are the whiteouts that are on disk, beside
	// one of which there may be a node.
	kids  map[string]*node
	white map[string]bool

	dirs    int     // how many directories are in it, see counts
	listing listing // the names that no listing of the lower has
	names   history // whether the names in it are synced
	ctime   ctime
	shown   bool // of a __pycache__: it is no ghost, as the kernel was told

	// sources is how many files have bytecode of the view's, once they are counted.
	counting sync.Mutex // guards both where mu is held for reading
	counted  bool
	sources  int
}

// A place is a name in a directory.
type place struct {
	dir  *node
	name string
}

// ofLower reports whether a node is one of the tree's, wherever it is now. The ID of
// any other is [upper.NodeID]'s.
func ofLower(id uint64) bool { return id < upper.NodeID(0) }

func (n *node) isDir() bool    { return n.kind == syscall.S_IFDIR }
func (n *node) isRoot() bool   { return n.id == fuse.FUSE_ROOT_ID }
func (n *node) unlinked() bool { return len(n.places) == 0 && !n.isRoot() }

// isGhost reports whether no listing has it, and it keeps no directory from being
// removed: bytecode of the lower, or a __pycache__, under that name, with nothing
// else in it.
func (n *node) isGhost(name string) bool {
	if !view.IsGhost(n.id) {
		return false
	}
	if !n.isDir() {
		return !n.real
	}
	if name != view.CacheName {
		return false
	}
	for name, kid := range n.kids {
		if !kid.isGhost(name) {
			return false
		}
	}
	return true
}

// counts reports whether node.dirs counts what a directory has under a name.
// A __pycache__ that may be a ghost comes and goes, see FS.subdirs.
func counts(id uint64, kind uint32, name string) bool {
	return kind == syscall.S_IFDIR && (name != view.CacheName || !view.IsGhost(id))
}

// subdirs returns how many directories a listing of n has. mu is held.
func (f *FS) subdirs(n *node) int {
	if kid := n.kids[view.CacheName]; kid != nil && kid.isDir() && view.IsGhost(kid.id) && !kid.isGhost(view.CacheName) {
		return n.dirs + 1
	}
	return n.dirs
}

// path returns where a node is in DIR, if it is real: an unlinked one is among
// the orphans. mu is held.
func (f *FS) path(n *node) string {
	switch {
	case n.isRoot():
		return "."
	case n.unlinked():
		return upper.OrphanPath(n.id)
	}
	return f.pathAt(n.places[0])
}

// pathAt returns where a name is in DIR, whether or not it is there.
func (f *FS) pathAt(p place) string { return path.Join(f.path(p.dir), p.name) }

// pathOf returns where a node is in the merged tree, "" if it has no name.
func (f *FS) pathOf(id uint64) string {
	n := f.nodes[id]
	switch {
	case n == nil:
		dir, name, err := f.lower.Place(id)
		if err != nil {
			return f.lower.Path(id)
		}
		above := f.pathOf(dir)
		if above == "" {
			return ""
		}
		return path.Join(above, name)
	case n.isRoot():
		return "."
	case n.unlinked():
		return ""
	}
	return path.Join(f.pathOf(n.places[0].dir.id), n.places[0].name)
}
