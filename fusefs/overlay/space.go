package overlay

import (
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Modes of fallocate(2), the same on every Linux.
const (
	keepSize  = 0x01
	punchHole = 0x02
	zeroRange = 0x10
)

// Fallocate reserves or gives back the blocks of a part of a file. Modes that move
// what follows are refused.
func (f *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if in.Mode&^(keepSize|punchHole|zeroRange) != 0 {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	n, s := f.writable(in.NodeId)
	if s != fuse.OK {
		return s
	}
	defer n.content.RUnlock()
	o, err := f.file(n, true)
	if err != nil {
		return f.errno("opening a file to reserve space", err)
	}
	defer f.files.release(o)
	if err := f.killPrivilegesFor(&in.InHeader, n, o.fd); err != nil {
		return f.errno("clearing set-id bits", err)
	}
	defer f.waiting()()
	err = f.files.call("fallocate", func() error {
		return fallocate(o.fd, in.Mode, int64(in.Offset), int64(in.Length))
	})
	if err != nil {
		return f.errno("reserving space", err)
	}
	return fuse.OK
}

// killPrivilegesFor is killPrivileges for a request that doesn't say whether its
// caller may keep the bits: root may.
func (f *FS) killPrivilegesFor(h *fuse.InHeader, n *node, fd int) error {
	if h.Uid == 0 {
		return nil
	}
	return f.killPrivileges(n, fd)
}

// Lseek finds data and holes; other seeking the kernel does by itself. What the lower
// has is one stretch of data.
func (f *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	f.mu.RLock()
	n := f.nodes[in.NodeId]
	f.mu.RUnlock()
	if n == nil {
		return f.seekLower(in.NodeId, in, out)
	}
	n.content.RLock()
	defer n.content.RUnlock()
	switch {
	case n.kind != syscall.S_IFREG:
		return fuse.EINVAL
	case !n.real:
		return f.seekLower(n.lower, in, out)
	}
	o, err := f.file(n, false)
	if err != nil {
		return f.errno("opening a file to seek", err)
	}
	defer f.files.release(o)
	off, err := seek(o.fd, int64(in.Offset), int(in.Whence))
	if err != nil {
		return f.errno("seeking", err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}

// seekLower is Lseek where the content is the lower's.
func (f *FS) seekLower(id uint64, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if !ofLower(id) {
		return fuse.Status(syscall.ESTALE)
	}
	var a fuse.Attr
	if err := f.lower.Attr(id, &a); err != nil {
		return f.lowerStatus("seeking", err)
	}
	if in.Offset >= a.Size {
		return fuse.Status(syscall.ENXIO)
	}
	out.Offset = in.Offset
	if in.Whence == seekHole {
		out.Offset = a.Size
	}
	return fuse.OK
}

// CopyFileRange copies within the kernel, where it can: a clone, or no trip of the
// bytes through this process. For other pairs EXDEV has the caller's kernel copy.
func (f *FS) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	if in.OffIn > math.MaxInt64 || in.OffOut > math.MaxInt64 {
		return 0, fuse.EINVAL
	}
	from, s := f.source(in.NodeId)
	if s != fuse.OK {
		return 0, s
	}
	defer from.close()
	size := min(in.Len, math.MaxInt32)
	if from.size >= 0 {
		size = min(size, uint64(max(from.size-int64(in.OffIn), 0)))
	}
	if size == 0 {
		return 0, fuse.OK
	}
	n, s := f.writable(in.NodeIdOut)
	if s != fuse.OK {
		return 0, s
	}
	defer n.content.RUnlock()
	to, err := f.file(n, true)
	if err != nil {
		return 0, f.errno("opening a file to copy to", err)
	}
	defer f.files.release(to)
	if err := f.killPrivilegesFor(&in.InHeader, n, to.fd); err != nil {
		return 0, f.errno("clearing set-id bits", err)
	}
	defer f.waiting()()
	done, err := f.files.copySome(to.fd, int64(in.OffOut), from.fd, int64(in.OffIn), int64(size))
	switch {
	case err == nil:
		return uint32(done), fuse.OK
	case unable(err):
		return 0, fuse.EXDEV
	}
	return 0, f.errno("copying", err)
}

// A source is a file that is copied from.
type source struct {
	fd    int
	size  int64 // as much of it counts; -1: all
	close func()
}

// source opens what a node has as its content at this moment.
func (f *FS) source(id uint64) (source, fuse.Status) {
	f.mu.RLock()
	n := f.nodes[id]
	f.mu.RUnlock()
	switch {
	case n == nil && !ofLower(id):
		return source{}, fuse.Status(syscall.ESTALE)
	case n == nil:
		return f.lowerSource(id)
	case n.kind != syscall.S_IFREG:
		return source{}, fuse.EINVAL
	}
	// Not held for as long as it is read: two files are held in no order.
	n.content.RLock()
	defer n.content.RUnlock()
	if !n.real {
		return f.lowerSource(n.lower)
	}
	o, err := f.file(n, false)
	if err != nil {
		return source{}, f.errno("opening a file to copy from", err)
	}
	return source{o.fd, -1, func() { f.files.release(o) }}, fuse.OK
}

// lowerSource opens the content of a node of the lower, if it is a file's.
func (f *FS) lowerSource(id uint64) (source, fuse.Status) {
	fd, _, size, err := f.lower.Content(id)
	switch {
	case err != nil:
		return source{}, f.lowerStatus("opening a file to copy from", err)
	case fd < 0:
		return source{}, fuse.EXDEV
	}
	return source{fd, size, func() { _ = syscall.Close(fd) }}, fuse.OK
}

// StatFs says how full the file system of DIR is.
func (f *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	st, err := f.dir.Statfs()
	if err != nil {
		return f.errno("looking at the space that is left", err)
	}
	*out = statfs(&st)
	return fuse.OK
}
