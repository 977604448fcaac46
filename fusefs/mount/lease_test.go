package mount_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// checkGone fails unless the mount and everything that belonged to it goes.
func checkGone(t *testing.T, w mount.Want, pid int) {
	t.Helper()
	state, err := mount.StateDir(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, testContext(t), func() string {
		for _, path := range []string{w.Dir, state} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return path + " is left"
			}
		}
		if pid != 0 {
			if alive(pid) {
				return "the server is left"
			}
		}
		return ""
	})
}

// alive reports whether the process runs. One that ended and that nobody has
// waited for yet does not. One of which only the first thread has ended does: the
// others still hold its files.
func alive(pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	_, state, _ := strings.Cut(string(stat), ") ")
	threads, terr := os.ReadDir(filepath.Join(proc, "task"))
	return err == nil && terr == nil && (!strings.HasPrefix(state, "Z") || len(threads) > 1)
}

func status(t *testing.T, w mount.Want) mount.Status {
	t.Helper()
	c, err := mount.Dial(testContext(t), w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lease(t *testing.T, w mount.Want) *os.File {
	t.Helper()
	l, err := mount.Lease(testContext(t), w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLeaseIsTheLifeOfAMount(t *testing.T) {
	w := newWant(t, serverConfig{})
	l := lease(t, w)
	b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py"))
	if err != nil || string(b) != "x = 1\n" {
		t.Errorf("hello.py: %q, %v", b, err)
	}
	b, err = os.ReadFile(filepath.Join(w.Dir, "bin/activate"))
	if want := "VIRTUAL_ENV=" + w.Dir + "\n"; err != nil || string(b) != want {
		t.Errorf("bin/activate: %q, %v, want %q", b, err, want)
	}
	s := status(t, w)
	if s.State != "used" || s.Tree != "one" || s.Dir != w.Dir || len(s.Leases) != 1 || s.Leases[0].PID != os.Getpid() {
		t.Errorf("status: %+v", s)
	}
	second := lease(t, w)
	if again := status(t, w); again.PID != s.PID || len(again.Leases) != 2 {
		t.Errorf("a second lease: %+v, want it on the server %d", again, s.PID)
	}
	l.Close()
	if s := status(t, w); s.State != "used" {
		t.Errorf("with one lease left: %+v", s)
	}
	second.Close()
	checkGone(t, w, s.PID)
}

func TestWarmMountIsUsedAgain(t *testing.T) {
	w := newWant(t, serverConfig{Config: mount.Config{Keep: time.Hour}})
	lease(t, w).Close()
	ctx := testContext(t)
	eventually(t, ctx, func() string {
		if s := status(t, w); s.State != "warm" || s.Keep != time.Hour {
			return "the mount is " + s.State
		}
		return ""
	})
	pid := status(t, w).PID
	w.Keep = 0
	l := lease(t, w)
	if s := status(t, w); s.PID != pid {
		t.Errorf("server %d, want the warm one, %d", s.PID, pid)
	}
	l.Close() // the last lease's keep counts
	checkGone(t, w, pid)
}

func TestLeaseOfAnotherTree(t *testing.T) {
	one := serverConfig{Config: mount.Config{Keep: time.Hour}}
	w := newWant(t, one)
	l := lease(t, w)
	one.Config.Dir, one.Config.Tree = w.Dir, "two"
	two := wantFor(t, one)

	if l, err := mount.Lease(testContext(t), two); !errors.Is(err, mount.ErrInUse) {
		t.Errorf("beside a lease: %v, %v, want ErrInUse", l, err)
	}
	l.Close()
	eventually(t, testContext(t), func() string {
		l, err := mount.Lease(testContext(t), two)
		if errors.Is(err, mount.ErrInUse) {
			return "the lease is still there" // the server has not seen it go
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return ""
	})
	b, err := os.ReadFile(filepath.Join(w.Dir, "tree"))
	if err != nil || string(b) != "two" {
		t.Errorf("tree: %q, %v, want two", b, err)
	}
}

func TestManyLeasesAtOnce(t *testing.T) {
	w := newWant(t, serverConfig{})
	const n = 16
	leases := make([]*os.File, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { leases[i], errs[i] = mount.Lease(testContext(t), w) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	s := status(t, w)
	if len(s.Leases) != n {
		t.Errorf("%d leases on one server, want %d", len(s.Leases), n)
	}
	for _, l := range leases {
		l.Close()
	}
	checkGone(t, w, s.PID)
}

// A server that can't have more leases says so at once, and answers whoever wants
// none.
func TestFewDescriptors(t *testing.T) {
	w := newWant(t, serverConfig{Limit: 64})
	var leases []*os.File
	for {
		l, err := mount.Lease(testContext(t), w)
		if err != nil {
			if !strings.Contains(err.Error(), "ulimit -n") {
				t.Errorf("%v, want the limit", err)
			}
			break
		}
		leases = append(leases, l)
	}
	s := status(t, w)
	if len(s.Leases) != len(leases) || len(leases) == 0 {
		t.Errorf("%d leases, want %d", len(s.Leases), len(leases))
	}
	if err := mount.Unmount(testContext(t), w.Dir, false); !errors.Is(err, mount.ErrBusy) {
		t.Errorf("%v, want %v", err, mount.ErrBusy)
	}
	leases[0].Close()
	eventually(t, testContext(t), func() string {
		l, err := mount.Lease(testContext(t), w)
		if err != nil {
			return err.Error()
		}
		l.Close()
		return ""
	})
	for _, l := range leases[1:] {
		l.Close()
	}
	checkGone(t, w, s.PID)
}

func TestLeaseIsInherited(t *testing.T) {
	w := newWant(t, serverConfig{})
	l := lease(t, w)
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cat.ExtraFiles = []*os.File{l}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := status(t, w)
	if s.State != "used" {
		t.Errorf("a child has the lease, and the mount is %s", s.State)
	}
	stdin.Close()
	if err := cat.Wait(); err != nil {
		t.Error(err)
	}
	checkGone(t, w, s.PID)
}

func TestLeaseSurvivesExec(t *testing.T) {
	l := lease(t, newWant(t, serverConfig{}))
	flags, err := unix.FcntlInt(l.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		t.Errorf("descriptor flags %#x, %v: closed on exec", flags, err)
	}
	if l.Fd() < 60 {
		t.Errorf("descriptor %d is one that scripts use", l.Fd())
	}
}

// begin starts cmd, which ends with its standard input, that is when end is called.
func begin(t *testing.T, cmd *exec.Cmd) (end func()) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, testContext(t), func() string {
		// A moment after it was started a process has no environment yet.
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "environ"))
		if len(env) == 0 {
			return fmt.Sprint("no environment: ", err)
		}
		return ""
	})
	return func() {
		t.Helper()
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// A process may use the mount without a lease: daemons close what they inherit.
func TestMountWaitsForItsUsers(t *testing.T) {
	tests := []struct {
		name  string
		uses  string
		start func(w mount.Want) *exec.Cmd
	}{
		{"working directory", "cwd", func(w mount.Want) *exec.Cmd {
			c := exec.Command("cat")
			c.Dir = filepath.Join(w.Dir, "lib")
			return c
		}},
		{"virtual environment", "", func(w mount.Want) *exec.Cmd {
			c := exec.Command("cat")
			c.Env = append(os.Environ(), "VIRTUAL_ENV="+w.Dir)
			return c
		}},
		{"virtual environment by another name", "", func(w mount.Want) *exec.Cmd {
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(filepath.Dir(w.Dir), link); err != nil {
				t.Fatal(err)
			}
			c := exec.Command("cat")
			c.Env = append(os.Environ(), "VIRTUAL_ENV="+filepath.Join(link, "env"))
			return c
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWant(t, serverConfig{})
			l := lease(t, w)
			unix.CloseOnExec(int(l.Fd()))
			cmd := test.start(w)
			end := begin(t, cmd)
			l.Close()
			eventually(t, testContext(t), func() string {
				if s := status(t, w); s.State != "warm" {
					return "the mount is " + s.State
				}
				return ""
			})
			if test.uses != "" {
				var busy *mount.BusyError
				err := mount.Unmount(testContext(t), w.Dir, false)
				if !errors.As(err, &busy) || len(busy.Processes) != 1 || busy.Processes[0] != (mount.Process{PID: cmd.Process.Pid, Name: "cat", Uses: test.uses}) {
					t.Errorf("unmounting: %v, want cat (pid %d, %s)", err, cmd.Process.Pid, test.uses)
				}
			}
			s := status(t, w)
			end()
			checkGone(t, w, s.PID)
		})
	}
}
