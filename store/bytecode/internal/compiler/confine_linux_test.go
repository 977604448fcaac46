package compiler

import (
	"testing"

	"golang.org/x/sys/unix"
)

// lowerMemory leaves a compiler 200 MB.
func lowerMemory(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: 200 << 20, Max: 200 << 20}, nil); err != nil {
		t.Fatal(err)
	}
}
