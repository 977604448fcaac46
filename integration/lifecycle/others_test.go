package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

const (
	// systemPython is one that is in nobody's home.
	systemPython = "/usr/bin/python3"

	fuseConf = "/etc/fuse.conf"
)

// as is the start of a command line that another user runs.
func as(uid string) []string {
	return []string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "--"}
}

// nobody is an account without any rights, daemon another one (Debian's numbers).
const nobody, daemon = "65534", "1"

// newUser returns the home of nobody.
func newUser(t *testing.T) *sandbox.Home {
	t.Helper()
	sandbox.NeedRoot(t, "to become somebody else")
	sandbox.NeedProgram(t, "setpriv")
	sandbox.NeedProgram(t, "fusermount3")
	if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode()&0o006 != 0o006 {
		t.Skip("needs /dev/fuse open to all users: chmod 666 /dev/fuse")
	}
	h := newHome(t, systemPython)
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.Must(t, "chown", "-R", nobody+":"+nobody, h.Dir)
	return h
}

func TestUsersMountIsPrivate(t *testing.T) {
	h := newUser(t)
	user := as(nobody)
	h.Must(t, append(user, "sitefs", "mount", "-r", "one.toml", "first")...)
	if got := h.Must(t, append(user, filepath.Join(h.Dir, "first/bin/python"), "-c", show)...); got != "1.0\n" {
		t.Errorf("the user sees alpha %q", got)
	}
	for _, uid := range []string{"0", daemon} {
		if r := h.Run(t, append(as(uid), "ls", filepath.Join(h.Dir, "first"))...); r.Code == 0 {
			t.Errorf("user %s sees the mount: %q", uid, r.Stdout)
		}
	}
	h.Must(t, append(user, "sitefs", "umount", "--all")...)
}

func TestPrivateIsSaidOnce(t *testing.T) {
	h := newUser(t)
	user := as(nobody)
	for i, want := range []int{1, 0} {
		dir := []string{"one", "two"}[i]
		r := h.Run(t, append(user, "sitefs", "mount", "-r", "one.toml", dir)...)
		if r.Code != 0 || strings.Count(r.Stderr, "a mount is its user's alone") != want {
			t.Errorf("mount %d: exit code %d, %q, want it said %d times", i, r.Code, r.Stderr, want)
		}
	}
	h.Must(t, append(user, "sitefs", "umount", "--all")...)
}

func TestAllowOther(t *testing.T) {
	h := newUser(t)
	conf, err := os.ReadFile(fuseConf)
	if err != nil {
		t.Skipf("needs %s: %v", fuseConf, err)
	}
	if strings.Contains("\n"+string(conf), "\nuser_allow_other") {
		t.Skipf("needs a %s that forbids --allow-other", fuseConf)
	}
	mount := append(as(nobody), "sitefs", "mount", "--allow-other", "-r", "one.toml", "env")
	r := h.Run(t, mount...)
	if r.Code != 9 || !strings.Contains(r.Stderr, "have root put the line user_allow_other into /etc/fuse.conf") {
		t.Errorf("exit code %d, %q, want 9 and the ways out", r.Code, r.Stderr)
	}
	if _, err := os.Lstat(filepath.Join(h.Dir, "env")); err == nil {
		t.Error("the refused mount left its directory")
	}

	// Root may without asking.
	if err := os.Chown(h.Dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	h.Setenv("SITEFS_STORE", filepath.Join(h.Dir, "roots-store"))
	h.Setenv("XDG_STATE_HOME", filepath.Join(h.Dir, "state", "root"))
	t.Cleanup(func() { h.Must(t, "sitefs", "umount", "--all") })
	h.Must(t, "sitefs", "mount", "--allow-other", "-r", "one.toml", "env")
	for _, uid := range []string{"0", nobody, daemon} {
		got := h.Must(t, append(as(uid), filepath.Join(h.Dir, "env/bin/python"), "-c", show)...)
		if got != "1.0\n" {
			t.Errorf("user %s sees alpha %q", uid, got)
		}
	}
}
