package bytecode

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

const (
	// maxWaiting is how many lookups wait for the host at once; each holds a
	// thread of the mount. More are answered that there is nothing yet.
	maxWaiting = 256

	// patience bounds a wait: a program that starts is better off compiling for
	// itself than waiting longer. It leaves a source the time that a compiler
	// may spend on it, and some for its turn.
	patience = 25 * time.Second

	// maxDeaths is after how many deaths of the host without an answer in between
	// it is left alone for a while.
	maxDeaths = 3

	// pause is how long a host that can do nothing is left alone: a full disk and
	// a broken interpreter shall not cost every import its wait, and may be mended.
	pause = 30 * time.Second
)

// A Client answers which .pyc files there are. It reads the cache itself and has
// the host compile what is absent. Its methods may be called concurrently.
type Client struct {
	cache *Cache
	conn  *os.File // nil: nothing is compiled
	raw   syscall.RawConn

	now      func() time.Time
	patience time.Duration

	*counters
	received chan struct{} // closed when receive has returned

	mu      sync.Mutex
	waiting map[uint64]chan reply // by sequence number
	seq     uint64
	deaths  int       // of the host, since its last answer
	heard   time.Time // when it last said something
	until   time.Time // when a host that could do nothing is asked again
	off     string    // why nothing is compiled
	closed  bool
}

// NewClient returns a client of a cache. Conn is a non-blocking socket to the host
// (SOCK_SEQPACKET), which the client closes, or nil, and off says why. Area is memory,
// aligned to 8 bytes, in which the numbers of the [Status] outlive the client: zero for
// the first one, as it was left for the next. Nil is none.
func NewClient(c *Cache, conn *os.File, off string, area []byte) *Client {
	cl := &Client{cache: c, now: time.Now, patience: patience, waiting: map[uint64]chan reply{}, off: off, received: make(chan struct{}), counters: newCounters(area)}
	// A successor on the same socket must not take a reply to its predecessor
	// for its own.
	cl.seq = rand.Uint64()
	if conn == nil {
		close(cl.received)
		return cl
	}
	raw, err := conn.SyscallConn()
	if err = errors.Join(err, checkConn(conn)); err != nil {
		close(cl.received)
		cl.off = errors.Join(err, conn.Close()).Error()
		return cl
	}
	cl.conn, cl.raw = conn, raw
	go cl.receive()
	return cl
}

// Close closes the socket. Who waits is told that there is nothing.
func (c *Client) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if c.conn == nil || !first {
		return nil
	}
	err := c.conn.Close()
	if errors.Is(err, os.ErrClosed) { // the other side of the mount was sooner
		err = nil
	}
	<-c.received
	return err
}

// Tag returns the cache tag of the .pyc files that there are.
func (c *Client) Tag() string { return c.cache.version.Tag }

// Status returns what the client has done.
func (c *Client) Status() Status {
	c.mu.Lock()
	off := c.off
	c.mu.Unlock()
	return c.counters.status(off)
}

// Lookup returns the size in bytes of the .pyc of a source, which is a file of the
// tree, with its attributes, and a stamp that tells it from another compilation
// of the source. Size zero means that there is none; final then says that there
// never will be, because the source doesn't compile.
//
// With compile, what is absent is compiled, and Lookup waits for it; when cancel is
// closed it waits no longer.
func (c *Client) Lookup(cancel <-chan struct{}, id tree.ID, a tree.Attr, opt int, compile bool) (size int64, stamp uint16, final bool) {
	s := Source{Digest: a.Digest, Size: a.Size, Mtime: a.Mtime}
	if e, ok := c.cache.find(&s, opt); ok {
		return c.answer(&e, &c.hits)
	}
	if !compile {
		return 0, 0, false
	}
	r := c.ask(cancel, id, opt)
	count := &c.hits
	switch r.result {
	case made:
		count = &c.compiled
		fallthrough
	case found:
		if e, ok := c.cache.find(&s, opt); ok {
			return c.answer(&e, count)
		}
	default:
		if r.reason != "" {
			c.note(Failure{r.path, r.reason})
		}
	}
	c.declined.Add(1)
	return 0, 0, false
}

// Open opens the .pyc of a source that Lookup has found, with that stamp. It
// begins at the first byte of fd, which the caller closes, and has size bytes;
// what follows in the file is none of it. One that is gone, or has been made anew
// since, is [io/fs.ErrNotExist].
func (c *Client) Open(a tree.Attr, opt int, stamp uint16) (fd int, size int64, err error) {
	return c.cache.open(key{a.Digest, opt}, stamp)
}

// Used says that the .pyc of a source was read: what the source imports will be
// asked for next.
func (c *Client) Used(id tree.ID, opt int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mayAsk() {
		return
	}
	// It is a hint: one that finds no room is dropped.
	_ = c.send(request{kind: msgUsed, opt: opt, node: id})
}

// answer turns an entry into what a lookup returns; count is for bytecode.
func (c *Client) answer(e *entry, count *atomic.Int64) (size int64, stamp uint16, final bool) {
	if e.kind == kindFailure {
		c.failed.Add(1)
		c.note(Failure{e.path, e.reason})
		return 0, 0, true
	}
	count.Add(1)
	return e.size, e.stamp, false
}

// ask has the host compile a source and waits for its reply. Where none comes the
// reply has no result.
func (c *Client) ask(cancel <-chan struct{}, id tree.ID, opt int) reply {
	seq, answer, ok := c.request(id, opt)
	if !ok {
		return reply{}
	}
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case r := <-answer:
		return r
	case <-cancel:
	case <-timer.C:
		c.silence(seq)
		return reply{}
	}
	c.mu.Lock()
	delete(c.waiting, seq)
	c.mu.Unlock()
	return reply{}
}

// silence gives a request up that was waited for as long as may be. A host that
// has answered nobody meanwhile is left alone, or every import would wait as long.
func (c *Client) silence(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, seq)
	reason := fmt.Sprintf("the compiler host doesn't answer within %v", c.patience)
	c.note(Failure{Reason: reason})
	if c.now().Sub(c.heard) >= c.patience {
		c.rest(reason)
	}
}

// request sends a request to the host. The reply arrives at answer, or a zero one
// when it can't any more.
func (c *Client) request(id tree.ID, opt int) (seq uint64, answer chan reply, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mayAsk() || len(c.waiting) >= maxWaiting {
		return 0, nil, false
	}
	c.seq++
	if err := c.send(request{kind: msgCompile, opt: opt, seq: c.seq, node: id}); err != nil {
		c.off = fmt.Sprintf("asking the compiler host: %v", err)
		return 0, nil, false
	}
	answer = make(chan reply, 1)
	c.waiting[c.seq] = answer
	return c.seq, answer, true
}

// mayAsk reports whether there is a host that may be able to do something. c.mu is
// held.
func (c *Client) mayAsk() bool {
	return c.conn != nil && !c.closed && !c.now().Before(c.until)
}

// send sends a message, or fails with EAGAIN at once where there is no room: a
// host that reads nothing must not hold those who would take no for an answer.
func (c *Client) send(r request) error {
	var err error
	b := r.encode()
	if cerr := c.raw.Write(func(fd uintptr) bool {
		_, err = unix.Write(int(fd), b)
		return true
	}); cerr != nil {
		return cerr
	}
	return err
}

// receive delivers what comes from the host until the socket is closed.
func (c *Client) receive() {
	defer close(c.received)
	buf := make([]byte, maxMessage)
	for {
		n, err := c.conn.Read(buf)
		if err != nil {
			c.end(err)
			return
		}
		r, err := decodeReply(buf[:n])
		if err != nil {
			r = reply{kind: msgReply, result: unable, reason: fmt.Sprintf("the compiler host is of another version of sitefs: %v", err)}
		}
		c.handle(r)
	}
}

// handle delivers one message.
func (c *Client) handle(r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.kind == msgLost {
		c.dropAll()
		if c.deaths++; c.deaths >= maxDeaths {
			c.rest("the compiler host can't be started, or dies; the mount's log says why")
		}
		return
	}
	c.heard = c.now()
	c.ahead.Add(int64(r.ahead))
	if r.kind == msgProgress {
		return
	}
	c.deaths = 0
	// A reply that nobody waits for is to a lookup that was given up, or to one of
	// a predecessor.
	if answer, ok := c.waiting[r.seq]; ok {
		delete(c.waiting, r.seq)
		answer <- r
	}
	switch r.result {
	case made, found:
		c.off = ""
	case unable:
		c.dropAll()
		c.rest(r.reason)
	}
}

// dropAll tells all who wait that they get nothing. c.mu is held.
func (c *Client) dropAll() {
	for seq, answer := range c.waiting {
		delete(c.waiting, seq)
		answer <- reply{}
	}
}

// rest leaves the host alone for a while. c.mu is held.
func (c *Client) rest(reason string) {
	c.off = reason
	c.until = c.now().Add(pause)
}

// end is the end of the socket.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.off = fmt.Sprintf("the socket to the compiler host has ended: %v", err)
	}
	c.closed = true
	c.dropAll()
}
