package session

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// Try finds out whether a process in the namespace may mount.
func (Namespace) Try() error {
	home, err := mount.StateHome()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return err
	}
	_, err = mount.Probe(home, mount.RungMount) // seen by this process alone
	return err
}

// hideMounts gives the namespace folders of its own for the mount point dir and
// for the state of mounts: no process outside can connect to what is mounted
// here, and none here finds a mount that is not. They go with the namespace.
func hideMounts(dir string) error {
	state, err := mount.StateDir(dir)
	if err != nil {
		return err
	}
	for _, folder := range []string{filepath.Dir(state), filepath.Dir(dir)} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
		// Logs and sockets: the size is a bound, not a reservation.
		if err := unix.Mount("sitefs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=16m"); err != nil {
			return fmt.Errorf("mounting a tmpfs on %q: %w", folder, err)
		}
	}
	return nil
}

// dropCapabilities leaves the thread none, and none to what it starts; root has
// those of the namespace again by starting a program. The thread is the one that
// becomes the command.
func dropCapabilities() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return os.NewSyscallError("capset", unix.Capset(&head, &none[0]))
}
