package sandbox

import (
	"os"
	"os/exec"
	"testing"
)

// NeedFUSE skips a test where nothing can be mounted.
func NeedFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	f.Close()
	if os.Getuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skipf("needs root or fusermount3: %v", err)
		}
	}
}

// NeedRoot skips a test that only root can run, for the reason given.
func NeedRoot(t testing.TB, reason string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skipf("needs root, %s", reason)
	}
}

// NeedProgram skips a test that needs a program which is not on PATH.
func NeedProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
}
