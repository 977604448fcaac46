package overlay

import (
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// GetAttr answers for a node that the kernel knows.
func (f *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	f.mu.RLock()
	n := f.nodes[in.NodeId]
	if n == nil {
		lost := f.lost(in.NodeId)
		f.mu.RUnlock()
		if !ofLower(in.NodeId) {
			return fuse.Status(syscall.ESTALE)
		}
		s := f.lower.GetAttr(cancel, in, out) // which may wait for a compiler
		if lost {
			out.Nlink = 0
		}
		return s
	}
	defer f.mu.RUnlock()
	out.AttrValid = forever
	return f.attr(n, &out.Attr)
}

// lost reports whether a node of the lower without an object has no name: it was
// unlinked in the life of a process before this one, as was a directory above it
// if that has none. mu is held.
func (f *FS) lost(id uint64) bool {
	if !f.dir.Resumed() {
		return false
	}
	for {
		above, name, err := f.lower.Place(id)
		if err != nil {
			return false // the top
		}
		if dir := f.nodes[above]; dir != nil {
			return dir.unlinked() || dir.lower == 0 || dir.white[name]
		}
		id = above
	}
}

// blockSize is what stat(2) recommends for reading and writing, as the view does.
const blockSize = 4096

// attr fills in what stat(2) shows of a node: what DIR's own file has, or what the
// lower has and the record says otherwise. mu is held.
func (f *FS) attr(n *node, out *fuse.Attr) fuse.Status {
	var s fuse.Status
	if n.real {
		s = f.upperAttr(n, out)
	} else {
		s = f.lowerAttr(n, out)
	}
	out.Nlink = f.links(n)
	return s
}

// links counts the names of a node, and of a directory also its "." and the ".."
// of those in it.
func (f *FS) links(n *node) uint32 {
	switch {
	case n.unlinked():
		return 0
	case n.isDir():
		return uint32(2 + f.subdirs(n))
	}
	return uint32(len(n.places))
}

// upperAttr fills in what DIR has. mu is held.
func (f *FS) upperAttr(n *node, out *fuse.Attr) fuse.Status {
	st, err := f.dir.Stat(f.path(n))
	if err != nil {
		return f.errno("reading attributes", err)
	}
	*out = fuse.Attr{
		Ino:       n.id,
		Size:      uint64(st.Size),
		Blocks:    uint64(st.Blocks),
		Atime:     uint64(st.Atim.Sec),
		Mtime:     uint64(st.Mtim.Sec),
		Ctime:     uint64(st.Ctim.Sec),
		Atimensec: uint32(st.Atim.Nsec),
		Mtimensec: uint32(st.Mtim.Nsec),
		Ctimensec: uint32(st.Ctim.Nsec),
		Mode:      uint32(st.Mode),
		Owner:     fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Blksize:   blockSize,
	}
	if n.isDir() {
		n.ctime.show(out)
	}
	return fuse.OK
}

// A ctime is when a directory of DIR last changed for who uses the mount. DIR's own
// changes too when a record comes or what is in it is copied up, and a program such
// as tar that sees that takes it for a change. It is not kept: another process begins
// with DIR's.
type ctime struct {
	mu    sync.Mutex // guards the rest where FS.mu is held for reading
	known bool       // not since the last change
	sec   uint64
	nsec  uint32
}

// show fills in the time, which is that of out after a change.
func (c *ctime) show(out *fuse.Attr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		c.known, c.sec, c.nsec = true, out.Ctime, out.Ctimensec
	}
	out.Ctime, out.Ctimensec = c.sec, c.nsec
}

// changed says that the directory has changed.
func (c *ctime) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = false
}

// lowerAttr fills in what the lower has and the record changes. mu is held.
func (f *FS) lowerAttr(n *node, out *fuse.Attr) fuse.Status {
	if err := f.lower.Attr(n.lower, out); err != nil {
		return f.lowerStatus("reading attributes", err)
	}
	out.Ino = n.id
	r := n.record
	if r == nil {
		return fuse.OK
	}
	if r.Mode != nil {
		out.Mode = out.Mode&syscall.S_IFMT | *r.Mode
	}
	if r.UID != nil {
		out.Uid = *r.UID
	}
	if r.GID != nil {
		out.Gid = *r.GID
	}
	if r.Mtime != nil {
		out.Mtime, out.Mtimensec = uint64(r.Mtime.Sec), uint32(r.Mtime.Nsec)
	}
	if r.Atime != nil {
		out.Atime, out.Atimensec = uint64(r.Atime.Sec), uint32(r.Atime.Nsec)
	}
	if n.unlinked() {
		return fuse.OK // its record is in memory alone
	}
	// The record is a new file whenever the node changes or moves.
	at := n.places[0]
	st, err := f.dir.Stat(upper.RecordPath(f.path(at.dir), at.name))
	if err != nil {
		return f.errno("reading attributes", err)
	}
	out.Ctime, out.Ctimensec = uint64(st.Ctim.Sec), uint32(st.Ctim.Nsec)
	return fuse.OK
}

// changeable are the attributes that SETATTR changes, but for the size.
const changeable = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_ATIME | fuse.FATTR_MTIME

// SetAttr changes attributes. Of a file of the lower that keeps its size they are
// recorded, and nothing is copied.
func (f *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, err := f.object(in.NodeId)
	if err != nil {
		return f.lowerStatus("changing attributes", err)
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if s := f.truncate(n, in.Size, in.Valid&fuse.FATTR_KILL_SUIDGID != 0); s != fuse.OK {
			return s
		}
	}
	if in.Valid&changeable != 0 {
		if s := f.change(n, in); s != fuse.OK {
			return s
		}
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	out.AttrValid = forever
	return f.attr(n, &out.Attr)
}

// change changes attributes other than the size.
func (f *FS) change(n *node, in *fuse.SetAttrIn) fuse.Status {
	f.mu.RLock()
	if n.real {
		defer f.mu.RUnlock()
		return f.changeUpper(n, in)
	}
	copies := !n.isDir() && f.needsFile(n, in)
	f.mu.RUnlock()
	if copies {
		if s := f.copyUp(n); s != fuse.OK {
			return s
		}
		return f.change(n, in)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n.real:
		return f.changeUpper(n, in)
	case n.isDir() && !n.unlinked():
		// A layer can say what a directory is like.
		p := f.plan()
		p.real(n)
		if s := f.do(0, "changing a directory", p, nil); s != fuse.OK {
			return s
		}
		return f.changeUpper(n, in)
	}
	return f.changeRecord(n, in)
}

// needsFile reports whether a record will not do: for what has no name to record it
// of, for bytecode, which the lower may have no longer when the record is read, and
// where an ordinary user gives something away, which the kernel decides. mu is held.
func (f *FS) needsFile(n *node, in *fuse.SetAttrIn) bool {
	gives := in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0
	return n.unlinked() || view.IsGhost(n.id) || gives && !f.privileged()
}

// changeUpper changes the attributes of what is in DIR. mu is held.
func (f *FS) changeUpper(n *node, in *fuse.SetAttrIn) fuse.Status {
	if n.isDir() {
		defer n.ctime.changed()
	}
	at := f.path(n)
	uid, gid := -1, -1
	if in.Valid&fuse.FATTR_UID != 0 {
		uid = int(in.Uid)
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		gid = int(in.Gid)
	}
	var err error
	if uid >= 0 || gid >= 0 {
		err = f.dir.Chown(at, uid, gid)
	}
	if err == nil && in.Valid&fuse.FATTR_MODE != 0 {
		err = f.dir.Chmod(at, in.Mode&0o7777) // after chown(2), which takes bits away
	}
	if atime, mtime := times(in); err == nil && (atime != nil || mtime != nil) {
		err = f.dir.Utimes(at, atime, mtime)
	}
	if err != nil {
		return f.errno("changing attributes", err)
	}
	return fuse.OK
}

// utimeNow stands for the present in utimensat(2), the same on every Linux.
const utimeNow = 1<<30 - 1

// times returns the times that are to be set, nil for one that isn't.
func times(in *fuse.SetAttrIn) (atime, mtime *unix.Timespec) {
	if in.Valid&fuse.FATTR_ATIME != 0 {
		atime = &unix.Timespec{Sec: int64(in.Atime), Nsec: int64(in.Atimensec)}
		if in.Valid&fuse.FATTR_ATIME_NOW != 0 {
			atime = &unix.Timespec{Nsec: utimeNow}
		}
	}
	if in.Valid&fuse.FATTR_MTIME != 0 {
		mtime = &unix.Timespec{Sec: int64(in.Mtime), Nsec: int64(in.Mtimensec)}
		if in.Valid&fuse.FATTR_MTIME_NOW != 0 {
			mtime = &unix.Timespec{Nsec: utimeNow}
		}
	}
	return atime, mtime
}

// recorded returns a time for a record.
func recorded(t *unix.Timespec) *upper.Time {
	if t.Nsec == utimeNow {
		now := time.Now()
		return &upper.Time{Sec: now.Unix(), Nsec: int64(now.Nanosecond())}
	}
	return &upper.Time{Sec: int64(t.Sec), Nsec: int64(t.Nsec)}
}

// changeRecord records changed attributes. mu is held for writing.
func (f *FS) changeRecord(n *node, in *fuse.SetAttrIn) fuse.Status {
	var a fuse.Attr
	if s := f.attr(n, &a); s != fuse.OK {
		return s
	}
	r := copyRecord(n.record)
	if in.Valid&(fuse.FATTR_UID|fuse.FATTR_GID) != 0 {
		if in.Valid&fuse.FATTR_UID != 0 {
			uid := in.Uid // the request's memory is used again
			r.UID = &uid
		}
		if in.Valid&fuse.FATTR_GID != 0 {
			gid := in.Gid
			r.GID = &gid
		}
		if n.kind == syscall.S_IFREG { // as chown(2) does
			mode := withoutPrivileges(a.Mode & 0o7777)
			r.Mode = &mode
			delete(r.Xattrs, capability)
		}
	}
	if in.Valid&fuse.FATTR_MODE != 0 {
		if n.kind == syscall.S_IFLNK {
			return fuse.Status(syscall.EOPNOTSUPP)
		}
		mode := in.Mode & 0o7777
		r.Mode = &mode
	}
	atime, mtime := times(in)
	if atime != nil {
		r.Atime = recorded(atime)
	}
	if mtime != nil {
		r.Mtime = recorded(mtime)
	}
	return f.setRecord(n, r)
}

// copyRecord returns a record that can be changed while the old one is in use.
func copyRecord(old *upper.Record) upper.Record {
	if old == nil {
		return upper.Record{}
	}
	r := *old
	r.Xattrs = maps.Clone(r.Xattrs)
	return r
}

// setRecord gives a node of the lower that isn't in DIR other attributes. One without a
// name has them for as long as it is in use. mu is held for writing.
func (f *FS) setRecord(n *node, r upper.Record) fuse.Status {
	if n.unlinked() {
		n.record = &r
		return fuse.OK
	}
	p := f.plan()
	if r.Mtime != nil {
		p.then(f.sourceChanged(n))
	}
	p.record(n, n.places[0], r, false)
	return f.do(0, "changing attributes", p, nil)
}
