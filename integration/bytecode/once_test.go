package bytecode

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// Two environments that import one wheel at once, neither of them compiled, have
// every source compiled once between them; a third finds all of it.
func TestCompiledOnce(t *testing.T) {
	const n = 60
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), wheelhouse.Spec{Name: "chain", Version: "1.0", Files: modules("chain", n, 20)})
	venvs := []string{e.mount(t, "one"), e.mount(t, "two")}
	var imports []*sandbox.Command
	for _, venv := range venvs {
		imports = append(imports, e.Start(t, e.Dir, interpreter(venv), "-c", "import chain.m0"))
	}
	for i, c := range imports {
		if err := c.Wait(); err != nil {
			t.Fatalf("import in %s: %v\n%s", venvs[i], err, &c.Said)
		}
	}
	const sources = n + 1 // and __init__.py
	if got := entries(t, e.Store()); len(got) != sources {
		t.Errorf("the store has %d files of bytecode, want %d", len(got), sources)
	}
	sandbox.Eventually(t, func() string { // what was compiled ahead is counted behind the import
		var compiled int64
		for _, venv := range venvs {
			s := e.status(t, venv).Bytecode
			compiled += s.Compiled + s.Ahead
		}
		if compiled != sources {
			return fmt.Sprintf("%d sources were compiled, want %d", compiled, sources)
		}
		return ""
	})

	venv := e.mount(t, "three")
	e.Must(t, interpreter(venv), "-c", "import chain.m0")
	s := e.status(t, venv).Bytecode
	if s.Hits < sources || s.Compiled != 0 || s.Failed != 0 || s.Off != "" {
		t.Errorf("after an import of what is compiled the status is %+v, want %d hits and nothing else", s, sources)
	}
	if got := e.same(t, venv, filepath.Join(sitePackages(t, venv), "chain"), ""); got != sources {
		t.Errorf("%d sources have bytecode, want %d", got, sources)
	}
}

// A hundred processes that ask for one file, of two servers, have it compiled once.
func TestOneFile(t *testing.T) {
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	venvs := []string{e.mount(t, "one"), e.mount(t, "two")}
	var stats []*sandbox.Command
	for range 50 {
		for _, venv := range venvs {
			stats = append(stats, e.Start(t, e.Dir, "stat", pyc(filepath.Join(sitePackages(t, venv), "demo/work.py"), "cpython-312")))
		}
	}
	for _, c := range stats {
		if err := c.Wait(); err != nil {
			t.Errorf("stat: %v: %s", err, &c.Said)
		}
	}
	if one, two := e.status(t, venvs[0]).Bytecode, e.status(t, venvs[1]).Bytecode; one.Compiled+two.Compiled != 1 {
		t.Errorf("the status of one is %+v, of the other %+v, want one compiled", one, two)
	}
}

// The compilers come when something is to be compiled, go when nothing has been
// for a while, and come again.
func TestCompilersComeAndGo(t *testing.T) {
	t.Parallel() // the while is some seconds
	e, _ := withInstallation(t, demo)
	venv := e.mount(t, ".venv")
	work := filepath.Join(sitePackages(t, venv), "demo/work.py")
	if left := processesOf(t, e.Dir); len(left) > 0 {
		t.Errorf("before the first question there are %v", left)
	}
	e.expectCompiles(t, work, "cpython-312")
	e.awaitNoCompilers(t)
	e.expectCompiles(t, work, "cpython-312.opt-1")
}

// expectCompiles has a source compiled, and looks for who does it.
func (e *environment) expectCompiles(t *testing.T, source, suffix string) {
	t.Helper()
	if !served(t, source, suffix) {
		t.Errorf("there is no bytecode for %s", suffix)
	}
	if got := hosts(t, e.Dir); len(got) != 1 {
		t.Errorf("the compiler hosts are %v, want one", got)
	}
	if got := compilers(t, e.Dir); len(got) == 0 || len(got) > runtime.NumCPU() {
		t.Errorf("the compilers are %v, want one at least and no more than the %d cores", got, runtime.NumCPU())
	}
}

// A hundred processes that wait for bytecode leave the mount answering others.
// That they wait is sure: the compiler host is stopped.
func TestHundredWait(t *testing.T) {
	const waiting = 100
	files := modules("slow", waiting+1, 1)
	for i := range 100 {
		files[fmt.Sprintf("slow/data/%d.txt", i)] = fmt.Sprint(i)
	}
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), wheelhouse.Spec{Name: "slow", Version: "1.0", Files: files})
	venv := e.mount(t, ".venv")
	slow := filepath.Join(sitePackages(t, venv), "slow")
	module := func(i int) string { return pyc(filepath.Join(slow, fmt.Sprintf("m%d.py", i)), "cpython-312") }
	e.Must(t, "stat", module(waiting)) // starts the compiler host
	running := hosts(t, e.Dir)
	if len(running) != 1 {
		t.Fatalf("the compiler hosts are %v, want one", running)
	}
	if err := syscall.Kill(running[0].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceFunc(func() { syscall.Kill(running[0].PID, syscall.SIGCONT) })
	defer resume()

	before := e.status(t, venv).Requests["LOOKUP"]
	var stats []*sandbox.Command
	for i := range waiting {
		stats = append(stats, e.Start(t, e.Dir, "stat", module(i)))
	}
	sandbox.Eventually(t, func() string {
		if n := e.status(t, venv).Requests["LOOKUP"] - before; n < waiting {
			return fmt.Sprintf("there are %d LOOKUPs, want %d", n, waiting)
		}
		return ""
	})
	listed, err := os.ReadDir(filepath.Join(slow, "data"))
	if err != nil || len(listed) != 100 {
		t.Fatalf("listing a folder meanwhile: %d entries, %v", len(listed), err)
	}
	for _, entry := range listed {
		data, err := os.ReadFile(filepath.Join(slow, "data", entry.Name()))
		if err != nil || string(data)+".txt" != entry.Name() {
			t.Errorf("reading %s meanwhile: %q, %v", entry.Name(), data, err)
		}
	}
	resume()
	for i, c := range stats {
		if err := c.Wait(); err != nil {
			t.Errorf("stat of the bytecode of module %d: %v: %s", i, err, &c.Said)
		}
	}
}

// A process that looks at the names of bytecode and reads none of it, as find and
// pip uninstall do, compiles next to nothing.
func TestStatOnly(t *testing.T) {
	const sources, most = 3000, 50
	files := make(map[string]string)
	for i := range sources {
		files[fmt.Sprintf("many/p%d/m%d.py", i%10, i)] = fmt.Sprintf("x = %d\n", i)
	}
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), wheelhouse.Spec{Name: "many", Version: "1.0", Files: files})
	venv := e.mount(t, ".venv")
	const script = `
import importlib.util, os, sys
found = looked = 0
for directory, _, names in os.walk(sys.argv[1]):
    for name in names:
        looked += 1
        found += os.path.exists(importlib.util.cache_from_source(os.path.join(directory, name)))
print(looked, found <= 50)
`
	e.Write(t, "looks.py", script)
	many := filepath.Join(sitePackages(t, venv), "many")
	if got, want := e.Must(t, interpreter(venv), "looks.py", many), fmt.Sprintf("%d True\n", sources); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	got := entries(t, e.Store())
	if len(got) > most {
		t.Errorf("%d sources were compiled, want %d at most", len(got), most)
	}
	if s := e.status(t, venv).Bytecode; int(s.Compiled) != len(got) || s.Ahead != 0 {
		t.Errorf("the status is %+v, want %d compiled and none ahead of need", s, len(got))
	}

	// What reads the bytecode that it asks for is served, be it more than that.
	var imports strings.Builder
	for i := range 2 * most {
		fmt.Fprintf(&imports, "import many.p%d.m%d as m\nassert open(m.__cached__, 'rb').read(4)\n", i%10, i)
	}
	e.Write(t, "imports.py", imports.String())
	e.Must(t, interpreter(venv), "imports.py")
}
