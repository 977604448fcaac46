package sandbox

import (
	"syscall"
	"testing"
)

// Tmpfs mounts a file system of a size such as "4m" on a folder of its own, which
// it returns, or skips the test without the right to.
func Tmpfs(t testing.TB, size string) string {
	t.Helper()
	NeedRoot(t, "to mount a small file system")
	dir := t.TempDir()
	if err := syscall.Mount("sitefs-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
