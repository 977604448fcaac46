package overlay

import (
	"errors"
	"io/fs"
	"path"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// load reads the upper into nodes.
func (f *FS) load() error {
	f.root = f.newNode(fuse.FUSE_ROOT_ID, syscall.S_IFDIR)
	f.root.lower, f.root.real = fuse.FUSE_ROOT_ID, true
	var a fuse.Attr
	if err := f.lower.Attr(fuse.FUSE_ROOT_ID, &a); err != nil {
		return err
	}
	f.root.dirs = int(a.Nlink) - 2
	l := loader{
		f:     f,
		dirs:  map[string]*node{".": f.root},
		files: make(map[uint64]*node),
	}
	if err := f.dir.Scan(l.visit); err != nil {
		return err
	}
	if err := l.coverForeign(); err != nil {
		return err
	}
	return l.orphans()
}

// A loader makes nodes of what the upper's directories have.
type loader struct {
	f     *FS
	dirs  map[string]*node // by path in DIR
	files map[uint64]*node // by inode, since a file may have several names

	// foreign are names of another maker's layer that hide a node of the lower of
	// another type, where we would have left a whiteout too.
	foreign []place
}

// visit takes in one directory.
func (l *loader) visit(at string, list *upper.Listing) error {
	dir := l.dirs[at]
	if dir == nil {
		return nil // below what was left out
	}
	if list.Opaque {
		dir.lower, dir.dirs = 0, 0
	}
	for _, name := range list.Whiteouts {
		dir.white[name] = true
	}
	records := make(map[string]*upper.Record, len(list.Records))
	for i := range list.Records {
		r := &list.Records[i]
		records[r.Name] = r
	}
	for _, i := range list.Ignored {
		l.f.log.Printf("overlay: in %q: %q is no record: left out: %v", at, i.Name, i.Err)
	}
	for _, e := range list.Entries {
		r := records[e.Name]
		delete(records, e.Name)
		if err := l.entry(at, place{dir, e.Name}, e, r); err != nil {
			return err
		}
	}
	for _, r := range records {
		if err := l.moved(place{dir, r.Name}, r); err != nil {
			return err
		}
	}
	return l.countDirs(dir)
}

// entry takes in what has an entry in DIR. R is nil where there is no record.
func (l *loader) entry(above string, at place, e upper.Entry, r *upper.Record) error {
	id, err := l.identity(at, e, r)
	if err != nil {
		return err
	}
	n := l.files[e.Ino]
	switch {
	case n == nil:
		if l.f.nodes[id] != nil {
			l.f.log.Printf("overlay: %q is a second %q: shown as a file of its own", path.Join(above, e.Name), l.f.pathOf(id))
			id, r = upper.NodeID(e.Ino), nil
		}
		n = l.f.newNode(id, e.Type)
		n.real = true
		if e.Type != syscall.S_IFDIR {
			l.files[e.Ino] = n
		}
	case ofLower(id) && !ofLower(n.id) && l.f.nodes[id] == nil:
		delete(l.f.nodes, n.id) // another name of it came first, which doesn't tell
		n.id = id
		l.f.nodes[id] = n
	case id != n.id:
		id, r = n.id, nil
	}
	l.f.put(n, at)
	if ofLower(id) && (r != nil || id == l.native(at)) {
		n.lower, n.record = id, r
		last := len(n.places) - 1 // the name that says which node it is comes first
		n.places[0], n.places[last] = n.places[last], n.places[0]
	}
	if n.isDir() {
		l.dirs[path.Join(above, e.Name)] = n
		return l.subdirsOfLower(n)
	}
	return nil
}

// native returns the node that the lower has at a place, unless it has a whiteout.
func (l *loader) native(at place) uint64 {
	if at.dir.white[at.name] {
		return 0
	}
	id, err := l.f.childOfLower(at.dir, at.name)
	if err != nil {
		return 0
	}
	return id
}

// identity returns the ID of what has an entry in DIR.
func (l *loader) identity(at place, e upper.Entry, r *upper.Record) (uint64, error) {
	id := upper.NodeID(e.Ino)
	var err error
	switch {
	case r != nil:
		id, err = l.f.lower.Find(r.Lower)
		if errors.Is(err, fs.ErrNotExist) {
			return upper.NodeID(e.Ino), nil // as bytecode may be gone that was compiled then
		}
		return id, err
	case at.dir.white[at.name]:
		return id, nil
	}
	lower, err := l.f.childOfLower(at.dir, at.name)
	if lower == 0 || err != nil {
		return id, err
	}
	var a fuse.Attr
	if err := l.f.lower.Attr(lower, &a); err != nil {
		return 0, err
	}
	if a.Mode&syscall.S_IFMT != e.Type {
		l.foreign = append(l.foreign, at)
		at.dir.white[at.name] = true
		return id, nil
	}
	return lower, nil
}

// moved takes in a node of the lower that DIR has a record of and nothing else.
func (l *loader) moved(at place, r *upper.Record) error {
	id, err := l.f.lower.Find(r.Lower)
	if errors.Is(err, fs.ErrNotExist) || err == nil && l.f.nodes[id] != nil {
		l.f.log.Printf("overlay: %q in %q is recorded as %q of the tree, which isn't there or is elsewhere too: left out", at.name, l.f.pathOf(at.dir.id), r.Lower)
		return nil
	}
	if err != nil {
		return err
	}
	var a fuse.Attr
	if err := l.f.lower.Attr(id, &a); err != nil {
		return err
	}
	n := l.f.newNode(id, a.Mode&syscall.S_IFMT)
	n.lower, n.record = id, r
	l.f.put(n, at)
	return l.subdirsOfLower(n)
}

// subdirsOfLower begins the count of directories in n.
func (l *loader) subdirsOfLower(n *node) error {
	if n.lower == 0 || !n.isDir() {
		return nil
	}
	var a fuse.Attr
	if err := l.f.lower.Attr(n.lower, &a); err != nil {
		return err
	}
	n.dirs = int(a.Nlink) - 2
	return nil
}

// countDirs takes into account what is no longer, or not only, the lower's.
func (l *loader) countDirs(dir *node) error {
	for name := range dir.white {
		id, err := l.f.childOfLower(dir, name)
		if err != nil {
			return err
		}
		if id == 0 {
			continue
		}
		var a fuse.Attr
		if err := l.f.lower.Attr(id, &a); err != nil {
			return err
		}
		if counts(id, a.Mode&syscall.S_IFMT, name) {
			dir.dirs--
		}
	}
	for name, kid := range dir.kids {
		id, err := l.f.childOfLower(dir, name)
		if err != nil {
			return err
		}
		if (id == 0 || dir.white[name]) && counts(kid.id, kid.kind, name) {
			dir.dirs++
		}
		if id == 0 || view.IsGhost(id) {
			dir.listing.add(name, len(dir.kids), dir.has)
		}
	}
	return nil
}

// coverForeign gives the names that need one a whiteout, as if the layer were ours.
func (l *loader) coverForeign() error {
	for _, at := range l.foreign {
		delete(at.dir.white, at.name) // which is not on disk yet
		p := l.f.plan()
		p.whiteout(at.dir, at.name)
		if s := l.f.do(0, "reading a layer of another maker", p, nil); s != fuse.OK {
			return &fs.PathError{Op: "whiteout", Path: l.f.pathAt(at), Err: syscall.Errno(s)}
		}
	}
	return nil
}

// orphans takes in what lost its last name and may be in use.
func (l *loader) orphans() error {
	orphans, err := l.f.dir.Orphans()
	if err != nil {
		return err
	}
	for _, o := range orphans {
		if l.f.nodes[o.ID] != nil {
			l.f.log.Printf("overlay: orphan %x has a name: left alone", o.ID)
			continue
		}
		n := l.f.newNode(o.ID, o.Type)
		n.real = true
		if ofLower(o.ID) {
			n.lower = o.ID
		}
	}
	return nil
}
