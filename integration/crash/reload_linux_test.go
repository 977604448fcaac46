package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// install puts a program into the home, in the place of one that may be running,
// and has the commands of the home use it.
func (e *environment) install(t *testing.T, program []byte) string {
	t.Helper()
	written := e.Write(t, "programs/sitefs.new", string(program))
	if err := os.Chmod(written, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(e.Dir, "programs/sitefs")
	if err := os.Rename(written, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// builds returns two programs of the same source that differ.
func builds(t *testing.T) (first, second []byte) {
	t.Helper()
	first, err := os.ReadFile(filepath.Join(bin, "sitefs"))
	if err != nil {
		t.Fatal(err)
	}
	return first, build(t, "-ldflags=-s")
}

// build returns a program that is built with flags.
func build(t *testing.T, flags ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "sitefs")
	argv := slices.Concat([]string{"build", "-o", program}, flags, []string{"github.com/sitefs/sitefs/cmd/sitefs"})
	if out, err := exec.CommandContext(ctx, "go", argv...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	built, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// onOtherTerms returns a program that would agree with the kernel on another size of
// requests.
func onOtherTerms(t *testing.T) []byte {
	t.Helper()
	const (
		file      = "../../fusefs/mount/worker_linux.go"
		now, then = "maxTransfer = 1 << 20", "maxTransfer = 1 << 19"
	)
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), now); n != 1 {
		t.Fatalf("%s has %q %d times, want it once", file, now, n)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "worker.go"), filepath.Join(dir, "overlay.json")
	replaced, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {replaced: changed}})
	err = errors.Join(err,
		os.WriteFile(changed, []byte(strings.Replace(string(source), now, then, 1)), 0o666),
		os.WriteFile(overlay, text, 0o666))
	if err != nil {
		t.Fatal(err)
	}
	return build(t, "-overlay="+overlay)
}

// runs reports whether a process runs the program that is now at path.
func runs(pid int, path string) bool {
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(running, now)
}

// The program is replaced under a mount that is read all the time: worker and
// supervisor become the new one, and the leases and the counters stay.
func TestReload(t *testing.T) {
	sandbox.NeedSitefs(t)
	first, second := builds(t)
	e := newEnvironment(t, published)
	program := e.install(t, first)
	e.Setenv("PATH", strings.Join([]string{filepath.Dir(program), filepath.Dir(e.python), "/usr/bin", "/bin"}, ":"))
	user := e.Start(t, e.Dir, inProject("--keep", "1m", "cat")...)
	e.awaitState(t, mount.StateUsed)
	before := e.only(t)
	confined := confinement(t, &before)
	load := e.load(t, before.Dir, published...)
	for i, build := range [][]byte{second, first, second, first} {
		program := e.install(t, build)
		e.Must(t, "sitefs", "reload", before.Dir)
		now := e.only(t)
		if now.WorkerPID == before.WorkerPID || !runs(now.WorkerPID, program) {
			t.Errorf("reload %d: the worker is %d, was %d, and should run the new program", i, now.WorkerPID, before.WorkerPID)
		}
		sandbox.Eventually(t, func() string {
			if !runs(before.PID, program) {
				return fmt.Sprintf("reload %d: the supervisor does not run the new program", i)
			}
			return ""
		})
		checkCounters(t, &before, &now)
		checkConfined(t, confined, &now)
		if len(now.Leases) != 1 || now.Leases[0].PID != user.Process.Pid {
			t.Errorf("reload %d: leases %+v, want that of %d", i, now.Leases, user.Process.Pid)
		}
		before = now
	}
	load.end(t, longestCall)
	if err := user.End(); err != nil {
		t.Errorf("the command: %v\n%s", err, &user.Said)
	}
	e.awaitState(t, mount.StateWarm)
}

// A program that can't take over leaves everything as it was, and reload says why.
func TestReloadRefused(t *testing.T) {
	sandbox.NeedSitefs(t)
	good, err := os.ReadFile(filepath.Join(bin, "sitefs"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		program string
		want    string // in what reload says
	}{
		{"ends at once", "#!/bin/sh\nexit 3\n", "exit status 3"},
		{"is no program", "some text", "exec format error"},
		{"is cut short", string(good[:len(good)/2]), ""},
		{"agrees on other terms", string(onOtherTerms(t)), "(INIT)"},
	}
	e := newEnvironment(t, nil, numbered(2*len(tests)))
	program := e.install(t, good)
	venv := filepath.Join(e.Dir, ".venv")
	e.Must(t, program, "mount", "-r", "pylock.toml", venv)
	before := e.status(t, venv)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e.install(t, []byte(test.program))
			r := e.Run(t, "sitefs", "reload", venv)
			if r.Code == 0 || !strings.Contains(r.Stderr, test.want) || r.Stderr == "" {
				t.Errorf("reload: exit code %d, %q, want it to fail because of %q", r.Code, r.Stderr, test.want)
			}
			if now := e.status(t, venv); now.PID != before.PID || now.WorkerPID != before.WorkerPID {
				t.Errorf("supervisor and worker are %d and %d, were %d and %d", now.PID, now.WorkerPID, before.PID, before.WorkerPID)
			}
			if err := e.checkFile(venv, i); err != nil {
				t.Error(err)
			}
		})
	}
	// With the program as it was, it can be done.
	e.install(t, good)
	e.Must(t, "sitefs", "reload", venv)
	if err := e.checkFile(venv, len(tests)); err != nil {
		t.Error(err)
	}
}
