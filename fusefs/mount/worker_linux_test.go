package mount

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// slowFS has no files. Looking up a name that begins with "slow" takes until
// release is closed.
type slowFS struct {
	fuse.RawFileSystem
	asked   chan string
	release chan struct{}
}

func (f *slowFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, _ *fuse.EntryOut) fuse.Status {
	if strings.HasPrefix(name, "slow") {
		f.asked <- name
		<-f.release
	}
	if name == "panic" {
		panic("a fault in a mapped table is a panic")
	}
	return fuse.ENOENT
}

func (f *slowFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: in.NodeId, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	return fuse.OK
}

// startWorker mounts fs in this process and logs to out. The process must not touch the mount
// itself, or it could wait for itself.
func startWorker(t *testing.T, fs fuse.RawFileSystem, out io.Writer) (dir string, w *worker) {
	t.Helper()
	if f, err := os.OpenFile(fuseDevice, os.O_RDWR, 0); err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and FUSE: %v", err)
	} else {
		f.Close()
	}
	dir = t.TempDir()
	dev, err := attach(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	w, err = newWorker(dev.fd, fs, log.New(out, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	go w.run()
	t.Cleanup(func() {
		w.stop()
		<-w.done
		if err := errors.Join(w.err, dev.detach(true), dev.close()); err != nil {
			t.Error(err)
		}
	})
	return dir, w
}

func TestReaderIsAddedWhenAllAreBusy(t *testing.T) {
	fs := &slowFS{fuse.NewDefaultRawFileSystem(), make(chan string), make(chan struct{})}
	dir, w := startWorker(t, fs, io.Discard)
	const n = 5
	ended := make(chan error, n)
	for i := range n {
		cmd := exec.Command("stat", filepath.Join(dir, fmt.Sprint("slow", i)))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { ended <- cmd.Wait() }()
		<-fs.asked
	}
	// Every request so far waits, and yet one is answered.
	if out, err := exec.Command("stat", filepath.Join(dir, "fast")).CombinedOutput(); err == nil || !strings.Contains(string(out), "No such file") {
		t.Errorf("%v, %s", err, out)
	}
	if c := w.count.Load(); c < n+1 || c > n+2 {
		t.Errorf("%d readers for %d requests that wait", c, n)
	}
	close(fs.release)
	for range n {
		<-ended
	}
	before := w.count.Load()
	for range 100 {
		exec.Command("stat", filepath.Join(dir, "fast")).Run()
	}
	if c := w.count.Load(); c != before {
		t.Errorf("%d readers, %d before requests that came one by one", c, before)
	}
}

// lines receives what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestReaderThatCannotBeAdded(t *testing.T) {
	fs := &slowFS{fuse.NewDefaultRawFileSystem(), make(chan string), make(chan struct{})}
	logged := make(lines, 10)
	dir, w := startWorker(t, fs, logged)
	release := sync.OnceFunc(func() { close(fs.release) })
	defer release()
	// The first is the one that the kernel's INIT had added, for the second there
	// is no descriptor left.
	cmds := make([]*exec.Cmd, 2)
	for i := range cmds {
		cmds[i] = exec.Command("sh", "-c", `read -r line; stat "$0"; true`, filepath.Join(dir, fmt.Sprint("slow", i)))
		stdin, err := cmds[i].StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			noDescriptors(t)
		}
		if _, err := io.WriteString(stdin, "\n"); err != nil {
			t.Fatal(err)
		}
		<-fs.asked
	}
	select {
	case line := <-logged:
		if !strings.Contains(line, "too many open files") {
			t.Errorf("logged %q", line)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is logged")
	}
	release()
	for _, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-w.done:
		t.Errorf("the mount ended: %v", w.err)
	default:
	}
}

// noDescriptors has the process open nothing more until the test ends.
func noDescriptors(t *testing.T) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	})
}

func TestHandlerPanics(t *testing.T) {
	fs := &slowFS{fuse.NewDefaultRawFileSystem(), nil, nil}
	dir, w := startWorker(t, fs, io.Discard)
	out, err := exec.Command("stat", filepath.Join(dir, "panic")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), syscall.EIO.Error()) && !strings.Contains(strings.ToLower(string(out)), syscall.EIO.Error()) {
		t.Errorf("%v, %s, want EIO", err, out)
	}
	if _, errs := w.counts(); errs != 1 {
		t.Errorf("%d errors are counted, want 1", errs)
	}
}

func TestStopLeavesTheMount(t *testing.T) {
	fs := &slowFS{fuse.NewDefaultRawFileSystem(), nil, nil}
	dir, w := startWorker(t, fs, io.Discard)
	<-w.inited
	w.stop()
	select {
	case <-w.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the readers go on")
	}
	if w.err != nil {
		t.Error(w.err)
	}
	if !isMounted(dir) {
		t.Error("the mount went with the worker")
	}
}

func TestParseMounts(t *testing.T) {
	got := parseMounts(strings.Join([]string{
		`36 35 98:0 / /plain rw,noatime master:1 - ext4 /dev/sda1 rw`,
		`37 35 0:40 / /with\040space\134and ro shared:2 master:3 - fuse.sitefs sitefs ro,user_id=0`,
		`38 35 0:41 / /bad\9 ro - tmpfs none ro`,
		`too short`,
		``,
	}, "\n"))
	want := []entry{{"/plain", "ext4"}, {`/with space\and`, "fuse.sitefs"}, {`/bad\9`, "tmpfs"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestReadyPipe(t *testing.T) {
	tests := []error{nil, errors.New("plain"), fmt.Errorf("%w: no device\nin two lines", ErrNoFUSE), fmt.Errorf("x: %w", ErrMountPoint)}
	for _, want := range tests {
		var b strings.Builder
		if err := writeReady(&b, want); err != nil {
			t.Fatal(err)
		}
		got := readReady(strings.NewReader(b.String()))
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
		for _, kind := range []error{ErrNoFUSE, ErrMountPoint, ErrInUse} {
			if errors.Is(got, kind) != errors.Is(want, kind) {
				t.Errorf("%v: is %v %v, want %v", got, kind, errors.Is(got, kind), errors.Is(want, kind))
			}
		}
	}
	if err := readReady(strings.NewReader("")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a pipe that ends: %v", err)
	}
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink(root, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	for _, path := range []string{"env", "./env", "link/env", filepath.Join(root, "env"), "absent/../env"} {
		got, err := resolve(path)
		if want := filepath.Join(root, "env"); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", path, got, err, want)
		}
	}
	if got, err := resolve("a/b/c"); err != nil || got != filepath.Join(root, "a/b/c") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := resolve("link"); err != nil || got != root {
		t.Errorf("%q, %v, want what the link names", got, err)
	}
}
