package overlay

import (
	"container/list"
	"errors"
	"math"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// files keeps descriptors of upper files open by node, so that a READ or WRITE
// is one system call. A node never changes its inode: a descriptor is good across
// rename and unlink, until the node is forgotten.
//
// The kernel tells an error of writing back to who has the file open, and to one
// who opens it later only while it has the inode in memory. So what was written and not
// synced is asked for such an error before it is closed, and the next fsync gets it.
type files struct {
	mu     sync.Mutex
	open   map[uint64]*file
	order  list.List                // of *file, the last used in front
	limit  int                      // of open; 0: not known yet
	failed map[uint64]syscall.Errno // errors for the next fsync of a node

	// fault is called before each system call that reads or writes content, with its
	// name, and makes it fail; nil but in tests.
	fault func(call string) error
}

// A file is an open descriptor, closed by its last user once it isn't kept any more.
type file struct {
	id       uint64
	fd       int
	writable bool
	users    int
	written  bool          // since it was last synced
	place    *list.Element // nil: not kept
}

// The descriptors that are kept are a part of those the process may have, and no
// more than are of use: each pins an inode of the upper in memory.
const (
	fileShare = 4
	minFiles  = 16
	maxFiles  = 4096
)

// fileLimit returns how many descriptors are kept.
func fileLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return minFiles
	}
	return int(min(max(l.Cur/fileShare, minFiles), maxFiles))
}

// add keeps the descriptor, good for reading and writing, of a file that was just
// made.
func (s *files) add(id uint64, fd int) { s.release(s.insert(id, fd, true)) }

// acquire returns the descriptor of a node, nil if none is kept that will do.
func (s *files) acquire(id uint64, write bool) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[id]
	if o == nil || write && !o.writable {
		return nil
	}
	s.order.MoveToFront(o.place)
	return o.use(write)
}

// use counts a user. files.mu is held.
func (o *file) use(write bool) *file {
	o.users++
	o.written = o.written || write
	return o
}

// insert keeps a descriptor, which it closes if somebody was faster, and returns
// what is kept, in use.
func (s *files) insert(id uint64, fd int, write bool) *file {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.open[id]; o != nil {
		if o.writable || !write {
			s.closed(id, unix.Close(fd))
			return o.use(write)
		}
		s.remove(o)
	}
	if s.open == nil {
		s.open = make(map[uint64]*file)
		s.limit = fileLimit()
	}
	o := &file{id: id, fd: fd, writable: write}
	o.place = s.order.PushFront(o)
	s.open[id] = o
	o.use(write)
	s.evict(s.limit)
	return o
}

// evict closes the descriptors that were not used for the longest time, until
// there are few enough or all are in use. files.mu is held.
func (s *files) evict(limit int) {
	for e := s.order.Back(); e != nil && len(s.open) > limit; {
		o := e.Value.(*file)
		e = e.Prev()
		if o.users == 0 {
			s.remove(o)
		}
	}
}

// remove keeps a descriptor no longer. files.mu is held.
func (s *files) remove(o *file) {
	delete(s.open, o.id)
	s.order.Remove(o.place)
	o.place = nil
	if o.users == 0 {
		s.shut(o)
	}
}

// shut closes a descriptor that has no user. files.mu is held.
func (s *files) shut(o *file) {
	if o.written {
		s.closed(o.id, writeError(o.fd))
	}
	s.closed(o.id, unix.Close(o.fd))
}

// closed keeps an error that nobody was told. files.mu is held.
func (s *files) closed(id uint64, err error) {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return
	}
	if s.failed == nil {
		s.failed = make(map[uint64]syscall.Errno)
	}
	s.failed[id] = e
}

// release ends a use.
func (s *files) release(o *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.users--; o.users == 0 && o.place == nil {
		s.shut(o)
	}
}

// forget closes the descriptor of a node that the kernel has forgotten, and so
// nobody has open: memory may be short.
func (s *files) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.open[id]; o != nil && o.users == 0 {
		s.remove(o)
	}
}

// drop closes the descriptor of a node that nobody will use again.
func (s *files) drop(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.open[id]; o != nil {
		o.written = false
		s.remove(o)
	}
	delete(s.failed, id)
}

// syncing says that what was written to a descriptor is about to be synced, and
// returns the error that an earlier one of the node had.
func (s *files) syncing(o *file) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.written = false
	e, ok := s.failed[o.id]
	if !ok {
		return nil
	}
	delete(s.failed, o.id)
	return e
}

// close closes what is kept.
func (s *files) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evict(0)
	var errs []error
	for _, e := range s.failed {
		errs = append(errs, e)
	}
	s.failed = nil
	return errors.Join(errs...)
}

// call makes a system call, unless a test makes it fail.
func (s *files) call(name string, f func() error) error {
	if s.fault != nil {
		if err := s.fault(name); err != nil {
			return err
		}
	}
	return f()
}

// file returns a descriptor of a file that is in DIR, which the caller gives back
// by files.release.
func (f *FS) file(n *node, write bool) (*file, error) {
	if o := f.files.acquire(n.id, write); o != nil {
		return o, nil
	}
	fd, err := f.openUpper(n, write)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		f.files.mu.Lock()
		f.files.evict(0)
		f.files.mu.Unlock()
		fd, err = f.openUpper(n, write)
	}
	if err != nil {
		return nil, err
	}
	return f.files.insert(n.id, fd, write), nil
}

// openUpper opens a file that is in DIR. For reading it asks for no more, as the
// upper lends what a mode forbids its owner, which is a change of the inode.
func (f *FS) openUpper(n *node, write bool) (fd int, err error) {
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	err = f.files.call("open", func() error {
		fd, err = f.dir.OpenFile(f.path(n), flags)
		return err
	})
	return fd, err
}

// object returns the object of an ID, and makes one if there is none.
func (f *FS) object(id uint64) (*node, error) {
	f.mu.RLock()
	n := f.nodes[id]
	f.mu.RUnlock()
	if n != nil {
		return n, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.adopt(id)
}

// pwriteFull writes all of b at off, or as much as there is room for.
func (s *files) pwriteFull(fd int, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m := 0
		err := s.call("pwrite", func() (err error) {
			m, err = unix.Pwrite(fd, b[n:], off+int64(n))
			return err
		})
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, err
		default:
			n += m
		}
	}
	return n, nil
}

// pread fills b with what a file has at off: less at its end.
func (s *files) pread(fd int, b []byte, off int64) (n int, err error) {
	if off > math.MaxInt64-int64(len(b)) {
		return 0, syscall.EINVAL
	}
	for n < len(b) {
		m := 0
		err := s.call("pread", func() (err error) {
			m, err = unix.Pread(fd, b[n:], off+int64(n))
			return err
		})
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}
