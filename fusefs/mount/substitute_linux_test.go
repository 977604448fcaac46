package mount_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// mountsOn returns how many mounts are on dir, one above the other.
func mountsOn(t *testing.T, dir string) int {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(table), " "+dir+" ")
}

// TestSwitchKilled: who switches may be killed at any moment. What it has left is
// gone after the next command.
func TestSwitchKilled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount beneath a mount")
	}
	asItWas := func(*testing.T, mount.Want) {}
	detached := func(t *testing.T, w mount.Want) {
		t.Helper()
		c, err := mount.Dial(testContext(t), w.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Unmount(testContext(t), true); err != nil {
			t.Fatal(err)
		}
		if n := mountsOn(t, w.Dir); n != 1 {
			t.Fatalf("%d mounts while another takes the place, want 1", n)
		}
	}
	hold := func(t *testing.T, w mount.Want) error { return mount.Hold(testContext(t), w) }
	other := func(t *testing.T, w mount.Want) mount.Want {
		return wantFor(t, serverConfig{Config: mount.Config{Dir: w.Dir, Tree: "two"}})
	}
	change := func(t *testing.T, w mount.Want) error {
		_, err := mount.Switch(testContext(t), other(t, w))
		return err
	}
	unmount := func(t *testing.T, w mount.Want) error { return mount.Unmount(testContext(t), w.Dir, false) }
	for _, test := range []struct {
		name   string
		killed func(*testing.T, mount.Want) // how far it got
		next   func(*testing.T, mount.Want) error
		want   int // mounts after that
	}{
		{"before the old one went, unmount", asItWas, unmount, 0},
		{"before the old one went, another", asItWas, change, 1},
		{"after the old one went, unmount", detached, unmount, 0},
		{"after the old one went, the same", detached, hold, 1},
		{"after the old one went, another", detached, func(t *testing.T, w mount.Want) error { return hold(t, other(t, w)) }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWant(t, serverConfig{})
			if err := os.Mkdir(w.Dir, 0o755); err != nil { // so that no server removes it
				t.Fatal(err)
			}
			if err := hold(t, w); err != nil {
				t.Fatal(err)
			}
			if err := mount.LeaveSubstitute(w.Dir); err != nil {
				t.Skipf("needs Linux 6.5: %v", err)
			}
			if n := mountsOn(t, w.Dir); n != 2 {
				t.Fatalf("%d mounts, want 2", n)
			}
			test.killed(t, w)
			if err := test.next(t, w); err != nil {
				t.Error(err)
			}
			if n := mountsOn(t, w.Dir); n != test.want {
				t.Errorf("%d mounts, want %d", n, test.want)
			}
			if test.want > 0 {
				if b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil || string(b) != "x = 1\n" {
					t.Errorf("hello.py: %q, %v", b, err)
				}
				if err := unmount(t, w); err != nil {
					t.Error(err)
				}
			}
			if n := mountsOn(t, w.Dir); n != 0 {
				t.Errorf("%d mounts are left", n)
			}
			home, err := mount.StateHome()
			if err != nil {
				t.Fatal(err)
			}
			if notes, err := os.ReadDir(filepath.Join(home, "switches")); err != nil || len(notes) > 0 {
				t.Errorf("notes %q, %v, want none", notes, err)
			}
		})
	}
}
