package overlay

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// Unlink takes a name from a file. One without a name left stays readable until the
// kernel forgets it.
func (f *FS) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.removeName(in, name, false)
}

// Rmdir removes a directory that shows nothing.
func (f *FS) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.removeName(in, name, true)
}

// removeName removes a directory, or a name of another type.
func (f *FS) removeName(in *fuse.InHeader, name string, isDir bool) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.done(in); ok {
		return fuse.Status(r.Errno)
	}
	dir, s := f.directory(in.NodeId)
	if s != fuse.OK {
		return s
	}
	n, err := f.child(dir, name)
	switch {
	case err != nil:
		return f.lowerStatus("removing a name", err)
	case n == nil && f.maybeGhost(dir, name):
		p := f.plan()
		p.whiteout(dir, name)
		return f.do(in.Unique, "removing "+name, p, nil)
	case n == nil:
		return fuse.ENOENT
	case isDir && !n.isDir():
		return fuse.ENOTDIR
	case !isDir && n.isDir():
		return fuse.Status(syscall.EISDIR)
	case isDir:
		if s := f.checkEmpty(n); s != fuse.OK {
			return s
		}
	}
	return f.remove(in.Unique, n, place{dir, name})
}

// maybeGhost reports whether the kernel may have been told of bytecode under a name
// of dir that has no object.
func (f *FS) maybeGhost(dir *node, name string) bool {
	if !view.IsGhost(dir.lower) || dir.white[name] {
		return false
	}
	_, ok := f.lower.SourceName(name)
	return ok
}

// checkEmpty says whether a directory can be removed.
func (f *FS) checkEmpty(dir *node) fuse.Status {
	empty, err := f.isEmpty(dir)
	switch {
	case err != nil:
		return f.lowerStatus("looking into a directory", err)
	case !empty:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	return fuse.OK
}

// remove takes a name from a node.
func (f *FS) remove(unique uint64, n *node, at place) fuse.Status {
	p := f.plan()
	p.whiteout(at.dir, at.name)
	p.remove(n, at, f.pathAt(at))
	if s := f.do(unique, "removing "+at.name, p, nil); s != fuse.OK {
		return s
	}
	f.reap(n)
	f.tellListing(at.dir)
	return fuse.OK
}

// remove adds the steps that take a name from a node, and keep the node if it was
// the last and someone may use it. What DIR has of it is at the path lies by then.
func (p *plan) remove(n *node, at place, lies string) {
	p.then(p.f.losesSource(at.dir, at.name))
	record := n.record
	first := n.places[0] == at
	if first {
		p.unrecord(n)
	}
	switch last := len(n.places) == 1; {
	case n.real && last && !(n.isDir() && ofLower(n.id)):
		p.move(lies, upper.OrphanPath(n.id))
	case n.real:
		p.drop(lies)
	}
	if first && ofLower(n.id) && len(n.places) > 1 {
		p.record(n, n.places[1], upper.Record{}, false) // which name is the lower's node now
	}
	p.then(func() {
		p.f.detach(n, at)
		if !n.unlinked() {
			return
		}
		if n.isDir() {
			p.f.scatter(n)
		}
		if !n.real {
			n.record = record // of which the attributes are still its own
		}
		if n.isDir() && ofLower(n.id) {
			n.real = false
		}
	})
}

// scatter takes what no listing showed from a directory that is gone.
func (f *FS) scatter(dir *node) {
	for name, kid := range dir.kids {
		f.detach(kid, place{dir, name})
		if kid.isDir() {
			f.scatter(kid)
			kid.real = false // it went with the directory
		}
		f.reap(kid)
	}
}
