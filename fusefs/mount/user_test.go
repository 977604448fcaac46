package mount_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// nobody is an account without any rights (Debian's number).
const nobody = 65534

// asNobody runs one test of this binary, or its server, as nobody, and returns
// its output. The binary is copied to where nobody may run it.
func asNobody(t *testing.T, test string, env ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	home, err := os.MkdirTemp("", "sitefs-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(home, "mount.test")
	copyFile(t, self, bin)
	cmd := exec.Command(bin, "-test.v", "-test.run", "^"+test+"$")
	cmd.Dir = home
	cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, userVar + "=1"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	src, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
}

// userVar is set in the processes that run the TestUser tests for another one.
const userVar = "SITEFS_TEST_AS_USER"

// placeVar names an empty directory of root's.
const placeVar = "SITEFS_TEST_PLACE"

func needUser(t *testing.T) {
	t.Helper()
	if os.Getenv(userVar) == "" {
		t.Skip("run by another test, as an ordinary user")
	}
}

func userWant(t *testing.T) mount.Want {
	t.Helper()
	return wantFor(t, serverConfig{Config: mount.Config{Dir: filepath.Join(t.TempDir(), "env"), Tree: "one"}})
}

func TestOrdinaryUser(t *testing.T) {
	if _, err := exec.LookPath("fusermount3"); err != nil {
		t.Skipf("needs fusermount3: %v", err)
	}
	if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode()&0o006 != 0o006 {
		t.Skip("needs /dev/fuse open to all users: chmod 666 /dev/fuse")
	}
	place, err := os.MkdirTemp("", "sitefs-place")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(place)
	if err := os.Chmod(place, 0o755); err != nil {
		t.Fatal(err)
	}
	if out := asNobody(t, "TestUserMounts", placeVar+"="+place); !strings.Contains(out, "PASS: TestUserMounts") {
		t.Errorf("the test did not run:\n%s", out)
	}
}

func TestUserMounts(t *testing.T) {
	needUser(t)
	w := userWant(t)
	l := lease(t, w)
	if b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil || string(b) != "x = 1\n" {
		t.Errorf("hello.py: %q, %v", b, err)
	}
	fi, err := os.Stat(filepath.Join(w.Dir, "hello.py"))
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody {
		t.Errorf("owned by %d:%d", st.Uid, st.Gid)
	}
	f, err := os.Open(filepath.Join(w.Dir, "hello.py"))
	if err != nil {
		t.Fatal(err)
	}
	pid := status(t, w).PID
	unleased := func() string {
		if s := status(t, w); s.State != "warm" {
			return "the mount is " + s.State
		}
		return ""
	}
	l.Close()
	eventually(t, testContext(t), unleased)
	var busy *mount.BusyError
	if err := mount.Unmount(testContext(t), w.Dir, false); !errors.As(err, &busy) || len(busy.Processes) != 1 || busy.Processes[0].PID != os.Getpid() {
		t.Errorf("unmounting with an open file: %v, want this process", err)
	}
	f.Close()
	checkGone(t, w, pid)

	t.Run("in another's place", func(t *testing.T) {
		// The machine lacks nothing.
		for _, dir := range []string{os.Getenv(placeVar), filepath.Join(os.Getenv(placeVar), "new")} {
			_, err := mount.Lease(testContext(t), wantFor(t, serverConfig{Config: mount.Config{Dir: dir, Tree: "one"}}))
			if !errors.Is(err, mount.ErrMountPoint) || errors.Is(err, mount.ErrNoFUSE) || !strings.Contains(err.Error(), "choose another place") {
				t.Errorf("%v, want ErrMountPoint, and what to do", err)
			}
		}
	})

	t.Run("killed", func(t *testing.T) {
		l := lease(t, w)
		pid := status(t, w).PID
		killAll(t, w)
		eventually(t, testContext(t), func() string {
			if alive(pid) {
				return "the server lives"
			}
			return ""
		})
		l.Close()
		l = lease(t, w)
		pid = status(t, w).PID
		l.Close()
		if err := mount.Unmount(testContext(t), w.Dir, true); err != nil {
			t.Error(err)
		}
	})
}

func TestNoHelper(t *testing.T) {
	if out := asNobody(t, "TestUserWithoutHelper", "PATH="); !strings.Contains(out, "PASS: TestUserWithoutHelper") {
		t.Errorf("the test did not run:\n%s", out)
	}
}

func TestUserWithoutHelper(t *testing.T) {
	needUser(t)
	w := userWant(t)
	_, err := mount.Lease(testContext(t), w)
	if !errors.Is(err, mount.ErrNoFUSE) || !strings.Contains(err.Error(), "fuse3") {
		t.Errorf("%v, want ErrNoFUSE and the package to install", err)
	}
	checkGone(t, w, 0)
}

func TestOthersAreKeptOut(t *testing.T) {
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allowed %v", allow), func(t *testing.T) {
			w := newWant(t, serverConfig{Config: mount.Config{AllowOther: allow}})
			lease(t, w)
			for dir := filepath.Dir(w.Dir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("cat", filepath.Join(w.Dir, "hello.py"))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if out, err := cmd.CombinedOutput(); (err == nil) != allow {
				t.Errorf("another user reads %q, %v", out, err)
			}
		})
	}
}

// A socket that somebody else can reach must not obey him.
func TestStrangerIsRefused(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skipf("needs python3, to connect as somebody else: %v", err)
	}
	w := newWant(t, serverConfig{})
	lease(t, w)
	state, err := mount.StateDir(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for dir := state; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sock := filepath.Join(state, "sock")
	if err := os.Chmod(sock, 0o666); err != nil {
		t.Fatal(err)
	}
	q, err := json.Marshal(map[string]any{"verb": "unmount", "detach": true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", `
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\n"); print(s.recv(1000))`, sock, string(q))
	// The server hangs up; whether that shows in the sending or the receiving
	// is a matter of time.
	if out, err := cmd.CombinedOutput(); strings.Contains(string(out), "outcome") {
		t.Errorf("a stranger got the answer %s (%v)", out, err)
	}
	if s := status(t, w); s.State != "used" {
		t.Errorf("afterwards the mount is %s", s.State)
	}
}
