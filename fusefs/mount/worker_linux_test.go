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

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// slowFS is a directory with one file. Looking up a name that begins with "slow"
// takes until release is closed or has a value for it, or until the process that
// asked is interrupted.
type slowFS struct {
	fuse.RawFileSystem
	asked   chan string
	release chan struct{}
}

func newSlowFS() *slowFS {
	return &slowFS{fuse.NewDefaultRawFileSystem(), make(chan string), make(chan struct{})}
}

const (
	slowFile    = "file"
	slowContent = "content"
	slowFileID  = 2
)

func (f *slowFS) Lookup(cancel <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case name == slowFile:
		out.NodeId = slowFileID
		out.Attr = f.attr(slowFileID)
		return fuse.OK
	case name == "panic":
		panic("a fault in a mapped table is a panic")
	case strings.HasPrefix(name, "slow"):
		f.asked <- name
		select {
		case <-f.release:
		case <-cancel:
		}
	}
	return fuse.ENOENT
}

func (f *slowFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = f.attr(in.NodeId)
	return fuse.OK
}

func (*slowFS) attr(id uint64) fuse.Attr {
	if id == slowFileID {
		return fuse.Attr{Ino: id, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: uint64(len(slowContent))}
	}
	return fuse.Attr{Ino: id, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
}

func (*slowFS) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (*slowFS) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	return fuse.ReadResultData([]byte(slowContent)[min(in.Offset, uint64(len(slowContent))):]), fuse.OK
}

func (*slowFS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (f *slowFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset == 0 {
		e := out.AddDirLookupEntry(fuse.DirEntry{Name: slowFile, Ino: slowFileID, Mode: syscall.S_IFREG, Off: 1})
		e.NodeId = slowFileID
		e.Attr = f.attr(slowFileID)
	}
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
	dev, err := attach(dir, access{}, "")
	if err != nil {
		t.Fatal(err)
	}
	m, file, err := shared.New()
	if err != nil {
		t.Fatal(err)
	}
	w, err = newWorker(m, false, log.New(out, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.offer(fs); err != nil {
		t.Fatal(err)
	}
	go w.run(dev.fd, false)
	t.Cleanup(func() {
		w.stop()
		<-w.done
		if err := errors.Join(w.err, dev.detach(true), dev.close(), m.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	return dir, w
}

func TestReaderIsAddedWhenAllAreBusy(t *testing.T) {
	fs := newSlowFS()
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

// stats starts a process that looks up n slow names at once, and returns when the
// first of them wait, as many as can.
func stats(t *testing.T, fs *slowFS, dir string, n int) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "stat", fmt.Sprintf("%d:%s", n, filepath.Join(dir, "slow")))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range min(n, maxReaders) {
		<-fs.asked
	}
	return cmd
}

// LOOKUPs that wait leave the mount to others, and leave nothing when they have
// been answered.
func TestManyRequestsWait(t *testing.T) {
	for _, n := range []int{100, 300} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			fs := newSlowFS()
			dir, w := startWorker(t, fs, io.Discard)
			release := sync.OnceFunc(func() { close(fs.release) })
			defer release()
			waiting := stats(t, fs, dir, n)
			if c := w.count.Load(); int(c) < n+1 {
				t.Errorf("%d readers, and %d requests wait", c, n)
			}
			script := `ls && cat file && echo && stat -c %s file && ! stat absent 2>/dev/null`
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "file\ncontent\n7\n" {
				t.Errorf("%q, %v", out, err)
			}
			interrupted := exec.Command("stat", filepath.Join(dir, "slow and interrupted"))
			if err := interrupted.Start(); err != nil {
				t.Fatal(err)
			}
			<-fs.asked
			if err := interrupted.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			// Until its request is answered not even a killed process ends.
			if err := interrupted.Wait(); err == nil {
				t.Error("it was not killed")
			}
			if w.memory.Requests(opInterrupt) == 0 {
				t.Error("no INTERRUPT was asked")
			}
			release()
			if err := waiting.Wait(); err != nil {
				t.Error(err)
			}
			checkFewReaders(t, w)
		})
	}
}

func TestMoreRequestsWaitThanMay(t *testing.T) {
	fs := newSlowFS()
	dir, w := startWorker(t, fs, io.Discard)
	release := sync.OnceFunc(func() { close(fs.release) })
	defer release()
	waiting := stats(t, fs, dir, maxReaders+1)
	select {
	case name := <-fs.asked:
		t.Errorf("%q is answered by one reader too many", name)
	default:
	}
	fs.release <- struct{}{}
	<-fs.asked // the last one, when another has been answered
	release()
	if err := waiting.Wait(); err != nil {
		t.Error(err)
	}
	checkFewReaders(t, w)
}

func TestReaderLeavesNoMemory(t *testing.T) {
	_, w := startWorker(t, newSlowFS(), io.Discard)
	<-w.inited
	mapped := virtualSize(t)
	const n = 200
	for range n {
		r, err := newReader(w)
		if err != nil {
			t.Fatal(err)
		}
		r.close()
	}
	// Meanwhile the runtime may have mapped something for itself.
	if grown := virtualSize(t) - mapped; grown > n*maxTransfer {
		t.Errorf("%d MiB more are mapped than before, and %d were for readers", grown>>20, n*2*maxTransfer>>20)
	}
}

// checkFewReaders fails unless the readers that a burst has added end.
func checkFewReaders(t *testing.T, w *worker) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for w.count.Load() > maxIdle || w.idle.Load() != w.count.Load() {
		select {
		case <-deadline:
			t.Fatalf("%d readers, %d of them idle, want at most %d", w.count.Load(), w.idle.Load(), maxIdle)
		case <-tick.C:
		}
	}
	if n := epolls(t); n > maxIdle+1 { // the runtime has one too
		t.Errorf("%d epoll descriptors for %d readers", n, w.count.Load())
	}
}

func epolls(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.Contains(target, "eventpoll") {
			n++
		}
	}
	return n
}

// virtualSize returns how many bytes this process has mapped.
func virtualSize(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	if _, err := fmt.Sscan(string(b), &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// lines receives what is logged.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestReaderThatCannotBeAdded(t *testing.T) {
	fs := newSlowFS()
	fs.asked = make(chan string, 100) // nobody listens
	logged := make(lines, 100)
	dir, w := startWorker(t, fs, logged)
	release := sync.OnceFunc(func() { close(fs.release) })
	defer release()
	<-w.inited
	// More than there may be readers now: few, of those that INIT and the first
	// LOOKUP had added.
	cmds := make([]*exec.Cmd, 8)
	inputs := make([]io.Writer, len(cmds))
	for i := range cmds {
		cmds[i] = exec.Command("sh", "-c", `read -r line; stat "$0"; true`, filepath.Join(dir, fmt.Sprint("slow", i)))
		var err error
		if inputs[i], err = cmds[i].StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	noDescriptors(t)
	for _, in := range inputs {
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
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

// A worker that is parked when it has ended writes into nobody else's file.
func TestStopAfterEnd(t *testing.T) {
	w, err := newWorker(nil, false, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	number := w.stopFD
	w.closeStop()
	other, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if other != number {
		t.Skipf("the next descriptor is %d, not %d", other, number)
	}
	w.stop()
	if n, err := unix.Read(other, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("read %d bytes, %v, want %v", n, err, unix.EAGAIN)
	}
}

// A successor that would agree with the kernel on other terms is not to serve.
func TestOtherInit(t *testing.T) {
	_, w := startWorker(t, newSlowFS(), io.Discard)
	<-w.inited
	next, err := newWorker(w.memory, false, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(next.stopFD)
	if err := next.offer(newSlowFS()); err != nil {
		t.Errorf("the same program: %v", err)
	}
	request, reply, ok := w.memory.Init()
	if !ok {
		t.Fatal("no INIT is kept")
	}
	reply[len(reply)-1]++
	if err := w.memory.SaveInit(request, reply); err != nil {
		t.Fatal(err)
	}
	if err := next.offer(newSlowFS()); err == nil || !strings.Contains(err.Error(), "INIT") {
		t.Errorf("another reply: %v, want a refusal", err)
	}
}

func TestHandlerPanics(t *testing.T) {
	fs := newSlowFS()
	dir, w := startWorker(t, fs, io.Discard)
	out, err := exec.Command("stat", filepath.Join(dir, "panic")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), syscall.EIO.Error()) && !strings.Contains(strings.ToLower(string(out)), syscall.EIO.Error()) {
		t.Errorf("%v, %s, want EIO", err, out)
	}
	w.stop()
	<-w.done // a reply is counted when it was sent
	if errs := w.memory.Faults(); errs != 1 {
		t.Errorf("%d errors are counted, want 1", errs)
	}
}

func TestStopLeavesTheMount(t *testing.T) {
	fs := newSlowFS()
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

// A worker that is parked leaves what waits to its successor at once.
func TestParkInterrupts(t *testing.T) {
	fs := newSlowFS()
	dir, w := startWorker(t, fs, io.Discard)
	waits := exec.Command("stat", filepath.Join(dir, "slow"))
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	<-fs.asked
	// Its patience is longer than the test's: only an interrupt ends this.
	w.park(time.Hour)
	if left := w.memory.InFlight(); len(left) > 0 {
		t.Errorf("%v are in flight", left)
	}
	next := newSlowFS()
	after, err := newWorker(w.memory, false, log.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := after.offer(next); err != nil {
		t.Fatal(err)
	}
	go after.run(w.fd, true)
	defer func() {
		after.stop()
		<-after.done
	}()
	if name := <-next.asked; name != "slow" {
		t.Errorf("the successor is asked for %q", name)
	}
	close(next.release)
	if err := waits.Wait(); err == nil || w.memory.Faults() != 0 {
		t.Errorf("%v, %d faults, want a name that isn't there", err, w.memory.Faults())
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
	want := []entry{
		{"36", "35", "/plain", "ext4", unix.Mkdev(98, 0)},
		{"37", "35", `/with space\and`, "fuse.sitefs", unix.Mkdev(0, 40)},
		{"38", "35", `/bad\9`, "tmpfs", unix.Mkdev(0, 41)},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTop(t *testing.T) {
	const (
		env   = `40 30 0:50 / /env rw - tmpfs sitefs rw`
		venv  = `41 40 0:51 / /env/a ro - fuse.sitefs sitefs ro`
		again = `42 41 0:52 / /env/a ro - fuse.sitefs sitefs ro`
		over  = `43 40 0:53 / /env rw - tmpfs sitefs rw` // on the root of the first
		other = `44 40 0:54 / /env/b rw - tmpfs none rw`
	)
	for _, c := range []struct {
		name  string
		table []string
		want  uint32 // the minor number of what is seen on /env/a; 0 is nothing
	}{
		{"nothing", []string{env, other}, 0},
		{"one", []string{env, venv, other}, 51},
		{"one over another", []string{env, venv, again}, 52},
		{"hidden", []string{env, venv, over}, 0},
		{"hidden, both", []string{env, venv, again, over}, 0},
		{"above the hiding one", []string{env, venv, over, `45 43 0:55 / /env/a ro - fuse.sitefs sitefs ro`}, 55},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := top(parseMounts(strings.Join(c.table, "\n")), "/env/a")
			if ok != (c.want > 0) || ok && unix.Minor(got.number) != c.want {
				t.Errorf("%v, %v, want the one with number %d", got, ok, c.want)
			}
		})
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
