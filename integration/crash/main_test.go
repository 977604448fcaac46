// Package crash tests that a mount outlives what serves it: workers that are
// killed at any moment, programs that are replaced, supervisors that die, a store
// that goes away and limits that are reached. What is read meanwhile is compared
// byte by byte, and nobody who reads may see an error.
package crash

import (
	"archive/zip"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program under test.
var bin string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, nil) }

// An environment is a home with wheels that a lock file pins.
type environment struct {
	*sandbox.Home
	python string // the interpreter that the wheels are for, pythonX.Y
	wheels string // the folder of its wheels
	pinned []wheelhouse.Wheel
}

// newEnvironment returns an environment of the named wheels of the test cache and
// of made ones.
func newEnvironment(t *testing.T, names []string, specs ...wheelhouse.Spec) *environment {
	t.Helper()
	return newEnvironmentFor(t, sandbox.PythonVersion(t, "3.12"), names, specs...)
}

func newEnvironmentFor(t *testing.T, python string, names []string, specs ...wheelhouse.Spec) *environment {
	t.Helper()
	sandbox.NeedSitefs(t)
	e := &environment{Home: sandbox.NewHome(t, bin, python), python: python}
	e.Setenv("SITEFS_PYTHON", e.python)
	e.wheels = filepath.Join(e.Dir, "wheels")
	if err := os.Mkdir(e.wheels, 0o777); err != nil {
		t.Fatal(err)
	}
	e.addReal(t, names)
	for _, s := range specs {
		w, err := wheelhouse.Write(e.wheels, s)
		if err != nil {
			t.Fatal(err)
		}
		e.pinned = append(e.pinned, w)
	}
	lock, err := wheelhouse.PylockPath(e.pinned, "wheels")
	if err != nil {
		t.Fatal(err)
	}
	e.Write(t, "pylock.toml", string(lock))
	return e
}

// addReal pins wheels of the test cache.
func (e *environment) addReal(t *testing.T, names []string) {
	t.Helper()
	list, err := wheelhouse.ReadList("../testdata/compare.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		found := false
		for _, w := range list {
			if w.Name() != name {
				continue
			}
			if len(wheelhouse.Missing([]wheelhouse.Wheel{w})) > 0 {
				t.Skipf("needs %s in %s: run go run ./integration/wheelhouse/fetch integration/testdata/compare.txt", w.Filename, wheelhouse.Dir())
			}
			if err := os.Symlink(w.Path(), filepath.Join(e.wheels, w.Filename)); err != nil {
				t.Fatal(err)
			}
			e.pinned, found = append(e.pinned, w), true
		}
		if !found {
			t.Fatalf("the list has no wheel %q", name)
		}
	}
}

// mount mounts the environment on a directory of the home and returns the
// directory.
func (e *environment) mount(t *testing.T, name string, flags ...string) string {
	t.Helper()
	dir := filepath.Join(e.Dir, name)
	e.Must(t, append(append([]string{"sitefs", "mount", "-r", "pylock.toml"}, flags...), dir)...)
	return dir
}

// inProject is a `sitefs run` in the environment.
func inProject(words ...string) []string {
	return append([]string{"sitefs", "run", "-r", "pylock.toml"}, words...)
}

// sitePackages returns the folder of a mounted environment that is on sys.path.
func (e *environment) sitePackages(venv string) string {
	return filepath.Join(venv, "lib", filepath.Base(e.python), "site-packages")
}

// interpreter returns the path of the mount's own interpreter.
func interpreter(venv string) string { return filepath.Join(venv, "bin", "python") }

// status returns the status of a mount.
func (e *environment) status(t *testing.T, venv string) mount.Status {
	t.Helper()
	var s mount.Status
	if err := json.Unmarshal([]byte(e.Must(t, "sitefs", "status", "--json", venv)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// only returns the status of the one mount that there is.
func (e *environment) only(t *testing.T) mount.Status {
	t.Helper()
	var s mount.Status
	out := e.Must(t, "sitefs", "status", "--json")
	if strings.Count(out, "\n") != 1 {
		t.Fatalf("there is not one mount alone:\n%s", out)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitState waits until the one mount that there is has a state.
func (e *environment) awaitState(t *testing.T, state string) {
	t.Helper()
	sandbox.Eventually(t, func() string {
		if out := e.Must(t, "sitefs", "status", "--json"); !strings.Contains(out, fmt.Sprintf(`"state":%q`, state)) {
			return fmt.Sprintf("no mount is %s: %s", state, out)
		}
		return ""
	})
}

// record returns what the RECORD of the pinned wheels says, in the form that
// sha256sum checks: every file of site-packages with its digest.
func (e *environment) record(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, w := range e.pinned {
		if err := writeRecord(&b, filepath.Join(e.wheels, w.Filename)); err != nil {
			t.Fatalf("%s: %v", w.Filename, err)
		}
	}
	return b.String()
}

func writeRecord(b *strings.Builder, wheel string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, ".dist-info/RECORD") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return err
		}
		rows, err := csv.NewReader(r).ReadAll()
		if err != nil {
			return err
		}
		for _, row := range rows {
			sum, ok := strings.CutPrefix(row[1], "sha256=")
			if !ok || strings.Contains(row[0], ".data/") { // RECORD itself, or moved elsewhere
				continue
			}
			raw, err := base64.RawURLEncoding.DecodeString(sum)
			if err != nil {
				return err
			}
			fmt.Fprintf(b, "%x  %s\n", raw, row[0])
		}
	}
	return nil
}

// numbered is a wheel of so many files, each with its number in it.
func numbered(n int) wheelhouse.Spec {
	files := map[string]string{"numbered/__init__.py": ""}
	for i := range n {
		files[fmt.Sprintf("numbered/file%d.txt", i)] = fileText(i)
	}
	return wheelhouse.Spec{Name: "numbered", Version: "1.0", Files: files}
}

func fileText(i int) string { return fmt.Sprintf("the text of file %d\n", i) }

// checkFile reads a file of the wheel that numbered makes. One that was not read
// before has to be asked for.
func (e *environment) checkFile(venv string, i int) error {
	name := filepath.Join(e.sitePackages(venv), "numbered", fmt.Sprintf("file%d.txt", i))
	b, err := os.ReadFile(name)
	if err == nil && string(b) != fileText(i) {
		err = fmt.Errorf("%s holds %q, want %q", name, b, fileText(i))
	}
	return err
}

// checkServes fails the test where checkFile does.
func (e *environment) checkServes(t *testing.T, venv string, i int) {
	t.Helper()
	if err := e.checkFile(venv, i); err != nil {
		t.Error(err)
	}
}
