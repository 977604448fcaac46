package bytecode

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// An interpreter that is upgraded, removed or broken under a live mount breaks no
// import: not of a process that runs since before, nor of another Python of its
// version. Status says why there is no bytecode.
func TestInterpreterChanges(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, e *environment)
		reason string // what status says; "" where it compiles all the same
	}{
		{
			name: "removed",
			change: func(t *testing.T, e *environment) {
				if err := os.Remove(e.python); err != nil {
					t.Fatal(err)
				}
			},
			reason: "no such file or directory",
		}, {
			name: "another version",
			change: func(t *testing.T, e *environment) {
				other := e.install(t, sandbox.PythonVersion(t, "3.11"), "another")
				if err := os.Rename(other, e.python); err != nil {
					t.Fatal(err)
				}
			},
			reason: "cpython-311",
		}, {
			name: "no interpreter",
			change: func(t *testing.T, e *environment) {
				e.script(t, "py/bin/python3.12", "#!/bin/sh\necho hello\n")
			},
			reason: `py/bin/python3\.12`,
		}, {
			name: "says something at start",
			change: func(t *testing.T, e *environment) {
				if err := os.Rename(e.python, e.python+"-real"); err != nil {
					t.Fatal(err)
				}
				e.script(t, "py/bin/python3.12", "#!/bin/sh\necho hello\necho hello >&2\nexec \"$0-real\" \"$@\"\n")
			},
		}, {
			name: "hangs",
			change: func(t *testing.T, e *environment) {
				e.script(t, "py/bin/python3.12", "#!/bin/sh\nexec sleep 1000\n")
			},
			reason: "hasn't started",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // an interpreter that hangs is waited for
			e, original := withInstallation(t, demo)
			venv := e.mount(t, ".venv")
			before := e.Start(t, e.Dir, interpreter(venv), "-c", "import sys; open('runs', 'x').close(); sys.stdin.read(); import demo.work; assert demo.work.double(3) == 6")
			sandbox.Eventually(t, func() string {
				if _, err := os.Stat(filepath.Join(e.Dir, "runs")); err != nil {
					return err.Error()
				}
				return ""
			})
			test.change(t, e)
			if err := before.End(); err != nil {
				t.Errorf("a process that was running: %v\n%s", err, &before.Said)
			}
			for range 2 {
				r := e.Run(t, "env", "PYTHONPATH="+sitePackages(t, venv), original, "-c", "import demo.work; print(demo.work.double(3))")
				if want := (sandbox.Result{Stdout: "6\n"}); r != want {
					t.Errorf("another Python of the version: %+v, want %+v", r, want)
				}
			}
			s := e.status(t, venv)
			if test.reason == "" && (s.reasons() != "" || s.Bytecode.Compiled == 0) {
				t.Errorf("the status is %+v, want something compiled", s.Bytecode)
			}
			if !regexp.MustCompile(test.reason).MatchString(s.reasons()) {
				t.Errorf("the status is %+v, want a reason with %q", s.Bytecode, test.reason)
			}
		})
	}
}
