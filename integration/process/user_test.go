package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// TestOrdinaryUser mounts with fusermount3, as everybody but root does.
func TestOrdinaryUser(t *testing.T) {
	sandbox.NeedOrdinaryUser(t)
	u := newUser(t)
	// The home is out of the test's own directory, which is root's alone.
	home, err := os.MkdirTemp("", "sitefs-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	u.home, u.environ = home, sandbox.Environ(home, bin, sandbox.SystemPython)
	for _, dir := range []string{"wheels", "project"} {
		if err := os.Mkdir(u.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clear(u.wheels)
	u.lock("alpha 1.0")
	if err := os.Chown(home, sandbox.Nobody, sandbox.Nobody); err != nil {
		t.Fatal(err)
	}
	as := func(argv ...string) *exec.Cmd {
		cmd := u.command(argv...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: sandbox.Nobody, Gid: sandbox.Nobody}}
		return cmd
	}
	if out, err := as(sandbox.SystemPython, "--version").CombinedOutput(); err != nil {
		t.Skipf("needs %s, which every user can run: %v\n%s", sandbox.SystemPython, err, out)
	}
	check := func(want string, argv ...string) {
		t.Helper()
		out, err := as(argv...).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", argv, got, err, want)
			if exit, ok := err.(*exec.ExitError); ok {
				t.Logf("%s", exit.Stderr)
			}
		}
	}
	script := "import os, alpha; s = os.stat(alpha.__file__); print(alpha.version, s.st_uid, s.st_gid)"
	check("1.0 65534 65534", inProject("--keep", "0", "python", "-c", script)...)
	u.expectNothingLeft()

	check("", "sitefs", "mount", "-r", "project/pylock.toml", filepath.Join(home, "venv"))
	check("1.0 65534 65534", filepath.Join(home, "venv/bin/python"), "-c", script)
	check("", "sitefs", "umount", filepath.Join(home, "venv"))
	u.expectNothingLeft()
}
