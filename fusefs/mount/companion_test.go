package mount_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// report is what a companion says of itself.
type report struct {
	PID   int
	Child int // a process that it has started
	Env   []string
}

// deaf is the name of a companion's file for it to answer once and listen no
// more.
const deaf = "deaf"

// companion does what its messages say, and answers any other with itself. It
// notes its start in the file.
func companion(file string) error {
	starts, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err := starts.WriteString("started\n"); err != nil {
		return err
	}
	conn := mount.CompanionConn()
	for message := make([]byte, 1000); ; {
		n, err := conn.Read(message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := message[:n]
		switch string(answer) {
		case "leave":
			return nil
		case "fail":
			return errors.New("this companion was told to fail")
		case "report":
			if answer, err = newReport(); err != nil {
				return err
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
		if filepath.Base(file) == deaf {
			return exec.Command("sleep", "600").Run()
		}
	}
}

func newReport() ([]byte, error) {
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		return nil, err
	}
	return json.Marshal(report{os.Getpid(), child.Process.Pid, os.Environ()})
}

// askReport returns a companion's report.
func askReport(conn *os.File) json.RawMessage {
	b := make([]byte, 1<<16)
	if _, err := conn.Write([]byte("report")); err != nil {
		return nil
	}
	n, err := conn.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// companionWant describes a mount with a companion, which notes its starts in
// a file of that name.
func companionWant(t *testing.T, name string) (w mount.Want, starts string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	starts = filepath.Join(t.TempDir(), name)
	return newWant(t, serverConfig{Companion: []string{exe, "companion", starts}}), starts
}

// companionOf has the companion of a mount report, and returns the server's pid
// too.
func companionOf(t *testing.T, w mount.Want) (r report, server int) {
	t.Helper()
	s := status(t, w)
	if err := json.Unmarshal(s.Bytecode, &r); err != nil || r.PID == 0 {
		t.Fatalf("the status shows %q, want a report: %v", s.Bytecode, err)
	}
	return r, s.PID
}

// checkEnded fails unless the companion and what it started end.
func checkEnded(t *testing.T, r report) {
	t.Helper()
	eventually(t, testContext(t), func() string {
		if alive(r.PID) {
			return "the companion is left"
		}
		if alive(r.Child) {
			return "what the companion started is left"
		}
		return ""
	})
}

func TestCompanionEndsWithTheMount(t *testing.T) {
	w, _ := companionWant(t, "starts")
	l := lease(t, w)
	r, pid := companionOf(t, w)
	l.Close()
	checkGone(t, w, pid)
	checkEnded(t, r)
}

func TestCompanionEndsWithItsServer(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		name := "starts"
		if hangs {
			name = deaf
		}
		w, _ := companionWant(t, name)
		lease(t, w)
		r, _ := companionOf(t, w)
		killAll(t, w)
		eventually(t, testContext(t), func() string {
			if alive(r.PID) {
				return "the companion is left"
			}
			return ""
		})
		// Nobody is left to end what the companion has started.
		if err := syscall.Kill(-r.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompanionIsNotStartedUnasked(t *testing.T) {
	w, starts := companionWant(t, "starts")
	l := lease(t, w)
	if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Error(err)
	}
	l.Close()
	checkGone(t, w, 0)
	if b, err := os.ReadFile(starts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCompanionInheritsNothing(t *testing.T) {
	w, _ := companionWant(t, "starts")
	t.Setenv("VIRTUAL_ENV", "/somewhere")
	t.Setenv("SITEFS_TEST", "kept")
	lease(t, w)
	r, _ := companionOf(t, w)
	for _, e := range r.Env {
		if strings.HasPrefix(e, "VIRTUAL_ENV=") || strings.HasPrefix(e, "SITEFS_SERVER_STAGE=") {
			t.Errorf("the environment has %s", e)
		}
	}
	if !slices.Contains(r.Env, "SITEFS_TEST=kept") {
		t.Errorf("the environment is %q", r.Env)
	}
	dir := filepath.Join("/proc", strconv.Itoa(r.PID), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	// While it starts it may have opened something of its own.
	if target, _ := os.Readlink(filepath.Join("/proc", strconv.Itoa(r.Child), "fd", "3")); strings.HasPrefix(target, "socket:") {
		t.Errorf("what the companion starts inherits its %s", target)
	}
	sockets := 0
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(target, "socket:") {
			sockets++
		}
		if target == "/dev/fuse" {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
	if sockets != 1 {
		t.Errorf("%d sockets, want 1: the lease or the control socket is inherited", sockets)
	}
}

func TestStatusShowsBytecode(t *testing.T) {
	w := newWant(t, serverConfig{Bytecode: json.RawMessage(`{"hits":3}`)})
	lease(t, w)
	if s := status(t, w); string(s.Bytecode) != `{"hits":3}` {
		t.Errorf("%q", s.Bytecode)
	}
}
