package crash

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A store that is deleted under a mount makes files unreadable, and nothing else:
// the status has the reason. When it is back, so are the files.
func TestStoreDeleted(t *testing.T) {
	e := newEnvironment(t, nil, numbered(4))
	venv := e.mount(t, ".venv")
	before := e.status(t, venv)
	e.checkServes(t, venv, 0)
	if err := os.RemoveAll(e.Store()); err != nil {
		t.Fatal(err)
	}
	if err := e.checkFile(venv, 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading: %v, want %v", err, syscall.EIO)
	}
	if s := e.status(t, venv); s.Errors == 0 || !strings.Contains(s.LastError, e.Store()) {
		t.Errorf("the status has %d errors, the last %q, want it to name the store", s.Errors, s.LastError)
	}
	if r := e.Run(t, "sitefs", "reload", venv); r.Code == 0 || !strings.Contains(r.Stderr, e.Store()) {
		t.Errorf("reload without a store: exit code %d, %q, want it refused because of the store", r.Code, r.Stderr)
	}
	e.mount(t, "other") // brings the wheels in again
	sandbox.Eventually(t, func() string {
		if err := e.checkFile(venv, 1); err != nil {
			return err.Error()
		}
		return ""
	})
	for i := range 4 {
		e.checkServes(t, venv, i)
	}
	if now := e.status(t, venv); now.PID != before.PID || now.LastError != "" {
		t.Errorf("supervisor %d, was %d; last error %q, want none", now.PID, before.PID, now.LastError)
	}
}

// A worker that dies while the store is away has a successor that can serve
// nothing: what is asked fails, and does not wait. When the store is back, all is
// as it was.
func TestStoreAwayAndKilled(t *testing.T) {
	e := newEnvironment(t, nil, numbered(2))
	venv := e.mount(t, ".venv")
	aside := e.Store() + ".aside"
	if err := os.Rename(e.Store(), aside); err != nil {
		t.Fatal(err)
	}
	sandbox.Kill(t, e.status(t, venv).WorkerPID)
	if err := e.checkFile(venv, 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading: %v, want %v", err, syscall.EIO)
	}
	if s := e.status(t, venv); !strings.Contains(s.LastError, e.Store()) {
		t.Errorf("the last error is %q, want it to name the store", s.LastError)
	}
	if err := os.Rename(aside, e.Store()); err != nil {
		t.Fatal(err)
	}
	sandbox.Eventually(t, func() string {
		if err := e.checkFile(venv, 0); err != nil {
			return err.Error()
		}
		return ""
	})
	e.checkServes(t, venv, 1)
}
