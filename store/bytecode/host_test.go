package bytecode

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

// TestLookup asks for sources of every kind, and again.
func TestLookup(t *testing.T) {
	e := newEnv(t, map[string]string{"demo/__init__.py": "", "demo/a.py": "a = 1", "demo/tmpl.py": "bad {{ x }}", "demo/deep.py": "fatal ((((", "demo/unlucky.py": "kill"})
	r := newRig(t, e, &fake{})
	id, a := e.find(t, "demo/a.py")
	if size, _, final := r.client.Lookup(nil, id, a, 0, false); size != 0 || final {
		t.Errorf("before it is compiled: %d, %v", size, final)
	}
	for range 2 {
		for opt := range maxOpt + 1 {
			if size, final := r.lookup(t, "demo/a.py", opt); size == 0 || final {
				t.Errorf("optimisation %d: %d, %v", opt, size, final)
			}
			e.expectCode(t, r.client, "demo/a.py", opt)
		}
		for _, name := range []string{"demo/tmpl.py", "demo/deep.py"} {
			if size, final := r.lookup(t, name, 0); size != 0 || !final {
				t.Errorf("%s: %d, %v, want a final failure", name, size, final)
			}
		}
		if size, final := r.lookup(t, "demo/unlucky.py", 0); size != 0 || final {
			t.Errorf("unlucky.py: %d, %v, want one that may be tried again", size, final)
		}
	}
	r.expectStatus(t, Status{Hits: 3, Compiled: 3, Failed: 4, Declined: 2, Failures: []Failure{
		{"demo/tmpl.py", "SyntaxError: invalid syntax (line 1)"},
		{"demo/deep.py", "killed by SIGSEGV"},
		{"demo/unlucky.py", "killed by SIGKILL"},
	}})
	for _, want := range []string{"demo/tmpl.py: SyntaxError", "demo/deep.py: killed", "demo/unlucky.py: killed"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("log without %q:\n%s", want, r.log.String())
		}
	}
	if n := r.fake.starts.Load(); n > 2+1+2*2 { // two workers, deep.py's successor, and two for each try of unlucky.py
		t.Errorf("%d interpreters were started", n)
	}
}

// TestTooLargeForMachine: a source that a larger machine may compile is tried once,
// and again when it is asked for again.
func TestTooLargeForMachine(t *testing.T) {
	r := newRig(t, newEnv(t, map[string]string{"a.py": "large table"}), &fake{})
	for tries := range 2 {
		if size, final := r.lookup(t, "a.py", 0); size != 0 || final {
			t.Errorf("a.py: %d, %v, want one that may be tried again", size, final)
		}
		if n := int(r.fake.starts.Load()); n != tries+1 {
			t.Errorf("%d interpreters were started for %d tries", n, tries+1)
		}
	}
	r.expectStatus(t, Status{Declined: 2, Failures: []Failure{{"a.py", compiler.ErrMemory.Error()}}})
}

// TestDamagedIsReplaced: who looks up a damaged entry gets a whole one.
func TestDamagedIsReplaced(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1"})
	r := newRig(t, e, &fake{})
	r.lookup(t, "a.py", 0)
	s := e.source(t, "a.py")
	replaceFile(t, r.client.cache.path(key{s.Digest, 0}), make([]byte, 100))
	if size, _ := r.lookup(t, "a.py", 0); size == 0 {
		t.Error("no bytecode after the entry was damaged")
	}
	e.expectCode(t, r.client, "a.py", 0)
	r.expectStatus(t, Status{Compiled: 2})
}

// TestDamagedSource: what is not the source that its name says is not compiled.
func TestDamagedSource(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "gone.py": "a = 2"})
	r := newRig(t, e, &fake{})
	s, gone := e.source(t, "a.py"), e.source(t, "gone.py")
	replaceFile(t, e.blobs.path(s.Digest), []byte("a = 9"))
	if err := os.Remove(e.blobs.path(gone.Digest)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.py", "gone.py"} {
		if size, final := r.lookup(t, name, 0); size != 0 || final {
			t.Errorf("%s: %d, %v", name, size, final)
		}
	}
	r.expectStatus(t, Status{Declined: 2, Failures: []Failure{
		{"a.py", fmt.Sprintf("the source is damaged: blob %s has the content of %s", s.Digest, digest.Of([]byte("a = 9")))},
		{"gone.py", fmt.Sprintf("read the source: open %s: no such file or directory", e.blobs.path(gone.Digest))},
	}})
	replaceFile(t, e.blobs.path(s.Digest), []byte("a = 1"))
	if size, _ := r.lookup(t, "a.py", 0); size == 0 {
		t.Error("a.py isn't compiled after it was mended")
	}
}

// TestOnce has a hundred lookups of one source, by two names and on two mounts,
// wait for a single compilation.
func TestOnce(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "same.py": "a = 1"})
	var compiled atomic.Int32
	release := make(chan struct{})
	hold := func(string) { compiled.Add(1); <-release }
	rigs := []*rig{newRig(t, e, &fake{compiled: hold}), newRig(t, e, &fake{compiled: hold})}
	var wait sync.WaitGroup
	for i := range 100 {
		wait.Go(func() {
			name := []string{"a.py", "same.py"}[i%2]
			if size, final := rigs[i%len(rigs)].lookup(t, name, 0); size == 0 || final {
				t.Errorf("%s: %d, %v", name, size, final)
			}
		})
	}
	for _, r := range rigs {
		eventually(t, func() bool { return r.client.waits() == 50 })
	}
	close(release)
	wait.Wait()
	if n := compiled.Load(); n != 1 {
		t.Errorf("compiled %d times", n)
	}
	a, b := rigs[0].client.Status(), rigs[1].client.Status()
	if a.Compiled+b.Compiled != 1 || a.Hits+b.Hits != 99 {
		t.Errorf("status: %+v, %+v; want one compiled, 99 hits", a, b)
	}
}

func (c *Client) waits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// eventually waits for a state that other goroutines bring about.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	ctx := testContext(t)
	for tick := time.NewTicker(time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it didn't come about within a minute")
		}
	}
}

// TestAhead: what a used source imports is compiled before it is asked for, in the
// order in which Python would import it.
func TestAhead(t *testing.T) {
	e := newEnv(t, map[string]string{
		"app.py":               "import os, pkg.deep.mod\nimport last\n",
		"pkg/__init__.py":      "from . import first\n",
		"pkg/first.py":         "from .second import thing, other\n",
		"pkg/second.py":        "",
		"pkg/deep/__init__.py": "x = 1\n",
		"pkg/deep/mod.py":      "from .. import first\nimport bad\n",
		"last.py":              "import app\n",
		"bad.py":               "bad = {{",
		"unrelated.py":         "z = 1",
	})
	var mu sync.Mutex
	var order []string
	f := &fake{compiled: func(name string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, name)
	}}
	r := newRig(t, e, f)
	r.lookup(t, "app.py", 0)
	if n := r.client.Status().Ahead; n != 0 {
		t.Errorf("%d compiled ahead of a source that nobody used", n)
	}
	id, _ := e.find(t, "app.py")
	r.client.Used(id, 0)
	eventually(t, func() bool { return r.client.Status().Ahead == 7 })
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(order)
	want := []string{"app.py", "bad.py", "last.py", "pkg/__init__.py", "pkg/deep/__init__.py", "pkg/deep/mod.py", "pkg/first.py", "pkg/second.py"}
	if !slices.Equal(order, want) {
		t.Errorf("compiled %q, want %q", order, want)
	}
	e.expectCode(t, r.client, "pkg/deep/mod.py", 0)
	if size, final := r.lookup(t, "bad.py", 0); size != 0 || !final {
		t.Errorf("bad.py: %d, %v", size, final)
	}
}

// TestUnableToWrite: a cache that can't be written to is said, and no lookup after
// the first pays for it.
func TestUnableToWrite(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "a = 2"})
	var compiled atomic.Int32
	r := newRig(t, e, &fake{compiled: func(string) { compiled.Add(1) }})
	clock := time.Now()
	r.client.now = func() time.Time { return clock }
	if err := os.Remove(e.scratch(0)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.py", "b.py", "a.py"} {
		if size, final := r.lookup(t, name, 0); size != 0 || final {
			t.Errorf("%s: %d, %v", name, size, final)
		}
	}
	st := r.client.Status()
	if want := "keep bytecode: open " + e.scratch(0); !strings.HasPrefix(st.Off, want) || st.Declined != 3 {
		t.Errorf("status: %+v, want it off because %q, 3 declined", st, want)
	}
	if n := compiled.Load(); n != 1 {
		t.Errorf("compiled %d times", n)
	}
	if err := os.Mkdir(e.scratch(0), 0o755); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(pause)
	if size, _ := r.lookup(t, "a.py", 0); size == 0 {
		t.Error("no bytecode after the pause")
	}
	if st := r.client.Status(); st.Off != "" {
		t.Errorf("off after a success: %q", st.Off)
	}
}

// TestInterpreterFails: why there is no interpreter is said, and asking again is
// put off.
func TestInterpreterFails(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1"})
	broken := &compiler.StartError{Python: "/usr/bin/python", Reason: "it is a Python 3.13"}
	r := newRig(t, e, &fake{start: func(context.Context) error { return broken }})
	for range 3 {
		if size, final := r.lookup(t, "a.py", 0); size != 0 || final {
			t.Errorf("a.py: %d, %v", size, final)
		}
	}
	if st := r.client.Status(); st.Off != broken.Error() {
		t.Errorf("status: %+v, want it off because %q", st, broken)
	}
	if n := r.fake.starts.Load(); n != 1 {
		t.Errorf("the interpreter was started %d times", n)
	}
}

// TestInterpreterHangs: nobody waits long for an interpreter that doesn't start.
func TestInterpreterHangs(t *testing.T) {
	t.Parallel() // it takes startPatience
	e := newEnv(t, map[string]string{"a.py": "a = 1", "b.py": "a = 2"})
	r := newRig(t, e, &fake{start: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	for _, name := range []string{"a.py", "b.py"} {
		if size, final := r.lookup(t, name, 0); size != 0 || final {
			t.Errorf("%s: %d, %v", name, size, final)
		}
	}
	r.expectStatus(t, Status{Declined: 2, Failures: []Failure{{"", `interpreter "/usr/bin/python" hasn't started after 2s`}}})
}
