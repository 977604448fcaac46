// Package lifecycle tests what becomes of the mounts that `sitefs mount` makes: when
// their processes die, the machine starts anew, the lock file changes, or mount(8)
// and other users come in.
package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

// patience is how long a test waits for what takes milliseconds.
const patience = 30 * time.Second

// newHome returns the home of a user with lock files one.toml and two.toml, which
// pin alpha 1.0 and 2.0.
func newHome(t *testing.T, python string) *sandbox.Home {
	t.Helper()
	sandbox.NeedSitefs(t)
	h := sandbox.NewHome(t, bin, python)
	for name, version := range map[string]string{"one.toml": "1.0", "two.toml": "2.0"} {
		h.Write(t, name, string(lock(t, h, version)))
	}
	return h
}

// lock returns a lock file of a wheel alpha, which it makes.
func lock(t *testing.T, h *sandbox.Home, version string) []byte {
	t.Helper()
	dir := filepath.Join(h.Dir, "wheels")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	w, err := wheelhouse.Write(dir, wheelhouse.Spec{
		Name: "alpha", Version: version,
		Files: map[string]string{"alpha.py": fmt.Sprintf("version = %q\n", version)},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := wheelhouse.PylockPath([]wheelhouse.Wheel{w}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// show prints the version of alpha.
const show = "import alpha; print(alpha.version)"

// version returns the version of alpha that the environment dir holds.
func version(t *testing.T, h *sandbox.Home, dir string) string {
	t.Helper()
	r := h.Run(t, filepath.Join(h.Dir, dir, "bin", "python"), "-c", show)
	return strings.TrimSpace(r.Stdout + r.Stderr)
}

// expect fails the test unless the environment dir holds that version of alpha.
func expect(t *testing.T, h *sandbox.Home, dir, want string) {
	t.Helper()
	if got := version(t, h, dir); got != want {
		t.Errorf("%s holds alpha %q, want %q", dir, got, want)
	}
}

// kill ends every process of the mounts in the home at once, as the kernel does
// when memory is short, and waits until the mount on dir is dead.
func kill(t *testing.T, h *sandbox.Home, dir string) {
	t.Helper()
	sandbox.Eventually(t, func() string {
		for _, p := range servers(t, h) {
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				t.Fatal(err)
			}
		}
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Join(h.Dir, dir), &st); err != syscall.ENOTCONN {
			return fmt.Sprintf("statfs of a dead mount: %v, want ENOTCONN", err)
		}
		return ""
	})
}

// servers returns the supervisors and workers of the home's mounts.
func servers(t *testing.T, h *sandbox.Home) []sandbox.Process {
	t.Helper()
	found, err := sandbox.Servers(h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
