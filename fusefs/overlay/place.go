package overlay

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// adopt returns the object of an ID, and makes one in memory, with those of the
// directories above, if there is none. mu is held for writing.
//
// A node of the lower without an object is where the lower has it, or has lost
// its name in the life of a process before this one.
func (f *FS) adopt(id uint64) (*node, error) {
	if n := f.nodes[id]; n != nil {
		return n, nil
	}
	if !ofLower(id) {
		return nil, syscall.ESTALE // of a session before this one
	}
	var a fuse.Attr
	if err := f.lower.Attr(id, &a); err != nil {
		return nil, err
	}
	dir, name, err := f.lower.Place(id)
	if err != nil {
		return nil, err
	}
	above, err := f.adopt(dir)
	if err != nil {
		return nil, err
	}
	n := f.newNode(id, a.Mode&syscall.S_IFMT)
	n.lower = id
	if n.isDir() {
		n.dirs = int(a.Nlink) - 2
	}
	if !above.unlinked() && above.lower != 0 && !above.white[name] && above.kids[name] == nil {
		f.put(n, place{above, name})
		if view.IsGhost(id) {
			above.listing.add(name, len(above.kids), above.has) // for when it is one no longer
		}
	}
	return n, nil
}

// newNode adds an object without a name.
func (f *FS) newNode(id uint64, kind uint32) *node {
	n := &node{id: id, kind: kind}
	if n.isDir() {
		n.directory = &directory{kids: make(map[string]*node), white: make(map[string]bool)}
	}
	f.nodes[id] = n
	return n
}

// put gives a node a name that it or nothing has.
func (f *FS) put(n *node, p place) {
	n.places = append(n.places, p)
	p.dir.kids[p.name] = n
	p.dir.names.changed()
	n.named.changed()
}

// has reports whether there is a node under a name.
func (n *node) has(name string) bool { return n.kids[name] != nil }

// attach gives a node another name, which is new in its directory.
func (f *FS) attach(n *node, p place) {
	f.put(n, p)
	p.changed(n)
	if counts(n.id, n.kind, p.name) {
		p.dir.dirs++
	}
	if listed, err := f.listed(p.dir, p.name); err != nil || !listed {
		p.dir.listing.add(p.name, len(p.dir.kids), p.dir.has)
	}
}

// changed says that n has come to a place, or gone from it.
func (p place) changed(n *node) {
	p.dir.ctime.changed()
	if n.isDir() {
		n.ctime.changed()
	}
}

// detach takes a name from a node.
func (f *FS) detach(n *node, p place) {
	delete(p.dir.kids, p.name)
	p.dir.names.changed()
	n.named.changed()
	n.places = slices.DeleteFunc(n.places, func(q place) bool { return q == p })
	p.changed(n)
	if counts(n.id, n.kind, p.name) {
		p.dir.dirs--
	}
}

// childOfLower returns the node that the lower has under a name of dir, 0 if there is
// none. The .pyc of a ghost aren't looked for: they come and go.
func (f *FS) childOfLower(dir *node, name string) (uint64, error) {
	if dir.lower == 0 || view.IsGhost(dir.lower) {
		return 0, nil
	}
	id, err := f.lower.Child(dir.lower, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return id, err
}

// child returns the object of what dir shows under a name, nil if nothing is
// there. mu is held for writing.
func (f *FS) child(dir *node, name string) (*node, error) {
	if n := dir.kids[name]; n != nil || dir.white[name] {
		return n, nil
	}
	id, err := f.childOfLower(dir, name)
	if err == nil && id != 0 && view.IsGhost(id) && !f.hasBytecode(dir) {
		id = 0
	}
	if id == 0 || err != nil {
		return nil, err
	}
	return f.adopt(id)
}

// A plan is a mutation in the making: the steps on disk, and what memory learns
// once they are done. An error of its methods is kept, and it is then not done.
type plan struct {
	f      *FS
	steps  []upper.Step
	staged []string // what a step still to be done places
	after  []func()
	err    error

	made    map[*node]bool         // directories that real puts into DIR
	records map[place]upper.Record // that setRecord wrote
}

// plan begins a mutation. mu is held for writing until it is done.
func (f *FS) plan() *plan { return &plan{f: f} }

func (p *plan) add(steps ...upper.Step) { p.steps = append(p.steps, steps...) }

// then has fn called, in order, once the steps are done.
func (p *plan) then(fn func()) { p.after = append(p.after, fn) }

// fail keeps the first error.
func (p *plan) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

// stage says that path is in the staging area until a step moves it.
func (p *plan) stage(path string) { p.staged = append(p.staged, path) }

// move adds the step that gives what is at from the free path to.
func (p *plan) move(from, to string) { p.add(upper.Move(from, to)) }

// drop deletes what is at a path.
func (p *plan) drop(path string) { p.move(path, p.f.dir.TrashPath()) }

// real puts a directory, and those above it, into DIR as the lower has them.
func (p *plan) real(n *node) {
	if n.real || p.made[n] || p.err != nil {
		return
	}
	if n.unlinked() {
		p.fail(syscall.ENOENT)
		return
	}
	above := n.places[0]
	if upper.Reserved(above.name) {
		p.fail(syscall.EPERM)
		return
	}
	p.real(above.dir)
	if p.err != nil {
		return
	}
	var a fuse.Attr
	if s := p.f.attr(n, &a); s != fuse.OK {
		p.fail(syscall.Errno(s))
		return
	}
	to := p.f.pathAt(above)
	if n.record == nil {
		step := upper.MakeDir(to, a.Mode&0o7777).Mtime(upper.Time{Sec: int64(a.Mtime), Nsec: int64(a.Mtimensec)})
		if p.f.gives(a.Owner) {
			step = step.Own(a.Uid, a.Gid)
		}
		p.add(step.KeepTime())
	} else {
		p.stageDir(n, &a, to)
	}
	if p.made == nil {
		p.made = make(map[*node]bool)
	}
	p.made[n] = true
	p.then(func() {
		n.real = true
		n.ctime.show(&a) // as it was: this is no change
		above.dir.names.changed()
		n.named.changed()
	})
}

// stageDir has a directory placed that has what is recorded of n.
func (p *plan) stageDir(n *node, a *fuse.Attr, to string) {
	staged, err := p.f.dir.StageDir(a.Mode & 0o7777)
	if err != nil {
		p.fail(err)
		return
	}
	p.stage(staged)
	if err := p.f.dress(staged, n, a); err != nil {
		p.fail(err)
	}
	p.add(upper.Move(staged, to).KeepTime())
}

// dress gives what was staged for a node the owner, extended attributes and times
// that it has.
func (f *FS) dress(staged string, n *node, a *fuse.Attr) error {
	if f.gives(a.Owner) {
		if err := f.dir.Chown(staged, int(a.Uid), int(a.Gid)); err != nil {
			return err
		}
		if err := f.dir.Chmod(staged, a.Mode&0o7777); err != nil { // which chown takes bits from
			return err
		}
	}
	if n.record != nil {
		for name, value := range n.record.Xattrs {
			if err := f.dir.Setxattr(staged, name, value, 0); err != nil {
				return err
			}
		}
	}
	atime := unix.Timespec{Sec: int64(a.Atime), Nsec: int64(a.Atimensec)}
	mtime := unix.Timespec{Sec: int64(a.Mtime), Nsec: int64(a.Mtimensec)}
	return f.dir.Utimes(staged, &atime, &mtime)
}

// whiteout hides what the lower has under a name, if it is not hidden yet, and
// makes dir real for it.
func (p *plan) whiteout(dir *node, name string) {
	if dir.white[name] || p.err != nil {
		return
	}
	if !view.IsGhost(dir.lower) { // where any name may come to be
		id, err := p.f.childOfLower(dir, name)
		if err != nil {
			p.fail(err)
			return
		}
		if id == 0 {
			return
		}
	} else if _, ok := p.f.lower.SourceName(name); !ok || !p.f.maySee(dir, dir.lower, name) {
		return
	}
	p.real(dir)
	if p.err != nil {
		return
	}
	if to, long := upper.WhiteoutPath(p.f.path(dir), name); long {
		r := p.recordAt(place{dir, name})
		r.Whiteout = true
		p.setRecord(place{dir, name}, r, true)
	} else {
		p.add(p.f.blank(to))
	}
	p.then(func() {
		dir.white[name] = true
		dir.names.changed()
	})
}

// record writes what DIR's own entries don't say of a node at a place, where it
// will be the first, and which node of the lower it is. It is no change of the
// directory, unless moved says that the node has come there.
func (p *plan) record(n *node, at place, r upper.Record, moved bool) {
	p.real(at.dir)
	if p.err != nil {
		return
	}
	lower, err := p.f.lower.NodePath(n.id)
	if err != nil {
		p.fail(err)
		return
	}
	r.Lower, r.Whiteout = lower, p.recordAt(at).Whiteout
	p.setRecord(at, r, moved)
	p.then(func() {
		n.record = &r
		n.named.changed()
	})
}

// unrecord removes the record of a node at its first place, which it leaves.
func (p *plan) unrecord(n *node) {
	if n.record == nil {
		return
	}
	at := n.places[0]
	p.setRecord(at, upper.Record{Whiteout: p.recordAt(at).Whiteout}, true)
	p.then(func() { n.record = nil })
}

// recordAt returns the record that a name has after the steps so far.
func (p *plan) recordAt(at place) (r upper.Record) {
	if r, ok := p.records[at]; ok {
		return r
	}
	if n := at.dir.kids[at.name]; n != nil && n.record != nil && n.places[0] == at {
		r = *n.record
	}
	_, long := upper.WhiteoutPath("", at.name)
	r.Whiteout = long && at.dir.white[at.name]
	return r
}

// setRecord replaces the record of a name. Change says that it changes the directory,
// whose time then changes too.
func (p *plan) setRecord(at place, r upper.Record, change bool) {
	on := upper.RecordPath(p.f.path(at.dir), at.name)
	before := !empty(p.recordAt(at))
	r.Name = at.name
	var step upper.Step
	switch {
	case !empty(r):
		staged, err := p.f.dir.StageRecord(r)
		if err != nil {
			p.fail(err)
			return
		}
		p.stage(staged)
		step = upper.Move(staged, on)
		if before {
			step = upper.Exchange(staged, on)
			p.then(func() { p.f.dir.Discard(staged) })
		}
	case before:
		step = upper.Move(on, p.f.dir.TrashPath())
	default:
		return
	}
	if !change {
		step = step.KeepTime()
	}
	p.add(step)
	if p.records == nil {
		p.records = make(map[place]upper.Record)
	}
	p.records[at] = r
	p.then(at.dir.names.changed)
}

// empty reports whether a record says nothing.
func empty(r upper.Record) bool { return r.Lower == "" && !r.Whiteout }

// do makes a mutation: of a request, or 0 of none. Node returns the ID of what it
// made.
func (f *FS) do(unique uint64, doing string, p *plan, node func() uint64) fuse.Status {
	err := p.err
	if err == nil && len(p.steps) > 0 {
		defer f.waiting()()
		err = f.dir.Do(unique&^resent, node, p.steps...)
	}
	if err != nil {
		for _, path := range p.staged {
			f.dir.Discard(path)
		}
		return f.lowerStatus(doing, err)
	}
	for _, fn := range p.after {
		fn()
	}
	return fuse.OK
}

// resent marks the number of a request that the kernel sends again, since its
// answer is missing (FUSE_UNIQUE_RESEND).
const resent = 1 << 63

// done returns the answer to a request that was carried out in the life of a
// process before this one.
func (f *FS) done(h *fuse.InHeader) (upper.Result, bool) {
	if h.Unique&resent == 0 {
		return upper.Result{}, false
	}
	return f.dir.Done(h.Unique &^ resent)
}
