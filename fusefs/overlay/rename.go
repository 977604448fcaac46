package overlay

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// The flags of renameat2(2) that mean something here.
const (
	noReplace = 1 << 0
	exchange  = 1 << 1
)

// Rename gives a node another place, and copies nothing: a node of the lower is
// recorded at the new one.
func (f *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	switch in.Flags {
	case 0, noReplace, exchange:
	default:
		return fuse.EINVAL
	}
	if s := checkName(newName); s != fuse.OK {
		return s
	}
	if s := f.embody(in, oldName, newName); s != fuse.OK {
		return s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.done(&in.InHeader); ok {
		return fuse.Status(r.Errno)
	}
	from, n, s := f.named(in.NodeId, oldName)
	if s != fuse.OK {
		return s
	}
	to, other, s := f.named(in.Newdir, newName)
	if s != fuse.OK {
		return s
	}
	switch {
	case n == nil:
		return fuse.ENOENT
	case in.Flags == exchange:
		return f.swap(in.Unique, from, n, to, other)
	case in.Flags == noReplace && other != nil:
		return fuse.Status(syscall.EEXIST)
	}
	return f.rename(in.Unique, from, n, to, other)
}

// named returns a place and the node there, nil if there is none.
func (f *FS) named(dir uint64, name string) (place, *node, fuse.Status) {
	d, s := f.directory(dir)
	if s != fuse.OK {
		return place{}, nil, s
	}
	n, err := f.child(d, name)
	if err != nil {
		return place{}, nil, f.lowerStatus("renaming", err)
	}
	return place{d, name}, n, fuse.OK
}

// embody copies up bytecode that is to be renamed: where its source is says what
// the lower has, and a copy says it anywhere.
func (f *FS) embody(in *fuse.RenameIn, oldName, newName string) fuse.Status {
	s := f.embodyOne(in.NodeId, oldName)
	if s == fuse.OK && in.Flags == exchange {
		s = f.embodyOne(in.Newdir, newName)
	}
	return s
}

func (f *FS) embodyOne(dir uint64, name string) fuse.Status {
	if _, ok := f.lower.SourceName(name); !ok {
		return fuse.OK
	}
	f.mu.Lock()
	n, err := f.ghost(dir, name)
	f.mu.Unlock()
	switch {
	case err != nil:
		return f.lowerStatus("renaming bytecode", err)
	case n == nil:
		return fuse.OK
	}
	return f.copyUp(n)
}

// ghost returns the object of bytecode that the lower has, nil if there is none.
// mu is held for writing.
func (f *FS) ghost(dir uint64, name string) (*node, error) {
	d, err := f.adopt(dir)
	if err != nil || !d.isDir() || d.unlinked() || !f.maybeGhost(d, name) {
		return nil, err
	}
	if n := d.kids[name]; n != nil {
		if n.real {
			return nil, nil
		}
		return n, nil
	}
	id, err := f.lower.Child(d.lower, name)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	return f.adopt(id)
}

// below reports whether a directory is in another, or that itself.
func (n *node) below(dir *node) bool {
	for n != dir {
		if n.isRoot() || n.unlinked() {
			return false
		}
		n = n.places[0].dir
	}
	return true
}

// rename gives n, at from, the place to, which other loses.
func (f *FS) rename(unique uint64, from place, n *node, to place, other *node) fuse.Status {
	switch {
	case n == other:
		return fuse.OK // two names of one file: POSIX leaves both
	case n.isDir() && to.dir.below(n):
		return fuse.EINVAL
	case other == nil:
	case other.isDir() && !n.isDir():
		return fuse.Status(syscall.EISDIR)
	case n.isDir() && !other.isDir():
		return fuse.ENOTDIR
	case other.isDir():
		if s := f.checkEmpty(other); s != fuse.OK {
			return s
		}
	}
	p := f.plan()
	p.whiteout(to.dir, to.name)
	p.whiteout(from.dir, from.name)
	was, will := f.pathAt(from), f.pathAt(to)
	replace := n.real && other != nil && other.real
	switch {
	case replace: // at once: not even a loss of power costs either
		p.add(upper.Exchange(was, will))
		p.remove(other, to, was)
	case other != nil:
		p.remove(other, to, will)
	}
	p.real(to.dir)
	first := p.lift(n, from)
	if n.real && !replace {
		p.move(was, will)
	}
	p.settle(n, from, to, first)
	if s := f.do(unique, "renaming "+from.name, p, nil); s != fuse.OK {
		return s
	}
	if other != nil {
		f.reap(other)
	}
	f.tellListing(from.dir)
	f.tellListing(to.dir)
	return fuse.OK
}

// swap gives two nodes each other's place.
func (f *FS) swap(unique uint64, a place, n *node, b place, other *node) fuse.Status {
	switch {
	case other == nil:
		return fuse.ENOENT
	case n == other:
		return fuse.OK
	case upper.Reserved(a.name):
		return fuse.EPERM
	case n.isDir() && b.dir.below(n), other.isDir() && a.dir.below(other):
		return fuse.EINVAL
	}
	p := f.plan()
	p.whiteout(a.dir, a.name)
	p.whiteout(b.dir, b.name)
	p.real(a.dir)
	p.real(b.dir)
	firstN, firstOther := p.lift(n, a), p.lift(other, b)
	switch {
	case n.real && other.real:
		p.add(upper.Exchange(f.pathAt(a), f.pathAt(b)))
	case n.real:
		p.move(f.pathAt(a), f.pathAt(b))
	case other.real:
		p.move(f.pathAt(b), f.pathAt(a))
	}
	p.then(func() { f.detach(other, b) }) // before n takes its name
	p.settle(n, a, b, firstN)
	p.settle(other, place{}, a, firstOther)
	s := f.do(unique, "exchanging "+a.name, p, nil)
	if s == fuse.OK {
		f.tellListing(a.dir)
		f.tellListing(b.dir)
	}
	return s
}

// lifted is what goes with a node from the place that says which it is.
type lifted struct {
	record upper.Record
	is     bool // it is the place that says so
}

// lift takes from a place what says which node of the lower is there.
func (p *plan) lift(n *node, from place) (l lifted) {
	p.then(p.f.losesSource(from.dir, from.name))
	if !ofLower(n.id) || n.places[0] != from {
		return l
	}
	l.is = true
	if n.record != nil && !n.real {
		l.record = *n.record // a real one has its attributes itself
	}
	p.unrecord(n)
	return l
}

// settle gives a node its new name in place of the old, if it has one still.
func (p *plan) settle(n *node, from, to place, l lifted) {
	if l.is {
		p.record(n, to, l.record, true)
	}
	p.then(func() {
		if from.dir != nil {
			p.f.detach(n, from)
		}
		p.f.attach(n, to)
		if last := len(n.places) - 1; l.is {
			n.places[0], n.places[last] = n.places[last], n.places[0]
		}
	})
}
