package compiler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A python is an interpreter of this machine.
type python struct {
	Config
	name   string
	stdlib string
}

// pythons are the interpreters of this machine that sitefs serves: 3.8 and later.
var pythons = sync.OnceValue(func() (all []python) {
	home, _ := os.UserHomeDir()
	paths, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/*/bin/python"))
	for _, path := range append(paths, "/usr/bin/python3") {
		p := python{Config: Config{Python: path}}
		var major, minor int
		out, _ := exec.Command(path, "-c", `import sys, os, importlib.util as u
print(sys.version_info[0], sys.version_info[1], sys.implementation.cache_tag, u.MAGIC_NUMBER.hex(), os.path.dirname(os.__file__))`).Output()
		fmt.Sscan(string(out), &major, &minor, &p.Tag, &p.Magic, &p.stdlib)
		p.name = fmt.Sprintf("%d.%d %s", major, minor, strings.Split(path, "/")[1])
		if major == 3 && minor >= 8 {
			all = append(all, p)
		}
	}
	return all
})

// each runs a test with every interpreter.
func each(t *testing.T, test func(t *testing.T, p python)) {
	if len(pythons()) == 0 {
		t.Skip("no Python 3.8 or later in ~/.pyenv/versions or /usr/bin")
	}
	for _, p := range pythons() {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

// anyPython returns one of the interpreters.
func anyPython(t testing.TB) python {
	t.Helper()
	all := pythons()
	if len(all) == 0 {
		t.Skip("no Python 3.8 or later in ~/.pyenv/versions or /usr/bin")
	}
	return all[len(all)-1]
}

func mustStart(t testing.TB, c Config) *Compiler {
	t.Helper()
	compiler, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { compiler.Close() })
	return compiler
}

// compare reads "optimisation, source, marshalled code" from its arguments and
// compares the code with that of a plain compile().
const compare = `
import marshal, sys, types
def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, types.CodeType):
        names = [n for n in dir(a) if n.startswith("co_") and n not in ("co_consts", "co_lnotab") and not callable(getattr(a, n))]
        return all(getattr(a, n) == getattr(b, n) for n in names) and same(a.co_consts, b.co_consts)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b) or a == b
for line in open(sys.argv[1]):
    optimisation, source, made = line.split()
    data = open(source, "rb").read()
    want = compile(data, "pkg/name.py", "exec", dont_inherit=True, optimize=int(optimisation))
    got = marshal.loads(open(made, "rb").read())
    if not same(got, want) or got.co_filename != "pkg/name.py":
        sys.exit("%s with optimize=%s is other code" % (source, optimisation))
`

func TestSameCode(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		c := mustStart(t, p.Config)
		dir := t.TempDir()
		var list strings.Builder
		for _, name := range []string{"abc.py", "typing.py", "dataclasses.py", "argparse.py", "_pydecimal.py", "asyncio/base_events.py", "encodings/latin_1.py", "sre_constants.py"} {
			source, err := os.ReadFile(filepath.Join(p.stdlib, name))
			if err != nil {
				t.Fatal(err)
			}
			for optimisation := range 3 {
				code, err := c.Compile(context.Background(), source, "pkg/name.py", optimisation)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				made := filepath.Join(dir, fmt.Sprintf("%d-%s", optimisation, filepath.Base(name)))
				if err := os.WriteFile(made, code, 0o644); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&list, optimisation, filepath.Join(p.stdlib, name), made)
			}
		}
		files := filepath.Join(dir, "list")
		if err := os.WriteFile(files, []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(p.Python, "-c", compare, files)
		cmd.Env = append(os.Environ(), "PYTHONHASHSEED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// plain compiles the files of a folder, each in a child, and prints the names of
// those that compile.
const plain = `
import os, sys
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), "rb") as f:
        source = f.read()
    child = os.fork()
    if child == 0:
        try:
            compile(source, name, "exec", dont_inherit=True)
        except BaseException:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(name)
`

// nests are sources of 100,000 levels and more, of every kind that has been the
// end of some version's parser or compiler.
func nests() map[string]string {
	const n = 100_000
	r := strings.Repeat
	return map[string]string{
		"parentheses":     r("(", n) + r(")", n),
		"lists":           "x = " + r("[", n) + r("]", n),
		"calls":           r("f(", n) + r(")", n),
		"minus":           "x = " + r("-", n) + "1",
		"not":             "x = " + r("not ", n) + "1",
		"sum":             "x = " + r("a+", n) + "a",
		"constant sum":    "x = " + r("1+", n) + "1",
		"power":           "x = " + r("a**", n) + "a",
		"attributes":      "x = a" + r(".a", n),
		"subscripts":      "x = a" + r("[0]", n),
		"calls in a row":  "x = a" + r("()", n),
		"comparison":      "x = " + r("a<", n) + "a",
		"lambda":          "x = " + r("lambda:", n) + "1",
		"conditional":     "x = " + r("a if a else ", n) + "a",
		"else if":         "if a: pass\n" + r("elif a: pass\n", n),
		"assignments":     r("a=", n) + "1",
		"if below if":     indented("if a:", 99) + r(" ", 99) + "pass\n",
		"with in a row":   "with " + r("a,", n) + "a: pass",
		"f-string braces": "x = f'" + r("{", 2*n) + "'",
	}
}

func indented(line string, depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + line + "\n")
	}
	return b.String()
}

// badSources are those of packages that are no good, and some that only look
// like it.
func badSources() map[string]string {
	return map[string]string{
		"template":              "class {{ name }}:\n    pass\n",
		"Python 2":              "print 'hello'\nexec 'x' in y\n",
		"NUL":                   "x = 1\x00\n",
		"NUL in a comment":      "x = 1 # \x00\n",
		"unknown coding cookie": "# -*- coding: klingon -*-\nx = 1\n",
		"cookie of no text":     "# coding: rot13\nk = 1\n",
		"cookie against a BOM":  "\ufeff# coding: latin-1\nx = 1\n",
		"latin-1":               "# coding: latin-1\nx = '\xe9'\n",
		"cp1252":                "# vim: set fileencoding=cp1252 :\nx = '\x80'\n",
		"shift_jis":             "# coding: shift_jis\nx = '\x83\x65'\n",
		"cookie that lies":      "# coding: ascii\nx = '\xe9'\n",
		"not UTF-8":             "x = '\xe9'\n",
		"not UTF-8 at the end":  "x = 1\n# \xc3",
		"BOM":                   "\ufeffx = 1\n",
		"lines of Windows":      "if 1:\r\n    x = '''a\r\nb'''\r\n",
		"lines of Macintosh":    "x = 1\ry = 2\r",
		"tabs and spaces":       "if 1:\n\tx = 1\n        y = 2\n",
		"no line end":           "x = 1",
		"empty":                 "",
		"only a backslash":      "\\",
		"string left open":      "x = '''abc",
		"invalid escape":        "x = '\\d'\n", // warns
		"is with a literal":     "x = 1 is 1\n",
		"break outside":         "break\n",
		"future":                "from __future__ import braces\n",
		"surrogate":             "x = '\\ud800'\n",
		"long number":           "x = " + strings.Repeat("9", 5000) + "\n",
		"many arguments":        "f(" + strings.Repeat("a,", 300) + ")\n",
	}
}

// TestBadSources proves that a source compiles here if it does so in a plain
// interpreter, that any failure is said to be the source's, and that the next
// source compiles.
func TestBadSources(t *testing.T) {
	all := nests()
	for name, source := range badSources() {
		all[name] = source
	}
	dir := t.TempDir()
	for name, source := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T, p python) {
		out, err := exec.Command(p.Python, "-W", "ignore", "-c", plain, dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		good := strings.Split(string(out), "\n")
		var c *Compiler
		for name, source := range all {
			if c == nil || c.Dead() {
				c = mustStart(t, p.Config)
			}
			_, err := c.Compile(context.Background(), []byte(source), "bad.py", 0)
			var bad *SourceError
			switch {
			case slices.Contains(good, name) && err != nil:
				t.Errorf("%s: %v; a plain interpreter compiles it", name, err)
			case !slices.Contains(good, name) && !errors.As(err, &bad):
				t.Errorf("%s: error %v (%T), want a SourceError", name, err, err)
			case testing.Verbose() && err != nil:
				t.Logf("%s: %v", name, err)
			}
		}
	})
}

func TestLargeLiteral(t *testing.T) {
	source := append(bytes.Repeat([]byte("a"), 50<<20), "'\n"...)
	copy(source, "x = '")
	each(t, func(t *testing.T, p python) {
		code, err := mustStart(t, p.Config).Compile(context.Background(), source, "large.py", 0)
		if err != nil || len(code) < 50<<20-5 {
			t.Errorf("Compile returns %d bytes, %v, want 50 MB", len(code), err)
		}
	})
}

func TestTooLargeSource(t *testing.T) {
	c := mustStart(t, anyPython(t).Config)
	_, err := c.Compile(context.Background(), make([]byte, maxSource+1), "large.py", 0)
	var bad *SourceError
	if !errors.As(err, &bad) || c.Dead() {
		t.Errorf("error %v, dead %v, want a SourceError and a compiler that lives", err, c.Dead())
	}
}

// slow takes a second and 500 MB to compile.
var slow = append(bytes.Repeat([]byte("1234567,"), 600_000), '\n')

func TestProcessorTime(t *testing.T) {
	c := mustStart(t, anyPython(t).Config)
	c.time = 20 * time.Millisecond
	_, err := c.Compile(context.Background(), slow, "slow.py", 0)
	var bad *SourceError
	if !errors.As(err, &bad) {
		t.Errorf("error %v, want a SourceError", err)
	}
	if !c.Dead() {
		t.Error("the compiler lives on")
	}
}

// disturb starts to compile a source, does something to the compiler while it has
// it, and returns what Compile says.
func disturb(t *testing.T, c *Compiler, do func(c *Compiler, cancel context.CancelFunc)) error {
	t.Helper()
	// Stopped, it can't have answered before it is done away with.
	if err := syscall.Kill(c.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := &watched{Context: ctx, begun: make(chan struct{})}
	failure := make(chan error)
	go func() {
		_, err := c.Compile(begun, slow, "a.py", 0)
		failure <- err
	}()
	<-begun.begun
	do(c, cancel)
	err := <-failure
	if _, err := c.Compile(context.Background(), nil, "a.py", 0); !errors.Is(err, errDead) {
		t.Errorf("then error %v, want %v", err, errDead)
	}
	return err
}

// signalled returns what sends a signal to a compiler that is stopped.
func signalled(s syscall.Signal) func(*Compiler, context.CancelFunc) {
	return func(c *Compiler, _ context.CancelFunc) {
		syscall.Kill(c.pid, s)
		syscall.Kill(c.pid, syscall.SIGCONT)
	}
}

// TestOwnFault proves that a crash is said to be the fault of the source.
func TestOwnFault(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS} {
		t.Run(s.String(), func(t *testing.T) {
			err := disturb(t, mustStart(t, anyPython(t).Config), signalled(s))
			var bad *SourceError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, s.String()) {
				t.Errorf("error %v, want a SourceError with %q", err, s)
			}
		})
	}
}

// TestNotTheSource proves that what happens to a compiler is not said to be the
// source's fault.
func TestNotTheSource(t *testing.T) {
	tests := []struct {
		name string
		do   func(c *Compiler, cancel context.CancelFunc)
		want string
	}{
		{"killed", signalled(syscall.SIGKILL), "signal: killed"},
		{"terminated", signalled(syscall.SIGTERM), "signal: terminated"},
		{"closed", func(c *Compiler, _ context.CancelFunc) { c.Close() }, "signal: killed"},
		{"cancelled", func(_ *Compiler, cancel context.CancelFunc) { cancel() }, "context canceled"},
		{"left stopped", func(*Compiler, context.CancelFunc) {}, "no answer within"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustStart(t, anyPython(t).Config)
			if tt.name == "left stopped" {
				c.patience = 10 * time.Millisecond
			}
			err := disturb(t, c, tt.do)
			var bad *SourceError
			if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v (%T), want another than a SourceError with %q", err, err, tt.want)
			}
		})
	}
}

// A watched context tells when somebody waits for its end.
type watched struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.begun) })
	return w.Context.Done()
}
