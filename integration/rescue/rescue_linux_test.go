// Package rescue breaks environments as dying installers do, and has them mended.
package rescue

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/faults"
	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program and uv, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

// packages is how many the environments have, modules how many each of them has.
const packages, modules = 5, 12

// newHome returns a home in which uv and pip ask an index that has the packages.
func newHome(t *testing.T) *sandbox.Home {
	t.Helper()
	sandbox.NeedSitefs(t)
	h := sandbox.NewHome(t, bin, python)
	wheels := t.TempDir()
	for p := range packages {
		name := fmt.Sprintf("pkg%d", p)
		s := wheelhouse.Spec{Name: name, Version: "1.0", Files: map[string]string{}, Console: map[string]string{name: name + ":main"}}
		s.Files[name+"/__init__.py"] = "def main(): print(__name__)\n"
		for m := range modules {
			s.Files[fmt.Sprintf("%s/sub%d/m%d.py", name, m%3, m)] = fmt.Sprintf("value = %d\n", p*modules+m)
		}
		tool := name + "-1.0.data/scripts/tool-" + name
		s.Files[tool], s.Executable = "#!python\nprint('tool')\n", []string{tool}
		if _, err := wheelhouse.Write(wheels, s); err != nil {
			t.Fatal(err)
		}
	}
	server, err := wheelhouse.Serve(wheels)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	h.UseIndex(server.SimpleURL())
	return h
}

// install is the command that puts all packages into the environment at dir.
func install(dir string) []string {
	argv := []string{"uv", "pip", "install", "--quiet", "--no-progress", "--python", dir + "/bin/python"}
	for p := range packages {
		argv = append(argv, fmt.Sprintf("pkg%d==1.0", p))
	}
	return argv
}

// checkWhole fails the test unless every module can be imported and every script be
// run.
func checkWhole(t *testing.T, h *sandbox.Home, dir string) {
	t.Helper()
	var program strings.Builder
	program.WriteString("import importlib, subprocess\n")
	for p := range packages {
		for m := range modules {
			fmt.Fprintf(&program, "assert importlib.import_module('pkg%d.sub%d.m%d').value == %d\n", p, m%3, m, p*modules+m)
		}
		fmt.Fprintf(&program, "subprocess.run(['%[1]s/bin/pkg%[2]d'], check=True)\nsubprocess.run(['%[1]s/bin/tool-pkg%[2]d'], check=True)\n", dir, p)
	}
	h.Must(t, dir+"/bin/python", "-c", program.String())
	h.Must(t, "uv", "pip", "check", "--quiet", "--python", dir+"/bin/python")
	verify(t, h, "--deep", dir)
}

// onlyExtra is the exit code of verify when there is nothing to mend. Killed
// installers leave temporary files, which verify --repair names and leaves alone.
const onlyExtra = 26

// verify runs sitefs verify and fails the test if there is something to mend.
func verify(t *testing.T, h *sandbox.Home, args ...string) {
	t.Helper()
	if r := h.Run(t, append([]string{"sitefs", "verify"}, args...)...); r.Code != 0 && r.Code != onlyExtra {
		t.Fatalf("verify %q: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
}

// TestKilledInstall: uv is killed in front of a change to the environment. The next
// time it calls the same install complete, or can't read what it left; verify
// --repair mends both.
func TestKilledInstall(t *testing.T) {
	for _, mode := range []string{"hardlink", "copy"} {
		t.Run(mode, func(t *testing.T) {
			h := newHome(t)
			h.Setenv("UV_LINK_MODE", mode)
			dry := newVenv(t, h, "dry")
			calls := run(t, h, dry, 0)
			checkWhole(t, h, dry)

			const trials = 6
			silent := 0
			for i := range trials {
				dir := newVenv(t, h, fmt.Sprint("venv", i))
				run(t, h, dir, 1+i*len(calls)/trials)
				again := h.Run(t, install(dir)...)
				if found := h.Run(t, "sitefs", "verify", dir); again.Code == 0 && found.Code != 0 && found.Code != onlyExtra {
					silent++
				}
				verify(t, h, "--repair", dir)
				h.Must(t, install(dir)...)
				checkWhole(t, h, dir)
			}
			t.Logf("of %d installs that were killed and run again %d were silently broken", trials, silent)
			if silent == 0 {
				t.Error("no install was left broken: the test tests nothing")
			}
		})
	}
}

// newVenv makes an environment of uv and returns its path.
func newVenv(t *testing.T, h *sandbox.Home, name string) string {
	t.Helper()
	h.Must(t, "uv", "venv", "--quiet", "--python", python, name)
	return filepath.Join(h.Dir, name)
}

// run installs the packages and kills uv in front of call number kill, if that isn't
// 0. It returns the calls.
func run(t *testing.T, h *sandbox.Home, dir string, kill int) []faults.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := 0
	calls, err := faults.Run(ctx, h.Command(ctx, h.Dir, install(dir)...), []string{dir}, func(faults.Call) faults.Answer {
		n++
		return faults.Answer{Kill: n == kill}
	})
	if (err == nil) != (kill == 0) {
		t.Fatalf("kill at call %d of %d: %v", kill, len(calls), err)
	}
	return calls
}

// TestTruncated: what was written to the disk only in part is restored, in
// environments of both installers.
func TestTruncated(t *testing.T) {
	for _, installer := range []string{"uv", "pip"} {
		t.Run(installer, func(t *testing.T) {
			h := newHome(t)
			h.Setenv("UV_LINK_MODE", "copy")
			dir := newVenv(t, h, "venv")
			if installer == "pip" {
				h.Must(t, python, "-m", "venv", "--clear", dir)
				argv := []string{dir + "/bin/python", "-m", "pip", "install", "--quiet"}
				h.Must(t, append(argv, install(dir)[7:]...)...)
			} else {
				h.Must(t, install(dir)...)
			}
			checkWhole(t, h, dir)
			files, err := filepath.Glob(filepath.Join(dir, "lib/python*/site-packages/pkg*/*/m*.py"))
			if err != nil || len(files) != packages*modules {
				t.Fatalf("%d modules, %v", len(files), err)
			}
			for i, file := range files {
				if err := os.Truncate(file, int64(i%3)); err != nil {
					t.Fatal(err)
				}
			}
			if r := h.Run(t, "sitefs", "verify", dir); r.Code == 0 {
				t.Error("verify finds nothing")
			}
			verify(t, h, "--repair", dir)
			checkWhole(t, h, dir)
		})
	}
}
