package faults

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// An environment that came with the lower layer of an overlayfs, as one in a
// container's image does, can't be renamed. It is removed before the new one comes:
// a run that is stopped meanwhile leaves what no interpreter starts in, never what
// looks whole, and the next one completes it.
func TestLowerLayer(t *testing.T) {
	sandbox.NeedSitefs(t)
	t.Logf("-faultseed %d", *seed)
	o := newOverlay(t)
	t.Setenv("TMPDIR", o.dir)
	e := newEnvironment(t, folder(t, o.dir, "target"), "copy", true)
	if err := e.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.reset(t.Context()); err != nil { // all that is there is the lower layer from now on
		t.Fatal(err)
	}
	t.Cleanup(func() { o.umount(t) })

	s := &Subject{
		Dirs:    []string{o.dir},
		Prepare: o.reset,
		Command: func(ctx context.Context) *exec.Cmd { return e.command(ctx, e.materialize("new.toml")...) },
		State: func() (State, string, error) {
			state, why, err := e.state()
			if state == Neither && e.withoutInterpreter() {
				state = Old // on its way out
			}
			return state, why, err
		},
		Leftovers: e.leftovers,
	}
	calls, err := s.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	for _, f := range append(pick(random, Kills(calls), 3**kills), pick(random, Injections(calls, Errors()), *injections)...) {
		trial, err := s.Try(t.Context(), f)
		if err != nil {
			t.Fatalf("%v: %v", f, err)
		}
		if p := trial.Problem(); p != "" {
			t.Errorf("%v (%v): %s\n%s", f, trial.Struck, p, trial.Said)
		}
	}
}

// withoutInterpreter reports whether nobody can start an interpreter in what is at
// the target.
func (e *environment) withoutInterpreter() bool {
	_, err := os.Lstat(filepath.Join(e.dest, "bin", "python"))
	return errors.Is(err, fs.ErrNotExist)
}

// An overlay is an overlayfs over what was on its mount point before.
type overlay struct{ dir, below string }

// newOverlay returns one whose lower layer can be filled: it is what stands at dir
// until the first reset.
func newOverlay(t *testing.T) *overlay {
	o := &overlay{t.TempDir(), sandbox.Tmpfs(t, "300m")}
	if err := unix.Mount(folder(t, o.below, "lower"), o.dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	return o
}

// reset takes all away that was written since the first reset.
func (o *overlay) reset(context.Context) error {
	if err := unix.Unmount(o.dir, 0); err != nil {
		return err
	}
	options := "lowerdir=" + filepath.Join(o.below, "lower")
	for _, name := range []string{"upper", "work"} {
		dir := filepath.Join(o.below, name)
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o777)); err != nil {
			return err
		}
		options += "," + name + "dir=" + dir
	}
	return unix.Mount("overlay", o.dir, "overlay", 0, options)
}

func (o *overlay) umount(t *testing.T) {
	if err := unix.Unmount(o.dir, 0); err != nil {
		t.Errorf("unmounting %s: %v", o.dir, err)
	}
}
