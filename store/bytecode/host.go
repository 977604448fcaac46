package bytecode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
	"github.com/sitefs/sitefs/store/bytecode/internal/imports"
)

const (
	// rest is after how long without work an interpreter ends. It takes 20 ms to
	// start and 10 MB to keep.
	rest = 5 * time.Second

	// maxImports is how many names of a source are followed. Real ones have tens;
	// more would keep the host from what is asked of it.
	maxImports = 1000

	// parting is how long the last answers of a host may take to be sent.
	parting = time.Second

	// maxScan is the largest source whose imports are looked for, in bytes. Larger
	// ones are tables.
	maxScan = 1 << 20
)

// A HostConfig says for whom and how a host compiles.
type HostConfig struct {
	Cache   *Cache
	Scratch string // a folder of this host's own, on the cache's file system

	Tree *tree.Tree // the client's
	Site string     // site-packages in the tree: "lib/python3.12/site-packages"

	Python    string        // absolute path of the interpreter
	Compilers int           // how many interpreters run at once
	Nice      int           // added to their niceness
	Idle      time.Duration // after how long without a request the host ends

	Log *log.Logger
}

// Serve answers the client at the other end of conn, a non-blocking socket
// (SOCK_SEQPACKET), until that closes, or nothing was asked for c.Idle. Then the
// result is nil, and whatever was read has been answered: a request that comes
// too late is left in the socket for the next host. Before Serve returns all
// interpreters have ended.
func Serve(ctx context.Context, conn *os.File, c HostConfig) (err error) {
	w, err := newWorks(c.Cache, c.Scratch, compiler.Config{Python: c.Python, Nice: c.Nice})
	if err != nil {
		return errors.Join(err, Refuse(conn, err))
	}
	defer func() { err = errors.Join(err, w.close()) }()
	return newHost(conn, c, w).serve(ctx)
}

// Refuse answers what waits in the socket by why nothing can be compiled. It is for
// a host that got no further: its end alone would tell the client nothing.
func Refuse(conn *os.File, why error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	h := host{conn: conn}
	buf := make([]byte, maxMessage)
	for {
		n := 0
		if cerr := raw.Read(func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return true
		}); cerr != nil {
			return cerr
		}
		if err != nil || n <= 0 { // nothing waits any more
			return nil
		}
		if r, err := decodeRequest(buf[:n]); err == nil && r.kind == msgCompile {
			h.refuse([]uint64{r.seq}, reply{result: unable, reason: why.Error()})
		}
	}
}

// A host compiles for one client.
type host struct {
	conf   HostConfig
	conn   *os.File
	layout *layout
	queue  *queue
	works  *works

	ahead atomic.Uint32 // compiled ahead, the client doesn't know of yet

	start starter
}

func newHost(conn *os.File, c HostConfig, w *works) *host {
	l := &layout{tree: c.Tree, site: c.Site}
	h := &host{conf: c, conn: conn, layout: l, queue: newQueue(l, c.Compilers), works: w}
	h.start = starter{start: w.start, slow: h.refuseSlow}
	w.start = h.start.new
	return h
}

func (h *host) serve(ctx context.Context) error {
	if err := checkConn(h.conn); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	// What was asked is still answered, but not to a client that reads nothing.
	defer func() { h.conn.SetWriteDeadline(time.Now().Add(parting)) }()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { h.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for range h.conf.Compilers {
		workers.Go(func() { h.work(ctx) })
	}
	return h.read(ctx)
}

// read takes requests until the client has gone or has nothing to ask.
func (h *host) read(ctx context.Context) error {
	buf := make([]byte, maxMessage)
	for {
		if err := h.conn.SetReadDeadline(time.Now().Add(h.conf.Idle)); err != nil {
			return err
		}
		if ctx.Err() != nil { // after the line above, which undoes what ctx's end has set
			return context.Cause(ctx)
		}
		n, err := h.conn.Read(buf)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() == nil && h.queue.empty() {
				return nil
			}
		case err != nil:
			return err
		default:
			if err := h.handle(buf[:n]); err != nil {
				return err
			}
		}
	}
}

// handle takes one request.
func (h *host) handle(b []byte) error {
	r, err := decodeRequest(b)
	if err != nil {
		return fmt.Errorf("%w: the server is of another version of sitefs", err)
	}
	if r.kind == msgUsed {
		h.follow(r.node, r.opt, nil)
		return nil
	}
	if !h.queue.ask(r.seq, r.node, r.opt) {
		h.refuse([]uint64{r.seq}, reply{result: notNow, reason: fmt.Sprintf("node %d is no Python source", r.node)})
	}
	if h.start.tooLong() {
		h.refuseSlow()
	}
	return nil
}

// work makes entries until ctx ends.
func (h *host) work(ctx context.Context) {
	m := &maker{works: h.works}
	defer func() { h.retire(m) }()
	idle := time.NewTimer(rest)
	defer idle.Stop()
	for ctx.Err() == nil {
		if j := h.queue.take(); j != nil {
			h.do(ctx, m, j)
			idle.Reset(rest)
			continue
		}
		h.progress()
		select {
		case <-ctx.Done():
		case <-h.queue.wake:
		case <-idle.C:
			h.retire(m)
		}
	}
}

// do makes one entry and answers who waits for it.
func (h *host) do(ctx context.Context, m *maker, j *job) {
	e, r, err := m.make(ctx, &j.source, j.opt, !j.ahead)
	text := m.text
	m.text = nil // it may be large, and the next job far
	switch bad := (setback{}); {
	case ctx.Err() != nil:
		// Nobody is there to answer, or the server says that all is lost.
	case errors.As(err, &bad):
		h.conf.Log.Printf("%s: %v", j.source.Path, err)
		h.refuse(append(h.queue.done(j), h.queue.drop()...), reply{result: unable, reason: bad.Error()})
	case err != nil:
		h.conf.Log.Printf("%s: %v", j.source.Path, err)
		h.refuse(h.queue.done(j), reply{result: notNow, path: j.source.Path, reason: err.Error()})
	case r == notNow:
		h.queue.yield(j)
		h.follow(j.node, j.opt, nil)
	default:
		if r == made && e.kind == kindFailure {
			h.conf.Log.Printf("%s: %s", e.path, e.reason)
		}
		h.finish(j, r, text)
	}
}

// finish answers that the entry of a job is there. Text is the source, if it was
// read.
func (h *host) finish(j *job, r result, text []byte) {
	if r == made && j.ahead {
		h.ahead.Add(1)
		r = found
	}
	for _, seq := range h.queue.done(j) {
		h.send(reply{kind: msgReply, result: r, seq: seq})
		r = found // it was made for one
	}
	if j.ahead {
		h.follow(j.node, j.opt, text)
	}
}

// refuse answers that there is nothing.
func (h *host) refuse(waiting []uint64, r reply) {
	r.kind = msgReply
	for _, r.seq = range waiting {
		h.send(r)
	}
}

// follow guesses that what a source imports is asked for next. Text is the source,
// or nil.
func (h *host) follow(node tree.ID, opt int, text []byte) {
	s, ok := h.layout.source(node)
	if !ok || s.Size > maxScan {
		return
	}
	if text == nil {
		var err error
		if text, err = h.conf.Cache.blobs.ReadBlob(s.Digest); err != nil {
			return // whoever asks for its bytecode is told
		}
	}
	names := imports.Scan(text)
	h.queue.guess(h.layout.imported(node, names[:min(len(names), maxImports)]), opt)
}

// progress tells the client what was compiled ahead since it last heard.
func (h *host) progress() {
	if h.ahead.Load() > 0 {
		h.send(reply{kind: msgProgress})
	}
}

// send sends a message with the number of sources compiled ahead. A client that
// is gone gets none, which read finds out.
func (h *host) send(r reply) {
	r.ahead = h.ahead.Swap(0)
	_, _ = h.conn.Write(r.encode())
}

// refuseSlow answers all who wait that no interpreter runs yet.
func (h *host) refuseSlow() {
	h.refuse(h.queue.drop(), reply{
		result: notNow,
		reason: fmt.Sprintf("interpreter %q hasn't started after %v", h.conf.Python, startPatience),
	})
}

// retire ends a maker's interpreter.
func (h *host) retire(m *maker) {
	if err := m.rest(); err != nil {
		h.conf.Log.Printf("interpreter %q: %v", h.conf.Python, err)
	}
}
