package crash

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// longestHang is what a call may take when the worker hangs: the supervisor watches
// for some 50 seconds before it is sure.
const longestHang = 90 * time.Second

// A worker that hangs is replaced. Those who import, walk, read and map meanwhile
// wait, and see nothing else of it.
func TestHang(t *testing.T) {
	t.Parallel() // it waits
	e := newEnvironment(t, published)
	venv := e.mount(t, ".venv")
	load := e.load(t, venv, published...)
	before := e.status(t, venv)
	if err := unix.Kill(before.WorkerPID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestHang)
	defer cancel()
	var now mount.Status
	err := sandbox.Await(ctx, func() string {
		now = e.status(t, venv)
		if now.WorkerPID == before.WorkerPID {
			return fmt.Sprintf("worker %d is stopped and stays", before.WorkerPID)
		}
		return ""
	})
	if err != nil {
		t.Error(err)
	}
	load.end(t, longestHang)
	const want = "answered nothing, although requests waited"
	if !slices.ContainsFunc(now.LastRestarts, func(r mount.Restart) bool { return r.Reason == want }) {
		t.Errorf("restarts %+v, want one because the worker %s", now.LastRestarts, want)
	}
	checkCounters(t, &before, &now)
	if now.Errors != 0 {
		t.Errorf("%d requests were answered with an I/O error", now.Errors)
	}
}
