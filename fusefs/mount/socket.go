package mount

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The control protocol: the client sends one request, the server one reply,
// each a line of JSON. A connection on which a lease was granted stays open and
// is silent from then on; any other is closed.

type verb string

const (
	verbLease   verb = "lease"
	verbHold    verb = "hold"
	verbStatus  verb = "status"
	verbUnmount verb = "unmount"
	verbReload  verb = "reload"
)

type request struct {
	Verb   verb          `json:"verb"`
	Tree   string        `json:"tree,omitempty"`   // lease, hold
	Keep   time.Duration `json:"keep,omitempty"`   // lease
	Detach bool          `json:"detach,omitempty"` // unmount
}

type outcome string

const (
	outcomeOK    outcome = "ok"
	outcomeGoing outcome = "going" // the mount is gone, or about to: try again when the connection ends
	outcomeInUse outcome = "inuse" // another tree is in use here
	outcomeBusy  outcome = "busy"
	outcomeError outcome = "error"
)

type reply struct {
	Outcome   outcome   `json:"outcome"`
	Tree      string    `json:"tree,omitempty"`
	Device    uint64    `json:"device,omitempty"` // lease, hold: st_dev of what is mounted
	Error     string    `json:"error,omitempty"`
	Processes []Process `json:"processes,omitempty"`
	Status    *Status   `json:"status,omitempty"`
}

// maxMessage bounds a line of the protocol. A status with a manifest's
// description in it is some kilobytes.
const maxMessage = 1 << 20

func send(c net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.Write(append(b, '\n'))
	return err
}

func receive(c net.Conn, v any) error {
	line, err := bufio.NewReader(io.LimitReader(c, maxMessage)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

// withSocket calls fn with a path of that socket in a state folder that is short
// enough for a socket address, whatever the length of the folder's own.
func withSocket(state, name string, fn func(path string) error) error {
	dir, err := os.Open(state)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fn(socketPath(dir, name))
}

// listen makes the control socket. The caller holds the state's lock.
func listen(state string) (l *net.UnixListener, err error) {
	err = os.Remove(filepath.Join(state, sockName))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	err = withSocket(state, sockName, func(path string) error {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making the control socket in %q: %w", state, err)
	}
	// The path may be one through this process's descriptors; the server that
	// inherits the socket removes it.
	l.SetUnlinkOnClose(false)
	return l, nil
}

// connect connects to the control socket.
func connect(state string) (c *net.UnixConn, err error) {
	err = withSocket(state, sockName, func(path string) error {
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	return c, err
}

// control runs fn on the descriptor of a connection.
func control(c *net.UnixConn, fn func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = fn(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// leaseFD is the least number that a lease's descriptor has. Scripts use the low
// ones by number, and shells move them to 10 and up, so it is high; but not above
// 63: for those the kernel must enlarge the table of descriptors, and of a process
// with several threads it does so only after a grace period of RCU. That took 8 to
// 15 ms, half of a warm start.
const leaseFD = 60

// inheritable returns a copy of the connection's descriptor that survives exec.
func inheritable(c *net.UnixConn) (*os.File, error) {
	var file *os.File
	err := control(c, func(fd int) error {
		var dup int
		var err error
		for _, from := range []int{leaseFD, 10} { // RLIMIT_NOFILE may be low
			if dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, from); err == nil {
				file = os.NewFile(uintptr(dup), "lease")
				return nil
			}
		}
		return fmt.Errorf("keeping the lease open: %w", err)
	})
	return file, err
}
