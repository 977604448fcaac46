package mount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Of the FUSE protocol (linux/fuse.h), which go-fuse keeps to itself.
const (
	opInit = 26

	inHeaderSize  = 40 // struct fuse_in_header: len u32, opcode u32, …
	outHeaderSize = 16 // struct fuse_out_header: len u32, error i32, unique u64
)

const (
	// maxTransfer is the most that one READ may carry. Large sequential reads
	// are what it is for; more than 1 MiB needs a sysctl.
	maxTransfer = 1 << 20

	// headroom is what a request or reply has besides its payload.
	headroom = 4096

	// populated is how much of a request buffer is faulted in beforehand: more
	// than any request but a WRITE has, and there is none on a read-only mount.
	// The kernel fails a request with EIO if the server is killed while it faults
	// a page in to deliver it.
	populated = 16 << 10

	// maxReaders bounds the requests that are answered at once. A reader is added
	// when all are busy. Most answer at once, but a LOOKUP may wait for seconds,
	// and so may as many as the file system lets wait (256) and those of a burst.
	maxReaders = 512

	// maxIdle is how many readers stay when there is nothing to do: the kernel
	// sends 12 requests at once beyond those that processes wait for.
	maxIdle = 16
)

// options is the recipe for a mount that sends no messages once it is hot.
// What the file system answers is the other half of it.
func options(l *log.Logger) *fuse.MountOptions {
	return &fuse.MountOptions{
		MaxWrite:                 maxTransfer, // sets the size of a READ too
		MaxReadAhead:             maxTransfer,
		DisableXAttrs:            true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true, // content never changes, whatever the mtime
		// RESEND lets a successor take over unanswered requests.
		ExtraCapabilities: fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_HAS_RESEND,
		Logger:            l,
	}
}

// worker answers the kernel's requests. Its state is the descriptor and what
// go-fuse negotiated; another process could go on in its place.
type worker struct {
	fd     int // of /dev/fuse, not owned
	server *fuse.ProtocolServer
	log    *log.Logger

	inited chan struct{} // closed when the kernel and the server have agreed
	done   chan struct{} // closed when the mount has ended
	err    error         // why, if not by an unmount; set before done is closed

	once    sync.Once
	readers sync.WaitGroup
	count   atomic.Int32 // readers
	idle    atomic.Int32 // readers waiting for a request

	failed sync.Once
	stopFD int // an eventfd; readable when the readers are to end

	requests [128]atomic.Int64 // by opcode
	faults   atomic.Int64      // replies with EIO
}

func newWorker(fd int, fs fuse.RawFileSystem, l *log.Logger) (*worker, error) {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &worker{
		fd:     fd,
		server: fuse.NewProtocolServer(fs, options(l)),
		log:    l,
		inited: make(chan struct{}),
		done:   make(chan struct{}),
		stopFD: stop,
	}, nil
}

// run answers requests until the mount ends.
func (w *worker) run() {
	w.add()
	w.readers.Wait()
	unix.Close(w.stopFD)
	close(w.done)
}

// stop has the readers finish what they are at and end.
func (w *worker) stop() {
	// An eventfd is full after 2^64-2 writes.
	_, _ = unix.Write(w.stopFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// fail ends the worker because of err.
func (w *worker) fail(err error) {
	w.failed.Do(func() { w.err = err })
	w.stop()
}

// add starts a reader, unless there are enough.
func (w *worker) add() {
	if w.count.Add(1) > maxReaders {
		w.count.Add(-1)
		return
	}
	w.idle.Add(1)
	w.readers.Add(1)
	go func() {
		defer w.readers.Done()
		// A fault in a mapped table becomes a panic, which go-fuse makes an EIO.
		debug.SetPanicOnFault(true)
		r, err := newReader(w)
		if err != nil {
			w.missing(err)
			return
		}
		defer r.close()
		if err := r.run(); err != nil {
			w.fail(err)
		}
	}()
}

// missing notes a reader that could not be made. The others do its work when they
// have done theirs; without any the mount is dead.
func (w *worker) missing(err error) {
	w.idle.Add(-1)
	if w.count.Add(-1) == 0 {
		w.fail(err)
		return
	}
	w.log.Printf("adding a reader of requests: %v", err)
}

// reader takes one request after the other. Its buffers stay for as long as it
// does.
type reader struct {
	*worker
	poll int       // an epoll of its own: of several, the kernel wakes one
	in   [1][]byte // go-fuse takes lists of buffers
	out  [1][]byte
}

func newReader(w *worker) (_ *reader, err error) {
	r := &reader{worker: w, poll: -1}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.in[0], err = buffer(maxTransfer + headroom); err != nil {
		return nil, err
	}
	if r.out[0], err = buffer(maxTransfer + headroom); err != nil {
		return nil, err
	}
	for i := 0; i < populated; i += os.Getpagesize() {
		r.in[0][i] = 0
	}
	if r.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// Exclusive: a request wakes one reader, not all of them.
	err = unix.EpollCtl(r.poll, unix.EPOLL_CTL_ADD, w.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(w.fd)})
	if err == nil {
		err = unix.EpollCtl(r.poll, unix.EPOLL_CTL_ADD, w.stopFD, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(w.stopFD)})
	}
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return r, nil
}

// buffer returns memory of its own, outside the heap: the collector neither
// scans nor moves nor counts it, and pages that no request ever needed stay
// unused.
func buffer(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("allocating %d bytes for requests: %w", size, err)
	}
	return b, nil
}

func (r *reader) close() {
	unix.Close(r.poll)
	for _, b := range [][]byte{r.in[0], r.out[0]} {
		unix.Munmap(b)
	}
}

// run serves until the mount ends, the worker is stopped, or other readers have
// nothing to do: these are no errors.
func (r *reader) run() error {
	for {
		n, err := r.next()
		if n == 0 || err != nil {
			return err
		}
		if r.idle.Add(-1) == 0 {
			r.add() // nobody is left to take a request while this one waits
		}
		r.handle(n)
		if !r.rest() {
			return nil
		}
	}
}

// rest makes the reader an idle one. It returns false where there are enough.
func (w *worker) rest() bool {
	for {
		n := w.idle.Load()
		if n >= maxIdle {
			w.count.Add(-1)
			return false
		}
		if w.idle.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// next waits for a request, which it reads into r.in, and returns its length.
// It is 0 when there will be no more.
func (r *reader) next() (int, error) {
	var events [2]unix.EpollEvent
	for {
		n, err := unix.EpollWait(r.poll, events[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("waiting for requests: %w", err)
		}
		for _, e := range events[:n] {
			if e.Fd == int32(r.stopFD) {
				return 0, nil
			}
		}
		n, err = unix.Read(r.fd, r.in[0])
		switch {
		case err == unix.EAGAIN, err == unix.EINTR, err == unix.ENOENT:
			// Another reader took it, or the process that asked was killed.
		case err == unix.ENODEV:
			r.stop() // unmounted; the other readers need not find out by themselves
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("reading requests: %w", err)
		case n < inHeaderSize:
			return 0, fmt.Errorf("reading requests: %d bytes, want at least %d", n, inHeaderSize)
		default:
			return n, nil
		}
	}
}

// handle answers the request of n bytes in r.in.
func (r *reader) handle(n int) {
	op := binary.NativeEndian.Uint32(r.in[0][4:])
	if int(op) < len(r.requests) {
		r.requests[op].Add(1)
	}
	in := [1][]byte{r.in[0][:n]}
	size, status := r.server.HandleRequest(in[:], r.out[:])
	if size == 0 && !status.Ok() {
		size = r.refuse(status)
	}
	if size > 0 {
		r.reply(op, size)
	}
	if op == opInit {
		r.once.Do(func() { close(r.inited) })
	}
}

// refuse makes the reply to a request that go-fuse could not even parse:
// without one the process that asked would wait for ever.
func (r *reader) refuse(status fuse.Status) int {
	out := r.out[0]
	binary.NativeEndian.PutUint32(out[0:], outHeaderSize)
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(status)))
	copy(out[8:16], r.in[0][8:16]) // unique
	return outHeaderSize
}

func (r *reader) reply(op uint32, size int) {
	out := r.out[0][:size]
	if int32(binary.NativeEndian.Uint32(out[4:])) == -int32(unix.EIO) {
		r.faults.Add(1)
	}
	_, err := unix.Write(r.fd, out)
	// ENOENT: the process that asked was killed. ENODEV: unmounted meanwhile.
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		r.log.Printf("answering %s: %v", opName(op), err)
	}
}

// counts returns how many requests of each kind there were, and how many
// answers were EIO.
func (w *worker) counts() (requests map[string]int64, failed int64) {
	requests = make(map[string]int64)
	for op := range w.requests {
		if n := w.requests[op].Load(); n > 0 {
			requests[opName(uint32(op))] = n
		}
	}
	return requests, w.faults.Load()
}

// opNames are the requests that a read-only mount sees (linux/fuse.h).
var opNames = map[uint32]string{
	1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 14: "OPEN", 15: "READ", 16: "WRITE",
	17: "STATFS", 18: "RELEASE", 20: "FSYNC", 22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH", 26: "INIT",
	27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 31: "GETLK", 32: "SETLK", 33: "SETLKW",
	34: "ACCESS", 36: "INTERRUPT", 37: "BMAP", 38: "DESTROY", 39: "IOCTL", 40: "POLL", 42: "BATCH_FORGET",
	44: "READDIRPLUS", 46: "LSEEK", 50: "SYNCFS", 52: "STATX",
}

func opName(op uint32) string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return "OPCODE_" + strconv.Itoa(int(op))
}
