package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
)

// An absentError says why a resolver isn't there to be asked.
type absentError struct{ reason string }

func (e *absentError) Error() string { return e.reason }

// A failure is a resolver that was asked and gave no answer.
type failure struct {
	tool   string
	code   int
	stderr string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s failed (exit code %d):\n%s", f.tool, f.code, f.tail())
}

// tailLines is how much of a resolver's messages is shown: uv's and pip's
// explanations of a conflict are shorter, pip's log before them may be long.
const tailLines = 30

// tail returns the end of what the resolver said, indented.
func (f *failure) tail() string {
	lines := strings.Split(strings.TrimSpace(f.stderr), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return "  " + lock.Redacted(strings.Join(lines, "\n  "))
}

// Is makes a failure for want of an index [ErrUnreachable].
func (f *failure) Is(target error) bool { return target == ErrUnreachable && f.unreachable() }

// unreachable reports whether the resolver failed for want of an index rather
// than of a solution. Only its messages tell: uv exits with 2 for whatever is not
// about the requirements, such as a uv.toml that it can't read.
func (f *failure) unreachable() bool {
	for _, message := range noServer[f.tool] {
		if strings.Contains(f.stderr, message) {
			return true
		}
	}
	return false
}

// noServer is what resolvers say of a server that they can't ask.
var noServer = map[string][]string{
	"uv":  {"Failed to fetch", "Request failed", "error sending request", "Could not connect"},
	"pip": {"connection broken by"},
}

// explain puts what was asked before a resolver's failure, and what can be done
// after it. Other errors stay as they are.
func (q Request) explain(err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	way := "change the requirements, or make a wheel of what has none (pip wheel, uv build) and name that"
	switch {
	case f.unreachable():
		way = "see that the index can be reached, or give a lock file (-r), which needs none"
	case f.tool == "uv" && f.code == 2:
		way = "mend what it names"
	}
	return fmt.Errorf("%s can't be resolved for %s: %w\n%s was asked with your own configuration, for wheels only: %s", q.names(), q.Python, f, f.tool, way)
}

// A command is one run of a resolver.
type command struct {
	name  string // for messages
	path  string
	args  []string
	env   []string // added to the resolver's
	stdin string
	fd3   string // to be read from descriptor 3 where not empty
}

// run runs c in dir and returns what it printed, and its warnings. A program
// that isn't there is an *absentError, one that fails a *failure.
func (r *Resolver) run(ctx context.Context, dir string, c command) (stdout []byte, warnings []string, err error) {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(r.Env, c.env)
	cmd.Stdin = strings.NewReader(c.stdin)
	// A grandchild that outlives a killed resolver must not hold the pipes.
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if c.fd3 != "" {
		read, err := pipe(c.fd3)
		if err != nil {
			return nil, nil, err
		}
		defer read.Close()
		cmd.ExtraFiles = []*os.File{read}
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), warningLines(errs.String()), nil
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.As(err, &exit) && exit.ExitCode() != exitNotFound:
		return nil, nil, &failure{c.name, exit.ExitCode(), errs.String()}
	}
	reason, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
	if reason == "" {
		reason = err.Error()
	}
	return nil, nil, &absentError{fmt.Sprintf("%s: %s", c.path, lock.Redacted(reason))}
}

// exitNotFound is what a shell exits with when there is no such program, and so
// does a pyenv shim whose program the chosen Python doesn't have.
const exitNotFound = 127

// pipe returns the reading end of a pipe that gives text and then ends.
func pipe(text string) (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer write.Close()
		// A reader that goes early is no error of ours: it says why itself.
		write.WriteString(text)
	}()
	return read, nil
}

// warningLines returns the warnings among what a resolver said.
func warningLines(stderr string) []string {
	var warnings []string
	for line := range strings.Lines(stderr) {
		kind, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if ok && strings.EqualFold(kind, "warning") {
			warnings = append(warnings, lock.Redacted(text))
		}
	}
	return warnings
}

// executables returns every program of that name on PATH, first one first.
// Relative folders of PATH are left out, as os/exec does.
func (r *Resolver) executables(name string) []string {
	var found []string
	for _, dir := range filepath.SplitList(r.getenv("PATH")) {
		path := filepath.Join(dir, name)
		if !filepath.IsAbs(dir) || slices.Contains(found, path) {
			continue
		}
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&fs.ModePerm&0o111 != 0 {
			found = append(found, path)
		}
	}
	return found
}

// getenv returns a variable of the resolver's environment, "" if it isn't set.
func (r *Resolver) getenv(name string) string {
	for _, v := range slices.Backward(r.Env) { // the last one counts, as in os/exec
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
