package view

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/tree"
)

// Bytecode gives the view the .pyc files of one interpreter. A source is the
// file that id and a describe; opt is the optimization level, 0 to 2 (PEP 488).
type Bytecode interface {
	// Tag returns the interpreter's cache tag (PEP 3147), such as "cpython-312".
	Tag() string

	// Lookup returns the size in bytes of a source's .pyc, and a stamp that tells
	// it from another compilation of the source, below 1<<12. It is compiled now if
	// there is none and make is set. Size 0 means that there is none; final means that
	// there never will be. It returns early when cancel is closed.
	Lookup(cancel <-chan struct{}, id tree.ID, a tree.Attr, opt int, make bool) (size int64, stamp uint16, final bool)

	// Open opens the .pyc of a source, which is the first size bytes of fd. The
	// caller closes fd. One that is gone, or that the stamp is not of, is
	// [fs.ErrNotExist].
	Open(a tree.Attr, opt int, stamp uint16) (fd int, size int64, err error)

	// Used says that a program has read what Lookup made: it imports the module.
	Used(id tree.ID, opt int)
}

// A variant says what a node is to the tree's node that its ID names, in its
// upper four bits. In the others is the stamp of a .pyc: the kernel keeps the size
// of a file for good, so one that was compiled anew, differently, is another file.
type variant uint16

const (
	stampBits = 12

	itself   variant = 0              // a node of the tree
	cacheDir variant = 1 << stampBits // the __pycache__ of a directory
	code     variant = 2 << stampBits // the .pyc of a source; 3 and 4 are opt-1 and opt-2

	maxOpt = 2
)

// variantShift leaves 16 bits for the number of a table. Wheels beyond the 65,535th
// have no bytecode. The sign bit stays clear, as not every program takes an inode
// number for unsigned.
const variantShift = 48

// codeOf returns the variant of the .pyc with that stamp.
func codeOf(opt int, stamp uint16) variant {
	return code + variant(opt)<<stampBits + variant(stamp)&(1<<stampBits-1)
}

func (v variant) isCode() bool  { return v >= code && v < code+(maxOpt+1)<<stampBits }
func (v variant) opt() int      { return int((v - code) >> stampBits) }
func (v variant) stamp() uint16 { return uint16(v) & (1<<stampBits - 1) }

// node returns the node ID of a variant of the tree's node id.
func (v variant) node(id tree.ID) uint64 { return uint64(v)<<variantShift | uint64(id) }

// hasVariants reports whether the ID of a variant of the tree's node id is its own.
func hasVariants(id tree.ID) bool { return id>>variantShift == 0 }

// split translates a node ID of the kernel. Without bytecode no variant was
// given out, and the tree calls the ID stale.
func (f *FS) split(nodeID uint64) (tree.ID, variant) {
	v := variant(nodeID >> variantShift)
	if f.bytecode == nil || v < cacheDir {
		return f.id(nodeID), itself
	}
	return tree.ID(nodeID &^ (uint64(v) << variantShift)), v
}

const (
	cacheName = "__pycache__"
	sourceExt = ".py"
	codeExt   = ".pyc"
)

// lookupCacheDir answers for the name __pycache__ in a directory of the tree.
func (f *FS) lookupCacheDir(dir tree.ID, out *fuse.EntryOut) fuse.Status {
	has, err := f.hasSource(dir)
	has = has && hasVariants(dir)
	if err != nil {
		return f.status("looking for sources", dir, err)
	}
	if !has {
		return absent(out)
	}
	a, err := f.tree.Stat(dir)
	if err != nil {
		return f.status("looking up "+cacheName, dir, err)
	}
	a = cacheDirAttr(&a)
	f.entry(cacheDir.node(dir), &a, out)
	return fuse.OK
}

// hasSource reports whether a directory has a file that bytecode can be of.
func (f *FS) hasSource(dir tree.ID) (bool, error) {
	children, err := f.tree.Children(dir)
	if err != nil {
		return false, err
	}
	for i := range children.Len() {
		name, _, a, err := children.At(i)
		if err != nil {
			return false, err
		}
		if a.Kind == tree.File && len(name) > len(sourceExt) && string(name[len(name)-len(sourceExt):]) == sourceExt {
			return true, nil
		}
	}
	return false, nil
}

// lookupCode answers for a name in the __pycache__ of dir.
func (f *FS) lookupCode(cancel <-chan struct{}, pid uint32, dir tree.ID, name string, out *fuse.EntryOut) fuse.Status {
	var buf [maxName]byte
	source, opt, ok := f.sourceOf(&buf, name)
	if !ok {
		return absent(out)
	}
	id, a, err := f.tree.Lookup(dir, source)
	if err == fs.ErrNotExist || err == nil && (a.Kind != tree.File || !hasVariants(id)) {
		return absent(out)
	}
	if err != nil {
		return f.status("looking up a source", dir, err)
	}
	size, stamp, final := f.compiled(cancel, pid, id, &a, opt)
	switch {
	case size > 0:
		a = codeAttr(&a, size)
		f.entry(codeOf(opt, stamp).node(id), &a, out)
		return fuse.OK
	case final:
		return absent(out)
	}
	return fuse.ENOENT // which, unlike an absent name, the kernel does not keep
}

// sourceOf returns the name, in buf, of the source that name is the bytecode of
// (PEP 3147, PEP 488), and the optimization level. Other tags are other
// interpreters' or import hooks', and nothing here makes those.
func (f *FS) sourceOf(buf *[maxName]byte, name string) (source string, opt int, ok bool) {
	stem, ok := strings.CutSuffix(name, codeExt)
	if !ok {
		return "", 0, false
	}
	if s, ok := strings.CutSuffix(stem, ".opt-1"); ok {
		stem, opt = s, 1
	} else if s, ok := strings.CutSuffix(stem, ".opt-2"); ok {
		stem, opt = s, 2
	}
	stem, ok = strings.CutSuffix(stem, f.tag)
	if !ok || stem == "" || len(stem)+len(sourceExt) > len(buf) {
		return "", 0, false
	}
	n := copy(buf[:], stem)
	n += copy(buf[n:], sourceExt)
	return unsafe.String(&buf[0], n), opt, true
}

// compiled returns the size and the stamp of a source's .pyc as Bytecode.Lookup
// does, and has it compiled unless the process pid only looks.
func (f *FS) compiled(cancel <-chan struct{}, pid uint32, id tree.ID, a *tree.Attr, opt int) (size int64, stamp uint16, final bool) {
	size, stamp, final = f.bytecode.Lookup(cancel, id, *a, opt, false)
	if size > 0 || final || f.unread.full(pid) {
		return size, stamp, final
	}
	size, stamp, final = f.bytecode.Lookup(cancel, id, *a, opt, true)
	if size > 0 {
		f.fresh.add(codeOf(opt, stamp).node(id))
	}
	if size > 0 || final {
		f.unread.add(pid)
	}
	return size, stamp, final
}

// variantAttr returns the attributes of a variant of the node id, whose own are a.
func (f *FS) variantAttr(cancel <-chan struct{}, pid uint32, v variant, id tree.ID, a *tree.Attr) (tree.Attr, error) {
	switch {
	case v == cacheDir && a.Kind == tree.Dir:
		return cacheDirAttr(a), nil
	case v.isCode() && a.Kind == tree.File:
		if size, stamp, _ := f.compiled(cancel, pid, id, a, v.opt()); size > 0 && stamp == v.stamp() {
			return codeAttr(a, size), nil
		}
	}
	// Of a .pyc that is gone, or another now, too: the kernel then looks the path
	// up again.
	return tree.Attr{}, tree.ErrStale
}

func cacheDirAttr(dir *tree.Attr) tree.Attr {
	return tree.Attr{Kind: tree.Dir, Mtime: dir.Mtime}
}

func codeAttr(source *tree.Attr, size int64) tree.Attr {
	return tree.Attr{Kind: tree.File, Size: size, Mtime: source.Mtime}
}

// readVariant reads from a variant of the node id, whose own attributes are a.
func (f *FS) readVariant(in *fuse.ReadIn, v variant, id tree.ID, a *tree.Attr, buf []byte) (int, error) {
	if !v.isCode() || a.Kind != tree.File {
		return 0, tree.ErrStale
	}
	opt := v.opt()
	fd, size, err := f.bytecode.Open(*a, opt, v.stamp())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, tree.ErrStale // removed or compiled anew: importlib then compiles for itself
	}
	if err != nil {
		return 0, fmt.Errorf("opening the bytecode of source %s: %w", a.Digest, err)
	}
	n, err := readFile(fd, size, buf, in.Offset)
	if err != nil {
		return 0, fmt.Errorf("reading the bytecode of source %s: %d bytes at %d of %d: %w", a.Digest, n, in.Offset, size, err)
	}
	f.unread.reset(in.Pid)
	if in.Offset == 0 && f.fresh.take(in.NodeId) {
		f.bytecode.Used(id, opt)
	}
	return n, nil
}

const (
	// mostUnread is how many .pyc are compiled for a process that reads none of
	// them. An import reads each at once, so one would do; a few more let a
	// program look around before it imports.
	mostUnread = 16

	// unreadSlots is a power of two well above the number of processes that
	// import at the same time. Two in one slot forget each other's count.
	unreadSlots = 1024
)

// unread counts the .pyc that were compiled for a process and not read by it,
// so that walking over many does not compile a package. Each slot is a process
// ID, in the upper half, and its count. Processes outside the mount's PID
// namespace have the ID 0 together.
type unread [unreadSlots]atomic.Uint64

func (u *unread) slot(pid uint32) *atomic.Uint64 { return &u[pid%unreadSlots] }

// full reports whether a process has left too many unread.
func (u *unread) full(pid uint32) bool {
	v := u.slot(pid).Load()
	return v>>32 == uint64(pid) && uint32(v) >= mostUnread
}

// add counts one.
func (u *unread) add(pid uint32) {
	s := u.slot(pid)
	for {
		v := s.Load()
		next := v + 1
		if v>>32 != uint64(pid) {
			next = uint64(pid)<<32 | 1
		}
		if s.CompareAndSwap(v, next) {
			return
		}
	}
}

// reset starts again at 0. A slot that changes meanwhile is another process's.
func (u *unread) reset(pid uint32) {
	s := u.slot(pid)
	if v := s.Load(); v>>32 == uint64(pid) {
		s.CompareAndSwap(v, 0)
	}
}

// freshSlots is a power of two well above the number of .pyc that are between
// LOOKUP and READ at one time.
const freshSlots = 256

// fresh holds the node IDs of .pyc files that were compiled and not yet read.
// One that another takes the slot from is forgotten, and nothing is compiled
// ahead because of it.
type fresh [freshSlots]atomic.Uint64

// slot spreads IDs that follow each other (Knuth's multiplicative hashing).
func (s *fresh) slot(node uint64) *atomic.Uint64 {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	return &s[node*golden>>32%freshSlots]
}

func (s *fresh) add(node uint64) { s.slot(node).Store(node) }

// take removes a node and reports whether it was there.
func (s *fresh) take(node uint64) bool {
	slot := s.slot(node)
	return slot.Load() == node && slot.CompareAndSwap(node, 0)
}
