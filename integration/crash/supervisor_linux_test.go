package crash

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// A supervisor that is killed leaves a worker that serves on. The next command
// gives the mount a supervisor again, whichever command it is.
func TestSupervisorKilled(t *testing.T) {
	lookAt := func(t *testing.T, e *environment, venv string) { e.status(t, venv) }
	tests := []struct {
		name string
		next func(t *testing.T, e *environment, venv string)
	}{
		{"status", lookAt},
		{"status of all", func(t *testing.T, e *environment, _ string) { e.only(t) }},
		{"mount", func(t *testing.T, e *environment, _ string) { e.mount(t, ".venv") }},
		{"reload", func(t *testing.T, e *environment, venv string) { e.Must(t, "sitefs", "reload", venv) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEnvironment(t, nil, numbered(4))
			venv := e.mount(t, ".venv")
			before := e.status(t, venv)
			confined := confinement(t, &before)
			sandbox.Kill(t, before.PID)
			e.checkServes(t, venv, 0)
			test.next(t, e, venv)
			e.checkServes(t, venv, 1)
			now := e.status(t, venv)
			if now.State != mount.StateHeld || now.PID == before.PID {
				t.Errorf("the mount is %s with supervisor %d, was held with %d", now.State, now.PID, before.PID)
			}
			checkCounters(t, &mount.Status{PID: now.PID, Requests: before.Requests, BytesRead: before.BytesRead}, &now)
			checkConfined(t, confined, &now)
			sandbox.Kill(t, workerOf(t, now.PID))
			e.checkServes(t, venv, 2)
		})
	}
}

// Without its supervisor a mount can still be unmounted.
func TestSupervisorKilledUnmount(t *testing.T) {
	e := newEnvironment(t, nil, numbered(1))
	venv := e.mount(t, ".venv")
	sandbox.Kill(t, e.status(t, venv).PID)
	e.Must(t, "sitefs", "umount", venv)
	sandbox.Eventually(t, func() string { return sandbox.Leaks(e.Dir) })
}

// A command that runs in the environment when its supervisor dies has no lease any
// more. The next command runs beside it in the same place, and leaves it there.
func TestSupervisorKilledUnderCommand(t *testing.T) {
	e := newEnvironment(t, nil, numbered(2))
	user := e.Start(t, e.Dir, inProject("--keep", "0", "cat")...)
	e.awaitState(t, mount.StateUsed)
	before := e.only(t)
	sandbox.Kill(t, before.PID)
	const show = "import sys, numbered; print(sys.prefix)"
	if got := strings.TrimSpace(e.Must(t, inProject("--keep", "0", "python", "-c", show)...)); got != before.Dir {
		t.Errorf("the next command runs in %s, want %s", got, before.Dir)
	}
	e.awaitState(t, mount.StateWarm)
	e.checkServes(t, before.Dir, 0)
	if err := user.End(); err != nil {
		t.Errorf("the command: %v\n%s", err, &user.Said)
	}
	sandbox.Eventually(t, func() string { return sandbox.Leaks(e.Dir) })
}

// A command that holds no file open is not seen by the kernel, and its lease went
// with the supervisor: the mount isn't taken from under it nevertheless.
func TestSupervisorKilledUnmountUnderCommand(t *testing.T) {
	e := newEnvironment(t, nil, numbered(1))
	user := e.Start(t, e.Dir, inProject("cat")...)
	e.awaitState(t, mount.StateUsed)
	before := e.only(t)
	sandbox.Kill(t, before.PID)
	pid := fmt.Sprintf("(pid %d, VIRTUAL_ENV)", user.Process.Pid)
	for _, venv := range []string{before.Dir, "nowhere"} { // whoever asks may have it activated too
		e.Setenv("VIRTUAL_ENV", venv)
		if r := e.Run(t, "sitefs", "umount", before.Dir); r.Code != 11 || !strings.Contains(r.Stderr, "is busy: cat "+pid+"; end them") {
			t.Errorf("umount: exit code %d, %q, want 11 and %q", r.Code, r.Stderr, pid)
		}
		e.Must(t, "sitefs", "reload", before.Dir) // knows no more than the one before
	}
	e.checkServes(t, before.Dir, 0)
	if err := user.End(); err != nil {
		t.Errorf("the command: %v\n%s", err, &user.Said)
	}
	e.Must(t, "sitefs", "umount", before.Dir)
	sandbox.Eventually(t, func() string { return sandbox.Leaks(e.Dir) })
}

// When all processes of a mount are killed there is nobody left to serve it. The
// next command says so, takes what is left away and mounts again.
func TestAllKilled(t *testing.T) {
	e := newEnvironment(t, nil, numbered(3))
	venv := e.mount(t, ".venv")
	s := e.status(t, venv)
	sandbox.Kill(t, s.PID)
	sandbox.Kill(t, s.WorkerPID)
	// The first to ask may see the end, the others what it has left.
	if err := e.checkFile(venv, 0); !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("reading: %v, want %v", err, syscall.ENOTCONN)
	}
	if now := e.status(t, venv); now.State != mount.StateDead {
		t.Errorf("the mount is %s, want dead", now.State)
	}
	r := e.Run(t, "sitefs", "mount", "-r", "pylock.toml", venv)
	if said := "the mount on " + venv + " was dead, "; r.Code != 0 || strings.Count(r.Stderr, said) != 1 {
		t.Errorf("mount: exit code %d, %q, want %q in it once", r.Code, r.Stderr, said)
	}
	e.checkServes(t, venv, 0)
	if mounts, err := sandbox.Mounts(e.Dir); len(mounts) != 1 || err != nil {
		t.Errorf("mounts %q, %v, want one", mounts, err)
	}
	if servers, err := sandbox.Servers(e.Dir); len(servers) != 2 || err != nil {
		t.Errorf("processes %q, %v, want a supervisor and its worker", servers, err)
	}
}
