package mount

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// Of the FUSE protocol (linux/fuse.h), which go-fuse keeps to itself.
const (
	opForget      = 2
	opRead        = 15
	opInit        = 26
	opInterrupt   = 36
	opBatchForget = 42
)

const (
	// maxTransfer is the most that one READ may carry. Large sequential reads
	// are what it is for; more than 1 MiB needs a sysctl.
	maxTransfer = 1 << 20

	// headroom is what a request or reply has besides its payload.
	headroom = 4096

	// maxWrite is the most that one WRITE may carry on a writable mount: writing 512 MiB
	// took 711 ms with 128 KiB, 415 ms with this and 429 ms with 1 MiB.
	maxWrite = 256 << 10

	// populated is how much of a reader's buffer is faulted in beforehand, as a room
	// is: more than any request but a WRITE or an attribute has.
	populated = 16 << 10

	// idleAfter is how long there is no request until memory is given back. A program
	// that is at work asks more often, and what is used again takes a fault a page.
	idleAfter = time.Second

	// maxReaders bounds the requests that are answered at once. A reader is added
	// when all are busy. Most answer at once, but a LOOKUP may wait for seconds,
	// and so may as many as the file system lets wait (256) and those of a burst.
	maxReaders = 512

	// maxIdle is how many readers stay when there is nothing to do: the kernel
	// sends 12 requests at once beyond those that processes wait for.
	maxIdle = 16
)

// capabilities returns those that go-fuse doesn't ask for by itself. RESEND lets a
// successor take over unanswered requests. KILLPRIV_V2 says in a request that it
// takes a file's setuid bit away, so that no write needs to ask first.
func capabilities(writable bool) uint64 {
	c := uint64(fuse.CAP_NO_OPENDIR_SUPPORT)
	if !noResend {
		c |= fuse.CAP_HAS_RESEND
	}
	if writable {
		c |= fuse.CAP_HANDLE_KILLPRIV_V2
	}
	return c
}

// options is the recipe for a mount that sends no messages once it is hot.
// What the file system answers is the other half of it.
//
// CAP_ATOMIC_O_TRUNC is never asked for: where nothing is opened, it would lose the
// truncation.
func options(l *log.Logger, writable bool) *fuse.MountOptions {
	o := &fuse.MountOptions{
		MaxWrite:                 maxTransfer, // sets the size of a READ too
		MaxReadAhead:             maxTransfer,
		DisableXAttrs:            true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true, // content never changes but by the kernel, whatever the mtime
		ExtraCapabilities:        capabilities(writable),
		Logger:                   l,
	}
	if writable {
		o.MaxWrite, o.DisableXAttrs = maxWrite, false
	}
	return o
}

// worker answers the kernel's requests. What must outlive it is in the shared
// memory; another process goes on in its place.
type worker struct {
	fd       int // of /dev/fuse, not owned
	writable bool
	rooms    *rooms // nil where there are no WRITEs
	server   *fuse.ProtocolServer
	memory   *shared.Memory
	log      *log.Logger

	describe func(node uint64) string // for the log; nil: by number
	giveBack func() error             // see [Worker.Idle]
	standIn  bool                     // every request is answered with an I/O error
	faults   chan struct{}            // has an element when one was

	cases cases
	slots chan int // of the shared memory, those that no reader has

	inited chan struct{} // closed when the kernel and the server have agreed
	done   chan struct{} // closed when the mount has ended
	err    error         // why, if not by an unmount; set before done is closed

	once    sync.Once
	readers sync.WaitGroup
	count   atomic.Int32 // readers
	idle    atomic.Int32 // readers waiting for a request
	rested  atomic.Int64 // how many requests were answered when memory was last given back

	failed sync.Once

	stopFD   int        // an eventfd; readable when the readers are to end
	stopping sync.Mutex // held while it is written to
	stopped  bool       // it is closed

	parking atomic.Bool // what is not answered yet is left to a successor, to whom it is sent again
	mu      sync.Mutex
	all     map[*reader]bool
}

// newWorker returns a worker that serves nothing yet.
func newWorker(m *shared.Memory, writable bool, l *log.Logger) (*worker, error) {
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &worker{
		writable: writable,
		memory:   m,
		log:      l,
		slots:    make(chan int, shared.Slots),
		faults:   make(chan struct{}, 1),
		inited:   make(chan struct{}),
		done:     make(chan struct{}),
		stopFD:   stop,
		all:      make(map[*reader]bool),
	}
	for i := range shared.Slots {
		w.slots <- i
	}
	if writable {
		w.rooms = newRooms(maxWrite + headroom)
	}
	return w, nil
}

// offer has the worker serve fs. It agrees with what a predecessor and the kernel
// have agreed on, if there was one; where it would not the mount is not its to serve.
func (w *worker) offer(fs fuse.RawFileSystem) error {
	w.server = fuse.NewProtocolServer(fs, options(w.log, w.writable))
	request, want, ok := w.memory.Init()
	if !ok {
		return nil
	}
	reply := make([]byte, maxTransfer)
	n, status := w.server.HandleRequest([][]byte{request}, [][]byte{reply})
	if !status.Ok() {
		return fmt.Errorf("replaying INIT: %v", status)
	}
	if w.standIn { // an error is the same on all terms
		return nil
	}
	// Len, error and what follows the number; the number differs in a resent INIT.
	if n != len(want) || !bytes.Equal(reply[:8], want[:8]) || !bytes.Equal(reply[outHeaderSize:n], want[outHeaderSize:]) {
		return fmt.Errorf("this version of sitefs would agree on other terms with the kernel (INIT) than the mount has, % x instead of % x: mount again to use it", reply[outHeaderSize:n], want[outHeaderSize:])
	}
	return nil
}

// In the reply to INIT (struct fuse_init_out, after the header).
const (
	initFlags2 = outHeaderSize + 32 // its offset

	// hasResend is FUSE_HAS_RESEND, bit 39 of all flags.
	hasResend = 1 << (39 - 32)
)

// canResend reports whether the kernel can send requests again, as agreed on in a
// reply to INIT.
func canResend(reply []byte) bool {
	return len(reply) >= initFlags2+4 && binary.NativeEndian.Uint32(reply[initFlags2:])&hasResend != 0
}

// resend has the kernel send again what nobody has answered.
func (w *worker) resend() {
	if _, err := unix.Write(w.fd, notification(notifyResend, 0)); err != nil && !errors.Is(err, unix.ENODEV) {
		w.log.Printf("asking the kernel for what was not answered: %v", err)
	}
}

// run answers requests from the device until the mount ends; with resend, those
// too that a predecessor has not answered.
func (w *worker) run(fd int, resend bool) {
	w.fd = fd
	w.cases.open(w.memory.Cases())
	if _, _, ok := w.memory.Init(); ok {
		w.once.Do(func() { close(w.inited) })
	}
	if resend {
		w.resend()
	}
	w.add()
	w.readers.Wait()
	w.closeStop()
	close(w.done)
}

// stop has the readers finish what they are at and end.
func (w *worker) stop() {
	w.stopping.Lock()
	defer w.stopping.Unlock()
	if !w.stopped {
		// An eventfd is full after 2^64-2 writes.
		_, _ = unix.Write(w.stopFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// closeStop closes stopFD, whose number may be another file's afterwards.
func (w *worker) closeStop() {
	w.stopping.Lock()
	defer w.stopping.Unlock()
	w.stopped = true
	unix.Close(w.stopFD)
}

// interruptPause is between two attempts to interrupt what waits: a request may not
// have come as far yet.
const interruptPause = 10 * time.Millisecond

// park has the readers end at once: what waits is interrupted, and what they are at
// goes unanswered, so that the kernel sends it to a successor, if it can. It returns
// when done is closed or after grace.
func (w *worker) park(grace time.Duration) {
	_, reply, _ := w.memory.Init()
	w.parking.Store(canResend(reply))
	w.stop()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	tick := time.NewTicker(interruptPause)
	defer tick.Stop()
	for {
		w.interrupt()
		select {
		case <-w.done:
			return
		case <-timer.C:
			return
		case <-tick.C:
		}
	}
}

// interrupt interrupts every request that is being handled, as the kernel does
// when the process that asked is.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range w.all {
		unique := r.unique.Load()
		if unique == 0 {
			continue
		}
		var in [inHeaderSize + 8]byte // struct fuse_interrupt_in: unique u64
		binary.NativeEndian.PutUint32(in[0:], uint32(len(in)))
		binary.NativeEndian.PutUint32(in[4:], opInterrupt)
		binary.NativeEndian.PutUint64(in[inHeaderSize:], unique)
		// The reply says whether there is such a request; the caller tries again anyway.
		w.server.HandleRequest([][]byte{in[:]}, [][]byte{make([]byte, headroom)})
	}
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
	poll int // an epoll of its own: of several, the kernel wakes one
	slot int // of the shared memory, for the request that it is at
	in   []byte
	out  [1][]byte // go-fuse takes lists of buffers

	unique atomic.Uint64 // of the request that is being handled, as the kernel has it; 0: none
}

func newReader(w *worker) (_ *reader, err error) {
	r := &reader{worker: w, poll: -1, slot: <-w.slots} // there are twice as many as readers
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	in := populated
	if r.rooms == nil {
		in = maxTransfer + headroom // the kernel wants room for a WRITE, which never comes
	}
	if r.in, err = buffer(in); err != nil {
		return nil, err
	}
	if r.out[0], err = buffer(maxTransfer + headroom); err != nil {
		return nil, err
	}
	touch(r.in[:populated])
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
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all[r] = true
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
	r.mu.Lock()
	delete(r.all, r)
	r.mu.Unlock()
	unix.Close(r.poll)
	for _, b := range [][]byte{r.in, r.out[0]} {
		unix.Munmap(b)
	}
	r.slots <- r.slot
}

// run serves until the mount ends, the worker is stopped, or other readers have
// nothing to do: these are no errors.
func (r *reader) run() error {
	for {
		request, err := r.next()
		if request == nil || err != nil {
			return err
		}
		if r.idle.Add(-1) == 0 {
			r.add() // nobody is left to take a request while this one waits
		}
		r.handle(request)
		if len(request) > len(r.in) {
			r.rooms.give(request[:cap(request)])
		}
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

// next waits for a request and returns it, nil when there will be no more.
func (r *reader) next() ([]byte, error) {
	var events [2]unix.EpollEvent
	timeout := int(idleAfter / time.Millisecond)
	for {
		n, err := unix.EpollWait(r.poll, events[:], timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("waiting for requests: %w", err)
		}
		if n == 0 {
			r.relax()
			timeout = -1
		}
		for _, e := range events[:n] {
			if e.Fd == int32(r.stopFD) {
				return nil, nil
			}
		}
		request, err := r.read()
		switch {
		case err == unix.EAGAIN, err == unix.EINTR, err == unix.ENOENT:
			// Another reader took it, or the process that asked was killed.
		case err == unix.ENODEV:
			r.stop() // unmounted; the other readers need not find out by themselves
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading requests: %w", err)
		case len(request) < inHeaderSize:
			return nil, fmt.Errorf("reading requests: %d bytes, want at least %d", len(request), inHeaderSize)
		default:
			return request, nil
		}
	}
}

// read reads a request: into r.in, or a large one of a writable mount into a room,
// which the caller then gives back.
func (r *reader) read() ([]byte, error) {
	if r.rooms == nil {
		n, err := unix.Read(r.fd, r.in)
		return r.in[:max(n, 0)], err
	}
	room, err := r.rooms.take()
	if err != nil {
		return nil, err
	}
	n, err := unix.Read(r.fd, room)
	if n > len(r.in) {
		return room[:n], nil
	}
	n = copy(r.in, room[:max(n, 0)])
	r.rooms.give(room)
	return r.in[:n], err
}

// relax gives back what the reader doesn't need while it waits, and where none has
// anything to do, what they share.
func (r *reader) relax() {
	if err := unix.Madvise(r.out[0], unix.MADV_DONTNEED); err != nil {
		r.log.Printf("giving back the memory of replies: %v", err)
	}
	answered := r.memory.Answered()
	if r.idle.Load() == r.count.Load() && r.rested.Swap(answered) != answered {
		go r.worker.relax() // which takes as long as many requests
	}
}

// relax gives back what the readers share.
func (w *worker) relax() {
	if w.giveBack != nil {
		if err := w.giveBack(); err != nil {
			w.log.Print(err)
		}
	}
	if w.rooms != nil {
		if err := w.rooms.relax(); err != nil {
			w.log.Printf("giving back the memory of requests: %v", err)
		}
	}
	debug.FreeOSMemory()
}

// handle answers a request.
func (r *reader) handle(in []byte) {
	q := parseHeader(in)
	q.Started = monotonic()
	r.memory.CountRequest(q.Opcode)
	verdict, known := r.cases.of(q.Unique)
	r.memory.Begin(r.slot, &q, nameIn(q.Opcode, in))
	leave := r.cases.enter(&q, verdict)
	r.memory.Enter(r.slot, q.Phase)
	var size int
	switch {
	case verdict == shared.Condemned:
		r.log.Printf("%s, which has ended the worker three times, is answered with an I/O error", r.name(&q, in))
		size = r.refuse(in, fuse.EIO)
	case r.standIn && q.Opcode != opInit && !immediate(q.Opcode):
		size = r.refuse(in, fuse.EIO)
	default:
		size = r.answer(&q, in)
	}
	if r.parking.Load() && q.Opcode != opInit {
		size = 0 // it may have been interrupted; a successor answers
	}
	if size > 0 {
		r.reply(&q, size)
	}
	r.memory.End(r.slot)
	leave()
	if known && size > 0 {
		r.cases.close(q.Unique)
		r.memory.Clear(q.Unique)
	}
	if q.Opcode == opInit {
		r.once.Do(func() { close(r.inited) })
	}
}

// answer makes the reply in r.out and returns its length.
func (r *reader) answer(q *shared.Request, request []byte) int {
	in := [1][]byte{request}
	r.unique.Store(binary.NativeEndian.Uint64(request[8:]))
	defer r.unique.Store(0)
	size, status := r.server.HandleRequest(in[:], r.out[:])
	if size == 0 && !status.Ok() {
		size = r.refuse(request, status)
	}
	if q.Opcode == opInit {
		// Before the kernel has the reply: afterwards nobody could tell a successor.
		atInit("before INIT is kept")
		if err := r.memory.SaveInit(request, r.out[0][:size]); err != nil {
			r.log.Printf("no other process can take over: %v", err)
		}
		atInit("before INIT is answered")
	}
	return size
}

// resent is the bit in the number of a request that the kernel sends again.
const resent = 1 << 63

// parseHeader returns what a request's header tells (struct fuse_in_header).
func parseHeader(in []byte) shared.Request {
	return shared.Request{
		Opcode: binary.NativeEndian.Uint32(in[4:]),
		Unique: binary.NativeEndian.Uint64(in[8:]) &^ resent,
		Node:   binary.NativeEndian.Uint64(in[16:]),
		PID:    binary.NativeEndian.Uint32(in[32:]),
		Phase:  shared.Waiting,
	}
}

// name describes a request for the log.
func (w *worker) name(q *shared.Request, in []byte) string {
	return describeRequest(q, string(nameIn(q.Opcode, in)), w.path)
}

// path returns the path of a node, "" if it isn't known.
func (w *worker) path(node uint64) (path string) {
	if w.describe == nil {
		return ""
	}
	// The path is in mapped tables: where they can't be read it isn't known.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			w.log.Printf("the path of node %d: %v", node, r)
		}
	}()
	return w.describe(node)
}

// maxPaths bounds the paths that a report tells, in bytes: a message has room for
// 64 KiB, of which the report may need some and JSON's escapes the rest.
const maxPaths = 8 << 10

// paths returns the paths of nodes, or as many as there is room for.
func (w *worker) paths(nodes []uint64) []string {
	var list []string
	room := maxPaths
	for _, n := range nodes {
		p := w.path(n)
		if room -= len(p); room < 0 {
			break
		}
		list = append(list, p)
	}
	return list
}

// describeRequest describes a request: its kind, what it is for and who asked.
func describeRequest(q *shared.Request, name string, describe func(uint64) string) string {
	path := ""
	if describe != nil {
		path = describe(q.Node)
	}
	if path == "" {
		path = fmt.Sprintf("node %d", q.Node)
	}
	if name != "" {
		path += "/" + name
	}
	return fmt.Sprintf("%s of %q by pid %d", opName(q.Opcode), path, q.PID)
}

// refuse makes the reply to a request that go-fuse could not even parse:
// without one the process that asked would wait for ever.
func (r *reader) refuse(request []byte, status fuse.Status) int {
	out := r.out[0]
	binary.NativeEndian.PutUint32(out[0:], outHeaderSize)
	binary.NativeEndian.PutUint32(out[4:], uint32(-int32(status)))
	copy(out[8:16], request[8:16]) // unique
	return outHeaderSize
}

func (r *reader) reply(q *shared.Request, size int) {
	out := r.out[0][:size]
	failed := int32(binary.NativeEndian.Uint32(out[4:])) == -int32(unix.EIO)
	_, err := unix.Write(r.fd, out)
	// ENOENT: the process that asked was killed. ENODEV: unmounted meanwhile.
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		r.log.Printf("answering %s: %v", opName(q.Opcode), err)
	}
	read := 0
	if q.Opcode == opRead {
		read = size - outHeaderSize
	}
	r.memory.CountReply(q.Opcode, time.Duration(monotonic()-q.Started), read, failed)
	if failed {
		select {
		case r.faults <- struct{}{}:
		default: // one that nobody has seen to yet will do
		}
	}
}

// epoch is a moment of CLOCK_MONOTONIC, which every process has the same, by the
// clock of this process, which needs no system call.
var epoch = sync.OnceValues(func() (time.Time, int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Now(), 0
	}
	return time.Now(), ts.Nano()
})

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	at, ns := epoch()
	return ns + int64(time.Since(at))
}
