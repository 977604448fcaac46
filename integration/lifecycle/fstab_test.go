package lifecycle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// helper is what mount(8) looks for.
const helper = "/sbin/mount.fuse.sitefs"

// needHelper makes the program mount(8)'s helper for the time of the test.
func needHelper(t *testing.T) {
	t.Helper()
	sandbox.NeedRoot(t, "to put a link into /sbin")
	sandbox.NeedProgram(t, "mount")
	err := os.Symlink(filepath.Join(bin, "sitefs"), helper)
	if errors.Is(err, fs.ErrExist) {
		t.Skipf("needs %s, which is there already", helper)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(helper); err != nil {
			t.Error(err)
		}
	})
}

func TestMountTheUnixWay(t *testing.T) {
	h := newHome(t, python)
	needHelper(t)
	env := filepath.Join(h.Dir, "env")
	if err := os.Mkdir(env, 0o755); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "mount", "-t", "fuse.sitefs", "-o", "nofail,python="+python, "one.toml", env)
	expect(t, h, "env", "1.0")
	var status struct{ Tree, State string }
	if err := json.Unmarshal([]byte(h.Must(t, "sitefs", "status", "--json", "env")), &status); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "umount", env)
	if left, err := os.ReadDir(env); err != nil || len(left) > 0 {
		t.Errorf("beneath the mount: %v, %v, want nothing", left, err)
	}
	h.Must(t, "sitefs", "mount", "--all")
	if mounts, err := sandbox.Mounts(h.Dir); err != nil || len(mounts) > 0 {
		t.Errorf("mount --all mounts what mount(8) did: %q, %v", mounts, err)
	}

	// As fstab names it, here by its tree.
	fstab := h.Write(t, "fstab", status.Tree+" "+env+" fuse.sitefs ro,nofail,allow_other 0 0\n")
	for range 2 {
		h.Must(t, "mount", "--fstab", fstab, "-a")
		expect(t, h, "env", "1.0")
	}
	h.Must(t, "umount", env)
}

// TestMountAtBoot: the machine's start gives a program next to no environment.
func TestMountAtBoot(t *testing.T) {
	h := newHome(t, python)
	needHelper(t)
	h.Must(t, "sitefs", "add", "wheels/alpha-1.0-py3-none-any.whl")
	h.Unsetenv("HOME")
	store := h.Store()
	h.Unsetenv("SITEFS_STORE")
	lock := filepath.Join(h.Dir, "one.toml")
	h.Must(t, "mount", "-t", "fuse.sitefs", "-o", "store="+store, lock, filepath.Join(h.Dir, "env"))
	expect(t, h, "env", "1.0")
}

func TestMountHelperFails(t *testing.T) {
	h := newHome(t, python)
	needHelper(t)
	tests := []struct {
		name, source, options string
		code                  int
		want                  string
	}{
		{"no lock file", "missing.toml", "ro", 32, "there is no such file"},
		{"no tree", strings.Repeat("00", 32), "ro", 32, "has no tree"},
		{"no option", "one.toml", "pyhton=3", 1, `there is no option "pyhton=3"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := h.Run(t, helper, test.source, filepath.Join(h.Dir, "env"), "-o", test.options)
			if r.Code != test.code || !strings.Contains(r.Stderr, test.want) {
				t.Errorf("exit code %d, %q, want %d, %q", r.Code, r.Stderr, test.code, test.want)
			}
			if _, err := os.Lstat(filepath.Join(h.Dir, "env")); err == nil {
				t.Error("it left the directory")
			}
		})
	}
}
