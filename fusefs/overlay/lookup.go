package overlay

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/tree"
)

// Lookup answers a name.
func (f *FS) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if len(name) > maxName {
		return fuse.Status(syscall.ENAMETOOLONG) // which the kernel leaves to the file system
	}
	lower, s := f.lookup(in.NodeId, name, out)
	if s != fuse.OK || lower == 0 {
		return s
	}
	// Which may take as long as a compiler does.
	h := *in
	h.NodeId = lower
	if s = f.lower.Lookup(cancel, &h, name, out); s == fuse.OK && out.NodeId != 0 {
		f.seen.add(out.NodeId)
	}
	return s
}

// lookup answers a name, or returns the node of the lower whose business it is.
func (f *FS) lookup(id uint64, name string, out *fuse.EntryOut) (lower uint64, s fuse.Status) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	dir := f.nodes[id]
	if dir == nil {
		if !ofLower(id) {
			return 0, fuse.Status(syscall.ESTALE)
		}
		if !f.maySee(nil, id, name) {
			return 0, absent(out)
		}
		return id, fuse.OK
	}
	if !dir.isDir() {
		return 0, fuse.ENOTDIR
	}
	if n := dir.kids[name]; n != nil && (n.real || n.record != nil || !n.isGhost(name)) {
		return 0, f.fill(n, out)
	}
	if dir.lower == 0 || dir.white[name] || !f.maySee(dir, dir.lower, name) {
		return 0, absent(out)
	}
	return dir.lower, fuse.OK
}

// absent answers for a name that there will not be before the kernel makes it.
func absent(out *fuse.EntryOut) fuse.Status {
	out.EntryValid = forever
	return fuse.OK
}

// fill answers a request that names a node, and counts it. mu is held.
func (f *FS) fill(n *node, out *fuse.EntryOut) fuse.Status {
	if s := f.attr(n, &out.Attr); s != fuse.OK {
		return s
	}
	out.NodeId = n.id
	out.Generation = 1 // no ID is used again while the kernel knows it
	out.EntryValid = forever
	out.AttrValid = forever
	f.seen.add(n.id)
	return fuse.OK
}

// Readlink returns a target.
func (f *FS) Readlink(cancel <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	f.mu.RLock()
	n := f.nodes[in.NodeId]
	if n == nil || !n.real {
		f.mu.RUnlock()
		if n == nil && !ofLower(in.NodeId) {
			return nil, fuse.Status(syscall.ESTALE)
		}
		return f.lower.Readlink(cancel, in)
	}
	defer f.mu.RUnlock()
	target, err := f.dir.Readlink(f.path(n))
	if err != nil {
		return nil, f.errno("reading a link", err)
	}
	return []byte(target), fuse.OK
}

// lowerStatus returns the status of an error of the lower. What a program can
// cause is silent; a damaged store is reported.
func (f *FS) lowerStatus(doing string, err error) fuse.Status {
	switch {
	case errors.Is(err, tree.ErrStale):
		return fuse.Status(syscall.ESTALE)
	case errors.Is(err, tree.ErrNotDir):
		return fuse.ENOTDIR
	case errors.Is(err, tree.ErrKind):
		return fuse.EINVAL
	}
	return f.errno(doing, err)
}

// ignoreAbsent returns an error unless it says that something isn't there.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
