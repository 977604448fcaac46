package bytecode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := hostChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// site is where the tests' trees have their packages.
const site = "lib/python3.12/site-packages"

var testVersion = Version{Tag: "cpython-312", Magic: "cb0d0d0a"}

// testContext bounds what a test waits for.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// dirBlobs are blobs in a directory.
type dirBlobs string

func (b dirBlobs) path(d digest.Digest) string { return filepath.Join(string(b), d.String()) }

func (b dirBlobs) OpenBlob(d digest.Digest) (int, error) { return open(b.path(d)) }

func (b dirBlobs) ReadBlob(d digest.Digest) ([]byte, error) { return os.ReadFile(b.path(d)) }

func (b dirBlobs) put(t testing.TB, data string) digest.Digest {
	t.Helper()
	d := digest.Of([]byte(data))
	if err := os.WriteFile(b.path(d), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// An env is a tree of sources and an empty cache.
type env struct {
	dir     string
	blobs   dirBlobs
	tree    *tree.Tree
	version Version
}

// newEnv makes an environment of sources by their path below site-packages.
func newEnv(t testing.TB, sources map[string]string) *env {
	t.Helper()
	dir := t.TempDir()
	e := &env{dir: dir, blobs: dirBlobs(filepath.Join(dir, "blobs")), version: testVersion}
	for _, d := range []string{string(e.blobs), e.scratch(0), e.scratch(1)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b := tree.NewBuilder("lib-python3.12")
	for name, text := range sources {
		if err := b.File(site+"/"+name, false, int64(len(text)), e.blobs.put(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if e.tree, err = tree.Open(data, "/venv", nil); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *env) scratch(i int) string { return filepath.Join(e.dir, fmt.Sprint("scratch", i)) }

func (e *env) cache(t testing.TB) *Cache {
	t.Helper()
	c, err := Open(filepath.Join(e.dir, "bytecode"), e.version, e.blobs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// find returns a node by its path below site-packages.
func (e *env) find(t testing.TB, name string) (tree.ID, tree.Attr) {
	t.Helper()
	id, a, err := e.tree.Find(site + "/" + name)
	if err != nil {
		t.Fatalf("find %q: %v", name, err)
	}
	return id, a
}

func (e *env) source(t testing.TB, name string) Source {
	t.Helper()
	_, a := e.find(t, name)
	return Source{Path: name, Digest: a.Digest, Size: a.Size, Mtime: a.Mtime}
}

// fakeCode is what the tests' interpreters make of a source.
func fakeCode(source []byte, opt int) []byte {
	return fmt.Appendf(nil, "code %d of %s", opt, digest.Of(source))
}

// A fake is a kind of interpreter. A source that begins with "bad" doesn't compile,
// one with "kill" ends its interpreter from outside, one with "fatal" ends it by its
// own fault, one with "large" needs more memory than there is, and one with "hang"
// takes until its time is over.
type fake struct {
	start    func(context.Context) error // nil: starts at once
	compiled func(name string)           // nil: nobody cares

	starts, running atomic.Int32
}

func (f *fake) new(ctx context.Context) (interpreter, error) {
	f.starts.Add(1)
	if f.start != nil {
		if err := f.start(ctx); err != nil {
			return nil, err
		}
	}
	f.running.Add(1)
	return &fakePython{fake: f}, nil
}

type fakePython struct {
	*fake
	dead bool
}

func (p *fakePython) Compile(ctx context.Context, source []byte, name string, opt int) ([]byte, error) {
	if p.compiled != nil {
		p.compiled(name)
	}
	switch word, _, _ := strings.Cut(string(source), " "); word {
	case "bad":
		return nil, &compiler.SourceError{Reason: "SyntaxError: invalid syntax (line 1)"}
	case "fatal":
		p.dead = true
		return nil, &compiler.SourceError{Reason: "killed by SIGSEGV"}
	case "kill":
		p.dead = true
		return nil, errors.New("killed by SIGKILL")
	case "large":
		p.dead = true
		return nil, compiler.ErrMemory
	case "hang":
		<-ctx.Done()
		p.dead = true
		return nil, ctx.Err()
	}
	return fakeCode(source, opt), nil
}

func (p *fakePython) Dead() bool { return p.dead }

func (p *fakePython) Close() error { p.running.Add(-1); return nil }

// socket returns the two ends of a client's socket.
func socket(t testing.TB) (client, host *os.File) {
	t.Helper()
	return socketPair(t, true)
}

func socketPair(t testing.TB, nonblock bool) (client, host *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Skipf("no socket that keeps messages whole: %v", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, nonblock); err != nil {
			t.Fatal(err)
		}
	}
	client, host = os.NewFile(uintptr(fds[0]), "client"), os.NewFile(uintptr(fds[1]), "host")
	t.Cleanup(func() { client.Close(); host.Close() })
	return client, host
}

// A rig is a client and a host beside it.
type rig struct {
	*env
	client *Client
	fake   *fake
	log    logBuffer
	ended  chan error // Serve's result
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig serves an environment with f's interpreters.
func newRig(t *testing.T, e *env, f *fake) *rig {
	t.Helper()
	r := &rig{env: e, fake: f, ended: make(chan error, 1)}
	near, far := socket(t)
	r.client = NewClient(e.cache(t), near, "", nil)
	go func() {
		r.ended <- e.serve(context.Background(), t, far, 0, f, &r.log)
		far.Close()
	}()
	t.Cleanup(func() {
		if err := r.client.Close(); err != nil {
			t.Error(err)
		}
		if err := <-r.ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if n := f.running.Load(); n != 0 {
			t.Errorf("%d interpreters are left", n)
		}
		for i := range 2 {
			expectEmpty(t, e.scratch(i))
		}
	})
	return r
}

// serve is Serve with other interpreters.
func (e *env) serve(ctx context.Context, t testing.TB, conn *os.File, scratch int, f *fake, l io.Writer) error {
	w, err := newWorks(e.cache(t), e.scratch(scratch), compiler.Config{})
	if err != nil {
		return err
	}
	defer w.close()
	w.start = f.new
	return newHost(conn, HostConfig{
		Cache:     w.cache,
		Tree:      e.tree,
		Site:      site,
		Python:    "/usr/bin/python",
		Compilers: 2,
		Idle:      time.Minute,
		Log:       log.New(l, "", 0),
	}, w).serve(ctx)
}

// lookup asks for a source and has it compiled.
func (r *rig) lookup(t testing.TB, name string, opt int) (size int64, final bool) {
	t.Helper()
	id, a := r.find(t, name)
	size, _, final = r.client.Lookup(testContext(t).Done(), id, a, opt, true)
	return size, final
}

// expectCode fails unless the .pyc of a source is what its interpreter made.
func (e *env) expectCode(t testing.TB, c *Client, name string, opt int) {
	t.Helper()
	_, a := e.find(t, name)
	text, err := e.blobs.ReadBlob(a.Digest)
	if err != nil {
		t.Fatal(err)
	}
	h := header([4]byte{0xcb, 0x0d, 0x0d, 0x0a}, &Source{Size: a.Size, Mtime: a.Mtime})
	want := string(h[:]) + string(fakeCode(text, opt))
	s := e.source(t, name)
	found, ok := c.cache.find(&s, opt)
	if !ok {
		t.Errorf("%q with optimisation %d: not found", name, opt)
		return
	}
	fd, size, err := c.Open(a, opt, found.stamp)
	if err != nil {
		t.Errorf("open %q: %v", name, err)
		return
	}
	defer unix.Close(fd)
	got := make([]byte, size)
	if !readFull(fd, got, 0) || string(got) != want {
		t.Errorf("%q with optimisation %d: %q, want %q", name, opt, got, want)
	}
}

func (r *rig) expectStatus(t testing.TB, want Status) {
	t.Helper()
	if got := r.client.Status(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("status: %+v\nwant:   %+v", got, want)
	}
}

func expectEmpty(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%q: %v, %v; want an empty folder", dir, entries, err)
	}
}
