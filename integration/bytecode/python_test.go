package bytecode

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// pythons are those that sitefs makes environments for: versions, the system's
// own, and others by the name of their program.
var pythons = []string{"3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t", "pypy3", "system"}

// findPython returns the path of one of pythons, or skips the test.
func findPython(t *testing.T, name string) string {
	t.Helper()
	switch name {
	case "system":
		const path = "/usr/bin/python3"
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs the system's Python: %v", err)
		}
		return path
	case "pypy3":
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("needs PyPy: %v", err)
		}
		return path
	}
	return sandbox.PythonVersion(t, name)
}

// demo is a package as a user debugs it. Line numbers in it are in the tests.
var demo = wheelhouse.Spec{
	Name: "demo", Version: "1.0",
	Files: map[string]string{
		"demo/__init__.py":       "from . import work\n",
		"demo/work.py":           demoWork,
		"demo/tests/__init__.py": "",
		"demo/tests/test_it.py":  "from demo import work\n\ndef test_double():\n    assert work.double(2) == 4\n\ndef test_wrong():\n    assert work.double(2) == 5\n",
	},
}

const demoWork = `"""Work to be done."""


def double(x):
    """Doubles x."""
    twice = 2 * x
    return twice


def fails(x):
    assert x, "no x"
    raise KeyError(x)
`

// demoModules are the sources of demo that an import of it reads.
var demoModules = []string{"demo/__init__.py", "demo/work.py"}

// TestPython looks at one mount for each Python as that Python's user does.
func TestPython(t *testing.T) {
	views := []struct {
		name  string
		check func(v *view, t *testing.T)
	}{
		{"matches", (*view).matches},
		{"optimised", (*view).optimised},
		{"same", (*view).sameBytes},
		{"importlib", (*view).importlib},
		{"traceback", (*view).traceback},
		{"inspect", (*view).inspect},
		{"pdb", (*view).pdb},
		{"trace", (*view).trace},
		{"importtime", (*view).importTime},
		{"dont_write_bytecode", (*view).dontWriteBytecode},
		{"pycache_prefix", (*view).pycachePrefix},
		{"zipapp", (*view).zipapp},
	}
	for _, name := range pythons {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvironment(t, findPython(t, name), demo)
			venv := e.mount(t, ".venv")
			v := &view{environment: e, venv: venv, site: sitePackages(t, venv)}
			v.tag = strings.TrimSpace(e.Must(t, interpreter(venv), "-c", "import sys; print(sys.implementation.cache_tag)"))
			for _, test := range views {
				t.Run(test.name, func(t *testing.T) { test.check(v, t) })
			}
		})
	}
}

// A view is a mounted demo.
type view struct {
	*environment
	venv, site string
	tag        string // of the interpreter's bytecode
}

// run runs the mount's interpreter.
func (v *view) run(t *testing.T, args ...string) string {
	t.Helper()
	return v.Must(t, append([]string{interpreter(v.venv)}, args...)...)
}

// verbose runs the mount's interpreter with -v and returns what it says.
func (v *view) verbose(t *testing.T, args ...string) string {
	t.Helper()
	argv := append([]string{interpreter(v.venv), "-v"}, args...)
	r := v.Run(t, argv...)
	if r.Code != 0 {
		t.Fatalf("%q: exit code %d\n%s", argv, r.Code, r.Stderr)
	}
	return r.Stderr
}

// expectMatches checks that what Python said of demo's modules is that their
// bytecode with that suffix is right, and that it wrote none.
func (v *view) expectMatches(t *testing.T, said, suffix string) {
	t.Helper()
	for _, m := range demoModules {
		source := filepath.Join(v.site, m)
		if want := fmt.Sprintf("%s matches %s", pyc(source, suffix), source); !strings.Contains(said, want) {
			t.Errorf("python -v doesn't say %q, but\n%s", want, linesWith(said, m[:len(m)-len(".py")]))
		}
	}
	if wrote := regexp.MustCompile(`(?m)^# (wrote|could not create) .*`+regexp.QuoteMeta(v.venv)+`.*`).FindAllString(said, -1); len(wrote) > 0 {
		t.Errorf("python -v says %q, want nothing written", wrote)
	}
}

// linesWith returns the lines that contain a word.
func linesWith(text, word string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func (v *view) matches(t *testing.T) {
	v.run(t, "-c", "import demo")
	v.expectMatches(t, v.verbose(t, "-c", "import demo"), v.tag)
}

// Under -O there are no assertions, under -OO no docstrings either, and the code
// for each is another file.
func (v *view) optimised(t *testing.T) {
	const script = `
from demo import work
try:
    work.fails(0)
except Exception as e:
    print(type(e).__name__, work.double.__doc__)
`
	tests := []struct{ flag, suffix, want string }{
		{"-O", ".opt-1", "KeyError Doubles x.\n"},
		{"-OO", ".opt-2", "KeyError None\n"},
		{"-q", "", "AssertionError Doubles x.\n"},
	}
	for _, test := range tests {
		if got := v.run(t, test.flag, "-c", script); got != test.want {
			t.Errorf("%s: printed %q, want %q", test.flag, got, test.want)
		}
		v.expectMatches(t, v.verbose(t, test.flag, "-c", script), v.tag+test.suffix)
	}
}

func (v *view) sameBytes(t *testing.T) {
	for _, optimisation := range []string{"", "1", "2"} {
		if n := v.same(t, v.venv, filepath.Join(v.site, "demo"), optimisation); n != len(demo.Files) {
			t.Errorf("optimisation %q: %d sources have bytecode, want %d", optimisation, n, len(demo.Files))
		}
	}
}

// What importlib offers to look at modules knows their bytecode.
func (v *view) importlib(t *testing.T) {
	const script = `
import importlib.machinery, importlib.util, os, sys
import demo.work
source, cached = demo.work.__file__, demo.work.__spec__.cached
assert cached == importlib.util.cache_from_source(source), cached
assert os.path.isfile(cached)
loader = importlib.machinery.SourceFileLoader("demo.work", source)
stats = loader.path_stats(source)
data = loader.get_data(cached)
assert data[:4] == importlib.util.MAGIC_NUMBER, data[:4]
assert int.from_bytes(data[4:8], "little") == 0
assert int.from_bytes(data[8:12], "little") == int(stats["mtime"]) & 0xFFFFFFFF
assert int.from_bytes(data[12:16], "little") == stats["size"] & 0xFFFFFFFF
assert loader.get_code("demo.work").co_filename == source
bare = importlib.machinery.SourcelessFileLoader("demo.work", cached)
assert bare.get_code("demo.work") == loader.get_code("demo.work")
assert "__pycache__" not in os.listdir(os.path.dirname(source))
`
	v.run(t, "-c", script)
}

func (v *view) traceback(t *testing.T) {
	r := v.Run(t, interpreter(v.venv), "-c", "import demo.work; demo.work.fails(1)")
	want := fmt.Sprintf("  File \"%s\", line 12, in fails\n    raise KeyError(x)\n", filepath.Join(v.site, "demo/work.py"))
	if !strings.Contains(r.Stderr, want) {
		t.Errorf("the traceback is\n%swant in it\n%s", r.Stderr, want)
	}
}

func (v *view) inspect(t *testing.T) {
	got := v.run(t, "-c", `
import inspect, demo.work
print(inspect.getsourcefile(demo.work.double), inspect.getfile(demo.work.double.__code__))
print(inspect.getsourcelines(demo.work.double)[1])
print(inspect.getsource(demo.work.double), end="")
`)
	path := filepath.Join(v.site, "demo/work.py")
	want := path + " " + path + "\n4\n" + "def double(x):\n    \"\"\"Doubles x.\"\"\"\n    twice = 2 * x\n    return twice\n"
	if got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// pdb stops at breakpoints in a package, given by function and by line.
func (v *view) pdb(t *testing.T) {
	v.Write(t, "prog.py", "import demo.work\ndemo.work.double(21)\n")
	path := filepath.Join(v.site, "demo/work.py")
	r := v.runIn(t, "next\nbreak demo.work.double\nbreak "+path+":7\ncontinue\ncontinue\nprint(twice)\ncontinue\nquit\n",
		interpreter(v.venv), "-m", "pdb", "prog.py")
	for _, want := range []string{"> " + path + "(6)double()", "-> twice = 2 * x", "> " + path + "(7)double()", "-> return twice", "42\n"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("pdb says\n%s%swant in it %q", r.Stdout, r.Stderr, want)
		}
	}
}

// trace finds the lines that were run by the names in their code.
func (v *view) trace(t *testing.T) {
	v.Write(t, "prog.py", "import demo.work\ndemo.work.double(21)\n")
	out := v.run(t, "-m", "trace", "--trace", "prog.py")
	if want := regexp.MustCompile(`(?m)^work\.py\(6\): +twice = 2 \* x$`); !want.MatchString(out) {
		t.Errorf("trace says\n%swant in it %s", linesWith(out, "work"), want)
	}
	out = v.run(t, "-m", "trace", "--listfuncs", "prog.py")
	if want := fmt.Sprintf("filename: %s, modulename: work, funcname: double\n", filepath.Join(v.site, "demo/work.py")); !strings.Contains(out, want) {
		t.Errorf("trace says\n%swant in it %q", linesWith(out, "work"), want)
	}
}

func (v *view) importTime(t *testing.T) {
	r := v.Run(t, interpreter(v.venv), "-X", "importtime", "-c", "import demo")
	if r.Code != 0 || !regexp.MustCompile(`(?m)^import time: .*\| +demo\.work$`).MatchString(r.Stderr) {
		t.Errorf("exit code %d, want 0 and a line for demo.work:\n%s", r.Code, r.Stderr)
	}
}

// Not to write bytecode is not to read none.
func (v *view) dontWriteBytecode(t *testing.T) {
	if got := v.run(t, "-c", "import sys, demo; print(sys.dont_write_bytecode)"); got != "False\n" {
		t.Errorf("sys.dont_write_bytecode is %q, want False", got)
	}
	v.expectMatches(t, v.verbose(t, "-B", "-c", "import sys, demo; assert sys.dont_write_bytecode"), v.tag)
}

// With a folder of its own for bytecode Python asks the mount for none.
func (v *view) pycachePrefix(t *testing.T) {
	prefix := filepath.Join(v.Dir, "pycache")
	argv := []string{"env", "PYTHONPYCACHEPREFIX=" + prefix, interpreter(v.venv), "-v", "-c", "import demo"}
	v.Must(t, argv...)
	said := v.Run(t, argv...).Stderr
	for _, m := range demoModules {
		source := filepath.Join(v.site, m)
		dir, file := filepath.Split(source)
		own := filepath.Join(prefix, dir, strings.TrimSuffix(file, "py")+v.tag+".pyc")
		if want := fmt.Sprintf("%s matches %s", own, source); !strings.Contains(said, want) {
			t.Errorf("python -v doesn't say %q, but\n%s", want, linesWith(said, file))
		}
	}
}

// A zipapp beside the environment imports from it.
func (v *view) zipapp(t *testing.T) {
	v.Write(t, "app/__main__.py", "import part\n")
	v.Write(t, "app/part.py", "import demo.work\nprint(demo.work.double(4), demo.work.__cached__)\n")
	v.run(t, "-m", "zipapp", "app", "-o", "app.pyz")
	want := "8 " + pyc(filepath.Join(v.site, "demo/work.py"), v.tag) + "\n"
	if got := v.run(t, "app.pyz"); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// Another Python than the environment's may import from it, and compiles for
// itself: nobody here could check what a stranger makes.
func TestAnotherPython(t *testing.T) {
	other := sandbox.PythonVersion(t, "3.11")
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	site := sitePackages(t, e.mount(t, ".venv"))
	e.Setenv("PYTHONPATH", site)
	argv := []string{other, "-v", "-c", "import demo.work; print(demo.work.double(3))"}
	for range 2 {
		r := e.Run(t, argv...)
		if r.Code != 0 || r.Stdout != "6\n" {
			t.Fatalf("exit code %d, printed %q, want 6\n%s", r.Code, r.Stdout, r.Stderr)
		}
		if got := linesWith(r.Stderr, "matches "+site); got != "" {
			t.Errorf("it found bytecode: %s", got)
		}
	}
	work := filepath.Join(site, "demo/work.py")
	if served(t, work, "cpython-311") {
		t.Error("bytecode of another Python is served")
	}
	if got := entries(t, e.Store()); len(got) > 0 {
		t.Errorf("the store has %q, want no bytecode", got)
	}
	if !served(t, work, "cpython-312") {
		t.Error("the environment's own Python has no bytecode")
	}
}
