package lifecycle

import (
	"sync"
	"testing"
)

// TestMountsAtOnce: one of them mounts, and all of them succeed.
func TestMountsAtOnce(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "run", "-r", "one.toml", "true")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if r := h.Run(t, "sitefs", "mount", "-r", "one.toml"); r.Code != 0 || r.Stderr != "" {
				t.Errorf("exit code %d, %q", r.Code, r.Stderr)
			}
		})
	}
	wg.Wait()
	expect(t, h, ".venv", "1.0")
	h.Must(t, "sitefs", "umount")
	if r := h.Run(t, "ls", ".venv"); r.Code == 0 {
		t.Errorf(".venv is left, with %q", r.Stdout)
	}
}
