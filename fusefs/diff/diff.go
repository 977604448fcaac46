// Package diff says what an upper directory changes of the tree that it lies over.
//
// It reads both and mounts nothing, so that it works beside a mount and without
// one. It writes to neither. What is under nothing that was changed is never looked
// at, and an environment is compared in the time that its changes take.
//
// Bytecode that a view makes and no table lists counts as absent below: a .pyc in
// the upper directory is added, whether or not the view would have one.
package diff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// Blobs gives the contents of the tree's files.
type Blobs interface {
	// OpenBlob opens a blob for reading; the caller closes fd.
	OpenBlob(d digest.Digest) (fd int, err error)
}

// A Kind says what was done to a path.
type Kind byte

const (
	Added   Kind = 'A'
	Changed Kind = 'M' // its content, or what a symlink points to
	Touched Kind = 'm' // its mode, owner, time or extended attributes alone
	Removed Kind = 'D'

	// Entered is a directory that is as it was, but that something was done in, or
	// for its time. Whoever makes the changes must give it its time.
	Entered Kind = '/'
)

// A Change is what was done to one path. Where a file takes the place of a
// directory, or the other way round, the path is removed and added. Of a directory
// that is gone there is one change, of one that is new one for each path in it.
type Change struct {
	Path string // slash-separated, relative to the environment's root
	Kind Kind
	Old  *Node // nil if Added
	New  *Node // nil if Removed
}

// A Node is what there is at a path.
type Node struct {
	Type     uint32 // S_IFMT bits
	Mode     uint32 // permission bits, 07777
	UID, GID uint32
	Size     int64 // in bytes: of a file its content, of a symlink its target
	Mtime    upper.Time
	Target   string // of a symlink
	Xattrs   map[string][]byte

	// Ino is the same for the Nlink names of one file in the upper directory; both
	// are 0 for what is in the tree.
	Ino, Nlink uint64

	inUpper string  // the path there of its content; "" of a node of the tree
	lower   tree.ID // the node of the tree that its content is, if inUpper is ""
	attr    tree.Attr
}

// isLinked reports whether the file has several names.
func (n *Node) isLinked() bool { return n.Type != unix.S_IFDIR && n.Nlink > 1 }

// A Diff is an upper directory over a tree.
type Diff struct {
	tree  *tree.Tree
	upper *upper.Dir
	blobs Blobs
	Options

	// Changes is what differs, sorted by path, parents first; of one path what was
	// removed comes before what was added.
	Changes []Change
}

// Options say how the tree is shown, as those of the view.
type Options struct {
	// UID and GID own the nodes of the tree.
	UID, GID uint32

	// Dir is the directory of the tree that the environment is. Empty means all.
	Dir string
}

// New compares an environment with the tree that it lies over, which is open at the
// environment's prefix.
func New(ctx context.Context, t *tree.Tree, u *upper.Dir, b Blobs, o Options) (*Diff, error) {
	d := &Diff{tree: t, upper: u, blobs: b, Options: o}
	top, err := d.find(".")
	if err != nil {
		return nil, err
	}
	if !top.isDir() {
		return nil, fmt.Errorf("%q of tree %s: %w", o.Dir, t.Digest(), tree.ErrNotDir)
	}
	w := &walk{Diff: d, ctx: ctx}
	if err := w.directory(".", ".", top, top); err != nil {
		return nil, err
	}
	if len(d.Changes) > 0 {
		before, err := d.treeNode(top)
		if err != nil {
			return nil, err
		}
		now, err := d.upperNode(".")
		if err != nil {
			return nil, err
		}
		w.add(".", Entered, before, now)
	}
	slices.SortStableFunc(d.Changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d, nil
}

// A place is where a node of the tree is, if there is one.
type place struct {
	id    tree.ID
	attr  tree.Attr
	found bool
}

func (p place) isDir() bool { return p.found && p.attr.Kind == tree.Dir }

// walk goes through an environment and the tree side by side.
type walk struct {
	*Diff
	ctx context.Context
}

func (w *walk) add(path string, k Kind, before, now *Node) {
	w.Changes = append(w.Changes, Change{Path: path, Kind: k, Old: before, New: now})
}

// directory compares the directory at path. Its upper part is at the path in of the
// upper directory, "" if it has none. From is the directory of the tree that shows
// through, before the one that the tree has at path.
func (w *walk) directory(p, in string, from, before place) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	now, err := w.names(in, from)
	if err != nil {
		return err
	}
	old, err := w.children(before)
	if err != nil {
		return err
	}
	for name := range merged(now, old) {
		n, was := now[name], old[name]
		if n.same(was) {
			continue // all below it too
		}
		if err := w.compare(path.Join(p, name), n, was); err != nil {
			return err
		}
	}
	return nil
}

// merged returns the names that one or both have.
func merged(now map[string]*entry, old map[string]place) map[string]bool {
	names := make(map[string]bool, len(now)+len(old))
	for name := range now {
		names[name] = true
	}
	for name := range old {
		names[name] = true
	}
	return names
}

// An entry is a name in a directory of the environment: what the upper directory has
// of it, and the node of the tree that it is or that shows through.
type entry struct {
	real   *upper.Entry
	in     string // the path of real in the upper directory
	record *upper.Record
	lower  place
}

// same reports whether the entry is the node that the tree has there, untouched.
func (e *entry) same(was place) bool {
	return e != nil && e.real == nil && e.record == nil && was.found && e.lower.id == was.id
}

// names returns what a directory of the environment has. The upper part is at in,
// "" if there is none; the tree's directory from shows through, if there is one.
func (w *walk) names(in string, from place) (map[string]*entry, error) {
	listing := new(upper.Listing)
	if in != "" {
		var err error
		listing, err = w.upper.List(in)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // it went while we looked
		}
		if err != nil {
			return nil, err
		}
	}
	names := make(map[string]*entry)
	if !listing.Opaque {
		below, err := w.children(from)
		if err != nil {
			return nil, err
		}
		for name, p := range below {
			names[name] = &entry{lower: p}
		}
	}
	for _, name := range listing.Whiteouts {
		delete(names, name)
	}
	for i := range listing.Records {
		r := &listing.Records[i]
		e := &entry{record: r}
		var err error
		if e.lower, err = w.find(r.Lower); err != nil {
			return nil, err
		}
		if !e.lower.found && !IsBytecode(r.Lower) {
			return nil, fmt.Errorf("%q in the overlay is %q of tree %s, which has no such path: the overlay was made over another tree", path.Join(in, r.Name), r.Lower, w.tree.Digest())
		}
		names[r.Name] = e
	}
	for i := range listing.Entries {
		real := &listing.Entries[i]
		e := names[real.Name]
		if e == nil || e.lower.found && typeOf(e.lower.attr) != real.Type {
			e = new(entry) // it has nothing to do with what the tree has
			names[real.Name] = e
		}
		e.real, e.in = real, path.Join(in, real.Name)
	}
	for name, e := range names {
		if e.real == nil && !e.lower.found {
			delete(names, name) // the record of bytecode that no table lists
		}
	}
	return names, nil
}

// IsBytecode reports whether a path is of what a view makes: a __pycache__ directory,
// or what is in one.
func IsBytecode(p string) bool {
	const cache = "__pycache__"
	return path.Base(p) == cache || path.Base(path.Dir(p)) == cache
}

// find returns what the tree has at a path.
func (d *Diff) find(p string) (place, error) {
	id, a, err := d.tree.Find(path.Join(d.Dir, p))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, tree.ErrNotDir) {
		return place{}, nil
	}
	return place{id, a, err == nil}, err
}

// children returns the names in a directory of the tree; none if it isn't one.
func (d *Diff) children(dir place) (map[string]place, error) {
	if !dir.isDir() {
		return nil, nil
	}
	list, err := d.tree.Children(dir.id)
	if err != nil {
		return nil, err
	}
	names := make(map[string]place, list.Len())
	for i := range list.Len() {
		name, id, a, err := list.At(i)
		if err != nil {
			return nil, err
		}
		names[string(name)] = place{id, a, true}
	}
	return names, nil
}

// compare compares what is at a path with what the tree has there.
func (w *walk) compare(p string, e *entry, was place) error {
	var before, now *Node
	var err error
	if was.found {
		if before, err = w.treeNode(was); err != nil {
			return err
		}
	}
	if e != nil {
		if now, err = w.node(e); err != nil {
			return err
		}
	}
	switch {
	case now == nil && before == nil:
		return nil // it went while we looked
	case now == nil:
		w.add(p, Removed, before, nil)
		return nil
	case before == nil || before.Type != now.Type:
		if before != nil {
			w.add(p, Removed, before, nil)
		}
		w.add(p, Added, nil, now)
		return w.below(p, e, now, place{})
	}
	kind, err := w.kind(before, now)
	if err != nil {
		return err
	}
	if kind != 0 {
		w.add(p, kind, before, now)
	}
	so := len(w.Changes)
	if err := w.below(p, e, now, was); err != nil {
		return err
	}
	if kind == 0 && len(w.Changes) > so {
		w.add(p, Entered, before, now)
	}
	return nil
}

// below compares what is in the directory at p, if it is one.
func (w *walk) below(p string, e *entry, now *Node, was place) error {
	if now.Type != unix.S_IFDIR {
		return nil
	}
	in := ""
	if e.real != nil {
		in = e.in
	}
	return w.directory(p, in, e.lower, was)
}

// kind says how two nodes of one type differ, 0 if they don't.
func (w *walk) kind(before, now *Node) (Kind, error) {
	same, err := w.sameContent(before, now)
	switch {
	case err != nil:
		return 0, err
	case !same:
		return Changed, nil
	case before.Mode != now.Mode && now.Type != unix.S_IFLNK, before.UID != now.UID, before.GID != now.GID,
		len(now.Xattrs) > 0, now.isLinked():
		return Touched, nil
	case before.Mtime == now.Mtime:
		return 0, nil
	case now.Type == unix.S_IFDIR:
		return Entered, nil
	}
	return Touched, nil
}
