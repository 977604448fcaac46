package bytecode

import (
	"context"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pythons returns the interpreters of this machine that can be compiled for.
func pythons(t *testing.T) []string {
	t.Helper()
	list := []string{"/usr/bin/python3"}
	if home, err := os.UserHomeDir(); err == nil {
		for _, minor := range []string{"8", "9", "10", "11", "12", "13", "14"} {
			found, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/3."+minor+".*/bin/python3"))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, found...)
		}
	}
	return list
}

// run returns what a Python program prints.
func run(t *testing.T, python, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(python, append([]string{"-c", program}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// compare prints how a .pyc differs from what py_compile makes of its source.
const compare = `
import marshal, os, py_compile, sys
source, name, mtime, opt, pyc = sys.argv[1:]
os.utime(source, (int(mtime), int(mtime)))
py_compile.compile(source, pyc + ".want", dfile=name, doraise=True, optimize=int(opt),
                   invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
got, want = open(pyc, "rb").read(), open(pyc + ".want", "rb").read()
if got[:16] != want[:16]:
    print("header", got[:16].hex(), "want", want[:16].hex())
a, b = marshal.loads(got[16:]), marshal.loads(want[16:])
if a != b:
    print("code", a.co_code, a.co_consts, "want", b.co_code, b.co_consts)
if a.co_filename != name:
    print("filename", a.co_filename)
`

// TestPython holds what the interpreters of this machine make against what they
// make by py_compile.
func TestPython(t *testing.T) {
	found := false
	for _, python := range pythons(t) {
		if _, err := os.Stat(python); err != nil {
			continue
		}
		found = true
		t.Run(python, func(t *testing.T) { testPython(t, python) })
	}
	if !found {
		t.Skip("there is no Python from 3.8 on")
	}
}

func testPython(t *testing.T, python string) {
	e := newEnv(t, map[string]string{
		"demo/__init__.py": "",
		"demo/doc.py":      "\"\"\"About.\"\"\"\nimport demo.other\n\ndef f(x: int = 1) -> str:\n    \"\"\"F.\"\"\"\n    assert x\n    return f\"{x!r}\" * 3\n\nSET = {1, 2, 'a'} | frozenset('abc')\n",
		"demo/other.py":    "def g():\n    return 1\n",
		"demo/tmpl.py":     "class {{ name }}:\n    pass\n",
		"demo/two.py":      "print 'two'\n",
		"demo/nul.py":      "x = 1\n\x00",
	})
	tag, magic, _ := strings.Cut(run(t, python, "import sys, importlib.util as u; print(sys.implementation.cache_tag, u.MAGIC_NUMBER.hex())"), " ")
	e.version = Version{tag, magic}
	near, far := socket(t)
	client := NewClient(e.cache(t), near, "", nil)
	var out logBuffer
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(context.Background(), far, HostConfig{
			Cache: e.cache(t), Scratch: e.scratch(0), Tree: e.tree, Site: site,
			Python: python, Compilers: 2, Nice: 1, Idle: time.Minute, Log: log.New(&out, "", 0),
		})
	}()
	for _, name := range []string{"demo/__init__.py", "demo/doc.py"} {
		for opt := range maxOpt + 1 {
			id, a := e.find(t, name)
			size, stamp, _ := client.Lookup(nil, id, a, opt, true)
			if size == 0 {
				t.Fatalf("%s with optimisation %d: nothing; %+v", name, opt, client.Status())
			}
			client.Used(id, opt)
			s := e.source(t, name)
			pyc := filepath.Join(t.TempDir(), "x.pyc")
			fd, size, err := client.Open(a, opt, stamp)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "entry")
			b := make([]byte, size)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := os.WriteFile(pyc, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := run(t, python, compare, e.blobs.path(s.Digest), name, strconv.FormatInt(s.Mtime, 10), strconv.Itoa(opt), pyc); diff != "" {
				t.Errorf("%s with optimisation %d: %s", name, opt, diff)
			}
		}
	}
	eventually(t, func() bool { return client.Status().Ahead == 3 }) // other.py, three times
	for _, name := range []string{"demo/tmpl.py", "demo/two.py", "demo/nul.py"} {
		id, a := e.find(t, name)
		if size, _, final := client.Lookup(nil, id, a, 0, true); size != 0 || !final {
			t.Errorf("%s: %d, %v, want a final failure", name, size, final)
		}
	}
	for _, f := range client.Status().Failures {
		if !strings.Contains(f.Reason, "Error: ") {
			t.Errorf("%s fails with %q, want the name of an exception", f.Path, f.Reason)
		}
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v\n%s", err, out.String())
	}
	expectEmpty(t, e.scratch(0))
}
