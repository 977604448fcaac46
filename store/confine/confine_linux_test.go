package confine

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// These make the test binary a program that confines itself. The first is the
// folder that is left to it.
const (
	childVariable = "SITEFS_TEST_CONFINE"
	oldVariable   = "SITEFS_TEST_CONFINE_OLD" // on a kernel that knows no means
	ownVariable   = "SITEFS_TEST_CONFINE_OWN" // with a folder of its own
)

func TestMain(m *testing.M) {
	dir := os.Getenv(childVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	if os.Getenv(oldVariable) != "" {
		fmt.Fprintln(os.Stderr, makeOld())
		os.Exit(1)
	}
	rules, list := Rules{Read: []string{dir}, Write: []string{dir + "/write", dir + "/missing"}}, attempts(dir)
	if os.Getenv(ownVariable) != "" {
		rules.Own = []string{dir + "/own"}
		list = changes(dir)
	}
	held, err := Self(rules)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("held", strings.Join(held, " "))
	fmt.Println("left", os.Getenv(stage))
	for _, a := range list {
		fmt.Println(a.name, a.say())
	}
	fmt.Println("done")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test has looked
}

// makeOld runs this program without the calls of Landlock and seccomp.
func makeOld() error {
	failed := make(chan error)
	ownThread(func() {
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = load(filter(architectures[runtime.GOARCH], []uint32{unix.SYS_LANDLOCK_CREATE_RULESET}, unix.ENOSYS))
		}
		if err == nil {
			err = syscall.Exec(running, os.Args, slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, oldVariable) }))
		}
		failed <- err
	})
	return <-failed
}

// An attempt is something that a confined program may or may not do.
type attempt struct {
	name string
	do   func() error
}

// say returns the name of the error, or "ok".
func (a attempt) say() string {
	err := a.do()
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func attempts(dir string) []attempt {
	return []attempt{
		{"read", func() error { return readFile(dir + "/file") }},
		{"list", func() error { _, err := os.ReadDir(dir); return err }},
		{"outside", func() error { return readFile("/etc/passwd") }},
		{"proc", func() error { return readFile("/proc/self/environ") }},
		{"list-outside", func() error { _, err := os.ReadDir("/"); return err }},
		{"write", func() error { return os.WriteFile(dir+"/file", nil, 0o600) }},
		{"write-outside", func() error { return os.WriteFile(filepath.Dir(dir)+"/new", nil, 0o600) }},
		{"create", func() error { return os.WriteFile(dir+"/write/new", []byte("text"), 0o600) }},
		{"reread", func() error { return readFile(dir + "/write/new") }},
		{"remove", func() error { return os.Remove(dir + "/write/new") }},
		{"null", func() error { return os.WriteFile(os.DevNull, []byte("text"), 0o600) }},
		{"chmod", func() error { return os.Chmod(dir+"/file", 0o777) }},
		{"inet", func() error { return socket(unix.AF_INET) }},
		{"inet6", func() error { return socket(unix.AF_INET6) }},
		{"unix", func() error { return socket(unix.AF_UNIX) }},
		{"pair", func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err }},
		{"inherited", func() error { return answer(os.NewFile(3, "listener")) }},
		{"ptrace", func() error { return unix.PtraceAttach(os.Getppid()) }},
		{"run", func() error { return exec.Command("/bin/true").Run() }},
	}
}

// changes are attempts of who has a folder of its own.
func changes(dir string) []attempt {
	own := dir + "/own"
	return []attempt{
		{"create", func() error { return os.WriteFile(own+"/new", []byte("text"), 0o600) }},
		{"change", func() error { return os.WriteFile(own+"/old", []byte("text"), 0o600) }},
		{"truncate", func() error { return os.Truncate(own+"/new", 1) }},
		{"chmod", func() error { return os.Chmod(own+"/old", 0o640) }},
		{"chown", func() error { return os.Lchown(own+"/old", 2, 2) }},
		{"xattr", func() error { return unix.Setxattr(own+"/new", "user.test", []byte("1"), 0) }},
		{"folder", func() error { return os.Mkdir(own+"/folder", 0o700) }},
		{"symlink", func() error { return os.Symlink("new", own+"/link") }},
		{"link", func() error { return os.Link(own+"/new", own+"/folder/other") }},
		{"move", func() error { return os.Rename(own+"/new", own+"/folder/new") }},
		{"fifo", func() error { return unix.Mkfifo(own+"/fifo", 0o600) }},
		{"socket", func() error { return unix.Mknod(own+"/socket", unix.S_IFSOCK|0o600, 0) }},
		{"device", func() error { return unix.Mknod(own+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }},
		{"outside", func() error { return os.WriteFile(dir+"/file", nil, 0o600) }},
		{"move-out", func() error { return os.Rename(own+"/folder/new", dir+"/new") }},
		{"unix", func() error { return socket(unix.AF_UNIX) }},
	}
}

func readFile(name string) error {
	_, err := os.ReadFile(name)
	return err
}

func socket(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// answer takes the connection that waits at a listener.
func answer(f *os.File) error {
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	_, err = c.Write([]byte("hello"))
	return errors.Join(err, c.Close())
}

// A child is a program that has confined itself and waits.
type child struct {
	pid  int
	said map[string]string
	held []string
}

// start runs a child in a folder of its own.
func start(t *testing.T, env ...string) child {
	t.Helper()
	dir := t.TempDir() + "/left"
	err := errors.Join(
		os.MkdirAll(dir+"/write", 0o755),
		os.MkdirAll(dir+"/own", 0o755),
		os.WriteFile(dir+"/own/old", nil, 0o600),
		os.WriteFile(dir+"/file", []byte("text"), 0o644),
	)
	if err == nil && os.Geteuid() == 0 {
		err = os.Lchown(dir+"/own/old", 1, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listener, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := net.Dial("unix", dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+dir), env...)
	cmd.ExtraFiles = []*os.File{listener}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, stderr.String())
		}
	})
	c := child{cmd.Process.Pid, map[string]string{}, nil}
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "done"; {
		name, value, _ := strings.Cut(lines.Text(), " ")
		c.said[name] = value
	}
	c.held = strings.Fields(c.said["held"])
	t.Logf("held: %v", c.held)
	return c
}

// TestSelf proves what a confined program may do, and that it is the same process
// with its descriptors.
func TestSelf(t *testing.T) {
	c := start(t)
	if c.said["left"] != "" {
		t.Errorf("the variable for the second stage is left to the programs that are started: %q", c.said["left"])
	}
	tests := []struct{ needs, name, want string }{
		{"", "read", "ok"},
		{"", "list", "ok"},
		{"", "create", "ok"},
		{"", "reread", "ok"},
		{"", "remove", "ok"},
		{"", "null", "ok"},
		{"", "inherited", "ok"},
		{Read, "outside", "EACCES"},
		{Read, "proc", "EACCES"},
		{Read, "list-outside", "EACCES"},
		{Read, "run", "EACCES"},
		{Landlock, "write", "EACCES"},
		{Landlock, "write-outside", "EACCES"},
		{Seccomp, "chmod", "EPERM"},
		{Seccomp, "inet", "EPERM"},
		{Seccomp, "inet6", "EPERM"},
		{Seccomp, "unix", "EPERM"},
		{Seccomp, "pair", "EPERM"},
		{Seccomp, "ptrace", "EPERM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.needs != "" && !slices.Contains(c.held, tt.needs) {
				t.Skipf("this kernel or container has no %s", tt.needs)
			}
			if c.said[tt.name] != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, c.said[tt.name], tt.want)
			}
		})
	}
}

// TestOwn proves what may be done to a folder of its own, and that the rest is as it
// was.
func TestOwn(t *testing.T) {
	c := start(t, ownVariable+"=1")
	tests := []struct{ needs, name, want string }{
		{"", "create", "ok"},
		{"", "change", "ok"},
		{"", "truncate", "ok"},
		{"", "chmod", "ok"},
		{"", "xattr", "ok"},
		{"", "folder", "ok"},
		{"", "symlink", "ok"},
		{"", "link", "ok"},
		{"", "move", "ok"},
		{"", "fifo", "ok"},
		{"", "socket", "ok"},
		{Landlock, "device", "EACCES"},
		{Landlock, "outside", "EACCES"},
		{Landlock, "move-out", "EACCES"},
		{Seccomp, "unix", "EPERM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.needs != "" && !slices.Contains(c.held, tt.needs) {
				t.Skipf("this kernel or container has no %s", tt.needs)
			}
			if c.said[tt.name] != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, c.said[tt.name], tt.want)
			}
		})
	}
	t.Run("chown", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root")
		}
		if c.said["chown"] != "ok" {
			t.Errorf("%q, want ok", c.said["chown"])
		}
	})
}

// TestEveryThread proves that no thread of a confined program has more than another.
func TestEveryThread(t *testing.T) {
	c := start(t)
	want := map[string]string{}
	if slices.Contains(c.held, NoNewPrivs) {
		want["NoNewPrivs"] = "1"
	}
	if slices.Contains(c.held, Seccomp) {
		want["Seccomp"] = "2"
	}
	if slices.Contains(c.held, Capabilities) {
		want["CapEff"], want["CapPrm"], want["CapInh"], want["CapAmb"] = none, none, none, none
		if os.Geteuid() == 0 {
			want["CapBnd"] = none
		}
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", c.pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("threads %v, error %v; a Go program has several", threads, err)
	}
	for _, thread := range threads {
		has, err := status(thread)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range want {
			if has[name] != value {
				t.Errorf("%s: %s is %q, want %q", thread, name, has[name], value)
			}
		}
	}
}

// none is an empty set in /proc/PID/status.
const none = "0000000000000000"

// status reads /proc/PID/status.
func status(name string) (map[string]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	has := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		has[name] = strings.TrimSpace(value)
	}
	return has, nil
}

// TestOldKernel proves that what a kernel lacks isn't said to hold, and that the
// rest does.
func TestOldKernel(t *testing.T) {
	if _, ok := architectures[runtime.GOARCH]; !ok {
		t.Skip("needs a system call filter, which this architecture has none for")
	}
	c := start(t, oldVariable+"=1")
	if slices.Contains(c.held, Landlock) || slices.Contains(c.held, Read) || !slices.Contains(c.held, NoNewPrivs) {
		t.Errorf("held: %v, want %q and neither %q nor %q", c.held, NoNewPrivs, Landlock, Read)
	}
	if got := c.said["outside"]; got != "ok" {
		t.Errorf("reading elsewhere without Landlock: %q, want ok", got)
	}
}

// TestOthersAreFree proves that no thread that runs Go code is confined but the one.
func TestOthersAreFree(t *testing.T) {
	done := make(chan bool)
	Go(Rules{}, func([]string) {
		on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		done <- on == 1 && err == nil
	})
	if !<-done {
		t.Error("the thread of Go isn't confined")
	}
	var locked, group sync.WaitGroup
	for range 50 { // each on a thread of its own
		locked.Add(1)
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			locked.Done()
			locked.Wait()
			if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); on != 0 || err != nil {
				t.Errorf("no_new_privs is %d (%v) on a thread for goroutines", on, err)
			}
		})
	}
	group.Wait()
}

// TestCapabilities proves that root keeps what it asks for, and nothing else.
func TestCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before, err := status("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		rules Rules
		want  string
	}{
		{Rules{Search: true}, "0000000000000004"},
		{Rules{Own: []string{t.TempDir()}}, "000000008000001b"},
		{Rules{}, none},
	} {
		out := make(chan string)
		Go(tt.rules, func([]string) {
			text, err := exec.Command("/bin/grep", "-h", "^Cap[PEB]", "/proc/self/status").Output()
			out <- fmt.Sprint(string(text), err)
		})
		want := fmt.Sprintf("CapPrm:\t%s\nCapEff:\t%[1]s\nCapBnd:\t%[1]s\n%v", tt.want, error(nil))
		if got := <-out; got != want {
			t.Errorf("%+v, of %v: %q, want %q", tt.rules, before["CapEff"], got, want)
		}
	}
}

func TestNeedsSearch(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	home := t.TempDir() + "/home"
	own := home + "/store"
	if err := errors.Join(os.MkdirAll(own, 0o700), os.Chmod(home, 0o700)); err != nil {
		t.Fatal(err)
	}
	if NeedsSearch(own) {
		t.Errorf("root needs a capability to read its own folder %q", own)
	}
	if err := os.Chown(home, 1, 1); err != nil {
		t.Fatal(err)
	}
	if !NeedsSearch(own) {
		t.Errorf("root needs no capability to read %q, in a folder that only user 1 may enter", own)
	}
	if NeedsSearch(filepath.Dir(home) + "/missing") {
		t.Error("a folder that doesn't exist needs no capability")
	}
	if _, err := os.ReadDir(own); err != nil {
		t.Errorf("the process is confined by having asked: %v", err)
	}
}
