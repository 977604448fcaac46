// Package sandbox gives integration tests the program and a home of their own to
// run it in.
//
// [Build] builds the program once for a test binary. [Environ] is the environment
// of commands that must not see the user's own store, mounts, caches or indexes:
// without an index of the test's own the resolvers are offline. What is left of a
// home when its test is over, [Leaks] finds; a test that leaves something fails.
//
// The package uses no network and writes nothing outside the directories it is
// given.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Build builds sitefs into dir, which is then to be first on the PATH of
// commands, and puts the uv that the user has, if any, beside it.
func Build(dir string) error {
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "sitefs"), "github.com/sitefs/sitefs/cmd/sitefs").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building sitefs: %w\n%s", err, out)
	}
	uv, err := uv()
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Symlink(uv, filepath.Join(dir, "uv"))
}

// uv returns the path of the user's uv: not a pyenv shim, which needs a home
// that the tests don't have.
func uv() (string, error) {
	path, err := exec.LookPath("uv")
	if err != nil {
		return "", err
	}
	if !strings.Contains(path, "/shims/") {
		return path, nil
	}
	out, err := exec.Command("pyenv", "which", "uv").Output()
	if err != nil {
		return "", fmt.Errorf("pyenv which uv: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Python returns the path of the interpreter that python3 is on the user's PATH:
// the real one, not a shim or a virtual environment's link.
func Python() (string, error) {
	const script = `import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))`
	out, err := exec.Command("python3", "-c", script).Output()
	if err != nil {
		return "", fmt.Errorf("the tests need a python3: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Environ returns the environment of commands whose home is the directory home
// and that find programs in bin, then beside the interpreter python, then where
// the system has them.
func Environ(home, bin, python string) []string {
	return []string{
		"HOME=" + home,
		"PATH=" + strings.Join([]string{bin, filepath.Dir(python), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"}, ":"),
		"TMPDIR=" + home,
		"LANG=C.UTF-8",
		"XDG_STATE_HOME=" + filepath.Join(home, "state"),
		"XDG_CACHE_HOME=" + filepath.Join(home, "cache"),
		"SITEFS_STORE=" + filepath.Join(home, "store"),
		"PYTHONDONTWRITEBYTECODE=1",
		"UV_OFFLINE=1",
		"PIP_NO_INDEX=1",
		"PIP_DISABLE_PIP_VERSION_CHECK=1",
	}
}

// pollInterval is short beside what the tests wait for: processes that end and
// mounts that go, which takes milliseconds.
const pollInterval = 5 * time.Millisecond

// Await waits until problem returns "", and returns the last thing it said as an
// error if the context ends first. It is for the state of other processes, which
// tell nobody when it changes.
func Await(ctx context.Context, problem func() string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		said := problem()
		if said == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", ctx.Err(), said)
		case <-tick.C:
		}
	}
}

func await(patience time.Duration, problem func() string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Await(ctx, problem)
}

// patience is how long a test waits for what takes milliseconds.
const patience = 30 * time.Second

// Eventually is Await for what takes milliseconds. It fails the test where that
// takes half a minute.
func Eventually(t testing.TB, problem func() string) {
	t.Helper()
	if err := await(patience, problem); err != nil {
		t.Fatal(err)
	}
}
