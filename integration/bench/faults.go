package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sitefs/sitefs/integration/faults"
	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// disturbed are the packages of the environment whose installation is disturbed:
// enough files that most of the time of a run is theirs.
var disturbed = []string{"attrs", "certifi", "click", "h11", "idna", "jinja2", "numpy", "packaging", "rich", "werkzeug"}

// withFaults kills installations at random, or has one call fail, and then runs
// the same command again: how often does that say success over an environment that
// is broken? Which it is, is found by comparing every file with those of an
// installation that nothing disturbed.
func withFaults(ctx context.Context, b *bench) ([]Row, error) {
	lock, err := b.lockOf("pylock.faults.toml", disturbed)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, mode := range []string{"hardlink", "copy"} {
		sides := [2]*faults.Subject{}
		if sides[0], err = b.sitefsSubject(ctx, lock, mode); err != nil {
			return nil, err
		}
		if sides[1], err = b.uvSubject(ctx, lock, mode); err != nil {
			return nil, err
		}
		more, err := b.disturb(ctx, mode, sides)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// lockOf writes a lock file of some of the wheels.
func (b *bench) lockOf(name string, packages []string) (string, error) {
	var some []wheelhouse.Wheel
	for _, w := range b.wheels {
		if slices.Contains(packages, strings.ToLower(w.Name())) {
			some = append(some, w)
		}
	}
	if len(some) != len(packages) {
		return "", fmt.Errorf("%s has %d of %q", list, len(some), packages)
	}
	lock := b.path(name)
	return lock, b.writeLock(lock, some)
}

// trials is how often an installation is killed, and how often each call fails.
func (b *bench) trials() (kills, injections int) {
	if b.quick {
		return 6, 3
	}
	return 60, 20
}

// disturb makes the rows of one mode.
func (b *bench) disturb(ctx context.Context, mode string, sides [2]*faults.Subject) ([]Row, error) {
	var calls [2][]faults.Call
	for i, s := range sides {
		var err error
		if calls[i], err = s.Calls(ctx); err != nil {
			return nil, err
		}
	}
	kills, injections := b.trials()
	row, err := tryBoth(ctx, sides, calls, kills, "kill -9, "+mode, faults.Answer{Kill: true})
	if err != nil {
		return nil, err
	}
	row.Note += fmt.Sprintf("; each kill is in front of one of the calls that change something: sitefs %d, uv %d", len(calls[0]), len(calls[1]))
	rows := []Row{row}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EPERM} {
		what := fmt.Sprintf("one %s, %s", faults.ErrnoName(errno), mode)
		row, err := tryBoth(ctx, sides, calls, injections, what, faults.Answer{Errno: errno})
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// tryBoth tries a fault so often, at random calls, on both sides in turn.
func tryBoth(ctx context.Context, sides [2]*faults.Subject, calls [2][]faults.Call, times int, what string, answer faults.Answer) (Row, error) {
	var broken [2]float64
	var half [2]int
	for range times {
		for i, s := range sides {
			f := randomFault(calls[i], answer)
			trial, err := s.Try(ctx, f)
			if err != nil {
				return Row{}, fmt.Errorf("%s: %v: %w", what, f, err)
			}
			if trial.SilentlyBroken() {
				broken[i]++
			}
			if trial.After == faults.Neither {
				half[i]++
			}
		}
	}
	return Row{
		What: fmt.Sprintf("%s, run again: broken, of %d", what, times),
		Unit: count, Sitefs: broken[0], Peer: "uv", Other: broken[1], Goal: atMost(0),
		Note: fmt.Sprintf("half an environment before the second run: sitefs %d, uv %d", half[0], half[1]),
	}, nil
}

// randomFault returns a fault at any call, if it kills, and else at one of those
// that give files their content.
func randomFault(calls []faults.Call, answer faults.Answer) faults.Fault {
	if answer.Kill {
		return faults.Fault{N: 1 + rand.IntN(len(calls)), Answer: answer}
	}
	names := faults.Names(calls)
	f := faults.Fault{Answer: answer}
	most := 1
	for _, name := range []string{"linkat", "ficlone", "copy_file_range", "write"} {
		if names[name] > most {
			f.Name, most = name, names[name]
		}
	}
	f.N = 1 + rand.IntN(most)
	return f
}

// sitefsSubject is `sitefs materialize` where nothing was before.
func (b *bench) sitefsSubject(ctx context.Context, lock, mode string) (*faults.Subject, error) {
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	dir, err := b.subjectDir("sitefs", mode)
	if err != nil {
		return nil, err
	}
	dest := filepath.Join(dir, "venv")
	command := func(ctx context.Context) *exec.Cmd {
		return m.command(ctx, "materialize", "--offline", "--python", b.python, "-r", lock, "--link-mode", mode, dest)
	}
	s := &faults.Subject{
		Dirs:    []string{dir, m.dir},
		Prepare: func(context.Context) error { return os.RemoveAll(dest) },
		Command: command,
		Leftovers: func() ([]string, error) {
			return filepath.Glob(filepath.Join(dir, ".venv.sitefs-*"))
		},
	}
	return s, b.know(ctx, s, dest)
}

// uvSubject is `uv pip sync` in a new venv.
func (b *bench) uvSubject(ctx context.Context, lock, mode string) (*faults.Subject, error) {
	cache, err := b.uvCache()
	if err != nil {
		return nil, err
	}
	dir, err := b.subjectDir("uv", mode)
	if err != nil {
		return nil, err
	}
	dest := filepath.Join(dir, "venv")
	s := &faults.Subject{
		Dirs: []string{dir, cache},
		Prepare: func(ctx context.Context) error {
			if err := os.RemoveAll(dest); err != nil {
				return err
			}
			_, err := b.uvVenv(ctx, cache, dest)
			return err
		},
		Command: func(ctx context.Context) *exec.Cmd {
			return b.uvCommand(ctx, cache, "pip", "sync", "--offline", "--link-mode", mode, "--python", filepath.Join(dest, "bin", "python"), lock)
		},
		Leftovers: func() ([]string, error) { return nil, nil },
	}
	return s, b.know(ctx, s, dest)
}

func (b *bench) subjectDir(side, mode string) (string, error) {
	dir, err := filepath.EvalSymlinks(b.dir)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "faults-"+side+"-"+mode)
	return dir, os.Mkdir(dir, 0o755)
}

// know has a subject run undisturbed, before and after which its target is what it
// is to be compared with.
func (b *bench) know(ctx context.Context, s *faults.Subject, dest string) error {
	take := func() (sandbox.Snapshot, error) {
		if _, err := os.Lstat(dest); err != nil {
			return nil, nil // not there
		}
		return sandbox.TakeSnapshot(dest, func(path string) bool { return path == ".sitefs-venv" })
	}
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	before, err := take()
	if err != nil {
		return err
	}
	if _, err := timed(s.Command(ctx)); err != nil {
		return err
	}
	after, err := take()
	if err != nil {
		return err
	}
	b.logf("    %s: %d files and directories", dest, len(after))
	s.State = func() (faults.State, string, error) {
		now, err := take()
		if err != nil {
			return 0, "", err
		}
		why := now.Lacks(after)
		switch {
		case why == "":
			return faults.New, "", nil
		case now.Differ(before) == "":
			return faults.Old, "", nil
		}
		return faults.Neither, why, nil
	}
	return nil
}
