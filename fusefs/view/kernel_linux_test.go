package view

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// mountView mounts f as fusefs/mount does. Only other processes may touch the
// mount: this one could wait for itself.
func mountView(t *testing.T, f fixture) (dir string, server *fuse.Server) {
	t.Helper()
	if dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and FUSE: %v", err)
	} else {
		dev.Close()
	}
	dir = t.TempDir()
	server, err := fuse.NewServer(f.FS, dir, &fuse.MountOptions{
		DirectMountStrict:        true,
		DirectMountFlags:         syscall.MS_RDONLY | syscall.MS_NOSUID | syscall.MS_NODEV,
		DisableXAttrs:            true,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		ExtraCapabilities:        fuse.CAP_NO_OPENDIR_SUPPORT,
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return dir, server
}

// output runs a program, which must succeed, and returns all that it says.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	b, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, b)
	}
	return string(b)
}

func TestKernelListsNoCacheDirectory(t *testing.T) {
	dir, _ := mountView(t, newSources(t, Options{Bytecode: newCompiler(t, always)}))
	cache := filepath.Join(dir, "site/__pycache__")
	// Known to the kernel from here on, which must change nothing.
	if got := output(t, "stat", "-c", "%F %a %h %s", cache); got != "directory 755 2 4096\n" {
		t.Errorf("stat of __pycache__: %q", got)
	}
	pyc := filepath.Join(cache, "mod.cpython-312.pyc")
	if got := output(t, "stat", "-c", "%F %a %h", pyc); got != "regular file 644 1\n" {
		t.Errorf("stat of a .pyc: %q", got)
	}
	archive := filepath.Join(t.TempDir(), "all.tar")
	output(t, "tar", "-C", dir, "-cf", archive, ".")
	for _, cmd := range [][]string{
		{"find", dir},
		{"ls", "-laR", dir},
		{"du", "-a", dir},
		{"tar", "-tf", archive},
	} {
		got := output(t, cmd[0], cmd[1:]...)
		if strings.Contains(got, "pyc") || !strings.Contains(got, "mod.py") {
			t.Errorf("%q:\n%s", cmd, got)
		}
	}
	if got := output(t, "find", cache); got != cache+"\n" {
		t.Errorf("find in __pycache__: %q", got)
	}
	if got := output(t, "ls", "-a", cache); got != ".\n..\n" {
		t.Errorf("ls of __pycache__: %q", got)
	}
	if got, want := output(t, "cat", pyc), fmt.Sprintf("bytecode of %s, opt 0", digest.Of([]byte("x = 1\n"))); got != want {
		t.Errorf("a .pyc is %q, want %q", got, want)
	}
}

func TestKernelKeepsWhatIsFinal(t *testing.T) {
	const final, open, there = 0, 1, 2
	var away atomic.Bool
	c := newCompiler(t, func(cancel <-chan struct{}, a tree.Attr, opt int) (string, bool) {
		switch a.Digest {
		case digest.Of(fmt.Appendf(nil, "x = %d\n", final)):
			return "", true
		case digest.Of(fmt.Appendf(nil, "x = %d\n", open)):
			return "", false
		}
		if away.Load() {
			return "", false
		}
		return always(cancel, a, opt)
	})
	f, cache := newModules(t, 3, c)
	dir, server := mountView(t, f)
	stat := func(i int) (found bool, asked int64) {
		before := c.looked.Load()
		err := exec.Command("stat", filepath.Join(dir, "__pycache__", module(i))).Run()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return err == nil, c.looked.Load() - before
	}
	for _, test := range []struct {
		name  string
		i     int
		found bool
		again bool // the kernel asks again
	}{
		{"absent for good", final, false, false},
		{"absent for now", open, false, true},
		{"there", there, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if found, asked := stat(test.i); found != test.found || asked == 0 {
				t.Errorf("first: found %v with %d requests, want %v", found, asked, test.found)
			}
			if found, asked := stat(test.i); found != test.found || asked > 0 != test.again {
				t.Errorf("second: found %v with %d requests, want %v and more requests: %v", found, asked, test.found, test.again)
			}
		})
	}
	t.Run("attributes dropped", func(t *testing.T) {
		e, s := f.lookup(cache, 1, module(there))
		if !s.Ok() {
			t.Fatal(s)
		}
		if s := server.InodeNotify(e.NodeId, -1, 0); !s.Ok() {
			t.Fatal(s)
		}
		if found, asked := stat(there); !found || asked == 0 {
			t.Errorf("found %v with %d requests, want some", found, asked)
		}
	})
	t.Run("a .pyc that has gone", func(t *testing.T) {
		e, s := f.lookup(cache, 1, module(there))
		if !s.Ok() {
			t.Fatal(s)
		}
		c.mu.Lock()
		clear(c.sizes)
		c.mu.Unlock()
		away.Store(true)
		if s := server.InodeNotify(e.NodeId, -1, 0); !s.Ok() {
			t.Fatal(s)
		}
		out, err := exec.Command("stat", filepath.Join(dir, "__pycache__", module(there))).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "No such file") {
			t.Errorf("%v, %s, want no such file", err, out)
		}
	})
}

// A program that reads what it looks up, as an import does, has everything
// compiled; one that does not, a little.
func TestKernelTellsReadersFromLookers(t *testing.T) {
	const n = 200
	for _, test := range []struct {
		program  string
		compiled int64
		used     int
	}{
		{"cat", n, n},
		{"stat", mostUnread, 0},
	} {
		t.Run(test.program, func(t *testing.T) {
			c := newCompiler(t, always)
			f, _ := newModules(t, n, c)
			dir, _ := mountView(t, f)
			var files []string
			for i := range n {
				files = append(files, filepath.Join(dir, "__pycache__", module(i)))
			}
			out, err := exec.Command(test.program, files...).CombinedOutput()
			if all := test.compiled == n; all != (err == nil) {
				t.Errorf("%v\n%s", err, out)
			}
			if got := c.compiled.Load(); got != test.compiled {
				t.Errorf("%d of %d compiled, want %d", got, n, test.compiled)
			}
			if used := c.usedSoFar(); len(used) != test.used {
				t.Errorf("%d of %d used, want %d", len(used), n, test.used)
			}
		})
	}
}

// receive waits for what a test needs to go on.
func receive[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited 30 s for %s", what)
	}
	return v
}

// A process that waits for a compilation can be killed, and one that handles the
// signal goes on without bytecode.
func TestKernelInterruptsWaiting(t *testing.T) {
	asked, cancelled := make(chan bool, 1), make(chan bool, 1)
	f := newSources(t, Options{Bytecode: newCompiler(t, func(cancel <-chan struct{}, _ tree.Attr, _ int) (string, bool) {
		asked <- true
		<-cancel
		cancelled <- true
		return "", false
	})})
	dir, _ := mountView(t, f)
	pyc := filepath.Join(dir, "site/__pycache__/mod.cpython-312.pyc")
	interrupt := func(t *testing.T, sig syscall.Signal, name string, args ...string) *os.ProcessState {
		t.Helper()
		cmd := exec.Command(name, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		receive(t, asked, "a request")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		receive(t, cancelled, "the request's end")
		receive(t, ended, "the process's end")
		return cmd.ProcessState
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			state := interrupt(t, sig, "stat", pyc)
			if status := state.Sys().(syscall.WaitStatus); status.Signal() != sig {
				t.Errorf("%v, want the end by %v", state, sig)
			}
		})
	}
	t.Run("handled", func(t *testing.T) {
		const script = `import os, signal, sys
signal.signal(signal.SIGINT, lambda *args: None)
try:
    os.open(sys.argv[1], os.O_RDONLY)
except FileNotFoundError:
    sys.exit(7)`
		if state := interrupt(t, syscall.SIGINT, python(t), "-c", script, pyc); state.ExitCode() != 7 {
			t.Errorf("%v, want exit status 7: no such file", state)
		}
	})
}

// python returns an interpreter.
func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("needs a python3: %v", err)
	}
	// Not a shim that looks for the interpreter anew each time.
	return strings.TrimSpace(output(t, path, "-c", "import sys; print(sys.executable)"))
}

// newPython is a Bytecode whose .pyc are what the interpreter's own py_compile
// makes of sources, by content.
func newPython(t *testing.T, python string, sources ...string) (c *compiler, tag string) {
	t.Helper()
	tag = strings.TrimSpace(output(t, python, "-c", "import sys; print(sys.implementation.cache_tag)"))
	pycs := make(map[source]string)
	dir := t.TempDir()
	for i, content := range sources {
		d := digest.Of([]byte(content))
		py := filepath.Join(dir, fmt.Sprintf("%d.py", i))
		if err := os.WriteFile(py, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		mtime := time.Unix(tree.SourceTime(d), 0)
		if err := os.Chtimes(py, mtime, mtime); err != nil {
			t.Fatal(err)
		}
		for opt := range maxOpt + 1 {
			const script = `import py_compile, sys
py_compile.compile(sys.argv[1], sys.argv[2], optimize=int(sys.argv[3]), doraise=True)`
			pyc := filepath.Join(dir, "pyc")
			output(t, python, "-c", script, py, pyc, fmt.Sprint(opt))
			b, err := os.ReadFile(pyc)
			if err != nil {
				t.Fatal(err)
			}
			pycs[source{d, opt}] = string(b)
		}
	}
	c = newCompiler(t, func(_ <-chan struct{}, a tree.Attr, opt int) (string, bool) {
		pyc := pycs[source{a.Digest, opt}]
		return pyc, pyc == ""
	})
	c.tag = tag
	return c, tag
}

func TestPythonImports(t *testing.T) {
	python := python(t)
	const mod, sub, broken, doc = "from pkg import sub\n", "import sys\nx = len(sys.path)\n", "def\n", "'text'\n"
	c, tag := newPython(t, python, mod, sub, doc, "")
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	for path, content := range map[string]string{"mod.py": mod, "doc.py": doc, "broken.py": broken, "pkg/__init__.py": "", "pkg/sub.py": sub} {
		if err := b.File(path, false, int64(len(content)), store.put(t, content)); err != nil {
			t.Fatal(err)
		}
	}
	dir, _ := mountView(t, serve(t, b, store, Options{Bytecode: c}))
	imports := func(program string, flags ...string) string {
		cmd := exec.Command(python, append(flags, "-v", "-S", "-c", program)...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	for opt, flags := range [][]string{{}, {"-O"}, {"-OO"}} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			level := ""
			if opt > 0 {
				level = fmt.Sprintf(".opt-%d", opt)
			}
			for range 2 {
				out := imports("import mod, doc; print('doc', doc.__doc__)", flags...)
				for _, path := range []string{"mod", "doc", "pkg/__init__", "pkg/sub"} {
					pyc := filepath.Join(dir, filepath.Dir(path), "__pycache__", filepath.Base(path)+"."+tag+level+".pyc")
					if want := pyc + " matches " + filepath.Join(dir, path+".py"); !strings.Contains(out, want) {
						t.Errorf("nothing says %q:\n%s", want, out)
					}
				}
				want := "doc text\n"
				if opt == 2 {
					want = "doc None\n"
				}
				if !strings.Contains(out, want) {
					t.Errorf("nothing says %q:\n%s", want, out)
				}
			}
		})
	}
	t.Run("broken", func(t *testing.T) {
		out := imports("try: import broken\nexcept SyntaxError as e: print('at', e.filename)")
		if want := "at " + filepath.Join(dir, "broken.py"); !strings.Contains(out, want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	})
	if got, want := c.compiled.Load(), int64(3*4+1); got != want {
		t.Errorf("%d compiled, want %d: 4 modules on 3 levels, and one that fails", got, want)
	}
}
