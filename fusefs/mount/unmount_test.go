package mount_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

func TestHeldMountStaysUntilUnmounted(t *testing.T) {
	w := newWant(t, serverConfig{})
	for range 2 { // the second time there is nothing to do
		if err := mount.Hold(testContext(t), w); err != nil {
			t.Fatal(err)
		}
	}
	lease(t, w).Close()
	eventually(t, testContext(t), func() string {
		if s := status(t, w); s.State != "held" {
			return "the mount is " + s.State
		}
		return ""
	})
	list, err := mount.List(testContext(t))
	if err != nil || len(list) != 1 || list[0].Dir != w.Dir {
		t.Errorf("list: %+v, %v", list, err)
	}
	pid := status(t, w).PID
	if err := mount.Unmount(testContext(t), w.Dir, false); err != nil {
		t.Fatal(err)
	}
	// Unmount returns when the place is clean: no waiting here.
	if _, err := os.Lstat(w.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mount point is left: %v", err)
	}
	checkGone(t, w, pid)
	if err := mount.Unmount(testContext(t), w.Dir, false); !errors.Is(err, mount.ErrNotMounted) {
		t.Errorf("unmounting again: %v, want ErrNotMounted", err)
	}
}

func TestUnmountNamesTheLeases(t *testing.T) {
	w := newWant(t, serverConfig{})
	lease(t, w)
	err := mount.Unmount(testContext(t), w.Dir, false)
	var busy *mount.BusyError
	if !errors.As(err, &busy) || !errors.Is(err, mount.ErrBusy) || len(busy.Processes) != 1 || busy.Processes[0].PID != os.Getpid() || busy.Processes[0].Uses != "lease" {
		t.Errorf("%v, want this process", err)
	}
	if !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("%q does not name the pid", err)
	}
}

func TestDetachLetsProcessesFinish(t *testing.T) {
	w := newWant(t, serverConfig{})
	lease(t, w)
	pid := status(t, w).PID
	f, err := os.Open(filepath.Join(w.Dir, "hello.py"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := mount.Unmount(testContext(t), w.Dir, true); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil || string(b) != "x = 1\n" {
		t.Errorf("a file opened before: %q, %v", b, err)
	}
	again := lease(t, w) // the place is free
	if s := status(t, w); s.PID == pid {
		t.Error("the detached server was asked for a lease")
	}
	f.Close()
	eventually(t, testContext(t), func() string {
		if alive(pid) {
			return "the detached server is left"
		}
		return ""
	})
	if _, err := os.Stat(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Errorf("the end of the detached server disturbed its successor: %v", err)
	}
	again.Close()
}

// killAll kills the supervisor of a mount and its worker.
func killAll(t *testing.T, w mount.Want) {
	t.Helper()
	s := status(t, w)
	for _, pid := range []int{s.PID, s.WorkerPID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServerKilled(t *testing.T) {
	w := newWant(t, serverConfig{})
	lease(t, w)
	pid := status(t, w).PID
	killAll(t, w)
	eventually(t, testContext(t), func() string {
		var st unix.Statfs_t
		if err := unix.Statfs(w.Dir, &st); !errors.Is(err, syscall.ENOTCONN) {
			return "the mount is alive"
		}
		return ""
	})
	list, err := mount.List(testContext(t))
	if err != nil || len(list) != 1 || list[0].State != "dead" || list[0].PID != pid {
		t.Errorf("list: %+v, %v, want it dead", list, err)
	}
	t.Run("the next lease mounts again", func(t *testing.T) {
		l := lease(t, w)
		if b, err := os.ReadFile(filepath.Join(w.Dir, "tree")); err != nil || string(b) != "one" {
			t.Errorf("tree: %q, %v", b, err)
		}
		pid = status(t, w).PID
		killAll(t, w)
		l.Close()
	})
	t.Run("unmount clears", func(t *testing.T) {
		eventually(t, testContext(t), func() string {
			if alive(pid) {
				return "the server lives"
			}
			return ""
		})
		if err := mount.Unmount(testContext(t), w.Dir, false); err != nil {
			t.Fatal(err)
		}
		// The first server made the mount point; the second knows it from the first.
		if _, err := os.Stat(w.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after clearing: %v, want the mount point gone", err)
		}
		if list, err := mount.List(testContext(t)); err != nil || len(list) != 0 {
			t.Errorf("list: %+v, %v", list, err)
		}
	})
}

func TestUnmountedBySomebodyElse(t *testing.T) {
	w := newWant(t, serverConfig{})
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	pid := status(t, w).PID
	if err := syscall.Unmount(w.Dir, 0); err != nil {
		t.Fatal(err)
	}
	checkGone(t, w, pid)
}

func TestMountedOver(t *testing.T) {
	w := newWant(t, serverConfig{})
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	run(t, "/", "mount", "-t", "tmpfs", "none", w.Dir)
	if err := mount.Unmount(testContext(t), w.Dir, true); err == nil || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("%v, want to hear of the tmpfs", err)
	}
	if err := syscall.Unmount(w.Dir, 0); err != nil {
		t.Fatalf("the upper mount is gone: %v", err)
	}
	if s := status(t, w); s.State != "held" {
		t.Errorf("the mount is %s", s.State)
	}
}

func TestSignals(t *testing.T) {
	w := newWant(t, serverConfig{Config: mount.Config{Keep: time.Hour}})
	lease(t, w)
	pid := status(t, w).PID
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if s := status(t, w); s.PID != pid {
		t.Fatalf("server %d, want %d", s.PID, pid)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v, want its own, %d", sid, err, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	checkGone(t, w, pid)
}

func TestServerInheritsNothing(t *testing.T) {
	w := newWant(t, serverConfig{})
	stray, err := os.CreateTemp(t.TempDir(), "stray")
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	inherit(t, stray) // as a shell's 9<file
	t.Setenv("VIRTUAL_ENV", "/somewhere")
	lease(t, w)
	proc := filepath.Join("/proc", strconv.Itoa(status(t, w).PID))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name())); target == stray.Name() {
			t.Errorf("descriptor %s of the server is %s", fd.Name(), target)
		}
	}
	if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); cwd != "/" {
		t.Errorf("working directory %q, %v", cwd, err)
	}
	if env, err := os.ReadFile(filepath.Join(proc, "environ")); err != nil || strings.Contains(string(env), "VIRTUAL_ENV=") {
		t.Errorf("environment: %q, %v", env, err)
	}
}

func TestStartFails(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	avoided := t.TempDir()
	tests := []struct {
		name   string
		config serverConfig
		kind   error
		text   string
	}{
		{"a directory with files", serverConfig{Config: mount.Config{Dir: full}}, mount.ErrMountPoint, "precious"},
		{"inside the store", serverConfig{Config: mount.Config{Dir: filepath.Join(avoided, "env"), Avoid: []string{avoided}}}, mount.ErrMountPoint, "overlap"},
		{"above the store", serverConfig{Config: mount.Config{Dir: avoided, Avoid: []string{filepath.Join(avoided, "store")}}}, mount.ErrMountPoint, "overlap"},
		{"a server that dies", serverConfig{Fail: "die"}, nil, "told to die"},
		{"a server that says why it can't", serverConfig{Fail: "say"}, nil, "told to say"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWant(t, test.config)
			l, err := mount.Lease(testContext(t), w)
			if err == nil {
				l.Close()
				t.Fatal("it started")
			}
			if test.kind != nil && !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%v, want %v with %q", err, test.kind, test.text)
			}
			if state, err := mount.StateDir(w.Dir); err != nil {
				t.Error(err)
			} else if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the state is left: %v", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(full, "precious")); err != nil {
		t.Error(err)
	}
}

// A client that gives up while its server starts leaves nothing that is in the
// way of the next one.
func TestStartGivenUp(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	config := serverConfig{Gate: gate, Config: mount.Config{Keep: time.Hour}}
	w := newWant(t, config)
	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error)
	go func() {
		_, err := mount.Lease(ctx, w)
		result <- err
	}()
	var opened *os.File
	eventually(t, testContext(t), func() (problem string) {
		// Opening for writing succeeds once the server has opened it for reading.
		var err error
		if opened, err = os.OpenFile(gate, os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil {
			return "the server has not started: " + err.Error()
		}
		return ""
	})
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	opened.Close() // the server goes on, for nobody
	checkGone(t, w, 0)
	config.Gate, config.Config.Dir = "", w.Dir
	eventually(t, testContext(t), func() string {
		l, err := mount.Lease(testContext(t), wantFor(t, config))
		if err != nil {
			return err.Error() // the late server may be about to mount
		}
		l.Close()
		return ""
	})
}

func TestMountInsideAMount(t *testing.T) {
	w := newWant(t, serverConfig{})
	lease(t, w)
	inner := newWant(t, serverConfig{Config: mount.Config{Dir: filepath.Join(w.Dir, "lib", "empty")}})
	if _, err := mount.Lease(testContext(t), inner); !errors.Is(err, mount.ErrMountPoint) {
		t.Errorf("%v, want ErrMountPoint", err)
	}
}

func TestMountOnItsOwnPlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, mount.Marker), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWant(t, serverConfig{Config: mount.Config{Dir: dir}})
	l := lease(t, w)
	pid := status(t, w).PID
	l.Close()
	eventually(t, testContext(t), func() string {
		if alive(pid) {
			return "the server lives"
		}
		return ""
	})
	if _, err := os.Stat(filepath.Join(dir, mount.Marker)); err != nil {
		t.Errorf("what was below: %v", err)
	}
}

func TestLongStatePath(t *testing.T) {
	w := newWant(t, serverConfig{})
	t.Setenv("XDG_STATE_HOME", filepath.Join(t.TempDir(), strings.Repeat("long/", 30)))
	l := lease(t, w)
	pid := status(t, w).PID
	l.Close()
	checkGone(t, w, pid)
}

func inherit(t *testing.T, f *os.File) {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
}

// The environment of another process may be on a disk that doesn't answer.
func TestUnmountBesideHangingDisk(t *testing.T) {
	disk := newWant(t, serverConfig{Poison: true})
	lease(t, disk)
	w := newWant(t, serverConfig{})
	l := lease(t, w)
	unix.CloseOnExec(int(l.Fd()))
	cmd := exec.Command("cat")
	cmd.Env = append(os.Environ(), "VIRTUAL_ENV="+filepath.Join(disk.Dir, "lib/wait/env"))
	end := begin(t, cmd)
	l.Close()
	eventually(t, testContext(t), func() string {
		if s := status(t, w); s.State != mount.StateWarm {
			return "the mount is " + s.State
		}
		return ""
	})
	if err := mount.Unmount(testContext(t), w.Dir, false); err != nil {
		t.Error(err)
	}
	end()
}
