package bytecode

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A lone client has a host's end of the socket that the test answers from.
type lone struct {
	*env
	client *Client
	host   *os.File
}

func newLone(t *testing.T) *lone {
	t.Helper()
	l := &lone{env: newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "b = 1"})}
	near, far := socket(t)
	l.client, l.host = NewClient(l.cache(t), near, "", nil), far
	t.Cleanup(func() {
		if err := l.client.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// ask looks a source up in the background.
func (l *lone) ask(t *testing.T, cancel <-chan struct{}, name string) (answer chan string) {
	t.Helper()
	id, a := l.find(t, name)
	answer = make(chan string, 1)
	go func() {
		size, _, final := l.client.Lookup(cancel, id, a, 0, true)
		answer <- fmt.Sprint(size, final)
	}()
	return answer
}

// receive returns the next request.
func (l *lone) receive(t *testing.T) request {
	t.Helper()
	if err := l.host.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, maxMessage)
	n, err := l.host.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRequest(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (l *lone) send(t *testing.T, b []byte) {
	t.Helper()
	if _, err := l.host.Write(b); err != nil {
		t.Fatal(err)
	}
}

// expectSilence fails if the client has asked something.
func (l *lone) expectSilence(t *testing.T) {
	t.Helper()
	raw, err := l.host.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Read(func(fd uintptr) bool {
		if n, _, err := unix.Recvfrom(int(fd), make([]byte, maxMessage), unix.MSG_DONTWAIT); err != unix.EAGAIN {
			t.Errorf("the host is sent %d bytes, %v; want nothing", n, err)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

const nothing = "0 false"

func expectAnswer(t *testing.T, answer <-chan string, want string) {
	t.Helper()
	select {
	case got := <-answer:
		if got != want {
			t.Errorf("the lookup gives %s, want %s", got, want)
		}
	case <-testContext(t).Done():
		t.Fatal("the lookup hangs")
	}
}

func TestCancel(t *testing.T) {
	l := newLone(t)
	cancel := make(chan struct{})
	answer := l.ask(t, cancel, "a.py")
	r := l.receive(t)
	close(cancel)
	expectAnswer(t, answer, nothing)
	// The reply comes too late, and is no other lookup's.
	next := l.ask(t, nil, "b.py")
	r2 := l.receive(t)
	if r2.seq == r.seq {
		t.Errorf("two requests have number %d", r.seq)
	}
	l.send(t, reply{kind: msgReply, result: made, seq: r.seq}.encode())
	l.send(t, reply{kind: msgReply, result: notNow, seq: r2.seq, path: "b.py", reason: "no"}.encode())
	expectAnswer(t, next, nothing)
	if got := l.client.Status(); fmt.Sprint(got.Failures) != "[{b.py no}]" || got.Declined != 2 {
		t.Errorf("status: %+v", got)
	}
	if n := l.client.waits(); n != 0 {
		t.Errorf("%d lookups wait", n)
	}
}

func TestPatience(t *testing.T) {
	l := newLone(t)
	l.client.patience = time.Millisecond
	expectAnswer(t, l.ask(t, nil, "a.py"), nothing)
	if got := l.client.Status().Failures; len(got) != 1 || !strings.Contains(got[0].Reason, "doesn't answer") {
		t.Errorf("failures: %+v", got)
	}
}

// TestFull: the lookup after the last that may wait is answered at once.
func TestFull(t *testing.T) {
	l := newLone(t)
	cancel := make(chan struct{})
	var waiting []chan string
	for range maxWaiting {
		waiting = append(waiting, l.ask(t, cancel, "a.py"))
		l.receive(t)
	}
	expectAnswer(t, l.ask(t, nil, "b.py"), nothing)
	l.expectSilence(t)
	close(cancel)
	for _, answer := range waiting {
		expectAnswer(t, answer, nothing)
	}
}

// TestStuckHost: a host that reads nothing holds up nobody who only hints, and
// those who ask no longer than they would wait anyway.
func TestStuckHost(t *testing.T) {
	l := newLone(t)
	id, a := l.find(t, "a.py")
	for range 10_000 {
		l.client.Used(id, 0)
	}
	if size, _, final := l.client.Lookup(nil, id, a, 0, true); size != 0 || final {
		t.Errorf("%d, %v", size, final)
	}
	if off := l.client.Status().Off; !strings.Contains(off, "asking the compiler host") {
		t.Errorf("off: %q", off)
	}
}

// TestSilentHost: who waited in vain says for all that the host is left alone for a
// while, unless it has answered somebody else meanwhile.
func TestSilentHost(t *testing.T) {
	l := newLone(t)
	clock := time.Now()
	l.client.now = func() time.Time { return clock }
	l.client.patience = time.Millisecond
	id, a := l.find(t, "a.py")
	lookup := func(busy bool) string {
		l.client.mu.Lock()
		l.client.heard = time.Time{}
		if busy {
			l.client.heard = clock
		}
		l.client.mu.Unlock()
		if size, _, final := l.client.Lookup(nil, id, a, 0, true); size != 0 || final {
			t.Errorf("%d, %v", size, final)
		}
		return l.client.Status().Off
	}
	if off := lookup(true); off != "" {
		t.Errorf("a busy host is left alone: %q", off)
	}
	if off := lookup(false); !strings.Contains(off, "doesn't answer") {
		t.Errorf("off: %q", off)
	}
	asked := l.client.seq
	lookup(false)
	if l.client.seq != asked {
		t.Error("a silent host was asked again at once")
	}
	clock = clock.Add(pause)
	lookup(false)
	if l.client.seq != asked+1 {
		t.Error("a silent host is never asked again")
	}
}

// TestLost: when the host dies those who wait learn it; after some deaths in a row
// it is left alone for a while.
func TestLost(t *testing.T) {
	l := newLone(t)
	clock := time.Now()
	l.client.now = func() time.Time { return clock }
	die := func() {
		a, b := l.ask(t, nil, "a.py"), l.ask(t, nil, "b.py")
		l.receive(t)
		l.receive(t)
		l.send(t, []byte{msgLost})
		expectAnswer(t, a, nothing)
		expectAnswer(t, b, nothing)
	}
	die()
	die()
	answer := l.ask(t, nil, "a.py") // an answer in between, even a bad one, and counting begins anew
	l.send(t, reply{kind: msgReply, result: notNow, seq: l.receive(t).seq}.encode())
	expectAnswer(t, answer, nothing)
	for range maxDeaths {
		if off := l.client.Status().Off; off != "" {
			t.Errorf("off: %q", off)
		}
		die()
	}
	expectAnswer(t, l.ask(t, nil, "a.py"), nothing)
	id, _ := l.find(t, "a.py")
	l.client.Used(id, 0)
	l.expectSilence(t)
	if off := l.client.Status().Off; !strings.Contains(off, "dies") {
		t.Errorf("off: %q", off)
	}
	clock = clock.Add(pause)
	die() // asked once, and left alone again
	expectAnswer(t, l.ask(t, nil, "a.py"), nothing)
	l.expectSilence(t)
}

// TestForeignHost: one that speaks another language is not waited for.
func TestForeignHost(t *testing.T) {
	for _, message := range []string{"x", "\x01", strings.Repeat("\x07", replySize), strings.Repeat("\x03", replySize-1)} {
		l := newLone(t)
		answer := l.ask(t, nil, "a.py")
		l.receive(t)
		l.send(t, []byte(message))
		expectAnswer(t, answer, nothing)
		if off := l.client.Status().Off; !strings.Contains(off, "another version") {
			t.Errorf("message %q: off is %q", message, off)
		}
	}
}

// TestSocketEnds: who waits when either side closes the socket gets nothing.
func TestSocketEnds(t *testing.T) {
	for name, end := range map[string]func(l *lone) error{
		"client": func(l *lone) error { return l.client.Close() },
		"host":   func(l *lone) error { return l.host.Close() },
		"mount":  func(l *lone) error { return l.client.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLone(t)
			answer := l.ask(t, nil, "a.py")
			l.receive(t)
			if err := end(l); err != nil {
				t.Fatal(err)
			}
			expectAnswer(t, answer, nothing)
			expectAnswer(t, l.ask(t, nil, "b.py"), nothing)
		})
	}
}

// TestOff: without a socket there is what the cache has.
func TestOff(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "b = 1"})
	c := NewClient(e.cache(t), nil, "the store can't be written to", nil)
	s := e.source(t, "a.py")
	put(t, c.cache, e.scratch(0), &s, 0, kindCode, "code")
	id, a := e.find(t, "a.py")
	if size, _, final := c.Lookup(nil, id, a, 0, true); size != headerSize+4 || final {
		t.Errorf("a.py: %d, %v", size, final)
	}
	id, a = e.find(t, "b.py")
	if size, _, final := c.Lookup(nil, id, a, 0, true); size != 0 || final {
		t.Errorf("b.py: %d, %v", size, final)
	}
	c.Used(id, 0)
	if got, want := fmt.Sprint(c.Status()), fmt.Sprint(Status{Hits: 1, Declined: 1, Off: "the store can't be written to"}); got != want {
		t.Errorf("status: %s, want %s", got, want)
	}
	if tag := c.Tag(); tag != "cpython-312" {
		t.Errorf("tag: %q", tag)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestFailures: the latest are kept, each once.
func TestFailures(t *testing.T) {
	c := newCounters(nil)
	for i := range 2 * maxFailures {
		c.note(Failure{fmt.Sprint(i), "reason"})
		c.note(Failure{"often", "reason"})
	}
	got := c.status("").Failures
	if len(got) != maxFailures || got[0].Path != "11" || got[maxFailures-1].Path != "often" {
		t.Errorf("failures: %v", got)
	}
}

func TestMessages(t *testing.T) {
	for _, want := range []request{
		{kind: msgCompile, opt: 2, seq: 1<<64 - 1, node: 7<<32 + 5},
		{kind: msgUsed, node: 1},
	} {
		if got, err := decodeRequest(want.encode()); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for _, want := range []reply{
		{kind: msgReply, result: made, ahead: 1<<32 - 1, seq: 1<<64 - 1},
		{kind: msgReply, result: notNow, seq: 1, path: "a/b.py", reason: "it: is"},
		{kind: msgReply, result: unable, seq: 1, reason: "no path"},
		{kind: msgProgress, ahead: 7},
	} {
		if got, err := decodeReply(want.encode()); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	long := reply{kind: msgReply, path: strings.Repeat("p", 10_000), reason: strings.Repeat("\xff", 10_000)}
	if b := long.encode(); len(b) > maxMessage {
		t.Errorf("a long reply has %d bytes, more than %d", len(b), maxMessage)
	}
}

func TestCountsOutliveTheClient(t *testing.T) {
	words := make([]uint64, 16)
	area := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 128)
	newCounters(area).hits.Add(3)
	c := newCounters(area)
	c.declined.Add(1)
	if s := c.status(""); s.Hits != 3 || s.Declined != 1 {
		t.Errorf("%+v, want 3 hits of the one before", s)
	}
	if s := newCounters(area[:8]).status(""); s.Hits != 0 {
		t.Errorf("%+v in an area that is too small", s)
	}
}
