package mount

import (
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socketPath is the plain path: there is no way around the limit of 104 bytes.
func socketPath(state *os.File, name string) string { return filepath.Join(state.Name(), name) }

// peer returns who is at the other end.
func peer(c *net.UnixConn) (uid uint32, pid int, err error) {
	err = control(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return err
		}
		uid = cred.Uid
		pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return err
	})
	return uid, pid, err
}
