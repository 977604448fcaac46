package mount

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// socketPath goes through the open folder: a socket's address holds 108 bytes,
// a home directory's path may not fit.
func socketPath(state *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", state.Fd(), name)
}

// peer returns who is at the other end. After an exec it is still the same pid.
func peer(c *net.UnixConn) (uid uint32, pid int, err error) {
	err = control(c, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			uid, pid = cred.Uid, int(cred.Pid)
		}
		return err
	})
	return uid, pid, err
}
