package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// TestSwitchIsNeverEmpty looks at a .venv all the time while it goes back and forth
// between two environments.
func TestSwitchIsNeverEmpty(t *testing.T) {
	sandbox.NeedRoot(t, "to mount over a mount")
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	packages, err := filepath.Glob(filepath.Join(h.Dir, ".venv/lib/python*/site-packages"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("%q, %v", packages, err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	looks := 0
	seen := map[string]bool{}
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			text, err := os.ReadFile(filepath.Join(packages[0], "alpha.py"))
			if err != nil {
				t.Errorf("after %d looks: %v", looks, err)
				return
			}
			looks++
			seen[string(text)] = true
		}
	})
	for range 4 {
		for _, v := range []struct{ file, version string }{{"two.toml", "2.0"}, {"one.toml", "1.0"}} {
			if r := h.Run(t, "sitefs", "mount", "-v", "-r", v.file); r.Code != 0 || strings.Contains(r.Stderr, "was not mounted") {
				t.Errorf("mount -r %s: exit code %d, %q", v.file, r.Code, r.Stderr)
			}
			expect(t, h, ".venv", v.version)
		}
	}
	close(done)
	wg.Wait()
	if len(seen) != 2 {
		t.Errorf("in %d looks %d environments were seen, want 2", looks, len(seen))
	}
	// The old ones are gone with their users.
	sandbox.Eventually(t, func() string {
		if mounts, err := sandbox.Mounts(h.Dir); err != nil || len(mounts) != 1 {
			return strings.Join(mounts, " ")
		}
		if n := len(servers(t, h)); n != 2 {
			return "there are more processes than one supervisor and its worker"
		}
		return ""
	})
}

// TestSwitchThatFails leaves the stub, which names the environment that there was,
// and no mount that nobody looks after.
func TestSwitchThatFails(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	before := trees(t, h)
	h.Must(t, "sitefs", "mount", "-r", "two.toml", "other")
	for name := range trees(t, h) {
		if before[name] {
			continue
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("no tree"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	h.Must(t, "sitefs", "umount", "other")
	if r := h.Run(t, "sitefs", "mount", "-r", "two.toml"); r.Code == 0 {
		t.Errorf("mounted what is no tree: %q", r.Stderr)
	}
	if mounts, err := sandbox.Mounts(h.Dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounted: %q, %v", mounts, err)
	}
	if got := version(t, h, ".venv"); !strings.Contains(got, "mount -r one.toml`") {
		t.Errorf("python says %q", got)
	}
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	expect(t, h, ".venv", "1.0")
}

// trees returns the files of the store's trees.
func trees(t *testing.T, h *sandbox.Home) map[string]bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(h.Store(), "trees", "*"))
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, name := range found {
		set[name] = true
	}
	return set
}

// TestStubAfterSwitch: the stub is beneath the mount when another takes its place.
func TestStubAfterSwitch(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	h.Must(t, "sitefs", "mount", "-r", "two.toml")
	restart(t, h, ".venv")
	if got := version(t, h, ".venv"); !strings.Contains(got, "mount -r two.toml`") {
		t.Errorf("python says %q, want the second command", got)
	}
}

// TestUsersSwitch says how long nothing was mounted.
func TestUsersSwitch(t *testing.T) {
	h := newUser(t)
	h.Must(t, "sitefs", "mount", "-r", "one.toml", "env")
	r := h.Run(t, "sitefs", "mount", "-v", "-r", "two.toml", "env")
	if r.Code != 0 || !strings.Contains(r.Stderr, "env was not mounted for ") {
		t.Errorf("exit code %d, %q, want the gap", r.Code, r.Stderr)
	}
	t.Logf("%s", r.Stderr)
	expect(t, h, "env", "2.0")
}
