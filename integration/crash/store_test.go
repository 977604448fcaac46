package crash

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A store that is deleted under a mount makes files unreadable, and nothing else:
// the status has the reason. When it is back, so are the files, from a reload on.
func TestStoreDeleted(t *testing.T) {
	e := newEnvironment(t, nil, numbered(4))
	venv := e.mount(t, ".venv")
	e.checkServes(t, venv, 0)
	if err := os.RemoveAll(e.Store()); err != nil {
		t.Fatal(err)
	}
	if err := e.checkFile(venv, 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading: %v, want %v", err, syscall.EIO)
	}
	if s := e.status(t, venv); s.Errors == 0 || !strings.Contains(s.LastError, "opening blob") {
		t.Errorf("the status has %d errors, the last %q, want it to name the blob", s.Errors, s.LastError)
	}
	if r := e.Run(t, "sitefs", "reload", venv); r.Code == 0 || !strings.Contains(r.Stderr, "store") {
		t.Errorf("reload without a store: exit code %d, %q, want it refused because of the store", r.Code, r.Stderr)
	}
	e.mount(t, "other") // brings the wheels in again
	e.Must(t, "sitefs", "reload", venv)
	for i := range 4 {
		e.checkServes(t, venv, i)
	}
}
