package faults

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// A State says what stands at the target of an installer.
type State int

const (
	Neither State = iota // a part of an environment, or parts of two
	Old                  // what was there before the run; nothing, perhaps
	New                  // what the installer was to make
)

func (s State) String() string { return [...]string{"neither", "old", "new"}[s] }

// A Subject is an installer that puts an environment at a target. Its functions
// are called one after the other, many times.
type Subject struct {
	// Dirs are absolute and no symlink leads to them: faults strike what changes
	// something at or beneath one.
	Dirs []string
	// Prepare makes the target what it is before a run.
	Prepare func(context.Context) error
	// Command returns a run of the installer, not started.
	Command func(context.Context) *exec.Cmd
	// State looks at the target, and says what is wrong with it if it is Neither.
	State func() (State, string, error)
	// Leftovers returns what a run should have taken away.
	Leftovers func() ([]string, error)
}

// A Trial is what a fault did.
type Trial struct {
	Fault  Fault
	Struck *Call // nil: the run made fewer calls

	Exit  int    // the exit code of the disturbed run; -1: killed
	After State  // what it left at the target
	Why   string // what is wrong with that, if After is Neither

	Again     int      // the exit code of the second run
	Final     State    // what that left
	FinalWhy  string   // as Why
	Leftovers []string // after the second run

	Said string // what both runs said
}

// Problem says what is wrong with an installer that promises all or nothing, ""
// if nothing is.
func (t *Trial) Problem() string {
	switch {
	case t.After == Neither:
		return "the target is neither old nor new: " + t.Why
	case t.Exit == 0 && t.After != New:
		return "the run says success and the target is old"
	case t.Again != 0:
		return fmt.Sprintf("a second run ends with exit code %d", t.Again)
	case t.Final != New:
		return fmt.Sprintf("a second run says success and the target is %v: %s", t.Final, t.FinalWhy)
	case len(t.Leftovers) > 0:
		return fmt.Sprintf("a second run leaves %q", t.Leftovers)
	}
	return ""
}

// SilentlyBroken reports whether the second run said success over an environment
// that is not the one it was to make.
func (t *Trial) SilentlyBroken() bool { return t.Again == 0 && t.Final != New }

// Calls runs the installer undisturbed and returns what it changes.
func (s *Subject) Calls(ctx context.Context) ([]Call, error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	var said output
	c := s.Command(ctx)
	c.Stdout, c.Stderr = &said, &said
	calls, err := Run(ctx, c, s.Dirs, func(Call) Answer { return Answer{} })
	if err != nil {
		return nil, fmt.Errorf("%q: %w\n%s", c.Args, err, said)
	}
	if state, why, err := s.State(); err != nil || state != New {
		return nil, errors.Join(err, fmt.Errorf("an undisturbed run leaves the target %v: %s", state, why))
	}
	return calls, nil
}

// Try runs the installer with a fault, and then without.
func (s *Subject) Try(ctx context.Context, f Fault) (*Trial, error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	t := &Trial{Fault: f}
	var err error
	if t.Exit, err = s.run(ctx, t, t.answer()); err != nil {
		return nil, err
	}
	if t.After, t.Why, err = s.State(); err != nil {
		return nil, err
	}
	if t.Again, err = s.run(ctx, t, func(Call) Answer { return Answer{} }); err != nil {
		return nil, err
	}
	if t.Final, t.FinalWhy, err = s.State(); err != nil {
		return nil, err
	}
	t.Leftovers, err = s.Leftovers()
	return t, err
}

// answer returns what strikes once.
func (t *Trial) answer() func(Call) Answer {
	n := 0
	return func(c Call) Answer {
		if t.Fault.Name != "" && t.Fault.Name != c.Name {
			return Answer{}
		}
		if n++; n != t.Fault.N {
			return Answer{}
		}
		t.Struck = &c
		return t.Fault.Answer
	}
}

// run runs the installer and returns its exit code.
func (s *Subject) run(ctx context.Context, t *Trial, answer func(Call) Answer) (int, error) {
	var said output
	c := s.Command(ctx)
	c.Stdout, c.Stderr = &said, &said
	_, err := Run(ctx, c, s.Dirs, answer)
	t.Said += string(said)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && !t.Fault.Kill {
		return 0, fmt.Errorf("%q: %v, which nobody asked for\n%s", c.Args, status.Signal(), t.Said)
	}
	return c.ProcessState.ExitCode(), nil
}

// output is what a command says.
type output []byte

func (o *output) Write(p []byte) (int, error) {
	*o = append(*o, p...)
	return len(p), nil
}
