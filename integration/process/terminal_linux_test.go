package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A terminal is the master's side of a pseudo-terminal that a command runs on.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	seen bytes.Buffer // what was written and not yet expected
}

// onTerminal starts a command in a session of its own on a new terminal.
func (u *user) onTerminal(argv ...string) *terminal {
	u.t.Helper()
	master, slave, err := openPTY()
	if err != nil {
		u.t.Skipf("needs pseudo-terminals: %v", err)
	}
	defer slave.Close()
	cmd := u.command(argv...)
	cmd.Env = append(cmd.Env, "TERM=dumb", "PS1=prompt> ")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	tty := &terminal{t: u.t, master: master, cmd: cmd}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tty.read()
	}()
	u.t.Cleanup(func() {
		master.Close()
		<-done
	})
	return tty
}

func openPTY() (master, slave *os.File, err error) {
	// Without O_NONBLOCK a Close would not end a Read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("/dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
	}
	return master, slave, err
}

// read collects what is written until nobody has the terminal open.
func (tty *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := tty.master.Read(buf)
		tty.mu.Lock()
		tty.seen.Write(buf[:n])
		tty.mu.Unlock()
		if err != nil {
			return // EIO: the last process closed it
		}
	}
}

// send types.
func (tty *terminal) send(keys string) {
	tty.t.Helper()
	if _, err := tty.master.WriteString(keys); err != nil {
		tty.t.Fatal(err)
	}
}

// expect waits until the terminal shows text, behind what was expected before.
func (tty *terminal) expect(text string) {
	tty.t.Helper()
	sandbox.Eventually(tty.t, func() string {
		tty.mu.Lock()
		defer tty.mu.Unlock()
		at := strings.Index(tty.seen.String(), text)
		if at < 0 {
			return fmt.Sprintf("the terminal shows %q, want %q", tty.seen.String(), text)
		}
		tty.seen.Next(at + len(text))
		return ""
	})
}

// The keys that send signals, as a new terminal has them.
const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

// counter tells how many interrupts reached it.
const counter = `
import signal, alpha
count = 0
def interrupted(*_):
    global count
    count += 1
    print("interrupt", count, flush=True)
signal.signal(signal.SIGINT, interrupted)
print("ready", flush=True)
while input() != "end":
    pass
import alpha_later
print("interrupts:", count, flush=True)
`

func TestInterruptReachesTheCommandOnce(t *testing.T) {
	u := newUser(t)
	u.write("counter.py", counter)
	tty := u.onTerminal(inProject("python", "counter.py")...)
	tty.expect("ready")
	server := u.only().PID
	tty.send(ctrlC)
	tty.expect("interrupt 1")
	tty.send("end\n")
	tty.expect("interrupts: 1")
	if err := tty.cmd.Wait(); err != nil {
		t.Errorf("the command: %v", err)
	}
	if now := u.only().PID; now != server {
		t.Errorf("the server is %d, was %d before the interrupt", now, server)
	}
}

// What a command makes of an interrupt is its own: a python that doesn't catch it
// dies of it, and who started it sees that.
func TestInterruptKillsAsWithoutSitefs(t *testing.T) {
	u := newUser(t)
	u.write("sleeper.py", "print('ready', flush=True)\ninput()\n")
	tty := u.onTerminal(inProject("--keep", "0", "python", "sleeper.py")...)
	tty.expect("ready")
	tty.send(ctrlC)
	tty.expect("KeyboardInterrupt")
	tty.cmd.Wait()
	if s := tty.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGINT {
		t.Errorf("the command ended with %v, want the signal", s)
	}
	u.expectNothingLeft()
}

func TestSuspendAndForeground(t *testing.T) {
	sandbox.NeedProgram(t, "bash")
	u := newUser(t)
	u.write("echo.py", "print('rea' + 'dy', flush=True)\nprint('got', input(), flush=True)\n")
	tty := u.onTerminal("bash", "--norc", "--noprofile", "-i")
	tty.send(strings.Join(inProject("python", "echo.py"), " ") + "\n")
	tty.expect("ready")
	tty.send(ctrlZ)
	tty.expect("Stopped")
	tty.send("fg\n")
	tty.send("word\n")
	tty.expect("got word")
	tty.send("exit 3\n")
	tty.cmd.Wait()
	if code := tty.cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("bash ended with %d, want 3", code)
	}
}

// The end of a session hangs up its processes; the server is not one of them.
func TestHangupLeavesTheServer(t *testing.T) {
	u := newUser(t)
	u.write("sleeper.py", "print('ready', flush=True)\ninput()\n")
	tty := u.onTerminal(inProject("python", "sleeper.py")...)
	tty.expect("ready")
	server := u.only().PID
	tty.master.Close()
	tty.cmd.Wait()
	u.awaitState("warm")
	if now := u.only().PID; now != server {
		t.Errorf("the server is %d, was %d before the hangup", now, server)
	}
}

// So does a mount that was made in the session.
func TestHangupLeavesTheMount(t *testing.T) {
	sandbox.NeedProgram(t, "bash")
	u := newUser(t)
	tty := u.onTerminal("bash", "--norc", "--noprofile", "-i")
	tty.send(filepath.Join(bin, "sitefs") + " mount -r project/pylock.toml venv && echo moun''ted\n")
	tty.expect("mounted")
	tty.master.Close()
	tty.cmd.Wait()
	if got := u.output("venv/bin/python", "-c", "import alpha; print(alpha.version)"); got != "1.0" {
		t.Errorf("when the session has ended alpha is %q, want 1.0", got)
	}
	if s := u.only(); s.State != "held" {
		t.Errorf("the mount is %s, want held", s.State)
	}
}
