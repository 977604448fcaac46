package mount

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// companionFD is the companion's end of the socket, in the companion.
	companionFD = 3

	// companionGrace is how long a companion may take to end when the mount has: it
	// ends what it has started and removes its scratch files.
	companionGrace = 2 * time.Second
)

// companionLost is the message that the file system receives when the companion
// has died: what it was asked is lost. A companion's own messages are longer.
var companionLost = []byte{0}

// A companion is a process beside the worker that the file system may ask for
// what takes long or may go wrong. It is started when something is written to
// the file system's end of a socket and no process is there to read it, so it
// may end whenever it has nothing to do; it ends with the mount at the latest.
//
// The process finds the other end of the socket as descriptor 3, non-blocking;
// when the mount goes it reads the end of the file there, and what is left of
// its process group two seconds later is killed. A process that ends with status
// 0 has answered what it read; what it has not read waits for the next. Otherwise,
// and where it can't be started, what waits is thrown away and the file system
// receives a message that is a single zero byte.
//
// Both ends stay open here: neither a worker nor a companion that is replaced
// loses the socket.
type companion struct {
	command []string
	log     *log.Logger
	end     *os.File // the companion's end of the socket
	conn    *os.File // the file system's

	done chan struct{} // closed when run has returned

	serving sync.Mutex // held while there is a process, or its end is being told

	mu      sync.Mutex
	stopped bool
	held    bool // see hold
	pid     int  // of the process and its group; 0 if there is none
}

// newCompanion returns a companion that runs command, the path of a program and
// its arguments, on one end of a socket (SOCK_SEQPACKET). Nothing is started
// before something is written to the other end.
func newCompanion(command []string) (*companion, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	// Made while the socket blocks, the files stay away from the runtime's poller,
	// which would wake this process for each message between the other two.
	c := companionOn(command, os.NewFile(uintptr(pair[0]), "companion"), os.NewFile(uintptr(pair[1]), "companion"))
	if err := errors.Join(unix.SetNonblock(pair[0], true), unix.SetNonblock(pair[1], true)); err != nil {
		return nil, errors.Join(err, c.end.Close(), c.conn.Close())
	}
	return c, nil
}

// companionOn returns a companion with the ends of a socket that there is.
func companionOn(command []string, end, conn *os.File) *companion {
	return &companion{
		command: slices.Clone(command),
		log:     log.Default(),
		end:     end,
		conn:    conn,
		done:    make(chan struct{}),
	}
}

// process returns the pid of the companion, 0 while there is none.
func (c *companion) process() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// run keeps the companion until stop is called.
func (c *companion) run() {
	defer close(c.done)
	// The kernel kills a companion when the thread that started it ends, as it does
	// if this process is killed. The runtime ends a thread that stays locked with
	// its goroutine and no sooner.
	runtime.LockOSThread()
	for c.asked() {
		c.turn()
	}
}

// turn runs the process once.
func (c *companion) turn() {
	c.serving.Lock()
	defer c.serving.Unlock()
	if err := c.serve(); err != nil {
		c.log.Printf("companion %q: %v", c.command, err)
		c.lose()
	}
}

// hold ends the process, if there is one, and has none be started until release
// is called.
func (c *companion) hold() (release func()) {
	c.setHeld(true) // a turn that begins before this has the lock starts nothing
	if err := c.kill(); err != nil {
		c.log.Printf("companion %q: %v", c.command, err)
	}
	c.serving.Lock()
	c.setHeld(false)
	return c.serving.Unlock
}

func (c *companion) setHeld(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

// asked waits until there is something to read for the companion. It returns
// false when there will be nothing more.
func (c *companion) asked() bool {
	events, err := c.poll(unix.POLLIN)
	if err != nil {
		c.log.Printf("waiting for questions to the companion: %v", err)
		return false
	}
	return events&(unix.POLLHUP|unix.POLLERR) == 0
}

// poll waits for events on the companion's end, or for the end of the socket.
func (c *companion) poll(events int16) (int16, error) {
	fds := []unix.PollFd{{Fd: int32(c.end.Fd()), Events: events}}
	for {
		_, err := unix.Poll(fds, -1)
		if err != unix.EINTR {
			return fds[0].Revents, err
		}
	}
}

// serve runs the process until it ends. A failure is an error.
func (c *companion) serve() error {
	cmd, err := c.start()
	if cmd == nil || err != nil {
		return err
	}
	err = c.wait(cmd.Process.Pid)
	return errors.Join(cmd.Wait(), err)
}

// start starts the process. It returns nil when it is too late for one, or too
// early.
func (c *companion) start() (*exec.Cmd, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.held {
		return nil, nil
	}
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Dir = "/"
	cmd.Env = cleanEnv(os.Environ())
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{c.end} // companionFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.pid = cmd.Process.Pid
	return cmd, nil
}

// wait waits until the process has ended and kills what is left of its group.
// The process is still to be reaped, so its number is not another's.
func (c *companion) wait(pid int) error {
	var err error
	for {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	return errors.Join(err, c.kill())
}

// kill kills the process, if there is one, and all of its group.
func (c *companion) kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		return nil
	}
	pid := c.pid
	c.pid = 0
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
		return fmt.Errorf("killing process group %d: %w", pid, err)
	}
	return nil
}

// lose throws away what the companion was asked, and says so.
func (c *companion) lose() {
	fd := int(c.end.Fd())
	var b [1]byte
	for n, err := 1, error(nil); n > 0 && err == nil; {
		n, _, err = unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT)
	}
	for {
		err := unix.Send(fd, companionLost, unix.MSG_NOSIGNAL)
		if err == unix.EAGAIN { // the file system has yet to read what it was sent before
			if _, err = c.poll(unix.POLLOUT); err == nil {
				continue
			}
		}
		if err != nil && err != unix.EPIPE {
			c.log.Printf("companion %q: telling of its end: %v", c.command, err)
		}
		return
	}
}

// stop ends the companion and closes both ends of the socket.
func (c *companion) stop() error {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	err := unix.Shutdown(int(c.end.Fd()), unix.SHUT_RDWR)
	timer := time.NewTimer(companionGrace)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		err = errors.Join(err, c.kill())
		<-c.done
	}
	return errors.Join(err, c.conn.Close(), c.end.Close())
}

// CompanionConn returns, in a companion, its end of the socket. What the
// companion starts does not inherit it.
func CompanionConn() *os.File {
	unix.CloseOnExec(companionFD)
	return os.NewFile(companionFD, "companion")
}
