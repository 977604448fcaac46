package bytecode

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDiskFull: an entry that found no room leaves nothing behind.
func TestDiskFull(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a = 1"})
	dir := filepath.Join(e.dir, "bytecode")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	c := e.cache(t)
	s := e.source(t, "a.py")
	err := c.put(filepath.Join(dir, "aside"), key{s.Digest, 0}, kindCode, make([]byte, 1<<20))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a large entry on a full disk: %v", err)
	}
	expectEmpty(t, dir)
}
