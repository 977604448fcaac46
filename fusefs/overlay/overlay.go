// Package overlay serves a tree that can be written to: a view as the lower
// layer, and the changes to it in a directory on disk, the upper.
//
// It keeps these promises. A node has one ID for life, across copy-up, rename,
// remount and the death of the process that serves it: the view's for what the
// tree has, and the upper inode's number for everything else. Whatever was
// answered is in the upper: a process that opens it afterwards gives the same
// answers. A mutation happens whole or not at all, and one that is asked for again
// after a death is not done twice. An unchanged tree is served as silently as
// the view serves it: the kernel makes every mutation, so names and attributes are
// given out for good, and opening is not asked about.
//
// It never writes anything but the upper, never gives an ID to a second node
// while the kernel knows the first, and never has anything compiled with a lock held
// for writing.
//
// # Nodes
//
// All that the upper says is kept in memory as nodes, read at the start. A node
// of the tree that nobody has changed needs no object: an ID that isn't in FS.nodes
// is the view's affair. Mutations and what must be remembered of a node, such as
// where it is now, give it one ("adopt").
//
// A name of the lower that was ever removed, renamed or covered has a whiteout
// from then on, and what else is there lies beside it. So without a whiteout a name that
// the lower has is the lower's node, copied up or not.
//
// # Content
//
// READ and WRITE name a node, so who opened a file before it was copied up sees what
// is written afterwards. A file of the lower is copied up, whole and in one step,
// when its bytes change; changes of its attributes are recorded, and a truncation
// copies no more than it keeps. What is written is in DIR's files when write(2)
// returns, and on the disk when fsync(2) does, its name and all that leads to it
// included; the kernel sends nothing for syncfs(2) and sync(2).
//
// Refused are, with EOPNOTSUPP, POSIX ACLs, extended attributes other than "user." and
// security.capability, and what moves the bytes behind a hole (fallocate(2)); and with
// EPERM devices, names that begin ".wh.", and to write to a file of the tree under such
// a name.
//
// # Locks
//
// In this order: node.content, then FS.mu, then those of FS.files, FS.seen and
// node.listing. Copy-up copies bytes with content held and mu free and takes mu to put them in
// place. A mutation of names takes mu alone, for writing, for as long as it takes; there
// is one at a time. A LOOKUP that may have bytecode compiled holds none of them meanwhile.
package overlay

import (
	"encoding/json"
	"errors"
	"log"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// Notifier tells the kernel to forget what it keeps. All are called from a
// goroutine that serves no request, since the kernel may wait for one meanwhile.
type Notifier interface {
	// Entry has the kernel ask again for a name in a directory.
	Entry(parent uint64, name string) error

	// Inode has the kernel ask again for a node's attributes, and its listing or
	// content.
	Inode(node uint64) error

	// Known reports whether the kernel knows a node.
	Known(node uint64) (bool, error)
}

// Options says how an overlay is served.
type Options struct {
	// Log gets a line for what goes wrong and no caller can be told. Nil means the
	// standard logger.
	Log *log.Logger

	// UID and GID own the nodes of the lower, as they do in the view.
	UID, GID uint32

	// Notify is nil where there is no kernel.
	Notify Notifier

	// Progress is told every few seconds that a request waits for the disk and for
	// nothing else. Nil means that nobody watches.
	Progress func()
}

// FS answers FUSE requests from the two layers. Its methods may be called
// concurrently.
type FS struct {
	fuse.RawFileSystem // ENOSYS for what is not below

	lower *view.FS
	dir   *upper.Dir
	log   *log.Logger
	owner fuse.Owner // of the lower's nodes
	self  fuse.Owner // of what this process makes

	mu    sync.RWMutex     // names: read to look up, written by every mutation of the namespace
	nodes map[uint64]*node // guarded by mu; one that isn't there is the lower's, unchanged
	root  *node

	whiteouts whiteouts // guarded by mu

	files    files   // open descriptors of upper files
	seen     lookups // counts of lookups by node
	notify   notices
	progress func() // Options.Progress
}

// New returns a file system over lower whose changes are in dir, which it reads
// whole. Dir stays the caller's to close, after Close.
func New(lower *view.FS, dir *upper.Dir, o Options) (*FS, error) {
	f := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		lower:         lower,
		dir:           dir,
		log:           o.Log,
		owner:         fuse.Owner{Uid: o.UID, Gid: o.GID},
		self:          fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())},
		nodes:         make(map[uint64]*node),
		progress:      o.Progress,
	}
	if f.log == nil {
		f.log = log.Default()
	}
	f.seen.init(!dir.Resumed())
	if err := f.load(); err != nil {
		return nil, err
	}
	f.notify.forgotten = f.forgotten
	f.notify.start(o.Notify)
	if dir.Resumed() {
		f.tellAgain()
		f.askForOrphans()
	}
	return f, nil
}

// String names the file system in mount tables and logs.
func (f *FS) String() string { return "sitefs" }

// Close closes the upper's files. No request may be under way.
func (f *FS) Close() error {
	f.notify.stop()
	f.mu.Lock()
	f.whiteouts.drop(f.dir)
	f.mu.Unlock()
	return f.files.close()
}

// Open, OpenDir and Flush say that the kernel need not ask; they get one
// request each in the life of a mount.
func (f *FS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status    { return fuse.ENOSYS }
func (f *FS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.ENOSYS }
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status                 { return fuse.ENOSYS }

// Ioctl answers isatty(3), as the view does.
func (f *FS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}

// LastError returns why a request was answered with EIO, the last time that was
// logged; "" if none was.
func (f *FS) LastError() string { return f.lower.LastError() }

// Path returns where a node is in the merged tree, for a log: "" if it has no
// name.
func (f *FS) Path(id uint64) string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.pathOf(id)
}

// Report is what status shows of an overlay.
type Report struct {
	Nodes    int `json:"nodes"`    // objects: what was changed, and the directories above
	Unlinked int `json:"unlinked"` // of these, without a name and waiting to be forgotten
}

// Report returns the JSON of a [Report].
func (f *FS) Report() json.RawMessage {
	f.mu.RLock()
	r := Report{Nodes: len(f.nodes)}
	for _, n := range f.nodes {
		if n.unlinked() {
			r.Unlinked++
		}
	}
	f.mu.RUnlock()
	b, err := json.Marshal(r)
	if err != nil {
		return nil // numbers always have a JSON
	}
	return b
}

// forever is how long the kernel may keep what it was told, in seconds. The
// kernel clips it to the longest time it can count.
const forever = 1 << 31

// errno returns the status of an error, and logs one that is not a system's.
func (f *FS) errno(doing string, err error) fuse.Status {
	var e syscall.Errno
	if !errors.As(err, &e) {
		f.lower.Fault("%s: %v", doing, err)
		return fuse.EIO
	}
	if e == syscall.EIO {
		f.lower.Fault("%s: %v", doing, err)
	}
	return fuse.Status(e)
}
