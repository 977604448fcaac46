package interp

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

//go:embed probe.py
var probeScript string

// probeTimeout is how long an interpreter may take to answer. A cold start from
// a slow network disk takes seconds; what takes longer is no interpreter.
const probeTimeout = 30 * time.Second

// maxAnswer bounds what is read from a program that may not be a Python at all.
// A real answer is 2 kB.
const maxAnswer = 64 << 10

// A Cache keeps what interpreters answered. The store implements it.
type Cache interface {
	Get(key string) ([]byte, bool)
	Put(key string, value []byte) error
}

// Probe returns the base interpreter that executable leads to. It is run only
// when c does not know its answer yet; c may be nil.
func Probe(ctx context.Context, executable string, c Cache) (*Python, error) {
	f, err := New(c)
	if err != nil {
		return nil, err
	}
	return f.Probe(ctx, executable)
}

// Probe is the function Probe with f's cache, environment and directory.
func (f *Finder) Probe(ctx context.Context, executable string) (*Python, error) {
	base, err := f.resolve(ctx, executable)
	if err != nil {
		return nil, unusable(executable, err)
	}
	key, err := identity(base)
	if err != nil {
		return nil, unusable(executable, err)
	}
	r, ok := f.known(key)
	if !ok {
		if r, err = f.ask(ctx, base); err != nil {
			return nil, unusable(executable, err)
		}
		if err := f.keep(key, r); err != nil {
			return nil, err
		}
	}
	p, err := r.python()
	if err != nil {
		return nil, unusable(executable, err)
	}
	p.Found, p.Key = f.absolute(executable), key
	return p, nil
}

func unusable(executable string, err error) error {
	return fmt.Errorf("%w: %q: %w; name another with --python", ErrNoPython, executable, err)
}

// known returns what the cache has of the interpreter of that identity.
func (f *Finder) known(key string) (*report, bool) {
	if f.Cache == nil {
		return nil, false
	}
	data, ok := f.Cache.Get(key)
	if !ok {
		return nil, false
	}
	r := new(report)
	return r, json.Unmarshal(data, r) == nil
}

// ask runs the interpreter at path.
func (f *Finder) ask(ctx context.Context, path string) (*report, error) {
	answer, err := f.run(ctx, path, probeScript, "-I", "-S", "-B", "-")
	if err != nil {
		return nil, f.explain(ctx, path, err)
	}
	r := new(report)
	if err := json.Unmarshal(answer, r); err != nil {
		return nil, fmt.Errorf("it is not a Python interpreter: it answered %.60q", answer)
	}
	if r.Markers.PlatformSystem == "Linux" {
		if err := f.completeLibc(ctx, path, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// keep puts an answer into the cache. That it can't be is no fault of the
// interpreter, so the error is not ErrNoPython.
func (f *Finder) keep(key string, r *report) error {
	if f.Cache == nil {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return f.Cache.Put(key, data)
}

// completeLibc adds what the loader knows and Python does not say.
func (f *Finder) completeLibc(ctx context.Context, path string, r *report) error {
	loader, err := elfLoader(path)
	if err != nil {
		return err
	}
	r.SoftFloat = strings.HasPrefix(r.Markers.PlatformMachine, "armv") && !strings.Contains(loader, "armhf")
	if r.Libc != "" || !strings.Contains(loader, "musl") {
		return nil
	}
	// The musl loader, run alone, prints its version and fails.
	_, err = f.run(ctx, loader, "")
	var failed *runError
	if !errors.As(err, &failed) {
		return fmt.Errorf("its loader %q does not say its musl version", loader)
	}
	for line := range strings.Lines(failed.stderr) {
		if version, ok := strings.CutPrefix(line, "Version "); ok {
			r.Libc = "musl " + strings.TrimSpace(version)
		}
	}
	return nil
}

// explain turns the failure of the probe into what a user can act on. A Python
// from before 3.4 knows no -I and is asked for its version.
func (f *Finder) explain(ctx context.Context, path string, err error) error {
	var failed *runError
	if !errors.As(err, &failed) || !strings.Contains(failed.stderr, "Unknown option: -I") {
		return err
	}
	version, err := f.run(ctx, path, "import sys; print(sys.version.split()[0])", "-S", "-")
	if err != nil {
		return err
	}
	return fmt.Errorf("it is Python %s, and sitefs needs %d.%d or newer", bytes.TrimSpace(version), oldest[0], oldest[1])
}

// A runError is a program that ran and failed.
type runError struct {
	state  *os.ProcessState
	stderr string
}

func (e *runError) Error() string {
	message := "it is not a usable Python interpreter: " + e.state.String()
	lines := strings.Split(strings.TrimSpace(e.stderr), "\n")
	if last := lines[len(lines)-1]; last != "" {
		message += fmt.Sprintf(": %.200q", last)
	}
	return message
}

// run gives a program its input and returns what it prints. The program and its
// children are gone when run returns, even those that never end.
func (f *Finder) run(ctx context.Context, path, input string, args ...string) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	stdout, stderr := &limited{max: maxAnswer}, &limited{max: maxAnswer}
	cmd := exec.CommandContext(timed, path, args...)
	cmd.Env = isolatedEnviron(os.Environ())
	cmd.Dir = f.Dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a grandchild that left the group may hold the pipes
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case timed.Err() != nil:
		return nil, fmt.Errorf("it is not a Python interpreter: no answer in %v", f.Timeout)
	case errors.As(err, &exit):
		return nil, &runError{exit.ProcessState, stderr.String()}
	}
	return nil, fmt.Errorf("it can't be run: %w", err)
}

// isolatedEnviron returns the environment without what changes an
// interpreter's answers despite -I: the last two are read by sysconfig and by
// the macOS launcher.
func isolatedEnviron(environ []string) []string {
	kept := []string{"SYSTEM_VERSION_COMPAT=0"} // macOS: the real release, not 10.16
	for _, v := range environ {
		if !strings.HasPrefix(v, "PYTHON") && !strings.HasPrefix(v, "_PYTHON_HOST_PLATFORM=") && !strings.HasPrefix(v, "__PYVENV_LAUNCHER__=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// A limited is a buffer that forgets what is written beyond max bytes.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), l.max-l.Len())])
	return len(p), nil
}
