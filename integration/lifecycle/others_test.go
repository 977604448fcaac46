package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

const (
	fuseConf = "/etc/fuse.conf"

	root, daemon = 0, 1 // daemon has no rights either (Debian's number)
)

// newUser returns the home of nobody, who runs its commands.
func newUser(t *testing.T) *sandbox.Home {
	t.Helper()
	sandbox.NeedOrdinaryUser(t)
	h := newHome(t, sandbox.SystemPython)
	if err := os.Chmod(h.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.GiveTo(t, sandbox.Nobody)
	return h
}

// runAs runs a command of another user.
func runAs(t *testing.T, h *sandbox.Home, uid int, argv ...string) sandbox.Result {
	t.Helper()
	other := *h
	other.As = sandbox.As(uid)
	return other.Run(t, argv...)
}

func TestUsersMountIsPrivate(t *testing.T) {
	h := newUser(t)
	h.Must(t, "sitefs", "mount", "-r", "one.toml", "first")
	expect(t, h, "first", "1.0")
	for _, uid := range []int{root, daemon} {
		if r := runAs(t, h, uid, "ls", filepath.Join(h.Dir, "first")); r.Code == 0 {
			t.Errorf("user %d sees the mount: %q", uid, r.Stdout)
		}
	}
}

func TestPrivateIsSaidOnce(t *testing.T) {
	h := newUser(t)
	for i, want := range []int{1, 0} {
		dir := []string{"one", "two"}[i]
		r := h.Run(t, "sitefs", "mount", "-r", "one.toml", dir)
		if r.Code != 0 || strings.Count(r.Stderr, "a mount is its user's alone") != want {
			t.Errorf("mount %d: exit code %d, %q, want it said %d times", i, r.Code, r.Stderr, want)
		}
	}
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
	r := h.Run(t, "sitefs", "mount", "--allow-other", "-r", "one.toml", "env")
	if r.Code != 9 || !strings.Contains(r.Stderr, "have root put the line user_allow_other into /etc/fuse.conf") {
		t.Errorf("exit code %d, %q, want 9 and the ways out", r.Code, r.Stderr)
	}
	if _, err := os.Lstat(filepath.Join(h.Dir, "env")); err == nil {
		t.Error("the refused mount left its directory")
	}

	// Root may without asking.
	h.GiveTo(t, root)
	h.Must(t, "sitefs", "mount", "--allow-other", "-r", "one.toml", "env")
	for _, uid := range []int{root, sandbox.Nobody, daemon} {
		r := runAs(t, h, uid, filepath.Join(h.Dir, "env/bin/python"), "-c", show)
		if r.Stdout != "1.0\n" {
			t.Errorf("user %d sees alpha %q\n%s", uid, r.Stdout, r.Stderr)
		}
	}
}
