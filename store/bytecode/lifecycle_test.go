package bytecode

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

// compiledA is what a lookup of a lone client's a.py gives.
var compiledA = fmt.Sprint(headerSize+len(fakeCode([]byte("a = 1"), 0)), false)

// idleHost runs a host that ends after idle without a request.
func (e *env) idleHost(t *testing.T, ctx context.Context, far *os.File, f *fake, idle time.Duration) error {
	t.Helper()
	w, err := newWorks(e.cache(t), e.scratch(0), compiler.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	w.start = f.new
	conf := HostConfig{Cache: w.cache, Tree: e.tree, Site: site, Compilers: 2, Idle: idle, Log: log.New(&logBuffer{}, "", 0)}
	err = newHost(far, conf, w).serve(ctx)
	if n := f.running.Load(); n != 0 {
		t.Errorf("%d interpreters are left", n)
	}
	return err
}

// TestIdle: a host without work ends, having answered all that it has read. What
// comes too late is for the next one.
func TestIdle(t *testing.T) {
	l := newLone(t)
	far := l.host
	for range 20 {
		if err := l.idleHost(t, testContext(t), far, &fake{}, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		answer := l.ask(t, nil, "a.py")
		eventually(t, func() bool { return l.client.waits() == 1 })
		ended := make(chan error, 1)
		go func() { ended <- l.idleHost(t, testContext(t), far, &fake{}, time.Millisecond) }()
		expectAnswer(t, answer, compiledA)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		s := l.source(t, "a.py")
		if err := os.Remove(l.client.cache.path(key{s.Digest, 0})); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIdleWorks: a host that compiles is not idle, however long it takes.
func TestIdleWorks(t *testing.T) {
	l := newLone(t)
	var compiling atomic.Bool
	release := make(chan struct{})
	f := &fake{compiled: func(string) { compiling.Store(true); <-release }}
	answer := l.ask(t, nil, "a.py")
	eventually(t, func() bool { return l.client.waits() == 1 })
	ended := make(chan error, 1)
	go func() { ended <- l.idleHost(t, testContext(t), l.host, f, time.Millisecond) }()
	eventually(t, compiling.Load)
	select {
	case err := <-ended:
		t.Fatalf("the host ended while it was compiling: %v", err)
	case <-time.After(20 * time.Millisecond): // 20 times its idle time
	}
	close(release)
	expectAnswer(t, answer, compiledA)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestClientGone: a host whose client is gone ends at once, also in the middle of a
// source.
func TestClientGone(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "hang", "b.py": "b = 1"})
	near, far := socket(t)
	client := NewClient(e.cache(t), near, "", nil)
	var compiling atomic.Bool
	ended := make(chan error, 1)
	go func() {
		ended <- e.idleHost(t, testContext(t), far, &fake{compiled: func(string) { compiling.Store(true) }}, time.Hour)
	}()
	id, a := e.find(t, "a.py")
	go client.Lookup(nil, id, a, 0, true)
	eventually(t, compiling.Load)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHostStopped: a host that is told to end in the middle says so by an error,
// so that what was asked of it is known to be lost.
func TestHostStopped(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "hang"})
	near, far := socket(t)
	client := NewClient(e.cache(t), near, "", nil)
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	id, a := e.find(t, "a.py")
	go client.Lookup(nil, id, a, 0, true)
	err := e.idleHost(t, ctx, far, &fake{compiled: func(string) { cancel() }}, time.Hour)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("serve: %v, want %v", err, context.Canceled)
	}
}

// TestForeignServer: a host doesn't guess at what it does not understand.
func TestForeignServer(t *testing.T) {
	for _, message := range []string{"\x00", strings.Repeat("\x01", requestSize+1), strings.Repeat("\x09", requestSize), "\x01\x03" + strings.Repeat("\x00", requestSize-2)} {
		e := newEnv(t, map[string]string{"a.py": "a = 1"})
		near, far := socket(t)
		if _, err := near.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		if err := e.idleHost(t, testContext(t), far, &fake{}, time.Hour); err == nil || !strings.Contains(err.Error(), "another version") {
			t.Errorf("message %q: %v", message, err)
		}
	}
}

// TestNoPlace: a host that can't even begin tells its client why.
func TestNoPlace(t *testing.T) {
	l := newLone(t)
	if err := os.WriteFile(filepath.Join(l.dir, "bytecode"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id, _ := l.find(t, "a.py")
	l.client.Used(id, 0)
	answer := l.ask(t, nil, "a.py")
	eventually(t, func() bool { return l.client.waits() == 1 })
	err := Serve(testContext(t), l.host, HostConfig{Cache: l.cache(t)})
	if !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("serve: %v", err)
	}
	expectAnswer(t, answer, nothing)
	if off := l.client.Status().Off; off == "" || !strings.Contains(err.Error(), off) {
		t.Errorf("off: %q, want %q", off, err)
	}
	l.expectSilence(t)
}

// TestNoSource: a node that isn't a source is answered like any other failure.
func TestNoSource(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1"})
	r := newRig(t, e, &fake{})
	_, a := e.find(t, "a.py")
	if size, _, final := r.client.Lookup(nil, 1<<40, a, 0, true); size != 0 || final {
		t.Errorf("%d, %v", size, final)
	}
	if got := r.client.Status().Failures; len(got) != 1 || !strings.Contains(got[0].Reason, "no Python source") {
		t.Errorf("failures: %+v", got)
	}
}

// TestBlockingSocket: what could never be interrupted is refused, not waited for.
func TestBlockingSocket(t *testing.T) {
	near, far := socketPair(t, false)
	e := newEnv(t, map[string]string{"a.py": "a = 1"})
	if err := e.idleHost(t, testContext(t), far, &fake{}, time.Hour); err == nil || !strings.Contains(err.Error(), "want a non-blocking socket") {
		t.Errorf("serve: %v", err)
	}
	c := NewClient(e.cache(t), near, "", nil)
	if off := c.Status().Off; !strings.Contains(off, "want a non-blocking socket") {
		t.Errorf("off: %q", off)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// TestLocks: of two hosts one has a key; each optimisation is a key of its own.
func TestLocks(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "b = 1"})
	var hosts []*locks
	for range 2 {
		l, err := openLocks(e.cache(t))
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		hosts = append(hosts, l)
	}
	a, b := e.source(t, "a.py").Digest, e.source(t, "b.py").Digest
	try := func(host int, k key) func() {
		unlock, ok := hosts[host].try(k)
		if !ok {
			return nil
		}
		return unlock
	}
	unlock := try(0, key{a, 0})
	if unlock == nil {
		t.Fatal("a free key can't be locked")
	}
	if try(1, key{a, 0}) != nil {
		t.Skip("no locks between hosts on this system: a source may be compiled twice")
	}
	for _, k := range []key{{a, 1}, {a, 2}, {b, 0}} {
		if u := try(1, k); u == nil {
			t.Errorf("%v is locked as well", k)
		} else {
			u()
		}
	}
	unlock()
	if try(1, key{a, 0}) == nil {
		t.Error("the key isn't free after the unlock")
	}
	// Whoever dies has nothing locked.
	if err := hosts[1].close(); err != nil {
		t.Fatal(err)
	}
	if try(0, key{a, 0}) == nil {
		t.Error("the key isn't free after its host's end")
	}
}

// TestAheadYields: what another host is compiling is not guessed at, but waited for
// by who needs it.
func TestAheadYields(t *testing.T) {
	e := newEnv(t, map[string]string{"app.py": "import a\nimport b\n", "a.py": "a = 1", "b.py": "b = 1"})
	r := newRig(t, e, &fake{})
	other, err := openLocks(e.cache(t))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	k := key{e.source(t, "a.py").Digest, 0}
	unlock, ok := other.try(k)
	if !ok {
		t.Fatal("a free key can't be locked")
	}
	if again, ok := r.client.lockedElsewhere(t, k); ok {
		again()
		t.Skip("no locks between hosts on this system")
	}
	r.lookup(t, "app.py", 0)
	id, _ := e.find(t, "app.py")
	r.client.Used(id, 0)
	eventually(t, func() bool { return r.client.Status().Ahead == 1 }) // b.py
	s := e.source(t, "a.py")
	if missing := r.client.cache.Missing([]Source{s}, 0); !slices.Equal(missing, []Source{s}) {
		t.Error("a.py was compiled although another host is at it")
	}
	answer := make(chan int64, 1)
	go func() {
		size, _ := r.lookup(t, "a.py", 0)
		answer <- size
	}()
	eventually(t, func() bool { return r.client.waits() == 1 })
	put(t, r.client.cache, e.scratch(1), &s, 0, kindCode, "of the other host")
	unlock()
	if size := <-answer; size != int64(headerSize+len("of the other host")) {
		t.Errorf("the bytecode has %d bytes, want that of the other host", size)
	}
}

// lockedElsewhere tries a key as a third host would.
func (c *Client) lockedElsewhere(t *testing.T, k key) (unlock func(), ok bool) {
	t.Helper()
	l, err := openLocks(c.cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l.try(k)
}
