package fetch

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A full disk is said, and not kept full.
func TestDiskFull(t *testing.T) {
	data := content(1_000_000)
	s := newServer(t, data)
	r := newRig(t)
	if err := unix.Mount("tmpfs", r.dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small file system can't be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(r.dir, 0); err != nil {
			t.Error(err)
		}
	})
	_, err := r.get(pinOf(s.URL, data))
	wantError(t, err, "no space left on device; make room, or let SITEFS_STORE name")
	if r.waits != nil {
		t.Errorf("tried again after %s", r.waits)
	}
	r.wantFiles(t)
}
