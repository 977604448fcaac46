package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// restart leaves of the mounts in the home what a machine's restart leaves: state
// folders.
func restart(t *testing.T, h *sandbox.Home, dir string) {
	t.Helper()
	sandbox.NeedProgram(t, "fusermount3")
	kill(t, h, dir)
	mounts, err := sandbox.Mounts(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		h.Must(t, "fusermount3", "-uz", m)
	}
}

func TestMountAll(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml", "one env")
	h.Must(t, "sitefs", "mount", "-r", "two.toml", "two")
	h.Must(t, "sitefs", "mount", "-r", "one.toml", "gone/venv")
	h.Must(t, "sitefs", "mount", "-r", "one.toml", "away")
	h.Must(t, "sitefs", "umount", "away")
	restart(t, h, "two")
	for _, name := range []string{"one.toml", "two.toml", "wheels", "gone"} { // nothing but the store is read
		if err := os.RemoveAll(filepath.Join(h.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := version(t, h, "two"); !strings.Contains(got, "is not mounted") {
		t.Errorf("after the restart python says %q", got)
	}
	r := h.Run(t, "sitefs", "mount", "--all")
	if r.Code != 0 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, "gone/venv is not mounted any more") {
		t.Errorf("mount --all: exit code %d, %q", r.Code, r.Stderr)
	}
	expect(t, h, "one env", "1.0")
	expect(t, h, "two", "2.0")
	if _, err := os.Lstat(filepath.Join(h.Dir, "away")); err == nil {
		t.Error("what was unmounted is there again")
	}
	if r := h.Run(t, "sitefs", "mount", "--all"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("mount --all again: exit code %d, %q", r.Code, r.Stderr)
	}

	// What isn't mounted any more is taken from the list by umount.
	restart(t, h, "two")
	h.Must(t, "sitefs", "umount", "--all")
	h.Must(t, "sitefs", "mount", "--all")
	if mounts, err := sandbox.Mounts(h.Dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounted after umount --all: %q, %v", mounts, err)
	}
}

func TestMountAllWithoutItsTree(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	restart(t, h, ".venv")
	if err := os.RemoveAll(filepath.Join(h.Store(), "trees")); err != nil {
		t.Fatal(err)
	}
	r := h.Run(t, "sitefs", "mount", "--all")
	if r.Code != 1 || !strings.Contains(r.Stderr, "run `cd "+h.Dir+" && sitefs mount -r one.toml`") {
		t.Errorf("exit code %d, %q, want 1 and the command", r.Code, r.Stderr)
	}
}

func TestPersist(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "--persist", "-r", "one.toml")
	unit, err := os.ReadFile(filepath.Join(h.Dir, ".config/systemd/user/sitefs.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(unit), "ExecStart=")
	command, _, _ := strings.Cut(rest, "\n")
	if !ok || command != `"`+filepath.Join(bin, "sitefs")+`" mount --all` {
		t.Fatalf("the unit starts %q:\n%s", command, unit)
	}
	restart(t, h, ".venv")
	h.Must(t, "sh", "-c", command)
	expect(t, h, ".venv", "1.0")
}
