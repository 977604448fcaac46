package resolve

import (
	"context"
	"errors"
	"strings"

	"github.com/sitefs/sitefs/manifest/lock"
)

// runPip runs the interpreter's pip as "python -m pip" does, but without the
// current folder on sys.path, where a project's json.py would hide the standard one.
const runPip = `import sys; sys.path = [p for p in sys.path if p]; import runpy; runpy.run_module("pip", run_name="__main__", alter_sys=True)`

// pipOfPython asks the pip of the interpreter that is resolved for.
func (r *Resolver) pipOfPython(ctx context.Context, req Request) ([]byte, []string, error) {
	return r.runPip(ctx, req, req.Python.Executable, "-c", runPip)
}

// pip returns the pip at path, of whatever interpreter, as a resolver.
func (r *Resolver) pip(path string) tool {
	return func(ctx context.Context, req Request) ([]byte, []string, error) {
		return r.runPip(ctx, req, path, "--python", req.Python.Executable)
	}
}

// pipEnv overrides configuration that is about installing, which a dry run
// doesn't do, and about how much is printed beside the report.
var pipEnv = []string{"PIP_REQUIRE_VIRTUALENV=0", "PIP_BREAK_SYSTEM_PACKAGES=1", "PIP_VERBOSE=0", "PIP_QUIET=0", "PIP_DISABLE_PIP_VERSION_CHECK=1"}

func (r *Resolver) runPip(ctx context.Context, req Request, path string, args ...string) ([]byte, []string, error) {
	c := command{name: "pip", path: path, env: pipEnv}
	c.args = append(args, "install", "--dry-run", "--ignore-installed", "--quiet", "--no-input", "--report", "-", "--only-binary", ":all:")
	if len(req.Constraints) > 0 {
		c.args = append(c.args, "--constraint", "/dev/stdin")
		c.stdin = strings.Join(req.Constraints, "\n") + "\n"
	}
	if req.NoDeps {
		c.args = append(c.args, "--no-deps")
	}
	c.args = append(append(c.args, "--"), req.requirements()...)
	report, notes, err := r.run(ctx, req.Dir, c)
	if err != nil {
		return nil, nil, req.explain(pipAbsent(path, err))
	}
	pylock, err := lock.PylockOfReport(report)
	return pylock, notes, err
}

// pipAbsent tells a pip that can't be asked from one that was and failed.
func pipAbsent(path string, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	switch {
	case strings.Contains(f.stderr, "No module named pip"):
		return &absentError{path + " has no pip"}
	case strings.Contains(f.stderr, "no such option"):
		return &absentError{path + ": its pip is older than 22.3 and can't report what it would install"}
	}
	return err
}
