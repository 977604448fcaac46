package mount_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/view"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// roles are what the test binary is besides: the server, as sitefs itself is, and
// processes that tests need. Each takes one argument.
var roles = map[string]func(arg string) error{
	"serve":     serve,
	"work":      work,
	"companion": companion,
	"stat":      statAll,
	"write":     write,
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Race-enabled processes wait for a second before they end, and there are many.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// statAll looks up as many names as the argument says, N:PATH, at once.
func statAll(arg string) error {
	number, prefix, _ := strings.Cut(arg, ":")
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { os.Lstat(prefix + strconv.Itoa(i)) })
	}
	wg.Wait()
	return nil
}

// serverConfig tells the server process of a test what to mount.
type serverConfig struct {
	mount.Config

	Source string // a directory: its files become the tree, beside the fixed ones
	Added  int64  // when the tree was made, Unix seconds
	Fail   string // how to go wrong
	Gate   string // a FIFO that somebody opens before the server goes on

	Companion []string // its command; the status shows its report
	Poison    bool     // see poisoned
	Refuse    string   // a file: while it is there, workers refuse with what it says
	Place     string   // a file: while it is empty nothing can be served; see placed
	Paths     bool     // the worker tells those of its nodes
	Upper     string   // a folder that is served for writing; see changeable
	Lock      string   // a file that is locked while there is the mount
	// RefuseTurn is a file: while it is there, workers refuse when it is their turn with
	// what it says.
	RefuseTurn string
	Limit      uint64        // of the server's descriptors; 0: as it is
	NoResend   bool          // the kernel sends no request again
	Idle       string        // a file that the worker makes when it is at rest
	Patience   time.Duration // with a worker that hangs
	DieAt      string        // when the first worker is killed, which leaves Marker
	Marker     string
	Bytecode   json.RawMessage `json:",omitempty"` // what the status shows
}

func serve(arg string) error {
	if done, err := mount.Daemonize(); done || err != nil {
		return err
	}
	var c serverConfig
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	if c.Gate != "" {
		if _, err := os.ReadFile(c.Gate); err != nil {
			return err
		}
	}
	if c.Limit > 0 {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: c.Limit, Max: c.Limit}); err != nil {
			return err
		}
	}
	switch c.Fail {
	case "die":
		return errors.New("this server was told to die")
	case "say":
		return mount.Fail(errors.New("this server was told to say so"))
	}
	exe, err := os.Executable()
	if err != nil {
		return mount.Fail(err)
	}
	c.Config.Worker = []string{exe, "work", arg}
	c.Config.Companion = c.Companion
	if c.Lock != "" {
		c.Config.Files = func() ([]*os.File, error) { return lockFiles(c.Lock) }
	}
	mount.SetPatience(&c.Config, c.Patience)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return mount.Serve(ctx, c.Config)
}

// work is the worker of serve.
func work(arg string) error {
	var c serverConfig
	if err := json.Unmarshal([]byte(arg), &c); err != nil {
		return err
	}
	if c.NoResend {
		mount.WithoutResend()
	}
	if c.DieAt != "" {
		mount.AtInit(func(moment string) {
			if _, err := os.Stat(c.Marker); err != nil && moment == c.DieAt {
				os.WriteFile(c.Marker, nil, 0o600)
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		})
	}
	return mount.Work(context.Background(), []string{"by a test"}, func(s mount.Session) (mount.Worker, error) {
		if c.Refuse != "" {
			if reason, err := os.ReadFile(c.Refuse); err == nil {
				return mount.Worker{}, errors.New(string(reason))
			}
		}
		if c.Upper != "" {
			return newChangeable(c, s)
		}
		fs, err := newView(c)
		if err != nil {
			return mount.Worker{}, err
		}
		w := mount.Worker{FS: poisoned{fs, c.Poison}}
		if c.Idle != "" {
			w.Idle = func() error { return os.WriteFile(c.Idle, nil, 0o600) }
		}
		if c.Paths {
			w.Describe = fs.Path
		}
		if c.Place != "" {
			p := placed{poisoned{fs, c.Poison}, c.Place, content(c.Place)}
			if p.held == "" {
				return mount.Worker{}, errors.New("nothing is in the place")
			}
			w.FS, w.Lost = p, p.lost
		}
		switch {
		case c.Bytecode != nil:
			w.Report = func() json.RawMessage { return c.Bytecode }
		case s.Conn != nil:
			w.Report = func() json.RawMessage { return askReport(s.Conn) }
		}
		return w, nil
	})
}

// poisoned is a view in which some names are not as they should be: looking one
// up that begins with "kill" ends the process, with "hang" it takes for ever, with
// "wait" until the process that asked is interrupted.
type poisoned struct {
	*view.FS
	on bool
}

func (p poisoned) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case p.on && strings.HasPrefix(name, "kill"):
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		select {}
	case p.on && strings.HasPrefix(name, "hang"):
		select {}
	case p.on && strings.HasPrefix(name, "wait"):
		<-cancel
	}
	return p.FS.Lookup(cancel, in, name, out)
}

// placed is a view in which names that begin with "kept" need what the file place
// held at first.
type placed struct {
	poisoned
	place, held string
}

func (p placed) lost() bool { return content(p.place) != p.held }

func (p placed) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if strings.HasPrefix(name, "kept") && p.lost() {
		return fuse.EIO
	}
	return p.poisoned.Lookup(cancel, in, name, out)
}

// content returns what a file holds, nothing if it can't be read.
func content(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

func newView(c serverConfig) (*view.FS, error) {
	b := tree.NewBuilder("test")
	blobs := make(dirBlobs)
	if err := errors.Join(
		b.Inline("hello.py", false, []byte("x = 1\n")),
		b.Inline("tree", false, []byte(c.Config.Tree)),
		b.Template("bin/activate", false, []byte("VIRTUAL_ENV=\x00P\n")),
		b.Symlink("lib64", "lib"),
		b.Dir("lib/empty"),
	); err != nil {
		return nil, err
	}
	if c.Source != "" {
		if err := blobs.add(b, c.Source); err != nil {
			return nil, err
		}
	}
	data, err := b.Build(c.Added)
	if err != nil {
		return nil, err
	}
	t, err := tree.Open(data, c.Config.Dir, nil)
	if err != nil {
		return nil, err
	}
	return view.New(t, blobs, view.Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
}

// dirBlobs serves the files of a directory as blobs.
type dirBlobs map[digest.Digest]string

func (b dirBlobs) OpenBlob(d digest.Digest) (int, error) {
	path, ok := b[d]
	if !ok {
		return -1, syscall.ENOENT
	}
	return syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
}

func (b dirBlobs) add(t *tree.Builder, root string) error {
	return filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case fi.IsDir():
			return t.Dir(name)
		case fi.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return t.Symlink(name, target)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d := digest.Of(content)
		b[d] = path
		return t.File(name, fi.Mode()&0o100 != 0, fi.Size(), d)
	})
}

// needFUSE skips where nothing can be mounted.
func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	f.Close()
	if os.Getuid() != 0 {
		t.Skip("needs root: the tests mount with mount(2)")
	}
}

// newWant returns a mount point in a state home of its own, and checks at the
// end of the test that nothing is left.
func newWant(t *testing.T, c serverConfig) mount.Want {
	t.Helper()
	needFUSE(t)
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	if c.Config.Dir == "" {
		c.Config.Dir = filepath.Join(home, "env")
	}
	if c.Config.Tree == "" {
		c.Config.Tree = "one"
	}
	t.Cleanup(func() {
		err := mount.Unmount(context.Background(), c.Config.Dir, true)
		if err != nil && !errors.Is(err, mount.ErrNotMounted) {
			t.Errorf("cleaning up: %v", err)
		}
		if table, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(table), home) {
			t.Errorf("mounts are left:\n%s", table)
		}
	})
	return wantFor(t, c)
}

func wantFor(t *testing.T, c serverConfig) mount.Want {
	t.Helper()
	arg, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return mount.Want{Dir: c.Config.Dir, Tree: c.Config.Tree, Keep: c.Config.Keep, Server: []string{exe, "serve", string(arg)}}
}

// testContext ends before the test's own time does.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until what returns "", or fails the test with the last thing
// that it returned. It polls the state of other processes, which tell nobody.
func eventually(t *testing.T, ctx context.Context, what func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		problem := what()
		if problem == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(problem)
		case <-tick.C:
		}
	}
}

// run runs a command in dir and returns its output.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return string(out)
}
