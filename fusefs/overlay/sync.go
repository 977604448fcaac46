package overlay

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// A history tells whether the names in a directory of DIR have changed since they
// were last synced. Of a directory that was never synced it says so.
type history struct {
	changes atomic.Uint64 // the number of changes
	synced  atomic.Uint64 // as many were there, and 1, when it was last synced
}

// changed says that names have changed.
func (h *history) changed() { h.changes.Add(1) }

// unsynced returns what to give to sync once the names are synced, and whether they
// must be.
func (h *history) unsynced() (mark uint64, yes bool) {
	mark = h.changes.Load() + 1
	return mark, h.synced.Load() != mark
}

// sync says that the names are synced as they were when mark was taken.
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

// waiting says that what follows may take as long as a slow disk does, until the
// returned function is called.
func (f *FS) waiting() (done func()) {
	if f.progress == nil {
		return func() {}
	}
	over := make(chan struct{})
	go func() {
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f.progress()
			case <-over:
				return
			}
		}
	}()
	return func() { close(over) }
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

// An unsynced is something open in DIR that has to be synced.
type unsynced struct {
	fd    int
	names *history // nil: a record
	mark  uint64
}

// syncNames syncs the directories from a node's names to the top, and with it itself
// if it is one, that have changed since they were.
func (f *FS) syncNames(n *node, itself bool) (err error) {
	todo, all, err := f.unsynced(n, itself)
	defer func() {
		for _, u := range todo {
			_ = unix.Close(u.fd) // opened for reading
		}
	}()
	if err != nil {
		return err
	}
	if all {
		if err := f.dir.Sync(); err != nil {
			return err
		}
	}
	for _, u := range todo {
		if !all {
			if err := f.files.fsync(u.fd); err != nil {
				return err
			}
		}
		if u.names != nil {
			u.names.sync(u.mark)
		}
	}
	return nil
}

// unsynced opens what syncNames has to sync. All says that there are too many
// records to sync one by one.
func (f *FS) unsynced(n *node, itself bool) (todo []unsynced, all bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	open := func(path string, names *history, mark uint64) {
		fd, e := f.dir.OpenFile(path, unix.O_RDONLY)
		if e != nil {
			err = errors.Join(err, e)
			return
		}
		todo = append(todo, unsynced{fd, names, mark})
	}
	dir := func(d *node) {
		if mark, yes := d.names.unsynced(); yes && d.real {
			open(f.path(d), &d.names, mark)
		}
	}
	if itself {
		if _, yes := n.names.unsynced(); yes {
			all = hasRecords(n)
		}
		dir(n)
	}
	for _, at := range n.places {
		for n := n; ; n, at = at.dir, at.dir.places[0] {
			if _, yes := at.dir.names.unsynced(); yes && n.record != nil && n.places[0] == at {
				open(upper.RecordPath(f.path(at.dir), at.name), nil, 0)
			}
			dir(at.dir)
			if at.dir.isRoot() || at.dir.unlinked() {
				break
			}
		}
	}
	return todo, all, err
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
