package faults

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

var (
	kills      = flag.Int("kills", 4, "before how many calls of each run that TestMaterialize disturbs it is killed; 0: before every one")
	injections = flag.Int("injections", 8, "how many faults are tried on each run that TestMaterialize disturbs; 0: all")
	seed       = flag.Uint64("faultseed", uint64(time.Now().UnixNano()), "what decides which")
)

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) {
	sandbox.MountsAlone()
	sandbox.Main(m, &bin, &python)
}

// Whatever call fails, and wherever the run is killed, the target is the old
// environment or the new one, and a second run makes the new one and takes away
// what the first left.
func TestMaterialize(t *testing.T) {
	sandbox.NeedSitefs(t)
	t.Logf("-faultseed %d", *seed)
	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			home, target := p.make(t)
			t.Setenv("TMPDIR", home)
			for _, mode := range p.modes {
				t.Run(mode+", over an old one", func(t *testing.T) { newEnvironment(t, target, mode, true).disturb(t) })
				t.Run(mode, func(t *testing.T) { newEnvironment(t, target, mode, false).disturb(t) })
			}
		})
	}
}

// An environment is one that `sitefs materialize` makes, where an older one is or
// nothing.
type environment struct {
	*sandbox.Home
	dest     string
	mode     string // the link mode, and flags
	over     bool   // over an old one
	old, new sandbox.Snapshot
}

// newEnvironment makes the wheels and both environments once, to know them.
func newEnvironment(t *testing.T, target, mode string, over bool) *environment {
	t.Helper()
	e := &environment{Home: sandbox.NewHome(t, bin, python), dest: filepath.Join(target, "venv"), mode: mode, over: over}
	t.Cleanup(func() {
		if err := os.RemoveAll(e.dest); err != nil {
			t.Error(err)
		}
	})
	e.writeLocks(t)
	if err := e.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.old = e.snapshot(t)
	e.Must(t, e.materialize("new.toml")...)
	e.new = e.snapshot(t)
	return e
}

// writeLocks writes old.toml and new.toml. From one to the other a wheel changes, one goes,
// one comes and one stays.
func (e *environment) writeLocks(t *testing.T) {
	t.Helper()
	wheels := filepath.Dir(e.Write(t, "wheels/README", ""))
	pin := func(name, version string, files int) wheelhouse.Wheel {
		s := wheelhouse.Spec{Name: name, Version: version, Files: map[string]string{name + "/__init__.py": ""}, Console: map[string]string{name: name + ":main"}}
		for i := range files {
			s.Files[fmt.Sprintf("%s/m%d.py", name, i)] = fmt.Sprintf("version = %q\nnumber = %d\n", version, i)
			s.Files[fmt.Sprintf("%s/same/s%d.py", name, i)] = "the same = True\n"
		}
		s.Files[name+"-"+version+".data/data/share/"+name+"/large"] = strings.Repeat(version, 50_000)
		w, err := wheelhouse.Write(wheels, s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for name, pins := range map[string][]wheelhouse.Wheel{
		"old.toml": {pin("changes", "1.0", 4), pin("goes", "1.0", 2), pin("stays", "1.0", 4)},
		"new.toml": {pin("changes", "2.0", 4), pin("comes", "1.0", 2), pin("stays", "1.0", 4)},
	} {
		lock, err := wheelhouse.PylockPath(pins, "wheels")
		if err != nil {
			t.Fatal(err)
		}
		e.Write(t, name, string(lock))
	}
}

func (e *environment) materialize(lock string) []string {
	return slices.Concat([]string{"sitefs", "materialize", "-r", lock, "--link-mode"}, strings.Fields(e.mode), []string{e.dest})
}

func (e *environment) command(ctx context.Context, argv ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/usr/bin/env", argv...)
	c.Dir, c.Env = e.Dir, e.Env
	return c
}

// prepare brings the target to what it is before a run: nothing, or an
// environment to which the user has added a file, at the same time whenever.
func (e *environment) prepare(ctx context.Context) error {
	if err := os.RemoveAll(e.dest); err != nil || !e.over {
		return err
	}
	if out, err := e.command(ctx, e.materialize("old.toml")...).CombinedOutput(); err != nil {
		return fmt.Errorf("making the old environment: %w\n%s", err, out)
	}
	added, then := filepath.Join(e.dest, "added"), time.Unix(1_500_000_000, 0)
	return errors.Join(os.WriteFile(added, []byte("by the user\n"), 0o666), os.Chtimes(added, then, then))
}

func (e *environment) snapshot(t *testing.T) sandbox.Snapshot {
	t.Helper()
	s, err := e.take()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take returns what is at the target: nothing at all is an empty snapshot.
func (e *environment) take() (sandbox.Snapshot, error) {
	const mark = ".sitefs-venv" // says when it was made
	s, err := sandbox.TakeDated(e.dest, func(path string) bool { return path == mark }, e.dated)
	if _, e := os.Lstat(e.dest); errors.Is(e, fs.ErrNotExist) {
		return sandbox.Snapshot{}, nil
	}
	return s, err
}

// dated reports whether a path has the tree's time: what a compiler writes has its
// own, and so has a directory into which something was kept.
func (e *environment) dated(path string) bool {
	return !strings.Contains(path, "__pycache__") && (path != "." || !e.over)
}

func (e *environment) state() (State, string, error) {
	now, err := e.take()
	if err != nil {
		return 0, "", err
	}
	why := now.Differ(e.new)
	switch {
	case why == "":
		return New, "", nil
	case now.Differ(e.old) == "":
		return Old, "", nil
	}
	return Neither, why, nil
}

// leftovers returns what a run made beside the target and should have taken away.
func (e *environment) leftovers() ([]string, error) {
	return filepath.Glob(filepath.Join(filepath.Dir(e.dest), ".venv*"))
}

// disturb tries faults.
func (e *environment) disturb(t *testing.T) {
	s := &Subject{
		Dirs:      []string{e.Dir, filepath.Dir(e.dest)}, // what the run changes in its store counts too
		Prepare:   e.prepare,
		Command:   func(ctx context.Context) *exec.Cmd { return e.command(ctx, e.materialize("new.toml")...) },
		State:     e.state,
		Leftovers: e.leftovers,
	}
	calls, err := s.Calls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls: %v", len(calls), Names(calls))
	random := rand.New(rand.NewPCG(*seed, 0))
	ended := map[string]int{}
	faults := append(pick(random, Kills(calls), *kills), pick(random, Injections(calls, Errors()), *injections)...)
	for _, f := range faults {
		trial, err := s.Try(t.Context(), f)
		if err != nil {
			t.Fatalf("%v: %v", f, err)
		}
		if p := trial.Problem(); p != "" {
			t.Errorf("%v (%v): %s\n%s", f, trial.Struck, p, trial.Said)
		}
		ended[fmt.Sprintf("exit code %d, %v", trial.Exit, trial.After)]++
	}
	t.Logf("%d trials: %v", len(faults), ended)
}

// pick takes so many of the faults, or all.
func pick(random *rand.Rand, faults []Fault, n int) []Fault {
	random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	if n == 0 || n > len(faults) {
		return faults
	}
	return faults[:n]
}
