package overlay

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// A history tells whether something has changed since it was last synced: the names
// in a directory of DIR, or those of a node. Of what was never synced it says so.
type history struct {
	changes atomic.Uint64 // the number of changes
	synced  atomic.Uint64 // as many were there, and 1, when it was last synced
}

// changed says that it has changed.
func (h *history) changed() { h.changes.Add(1) }

// unsynced returns what to give to sync once it is synced, and whether it must be.
func (h *history) unsynced() (mark uint64, yes bool) {
	mark = h.changes.Load() + 1
	return mark, h.synced.Load() != mark
}

// sync says that it is synced as it was when mark was taken.
func (h *history) sync(mark uint64) {
	for old := h.synced.Load(); old < mark; old = h.synced.Load() {
		if h.synced.CompareAndSwap(old, mark) {
			return
		}
	}
}

// Fsync has the content of a file reach the disk, and what leads to it: its names,
// and what is recorded of them. Of a file of the lower all of it has.
func (f *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, s := f.known(in.NodeId)
	if n == nil {
		return s
	}
	defer f.waiting()()
	if err := f.syncContent(n, in.FsyncFlags&syncData != 0); err != nil {
		return f.errno("syncing a file", err)
	}
	if err := f.syncNames(n, false); err != nil {
		return f.errno("syncing the names of a file", err)
	}
	return fuse.OK
}

// syncData says that FSYNC comes of fdatasync(2) (FUSE_FSYNC_FDATASYNC).
const syncData = 1

// FsyncDir has the names in a directory reach the disk, and what leads to it.
func (f *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, s := f.known(in.NodeId)
	if n == nil {
		return s
	}
	defer f.waiting()()
	if err := f.syncNames(n, true); err != nil {
		return f.errno("syncing a directory", err)
	}
	return fuse.OK
}

// known returns the object of an ID: nil with OK if it is the lower's, unchanged.
func (f *FS) known(id uint64) (*node, fuse.Status) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := f.nodes[id]
	if n == nil && !ofLower(id) {
		return nil, fuse.Status(syscall.ESTALE)
	}
	return n, fuse.OK
}

// progressEvery is how often it is said that a request waits for the disk: often
// enough for who gives it 40 s, and never in a request of ordinary length.
const progressEvery = 5 * time.Second

// waiting says that what follows may take as long as a slow disk does, until done
// is called.
func (f *FS) waiting() (done func()) {
	if f.progress == nil {
		return func() {}
	}
	w := &wait{progress: f.progress}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(progressEvery, w.tick)
	return w.done
}

// A wait says again and again that it goes on.
type wait struct {
	progress func()

	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func (w *wait) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.progress()
		w.timer.Reset(progressEvery)
	}
}

func (w *wait) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// syncContent syncs the bytes of a file, and with data alone no more of its
// attributes than it takes to read them.
func (f *FS) syncContent(n *node, data bool) error {
	n.content.RLock()
	if !n.real || n.kind != syscall.S_IFREG {
		n.content.RUnlock()
		return nil
	}
	o, err := f.file(n, false)
	n.content.RUnlock() // the descriptor will do, and syncing takes long
	if err != nil {
		return err
	}
	defer f.files.release(o)
	earlier := f.files.syncing(o)
	if data {
		return errors.Join(earlier, f.files.datasync(o.fd))
	}
	return errors.Join(earlier, f.files.fsync(o.fd))
}

// fsync has a file or the names in a directory reach the disk.
func (s *files) fsync(fd int) error {
	return s.call("fsync", func() error { return unix.Fsync(fd) })
}

// A syncing is what is being synced of names.
type syncing struct {
	f      *FS
	fds    []int    // directories and records, open
	synced []func() // for once all are synced
	whole  bool     // the whole file system is to be: there are too many records
	err    error    // the first
}

// syncNames syncs the names of a node, and those of the directories above, that have
// changed since they were, and with it itself those in a directory.
func (f *FS) syncNames(n *node, itself bool) error {
	s := syncing{f: f}
	defer func() {
		for _, fd := range s.fds {
			_ = unix.Close(fd) // opened for reading
		}
	}()
	f.mu.RLock()
	if itself {
		s.namesIn(n)
	}
	s.namesOf(n)
	f.mu.RUnlock()
	if s.err == nil && s.whole {
		s.err = f.dir.Sync()
	}
	for _, fd := range s.fds {
		if s.err == nil && !s.whole {
			s.err = f.files.fsync(fd)
		}
	}
	if s.err != nil {
		return s.err
	}
	for _, synced := range s.synced {
		synced()
	}
	return nil
}

// open opens what must be synced. mu is held.
func (s *syncing) open(path string) {
	fd, err := s.f.dir.OpenFile(path, unix.O_RDONLY)
	if err != nil {
		s.err = errors.Join(s.err, err)
		return
	}
	s.fds = append(s.fds, fd)
}

// must reports whether h has changes to be synced, which are synced then.
func (s *syncing) must(h *history) bool {
	mark, yes := h.unsynced()
	if yes {
		s.synced = append(s.synced, func() { h.sync(mark) })
	}
	return yes
}

// namesIn opens a directory, if names in it have changed. mu is held.
func (s *syncing) namesIn(dir *node) {
	if dir.real && s.must(&dir.names) {
		s.whole = hasRecords(dir)
		s.open(s.f.path(dir))
	}
}

// namesOf opens the directories that have the names of a node, and its record, if
// they have changed, and does so for those directories. mu is held.
func (s *syncing) namesOf(n *node) {
	changed := len(n.places) > 0 && s.must(&n.named)
	if changed && n.record != nil {
		at := n.places[0]
		s.open(upper.RecordPath(s.f.path(at.dir), at.name))
	}
	for _, at := range n.places {
		if changed && at.dir.real {
			s.open(s.f.path(at.dir))
		}
		s.namesOf(at.dir)
	}
}

// hasRecords reports whether something is recorded of a name in a directory.
func hasRecords(dir *node) bool {
	for _, kid := range dir.kids {
		if kid.record != nil {
			return true
		}
	}
	return false
}
