package mount

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A companionTest is a companion and the file system that asks it.
type companionTest struct {
	*testing.T
	*companion
	peer   *os.File      // the file system's end
	starts string        // the file in which the test program notes that it was started
	logged *bytes.Buffer // to be read after stop
	begun  bool
}

// testCompanion returns a companion that is to be started with begin. Without a
// command it is the program companion of the test binary.
func testCompanion(t *testing.T, command ...string) *companionTest {
	t.Helper()
	starts := filepath.Join(t.TempDir(), "starts")
	if command == nil {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command = []string{exe, "companion", starts}
	}
	before := descriptors(t)
	c, err := newCompanion(command)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(c.conn.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := os.NewFile(uintptr(fd), "conn")
	ct := &companionTest{T: t, companion: c, peer: conn, starts: starts, logged: new(bytes.Buffer)}
	c.log = log.New(ct.logged, "", 0)
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ct.finish()
		if after := descriptors(t); after > before {
			t.Errorf("%d descriptors, %d before", after, before)
		}
	})
	return ct
}

func (t *companionTest) begin() {
	t.begun = true
	go t.run()
}

// finish stops the companion.
func (t *companionTest) finish() {
	t.Helper()
	if !t.begun {
		return
	}
	t.begun = false
	if err := t.stop(); err != nil {
		t.Error(err)
	}
	if err := t.peer.Close(); err != nil {
		t.Error(err)
	}
}

func (t *companionTest) tell(messages ...string) {
	t.Helper()
	for _, m := range messages {
		if _, err := t.peer.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
}

// hear fails unless the messages are what comes next.
func (t *companionTest) hear(messages ...string) {
	t.Helper()
	b := make([]byte, 1<<16)
	for _, want := range messages {
		n, err := t.peer.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Fatalf("%q, %v, want %q", b[:n], err, want)
		}
	}
}

// pids returns the pid of the companion and of a process that it has started.
func (t *companionTest) pids() (self, child int) {
	t.Helper()
	t.tell("report")
	b := make([]byte, 1<<16)
	n, err := t.peer.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ PID, Child int }
	if err := json.Unmarshal(b[:n], &r); err != nil {
		t.Fatalf("%v: %q", err, b[:n])
	}
	return r.PID, r.Child
}

// started fails unless the companion has been started n times.
func (t *companionTest) started(n int) {
	t.Helper()
	b, err := os.ReadFile(t.starts)
	if err != nil || strings.Count(string(b), "\n") != n {
		t.Errorf("started %q, %v, want %d starts", b, err, n)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

const lost = "\x00"

func TestCompanionAnswers(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	c.tell("one", "two")
	c.hear("one", "two")
	c.tell("three")
	c.hear("three")
	c.started(1)
}

func TestCompanionIsStartedAgain(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	// The second message is in the socket when the first is read.
	c.tell("leave", "stayed behind")
	c.hear("stayed behind")
	c.tell("leave")
	c.tell("came late")
	c.hear("came late")
	c.started(3)
	c.finish()
	if c.logged.Len() > 0 {
		t.Errorf("logged %q", c.logged)
	}
}

func TestCompanionDies(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		c := testCompanion(t)
		c.begin()
		self, child := c.pids()
		childEnds := watch(t, child)
		if err := unix.Kill(self, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.hear(lost)
		childEnds()
		c.tell("again")
		c.hear("again")
		c.started(2)
	})
	t.Run("failed", func(t *testing.T) {
		c := testCompanion(t)
		c.tell("answered", "fail", "lost", "lost too")
		c.begin()
		c.hear("answered", lost)
		c.tell("again")
		c.hear("again")
		c.started(2)
		c.finish()
		if !strings.Contains(c.logged.String(), "exit status 1") {
			t.Errorf("logged %q", c.logged)
		}
	})
}

func TestHeldCompanion(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	self, child := c.pids()
	ends, childEnds := watch(t, self), watch(t, child)
	release := c.hold()
	ends()
	childEnds()
	c.hear(lost)
	c.tell("again")
	c.started(1)
	release()
	c.hear("again")
	c.started(2)
}

// watch returns a function that fails unless the process ends.
func watch(t *testing.T, pid int) (ends func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if n != 1 || err != nil {
			t.Errorf("process %d is left (%v)", pid, err)
		}
	}
}

// What can't be started is tried once for each question, not in a loop.
func TestCompanionThatCannotStart(t *testing.T) {
	for _, command := range []string{"/nonexistent", "false"} {
		t.Run(command, func(t *testing.T) {
			c := testCompanion(t, command)
			c.begin()
			const n = 5
			for range n {
				c.tell("anyone?")
				c.hear(lost)
			}
			c.finish()
			if lines := strings.Count(c.logged.String(), "\n"); lines != n {
				t.Errorf("%d starts, want %d:\n%s", lines, n, c.logged)
			}
		})
	}
}

// A file system that does not read for a while still hears of the death.
func TestCompanionDiesUnheard(t *testing.T) {
	for _, reads := range []bool{true, false} {
		c := testCompanion(t, "/nonexistent")
		var sent []string
		for {
			err := unix.Send(int(c.end.Fd()), []byte("earlier"), unix.MSG_NOSIGNAL)
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, "earlier")
		}
		c.tell("anyone?")
		c.begin()
		for waiting(t, c.end) {
			runtime.Gosched()
		}
		if reads {
			c.hear(append(sent, lost)...)
		}
		c.finish()
	}
}

// waiting reports whether there is a message to be read.
func waiting(t *testing.T, end *os.File) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(end.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestCompanionRunsAtTheRoot(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	self, _ := c.pids()
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", self)); err != nil || dir != "/" {
		t.Errorf("working directory %q, %v, want that nothing is kept busy", dir, err)
	}
}

func TestCompanionThatIgnoresTheEnd(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	self, _ := c.pids()
	if err := unix.Kill(self, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.finish()
	if err := unix.Kill(self, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the companion is left: %v", err)
	}
}

func TestStoppedCompanionAnswersNothing(t *testing.T) {
	c := testCompanion(t)
	c.begin()
	c.tell("hello")
	c.hear("hello")
	heard := make(chan error)
	go func() {
		_, err := c.peer.Read(make([]byte, 1))
		heard <- err
	}()
	c.finish()
	if err := <-heard; !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v, want the end of the socket", err)
	}
	c.started(1)
}
