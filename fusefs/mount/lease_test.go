package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

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
			if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err == nil {
				return "the server is left"
			}
		}
		return ""
	})
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
