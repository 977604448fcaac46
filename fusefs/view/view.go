// Package view serves a compiled tree through the raw FUSE protocol, read-only.
//
// It keeps one promise above all: a hot file system is a silent one. Opening
// is answered with ENOSYS, so the kernel never asks again; names that exist,
// names that do not, attributes and link targets are given out for good, since
// a tree never changes. What was looked at once is then answered by the kernel
// alone.
//
// The view is stateless. There is no handle, no object per node and no count of
// lookups; a node ID is the tree's own, so any process that opens the same tree
// gives the same answers and FORGET means nothing. A node ID of the kernel is a
// [tree.ID], except that the served directory is always 1 (FUSE_ROOT_ID) and,
// where it is not the tree's root, the tree's root takes its number; that one
// is out of reach then, so no ID has two meanings.
//
// # Bytecode
//
// With [Options.Bytecode] every directory that has a "*.py" file has a
// __pycache__, and in it each source has the .pyc files of one interpreter. They
// are found by LOOKUP, which is all that Python does, and never listed, so
// whatever walks the tree sees the tree. Their IDs are arithmetic too: bits 60
// to 62 are 0 for a node of the tree, 1 for the __pycache__ of the directory in
// bits 0 to 47, and 2, 3 and 4 for the .pyc, .opt-1.pyc and .opt-2.pyc of the
// source there, both as the tree numbers them. Bits 48 to 59 tell a .pyc from
// another compilation of its source.
//
// A .pyc that there is has the size that was looked up, and one that there
// never will be is absent for good. Anything else ends the LOOKUP with an
// error, which the kernel does not keep: an import takes it for a missing file
// and the next one asks again. Only a LOOKUP or GETATTR of a .pyc may wait thus
// for more than a disk, and it ends when the process that waits is interrupted.
//
// A process that has sources compiled and reads none of the results, as an
// uninstaller does, stops having them compiled. The counts for that, and which
// .pyc were compiled and are not read yet, are all that the view remembers, in a
// fixed space. Losing it costs a few compilations too many, or a few ahead of
// need too few.
//
// The view never writes, never hands out memory that aliases a mapped table,
// and never allocates for a LOOKUP or for a READ of a blob or of bytecode.
package view

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// Blobs gives the view the contents of files.
type Blobs interface {
	// OpenBlob opens a blob for reading; the caller closes fd.
	OpenBlob(d digest.Digest) (fd int, err error)
}

// Options says how a tree is shown.
type Options struct {
	// UID and GID own every node.
	UID, GID uint32

	// Dir is the directory of the tree to serve, slash-separated and relative
	// to the tree's root. Empty means all of it.
	Dir string

	// Bytecode serves __pycache__. Nil means that there is none.
	Bytecode Bytecode

	// Log gets a line for a content that can't be served, one a second at most.
	// Nil means the standard logger.
	Log *log.Logger
}

// FS answers FUSE requests from a tree. Its methods may be called concurrently.
type FS struct {
	fuse.RawFileSystem // ENOSYS for whatever is not below

	tree  *tree.Tree
	blobs Blobs
	root  tree.ID
	owner fuse.Owner
	fault reporter

	bytecode Bytecode // nil: none
	tag      string   // between the names of a source and its .pyc, with the dot
	unread   unread
	fresh    fresh
}

// New returns a file system over t whose file contents come from b.
func New(t *tree.Tree, b Blobs, o Options) (*FS, error) {
	root := tree.Root
	if o.Dir != "" {
		id, a, err := t.Find(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("serving %q of tree %s: %w", o.Dir, t.Digest(), err)
		}
		if a.Kind != tree.Dir {
			return nil, fmt.Errorf("serving %q of tree %s: %w", o.Dir, t.Digest(), tree.ErrNotDir)
		}
		root = id
	}
	l := o.Log
	if l == nil {
		l = log.Default()
	}
	f := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		tree:          t,
		blobs:         b,
		root:          root,
		owner:         fuse.Owner{Uid: o.UID, Gid: o.GID},
		fault:         reporter{log: l, now: time.Now},
	}
	if o.Bytecode != nil {
		f.bytecode, f.tag = o.Bytecode, "."+o.Bytecode.Tag()
	}
	return f, nil
}

// String names the file system in mount tables and logs.
func (f *FS) String() string { return "sitefs" }

// forever is how long the kernel may keep what it was told, in seconds. The
// kernel clips it to the longest time it can count.
const forever = 1 << 31

// maxName is how long a name can be: one byte in a tree holds the length.
const maxName = 255

// swap translates a node ID between the kernel's numbering and the tree's. It
// is its own inverse.
func (f *FS) swap(id uint64) uint64 {
	switch id {
	case fuse.FUSE_ROOT_ID:
		return uint64(f.root)
	case uint64(f.root):
		return fuse.FUSE_ROOT_ID
	}
	return id
}

func (f *FS) id(nodeID uint64) tree.ID { return tree.ID(f.swap(nodeID)) }

// Lookup answers a name.
func (f *FS) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, v := f.split(in.NodeId)
	switch {
	case v == cacheDir:
		return f.lookupCode(cancel, in.Pid, dir, name, out)
	case v != itself:
		return fuse.ENOTDIR
	}
	id, a, err := f.tree.Lookup(dir, name)
	// Compared, not unwrapped: an error that wraps it tells of a missing wheel
	// table, which must not become a name that is absent for good.
	if err == fs.ErrNotExist {
		if name == cacheName && f.bytecode != nil {
			return f.lookupCacheDir(dir, out)
		}
		return absent(out)
	}
	if err != nil {
		return f.status("looking up a name", dir, err)
	}
	f.entry(f.swap(uint64(id)), &a, out)
	return fuse.OK
}

// absent answers for a name that never will be: a reply without a node is kept
// by the kernel where an error would not be.
func absent(out *fuse.EntryOut) fuse.Status {
	out.EntryValid = forever
	return fuse.OK
}

// GetAttr answers for a node ID that the kernel knows.
func (f *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	id, v := f.split(in.NodeId)
	a, err := f.tree.Stat(id)
	if err == nil && v != itself {
		a, err = f.variantAttr(cancel, in.Pid, v, id, &a)
	}
	if err != nil {
		return f.status("reading attributes", id, err)
	}
	out.AttrValid = forever
	f.attr(in.NodeId, &a, &out.Attr)
	return fuse.OK
}

// Readlink returns a copy of the target: the reply is sent after the handler,
// where a fault of the mapped table would end the process.
func (f *FS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := f.tree.Link(f.id(in.NodeId))
	if err != nil {
		return nil, f.status("reading a link", f.id(in.NodeId), err)
	}
	return append([]byte(nil), target...), fuse.OK
}

// Open, OpenDir and Flush say that the kernel need not ask; they get one
// request each in the life of a mount.
func (f *FS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status    { return fuse.ENOSYS }
func (f *FS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status                 { return fuse.ENOSYS }

// Ioctl answers isatty(3), which Python before 3.14 asks of every file that it
// opens and the kernel asks here each time.
func (f *FS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}

// ReadDir lists a directory. An offset is the number of entries before it, "."
// and ".." included, so it means the same to every process.
func (f *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry, _ uint64, _ *tree.Attr) bool {
		return out.AddDirEntry(e)
	})
}

// ReadDirPlus lists a directory with everything LOOKUP would say of each entry.
func (f *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry, id uint64, a *tree.Attr) bool {
		o := out.AddDirLookupEntry(e)
		if o != nil && a != nil {
			f.entry(id, a, o)
		}
		return o != nil
	})
}

// list gives add the entries of a directory from in.Offset on until it has no
// room. "." and ".." come without attributes: the kernel knows both nodes.
func (f *FS) list(in *fuse.ReadIn, add func(e fuse.DirEntry, id uint64, a *tree.Attr) bool) fuse.Status {
	dir, v := f.split(in.NodeId)
	children, err := f.tree.Children(dir)
	if err != nil {
		return f.status("listing a directory", dir, err)
	}
	if v != itself {
		children = tree.Children{} // of a __pycache__ nothing is listed
	}
	const dots = 2
	off := in.Offset
	if off == 0 {
		if !add(fuse.DirEntry{Name: ".", Ino: in.NodeId, Mode: syscall.S_IFDIR, Off: 1}, 0, nil) {
			return fuse.OK
		}
		off++
	}
	if off == 1 {
		// A directory doesn't know the one above it, and the kernel asks nobody.
		if !add(fuse.DirEntry{Name: "..", Ino: fuse.FUSE_UNKNOWN_INO, Mode: syscall.S_IFDIR, Off: dots}, 0, nil) {
			return fuse.OK
		}
		off++
	}
	var a tree.Attr // one for all entries, since add makes it escape
	for ; off-dots < uint64(children.Len()); off++ {
		var name []byte
		var id tree.ID
		if name, id, a, err = children.At(int(off - dots)); err != nil {
			return f.status("listing a directory", dir, err)
		}
		node := f.swap(uint64(id))
		e := fuse.DirEntry{
			// The name is copied into the reply before add returns.
			Name: unsafe.String(unsafe.SliceData(name), len(name)),
			Ino:  node,
			Mode: mode(&a),
			Off:  off + 1,
		}
		if !add(e, node, &a) {
			break
		}
	}
	return fuse.OK
}

// StatFs says how large the tree is and that it is full. The number of inodes
// would take a walk, so it is left at 0, as file systems without a fixed table
// of inodes do.
func (f *FS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	a, err := f.tree.Stat(f.root)
	if err != nil {
		return f.status("reading the size", f.root, err)
	}
	*out = fuse.StatfsOut{
		Blocks:  (uint64(a.Size) + blockSize - 1) / blockSize,
		Bsize:   blockSize,
		Frsize:  blockSize,
		NameLen: maxName,
	}
	return fuse.OK
}

// Forget means nothing: no node has a life of its own.
func (f *FS) Forget(uint64, uint64) {}

// LastError returns why a request was answered with EIO, the last time that was
// logged; "" if none was.
func (f *FS) LastError() string { return f.fault.lastText() }

// status turns an error of the tree into an errno. What a program can cause is
// silent; what it can't is a damaged store, and reported.
func (f *FS) status(doing string, id tree.ID, err error) fuse.Status {
	switch {
	case errors.Is(err, tree.ErrNotDir):
		return fuse.ENOTDIR
	case errors.Is(err, tree.ErrKind):
		return fuse.EINVAL
	case errors.Is(err, tree.ErrStale):
		return fuse.Status(syscall.ESTALE)
	}
	f.fault.report("%s of node %d: %v", doing, id, err)
	return fuse.EIO
}
