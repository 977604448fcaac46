package mount_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A worker that has come to rest gives memory back, and answers as before.
func TestWorkerRests(t *testing.T) {
	idle := filepath.Join(t.TempDir(), "idle")
	src := source(t)
	w := newWant(t, serverConfig{Source: src, Idle: idle})
	lease(t, w)
	for range 2 {
		run(t, "/", "diff", "-r", filepath.Join(src, "lib/pkg"), filepath.Join(w.Dir, "lib/pkg"))
		eventually(t, testContext(t), func() string {
			if err := os.Remove(idle); err != nil {
				return err.Error()
			}
			return ""
		})
		dropCaches(t, w)
	}
	if s := status(t, w); s.Errors != 0 || s.Restarts != 0 {
		t.Errorf("%d errors, %d restarts", s.Errors, s.Restarts)
	}
}

// A request that waits is shown by the path that it is for, and by a number while
// the worker can't tell.
func TestInFlightPaths(t *testing.T) {
	for _, test := range []struct {
		paths bool
		want  string
	}{
		{true, "lib/wait"},
		{false, "node %d/wait"},
	} {
		t.Run(test.want, func(t *testing.T) {
			w := newWant(t, serverConfig{Poison: true, Paths: test.paths})
			lease(t, w)
			lib := filepath.Join(w.Dir, "lib")
			want := test.want
			if !test.paths {
				want = fmt.Sprintf(test.want, inode(t, lib))
			}
			waits := exec.Command("stat", filepath.Join(lib, "wait"))
			if err := waits.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, testContext(t), func() string {
				list := status(t, w).InFlight
				if len(list) != 1 {
					return fmt.Sprintf("%v in flight, want one", list)
				}
				if r := list[0]; r.Op != "LOOKUP" || r.Path != want || r.PID != waits.Process.Pid {
					t.Errorf("%+v, want a LOOKUP of %q by %d", r, want, waits.Process.Pid)
				}
				return ""
			})
			if err := waits.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = waits.Wait() // it was killed
		})
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}
