// Package bytecode tests what Python and its users see of bytecode that is
// compiled on demand: that every Python takes it for its own, that a source is
// compiled once on a machine, and that whatever breaks meanwhile, no import fails
// and no .pyc is served that isn't what py_compile would have made.
package bytecode

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program under test.
var bin string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, nil) }

// An environment is a home with wheels in it that a lock file pins, and the
// interpreter they are for. Its commands may write bytecode.
type environment struct {
	*sandbox.Home
	python string
}

// newEnvironment returns an environment of made wheels. A compiler host or a
// compiler that is still there when its mounts are gone fails the test.
func newEnvironment(t *testing.T, python string, specs ...wheelhouse.Spec) *environment {
	t.Helper()
	sandbox.NeedSitefs(t)
	e := &environment{python: python}
	t.Cleanup(func() { e.awaitNoCompilers(t) }) // runs when the home has unmounted what is in it
	e.Home = sandbox.NewHome(t, bin, python)
	e.Setenv("SITEFS_PYTHON", python)
	e.Unsetenv("PYTHONDONTWRITEBYTECODE")
	wheels := filepath.Join(e.Dir, "wheels")
	if err := os.Mkdir(wheels, 0o777); err != nil {
		t.Fatal(err)
	}
	var made []wheelhouse.Wheel
	for _, s := range specs {
		w, err := wheelhouse.Write(wheels, s)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, w)
	}
	e.lock(t, made)
	return e
}

// lock pins wheels of the home's folder of wheels.
func (e *environment) lock(t *testing.T, wheels []wheelhouse.Wheel) {
	t.Helper()
	lock, err := wheelhouse.PylockPath(wheels, "wheels")
	if err != nil {
		t.Fatal(err)
	}
	e.Write(t, "pylock.toml", string(lock))
}

// mount mounts the environment on a directory of the home and returns the
// directory.
func (e *environment) mount(t *testing.T, name string, flags ...string) string {
	t.Helper()
	dir := filepath.Join(e.Dir, name)
	e.Must(t, append(append([]string{"sitefs", "mount", "-r", "pylock.toml"}, flags...), dir)...)
	return dir
}

// sitePackages returns the folder of a mounted environment that is on sys.path.
func sitePackages(t *testing.T, venv string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(venv, "lib", "*", "site-packages"))
	if err != nil || len(found) != 1 {
		t.Fatalf("site-packages of %s: %q, %v", venv, found, err)
	}
	return found[0]
}

// interpreter returns the path of the mount's own interpreter.
func interpreter(venv string) string { return filepath.Join(venv, "bin", "python") }

// runIn is Run with something to read on standard input.
func (e *environment) runIn(t *testing.T, stdin string, argv ...string) sandbox.Result {
	t.Helper()
	e.Write(t, "stdin", stdin)
	return e.Run(t, append([]string{"sh", "-c", `exec "$@" <stdin`, "sh"}, argv...)...)
}

// awaitNoCompilers waits until no compiler host and no process of an interpreter
// in the home is left.
func (e *environment) awaitNoCompilers(t *testing.T) {
	t.Helper()
	sandbox.Eventually(t, func() string {
		if left := processesOf(t, e.Dir); len(left) > 0 {
			return fmt.Sprintf("left behind: %v", left)
		}
		return ""
	})
}

// A status is the part of a mount's status that the tests look at.
type status struct {
	PID      int
	Requests map[string]int64
	Bytecode struct {
		Hits, Compiled, Ahead, Failed, Declined int64
		Off                                     string
		Failures                                []struct{ Path, Reason string }
	}
}

// reasons is all that a status says about bytecode that there is not.
func (s status) reasons() string {
	all := s.Bytecode.Off
	for _, f := range s.Bytecode.Failures {
		all += "\n" + f.Path + ": " + f.Reason
	}
	return all
}

func (e *environment) status(t *testing.T, venv string) status {
	t.Helper()
	var s status
	if err := json.Unmarshal([]byte(e.Must(t, "sitefs", "status", "--json", venv)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// entries returns the files of a store's bytecode that stand for a source,
// relative to its folder: TAG-MAGIC/ab/cdef…
func entries(t *testing.T, store string) []string {
	t.Helper()
	dir := filepath.Join(store, "bytecode")
	found, err := fs.Glob(os.DirFS(dir), "*/??/*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// served reports whether a mount has bytecode for a source and a suffix such as
// "cpython-312" or "cpython-312.opt-1". Asking compiles it.
func served(t *testing.T, source, suffix string) bool {
	t.Helper()
	_, err := os.Stat(pyc(source, suffix))
	if err != nil && !os.IsNotExist(err) {
		t.Errorf("stat: %v, want a file or none", err)
	}
	return err == nil
}

// pyc returns the name of a source's bytecode.
func pyc(source, suffix string) string {
	dir, file := filepath.Split(source)
	return filepath.Join(dir, "__pycache__", strings.TrimSuffix(file, "py")+suffix+".pyc")
}

// testdata returns the absolute path of a file in testdata.
func testdata(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// same checks that every .pyc that a mount serves for the sources beneath a
// folder is what py_compile makes of them, and returns how many there are.
func (e *environment) same(t *testing.T, venv, folder, optimisation string) int {
	t.Helper()
	out := e.Must(t, interpreter(venv), testdata(t, "same.py"), folder, optimisation)
	var n int
	if _, err := fmt.Sscan(out, &n); err != nil {
		t.Fatalf("same.py printed %q: %v", out, err)
	}
	return n
}

// modules returns the sources of a package of n modules, each of so many
// functions, that import one after the other.
func modules(name string, n, functions int) map[string]string {
	files := map[string]string{name + "/__init__.py": ""}
	for i := range n {
		var b strings.Builder
		fmt.Fprintf(&b, "%q\n", fmt.Sprintf("module %d of %s", i, name))
		if i+1 < n {
			fmt.Fprintf(&b, "import %s.m%d\n", name, i+1)
		}
		for f := range functions {
			fmt.Fprintf(&b, "\n\ndef f%d(a, b=%d):\n    assert a, 'nothing'\n    return [x * b for x in range(a) if x %% %d]\n", f, i, f+2)
		}
		files[fmt.Sprintf("%s/m%d.py", name, i)] = b.String()
	}
	return files
}
