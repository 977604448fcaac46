package bytecode

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// withWheels returns the environment of demo and of wheels of the test cache.
func withWheels(t *testing.T, names ...string) *environment {
	t.Helper()
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	list, err := wheelhouse.ReadList("../testdata/compare.txt")
	if err != nil {
		t.Fatal(err)
	}
	list = slices.DeleteFunc(list, func(w wheelhouse.Wheel) bool { return !slices.Contains(names, w.Name()) })
	if len(list) != len(names) {
		t.Fatalf("the list has %d of the wheels %q", len(list), names)
	}
	if missing := wheelhouse.Missing(list); len(missing) > 0 {
		t.Skipf("needs %s in %s: run go run ./integration/wheelhouse/fetch integration/testdata/compare.txt", missing[0].Filename, wheelhouse.Dir())
	}
	dir := filepath.Join(e.Dir, "wheels")
	for _, w := range list {
		if err := os.Symlink(w.Path(), filepath.Join(dir, w.Filename)); err != nil {
			t.Fatal(err)
		}
	}
	own, err := wheelhouse.Write(dir, demo)
	if err != nil {
		t.Fatal(err)
	}
	e.lock(t, append(list, own))
	return e
}

// coverage.py counts the lines of a package that a program ran.
func TestCoverage(t *testing.T) {
	e := withWheels(t, "coverage")
	venv := e.mount(t, ".venv")
	e.Write(t, "prog.py", "import demo.work\ndemo.work.double(21)\n")
	for range 2 { // compiled for it, and compiled before
		e.Must(t, interpreter(venv), "-m", "coverage", "run", "--source=demo", "prog.py")
		e.Must(t, interpreter(venv), "-m", "coverage", "json", "-q", "-o", "coverage.json")
		var report struct {
			Files map[string]struct {
				Executed []int `json:"executed_lines"`
				Missing  []int `json:"missing_lines"`
			}
		}
		data, err := os.ReadFile(filepath.Join(e.Dir, "coverage.json"))
		if err == nil {
			err = json.Unmarshal(data, &report)
		}
		if err != nil {
			t.Fatal(err)
		}
		const work = ".venv/lib/python3.12/site-packages/demo/work.py"
		got := report.Files[work]
		if executed, missing := []int{4, 6, 7, 10}, []int{11, 12}; !slices.Equal(got.Executed, executed) || !slices.Equal(got.Missing, missing) {
			t.Errorf("%s: lines run %v, not run %v, want %v and %v", work, got.Executed, got.Missing, executed, missing)
		}
	}
}

// pytest rewrites the assertions of tests and keeps what it made under a tag of
// its own. In a mount it finds none, can't keep it, and goes on.
func TestPytest(t *testing.T) {
	e := withWheels(t, "pytest", "iniconfig", "pluggy", "packaging", "pygments")
	venv := e.mount(t, ".venv")
	for range 2 {
		r := e.Run(t, interpreter(venv), "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "demo.tests")
		if r.Code != 1 || !strings.Contains(r.Stdout, "1 failed, 1 passed") {
			t.Errorf("exit code %d, want 1 and one of two tests failed:\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		if want := "+  where 4 = "; !strings.Contains(r.Stdout, want) {
			t.Errorf("the assertion isn't explained, want %q in\n%s", want, r.Stdout)
		}
	}
	test := filepath.Join(sitePackages(t, venv), "demo/tests/test_it.py")
	version := strings.TrimSpace(e.Must(t, interpreter(venv), "-c", "import pytest; print(pytest.__version__)"))
	if served(t, test, "cpython-312-pytest-"+version) {
		t.Error("bytecode that pytest rewrites is served")
	}
	for _, entry := range entries(t, e.Store()) {
		if !strings.HasPrefix(entry, "cpython-312-") || strings.Contains(entry, "pytest") {
			t.Errorf("the store has bytecode %q", entry)
		}
	}
}
