package sandbox

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Kill kills a process, which need not be a child of this one, and waits until it
// has ended: what it held is given back then.
func Kill(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatalf("killing %d: %v", pid, err)
	}
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(ended, int(patience.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			t.Fatalf("waiting for %d: %v", pid, err)
		case n == 0:
			t.Fatalf("process %d was killed and doesn't end", pid)
		default:
			return
		}
	}
}
