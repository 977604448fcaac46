package overlay

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

const maxName = 255 // bytes, NAME_MAX

// checkName says whether a name can be given.
func checkName(name string) fuse.Status {
	switch {
	case len(name) > maxName:
		return fuse.Status(syscall.ENAMETOOLONG)
	case upper.Reserved(name):
		return fuse.EPERM
	}
	return fuse.OK
}

// directory returns the object of a directory that has a name. mu is held for
// writing.
func (f *FS) directory(id uint64) (*node, fuse.Status) {
	n, err := f.adopt(id)
	switch {
	case err != nil:
		return nil, f.lowerStatus("finding a directory", err)
	case !n.isDir():
		return nil, fuse.ENOTDIR
	case n.unlinked():
		return nil, fuse.ENOENT
	}
	return n, fuse.OK
}

// Mkdir makes a directory.
func (f *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(&in.InHeader, name, birth{kind: syscall.S_IFDIR, mode: in.Mode & 0o7777}, out)
}

// Symlink makes a symbolic link.
func (f *FS) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.make(in, name, birth{kind: syscall.S_IFLNK, mode: 0o777, target: target}, out)
}

// Mknod makes an empty file, a FIFO or a socket. Devices there are none, as the
// mount is nodev.
func (f *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	b := birth{kind: in.Mode & syscall.S_IFMT, mode: in.Mode & 0o7777}
	switch b.kind {
	case 0:
		b.kind = syscall.S_IFREG
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return fuse.EPERM
	}
	return f.make(&in.InHeader, name, b, out)
}

// Create makes a file, whose descriptor is kept for what is written to it next.
func (f *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return f.make(&in.InHeader, name, birth{kind: syscall.S_IFREG, mode: in.Mode & 0o7777, open: true}, &out.EntryOut)
}

// Tmpfile makes a file without a name, which LINK may give it one.
func (f *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.done(&in.InHeader); ok {
		if r.Errno != 0 {
			return fuse.Status(r.Errno)
		}
		if n := f.nodes[r.Node]; n != nil {
			f.seen.begin(n.id)
			return f.fill(n, &out.EntryOut)
		}
		// Which file it was is not known: it has no name and no user, and the next
		// mount removes it.
	}
	dir, s := f.directory(in.NodeId)
	if s != fuse.OK {
		return s
	}
	b := birth{kind: syscall.S_IFREG, mode: in.Mode & 0o7777, open: true}
	if s := f.inherit(&b, dir, in.Owner); s != fuse.OK {
		return s
	}
	p := f.plan()
	b.stage(p)
	if p.err == nil {
		p.move(b.staged, upper.OrphanPath(b.id))
	}
	if s := f.do(in.Unique, "making a file without a name", p, func() uint64 { return b.id }); s != fuse.OK {
		return b.failed(s)
	}
	return f.born(&b, place{}, &out.EntryOut)
}

// A birth is a node to be made.
type birth struct {
	kind, mode uint32
	target     string // of a symlink
	open       bool   // keep the descriptor

	owner  fuse.Owner
	staged string // where a file without a name is made
	fd     int    // of a file that is kept open, or -1
	id     uint64 // 0: not known yet
}

// make makes a node under a name.
func (f *FS) make(h *fuse.InHeader, name string, b birth, out *fuse.EntryOut) fuse.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.done(h); ok {
		return f.again(h.NodeId, name, r, out)
	}
	if s := checkName(name); s != fuse.OK {
		return s
	}
	dir, s := f.directory(h.NodeId)
	if s != fuse.OK {
		return s
	}
	at := place{dir, name}
	if n, err := f.child(dir, name); err != nil {
		return f.lowerStatus("making a name", err)
	} else if n != nil {
		return fuse.Status(syscall.EEXIST)
	}
	if s := f.inherit(&b, dir, h.Owner); s != fuse.OK {
		return s
	}
	p := f.plan()
	p.whiteout(dir, name)
	p.real(dir)
	to := f.pathAt(at)
	p.add(b.step(to, f.gives(b.owner)))
	if s := f.do(h.Unique, "making "+name, p, func() uint64 { return f.identify(&b, to) }); s != fuse.OK {
		return b.failed(s)
	}
	if f.identify(&b, to) == 0 {
		return b.failed(fuse.EIO)
	}
	return f.born(&b, at, out)
}

// again answers a request to make a name that a process before this one carried
// out. Nothing has changed the name since: the kernel holds the directory for as
// long as it waits.
func (f *FS) again(dir uint64, name string, r upper.Result, out *fuse.EntryOut) fuse.Status {
	if r.Errno != 0 {
		return fuse.Status(r.Errno)
	}
	var n *node
	if d := f.nodes[dir]; d != nil && d.isDir() {
		n = d.kids[name]
	}
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	if len(n.places) == 1 && !ofLower(n.id) {
		f.seen.begin(n.id) // which the kernel hasn't heard of
	}
	return f.fill(n, out)
}

// inherit says who owns a new node: the caller, and the group of a directory that
// is setgid.
func (f *FS) inherit(b *birth, dir *node, caller fuse.Owner) fuse.Status {
	b.owner, b.fd = caller, -1
	var a fuse.Attr
	if s := f.attr(dir, &a); s != fuse.OK {
		return s
	}
	if a.Mode&syscall.S_ISGID != 0 {
		b.owner.Gid = a.Gid
		if b.kind == syscall.S_IFDIR {
			b.mode |= syscall.S_ISGID
		}
	}
	return fuse.OK
}

// mayGive reports whether this process can give files away. Where it can't they
// are its own, as everything is on a mount that an ordinary user shares.
func (f *FS) mayGive() bool { return f.self.Uid == 0 }

// gives reports whether what this process makes must be given to its owner.
func (f *FS) gives(to fuse.Owner) bool { return f.mayGive() && to != f.self }

// step returns the one that makes it.
func (b *birth) step(to string, give bool) upper.Step {
	var s upper.Step
	switch b.kind {
	case syscall.S_IFDIR:
		s = upper.MakeDir(to, b.mode)
	case syscall.S_IFLNK:
		s = upper.MakeSymlink(to, b.target)
	case syscall.S_IFREG:
		s = upper.MakeFile(to, b.mode)
	default:
		s = upper.MakeNode(to, b.kind|b.mode)
	}
	if give {
		s = s.Own(b.owner.Uid, b.owner.Gid)
	}
	if b.open {
		s = s.Keep(&b.fd)
	}
	return s
}

// stage makes a file in the staging area.
func (b *birth) stage(p *plan) {
	var err error
	b.fd, b.staged, err = p.f.dir.StageFile(b.mode)
	if err != nil {
		b.fd = -1
		p.fail(err)
		return
	}
	p.stage(b.staged)
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil {
		p.fail(err)
		return
	}
	b.id = upper.NodeID(st.Ino)
	if p.f.gives(b.owner) {
		p.fail(b.give())
	}
}

// give gives a file to its owner, and the bits again that chown(2) takes from it.
func (b *birth) give() error {
	if err := unix.Fchown(b.fd, int(b.owner.Uid), int(b.owner.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(b.fd, b.mode)
}

// identify returns the ID of what was made at a path, 0 if it can't be told.
func (f *FS) identify(b *birth, at string) uint64 {
	if b.id == 0 {
		st, err := f.dir.Stat(at)
		if err != nil {
			f.lower.Fault("looking at what was made: %v", err)
			return 0
		}
		b.id = upper.NodeID(st.Ino)
	}
	return b.id
}

// failed closes what was not made.
func (b *birth) failed(s fuse.Status) fuse.Status {
	if b.fd >= 0 {
		_ = unix.Close(b.fd) // a file of no name and no content: nothing can be lost
	}
	return s
}

// born adds what was made to the nodes, and answers.
func (f *FS) born(b *birth, at place, out *fuse.EntryOut) fuse.Status {
	n := f.newNode(b.id, b.kind)
	n.real = true
	if at.dir != nil {
		f.attach(n, at)
		f.tellListing(at.dir)
	}
	if b.fd >= 0 {
		f.files.add(n.id, b.fd)
	}
	f.seen.begin(n.id)
	return f.fill(n, out)
}

// Link gives a node another name.
func (f *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if s := checkName(name); s != fuse.OK {
		return s
	}
	n, s := f.ready(in)
	if s != fuse.OK {
		return s
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.done(&in.InHeader); ok {
		return f.again(in.NodeId, name, r, out)
	}
	dir, s := f.directory(in.NodeId)
	if s != fuse.OK {
		return s
	}
	if other, err := f.child(dir, name); err != nil {
		return f.lowerStatus("making a link", err)
	} else if other != nil {
		return fuse.Status(syscall.EEXIST)
	}
	at := place{dir, name}
	p := f.plan()
	p.whiteout(dir, name)
	p.real(dir)
	if n.unlinked() {
		p.move(f.path(n), f.pathAt(at))
		if ofLower(n.id) {
			p.record(n, at, upper.Record{}, true)
		}
	} else {
		p.add(upper.Hardlink(f.path(n), f.pathAt(at)))
	}
	p.then(func() { f.attach(n, at) })
	if s := f.do(in.Unique, "linking "+name, p, func() uint64 { return n.id }); s != fuse.OK {
		return s
	}
	f.tellListing(dir)
	return f.fill(n, out)
}

// ready returns the node that is to be linked, with its content in the upper.
func (f *FS) ready(in *fuse.LinkIn) (*node, fuse.Status) {
	f.mu.Lock()
	n, err := f.adopt(in.Oldnodeid)
	if err != nil {
		f.mu.Unlock()
		return nil, f.lowerStatus("linking", err)
	}
	isDir, real := n.isDir(), n.real
	f.mu.Unlock()
	switch {
	case isDir:
		return nil, fuse.EPERM
	case real:
		return n, fuse.OK
	}
	return n, f.copyUp(n)
}
