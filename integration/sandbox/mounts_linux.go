package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// alone is set in the environment of a test binary that has its mounts for itself.
const alone = "SITEFS_TEST_MOUNTS_ALONE"

// MountsAlone is called first in the TestMain of a package whose tests mount disks.
// It runs the test binary again in a mount namespace of its own, and ends with its
// exit code. Other tests make namespaces meanwhile: each would keep a copy of what
// is mounted here, and a copy keeps the file system, and its disk, in use after it
// was unmounted. Only root mounts disks; for others it does nothing.
func MountsAlone() {
	if os.Getuid() != 0 || os.Getenv(alone) != "" {
		return
	}
	runtime.LockOSThread() // whose end would be taken for that of the process
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), alone+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "running the tests in a mount namespace: %v\n", err)
		os.Exit(1)
	}
	os.Exit(c.ProcessState.ExitCode())
}
