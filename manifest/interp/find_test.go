package interp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// TestMain lets a copy of the test binary stand for an interpreter: with a file
// of its own name and ".answer" beside it, it does what that file says.
func TestMain(m *testing.M) {
	answer, err := os.ReadFile(os.Args[0] + ".answer")
	if err != nil {
		os.Exit(m.Run())
	}
	what, text, _ := strings.Cut(string(answer), "\n")
	switch what {
	case "print":
		if log, err := os.OpenFile(os.Args[0]+".runs", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			fmt.Fprintln(log, "run")
			log.Close()
		}
		fmt.Print(text)
	case "fail":
		fmt.Fprint(os.Stderr, text)
		os.Exit(1)
	case "hang":
		r, _, err := os.Pipe()
		if err == nil {
			r.Read(make([]byte, 1)) // nobody writes
		}
	}
}

// A machine is a directory that a Finder takes for the whole machine.
type machine struct {
	t    *testing.T
	root string
	env  map[string]string
	*Finder
}

func newMachine(t *testing.T) *machine {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: root, env: make(map[string]string)}
	m.Finder = &Finder{
		Dir:     m.dir("project"),
		Home:    m.dir("home"),
		Getenv:  func(name string) string { return m.env[name] },
		Cache:   make(memory),
		Timeout: time.Minute,
	}
	m.Places = []string{m.path("home/.pyenv/versions/*/bin"), m.path("usr/bin")}
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) dir(name string) string {
	m.t.Helper()
	if err := os.MkdirAll(m.path(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return m.path(name)
}

func (m *machine) file(name, content string, mode os.FileMode) string {
	m.t.Helper()
	m.dir(filepath.Dir(name))
	if err := os.WriteFile(m.path(name), []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
	return m.path(name)
}

// program makes a binary that does what answer says.
func (m *machine) program(name, answer string) string {
	m.t.Helper()
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	m.file(name+".answer", answer, 0o644)
	if err := os.Link(self, m.path(name)); err == nil {
		return m.path(name)
	}
	data, err := os.ReadFile(self) // the temporary directory is another filesystem
	if err != nil {
		m.t.Fatal(err)
	}
	return m.file(name, string(data), 0o755)
}

// python makes an interpreter of that version whose answer the cache has, so
// that nothing is run; "3.13.0t" is free-threaded.
func (m *machine) python(name, version string) string {
	m.t.Helper()
	path := m.file(name, "the Python "+version, 0o755)
	key, err := identity(path)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.Cache.Put(key, m.answer(name, version)); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// answer is what the interpreter of that version prints.
func (m *machine) answer(name, version string) []byte {
	m.t.Helper()
	r := recorded(m.t, "cpython-3.13t")
	number, threaded := strings.CutSuffix(version, "t")
	v, err := pyver.Parse(number)
	if err != nil {
		m.t.Fatal(err)
	}
	r.Executable, r.GILDisabled = m.path(name), threaded
	copy(r.Version[:], v.Release())
	r.Markers.PythonFullVersion = number
	if strings.HasPrefix(filepath.Base(name), "pypy") {
		r.Implementation, r.Markers.PlatformPythonImplementation = "pypy", "PyPy"
	}
	answer, err := json.Marshal(r)
	if err != nil {
		m.t.Fatal(err)
	}
	return answer
}

func (m *machine) find(req Request) (*Python, error) {
	m.t.Helper()
	return m.Find(context.Background(), req)
}

type memory map[string][]byte

func (m memory) Get(key string) ([]byte, bool)      { v, ok := m[key]; return v, ok }
func (m memory) Put(key string, value []byte) error { m[key] = value; return nil }

func specifiers(t *testing.T, s string) pyver.SpecifierSet {
	t.Helper()
	set, err := pyver.ParseSpecifiers(s)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// shared is a machine with a bit of everything.
func shared(t *testing.T) *machine {
	m := newMachine(t)
	m.python("usr/bin/python3", "3.11.2")
	m.python("usr/bin/pypy3", "3.10.14")
	m.python("usr/bin/python3.13t", "3.13.0t")
	m.file("usr/bin/python3-config", "#!/bin/sh\n", 0o755)
	m.python("home/.pyenv/versions/3.9.18/bin/python", "3.9.18")
	m.python("home/.pyenv/versions/3.12.1/bin/python", "3.12.1")
	m.python("home/.pyenv/versions/3.12.10/bin/python", "3.12.10")
	m.python("home/.pyenv/versions/3.14.0rc2/bin/python", "3.14.0rc2")
	m.file("home/.pyenv/shims/python3", "#!/bin/sh\nexit 9\n", 0o755)
	m.file("home/.pyenv/version", "3.9.18\n", 0o644)
	m.env["PATH"] = m.path("home/.pyenv/shims") + ":" + m.path("usr/bin")
	return m
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(*machine)
		req   Request
		want  string // the executable, or what the error says
	}{
		{name: "the first in PATH", want: "home/.pyenv/versions/3.9.18/bin/python3"},
		{name: "a version", req: Request{Python: "3.12"}, want: "home/.pyenv/versions/3.12.10/bin/python"},
		{name: "an exact version", req: Request{Python: "3.12.1"}, want: "home/.pyenv/versions/3.12.1/bin/python"},
		{name: "a version without a dot", req: Request{Python: "312"}, want: "home/.pyenv/versions/3.12.10/bin/python"},
		{name: "specifiers", req: Request{Python: ">=3.10,<3.12"}, want: "usr/bin/python3"},
		{name: "free-threaded", req: Request{Python: "3.13t"}, want: "usr/bin/python3.13t"},
		{name: "free-threaded only if asked for", req: Request{Python: "3.13"}, want: "ask for it with --python 3.13t"},
		{name: "an implementation", req: Request{Python: "pypy"}, want: "usr/bin/pypy3"},
		{name: "an implementation's version", req: Request{Python: "pypy3.10"}, want: "usr/bin/pypy3"},
		{name: "an implementation at a version", req: Request{Python: "cpython@3.11"}, want: "usr/bin/python3"},
		{name: "an implementation, short", req: Request{Python: "cp312"}, want: "home/.pyenv/versions/3.12.10/bin/python"},
		{name: "a pre-release where there is no other", req: Request{Python: "3.14"}, want: "home/.pyenv/versions/3.14.0rc2/bin/python"},
		{name: "a final release before a pre-release", req: Request{Python: ">=3.12"}, want: "home/.pyenv/versions/3.12.10/bin/python"},
		{name: "a program", req: Request{Python: "python3.13t"}, want: "usr/bin/python3.13t"},
		{name: "a directory", req: Request{Python: "../usr"}, want: "usr/bin/python3"},
		{name: "no such path", req: Request{Python: "./none"}, want: "there is no such file"},
		{name: "no such thing", req: Request{Python: "snake"}, want: "neither a version, nor a file, nor a program in PATH"},
		{name: "a bad specifier", req: Request{Python: ">=x"}, want: "no release number"},
		{name: "no such version", req: Request{Python: "3.15"}, want: "CPython 3.11.2"},
		{
			name:  "the pinned version",
			setup: func(m *machine) { m.file("project/.python-version", "# ours\n3.12.1\n", 0o644) },
			want:  "home/.pyenv/versions/3.12.1/bin/python",
		},
		{
			name:  "the first line that is there",
			setup: func(m *machine) { m.file(".python-version", "3.8.1\n3.12\n3.11\n", 0o644) },
			want:  "home/.pyenv/versions/3.12.10/bin/python",
		},
		{
			name:  "a version that pyenv does not have",
			setup: func(m *machine) { m.file("project/.python-version", "3.11\n", 0o644) },
			want:  "usr/bin/python3",
		},
		{
			name: "a named environment of pyenv",
			setup: func(m *machine) {
				m.file("project/.python-version", "work\n", 0o644)
				m.file("home/.pyenv/versions/work/pyvenv.cfg", "home = "+m.path("usr/bin")+"\n", 0o644)
				m.file("home/.pyenv/versions/work/bin/python", "", 0o755)
			},
			want: "usr/bin/python3",
		},
		{
			name: "a pypy of pyenv",
			setup: func(m *machine) {
				m.python("home/.pyenv/versions/pypy3.10-7.3.12/bin/python", "3.10.12")
				m.file("project/.python-version", "pypy3.10-7.3.12\n", 0o644)
			},
			want: "home/.pyenv/versions/pypy3.10-7.3.12/bin/python",
		},
		{
			name:  "the system, pinned",
			setup: func(m *machine) { m.file("project/.python-version", "system\n", 0o644) },
			want:  "usr/bin/python3",
		},
		{
			name:  "a program, pinned",
			setup: func(m *machine) { m.file("project/.python-version", "python3.13t\n", 0o644) },
			want:  "neither a version nor an environment that pyenv has",
		},
		{
			name:  "a path, pinned",
			setup: func(m *machine) { m.file("project/.python-version", "../usr/bin/python3\n", 0o644) },
			want:  "neither a version nor an environment that pyenv has",
		},
		{
			name:  "an empty pin",
			setup: func(m *machine) { m.file("project/.python-version", "\n", 0o644) },
			want:  "usr/bin/python3",
		},
		{
			name:  "a pin against the lock",
			setup: func(m *machine) { m.file("project/.python-version", "3.9\n", 0o644) },
			req:   Request{Requires: pyver.SpecifierSet{}, RequiresBy: "pylock.toml"},
			want:  `.python-version asks for CPython 3.9.18`,
		},
		{
			name:  "the option before the pin",
			setup: func(m *machine) { m.file("project/.python-version", "3.9\n", 0o644) },
			req:   Request{Python: "3.12.1"},
			want:  "home/.pyenv/versions/3.12.1/bin/python",
		},
		{
			name: "the active environment",
			setup: func(m *machine) {
				m.file("active/pyvenv.cfg", "home = "+m.path("usr/bin")+"\n", 0o644)
				m.file("active/bin/python", "", 0o755)
				m.env["VIRTUAL_ENV"] = m.path("active")
			},
			want: "usr/bin/python3",
		},
		{
			name:  "an active environment that is gone",
			setup: func(m *machine) { m.env["VIRTUAL_ENV"] = m.path("gone") },
			want:  "home/.pyenv/versions/3.9.18/bin/python3",
		},
		{
			name:  "a shim where PYENV_VERSION says otherwise",
			setup: func(m *machine) { m.env["PYENV_VERSION"] = "3.7:3.12" },
			req:   Request{Python: "python3"},
			want:  "home/.pyenv/versions/3.12.10/bin/python3",
		},
		{
			name:  "a shim that leads nowhere",
			setup: func(m *machine) { m.env["PYENV_VERSION"] = "3.7"; m.env["PATH"] = m.path("home/.pyenv/shims") },
			req:   Request{Python: "python3"},
			want:  `pyenv has no version "3.7" (set by PYENV_VERSION)`,
		},
		{
			name:  "nothing at all",
			setup: func(m *machine) { m.env["PATH"] = ""; m.Places = nil },
			want:  "needs Python 3.8 or newer, and none is in PATH",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := shared(t)
			m.python("home/.pyenv/versions/3.9.18/bin/python3", "3.9.18")
			m.python("home/.pyenv/versions/3.12.10/bin/python3", "3.12.10")
			if c.setup != nil {
				c.setup(m)
			}
			if c.req.RequiresBy != "" {
				c.req.Requires = specifiers(t, ">=3.11")
			}
			p, err := m.find(c.req)
			if err != nil {
				if !errors.Is(err, ErrNoPython) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			// Places come in an order that python3 begins; both names are one
			// interpreter of the same version.
			if got, want := strings.TrimSuffix(p.Executable, "3"), strings.TrimSuffix(m.path(c.want), "3"); got != want {
				t.Errorf("%s by %s, want %s", p, p.Source, c.want)
			}
			if p.Source == "" {
				t.Error("it does not say why")
			}
			if key, err := m.Key(context.Background(), p.Found); err != nil || key != p.Key {
				t.Errorf("Key(%q) = %q, %v, want the Python's %q", p.Found, key, err, p.Key)
			}
		})
	}
}

func TestFindRequires(t *testing.T) {
	m := shared(t)
	p, err := m.find(Request{Requires: specifiers(t, ">=3.12")})
	if err != nil || p.VersionInfo != "3.12.10" {
		t.Errorf("%v, %v, want the newest 3.12 of pyenv", p, err)
	}
	_, err = m.find(Request{Requires: specifiers(t, ">=3.15"), RequiresBy: "pylock.toml"})
	if err == nil {
		t.Fatal("a Python was found that is not there")
	}
	for _, want := range []string{"CPython 3.9.18", "CPython 3.11.2", "PyPy 3.10.14", "is free-threaded", "is not >=3.15", "pylock.toml requires Python >=3.15, and none of those found fits"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to list %q", err, want)
		}
	}
}

func TestFindTakesWhatBothSidesTake(t *testing.T) {
	m := shared(t)
	p, err := m.find(Request{Python: ">=3.9", Requires: specifiers(t, ">=3.12")})
	if err != nil || p.VersionInfo != "3.12.10" || p.Source != "--python" {
		t.Errorf("%v, %v, want 3.12.10", p, err)
	}
}

func TestContradictionNamesBothSides(t *testing.T) {
	m := shared(t)
	_, err := m.find(Request{Python: "3.12.1", PythonBy: "SITEFS_PYTHON", Requires: specifiers(t, "<3.12"), RequiresBy: "pylock.dev.toml"})
	for _, want := range []string{
		`SITEFS_PYTHON asks for "3.12.1" and pylock.dev.toml requires Python <3.12`, "python) is not <3.12",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
}

func TestNotAPython(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"garbage", "print\nhello\n", `it answered "hello\n"`},
		{"nothing", "print\n", `it answered ""`},
		{"other JSON", "print\n{}", "names no implementation"},
		{"failure", "fail\nusage: tool\n  -x\nbad flag -I\n", `exit status 1: "bad flag -I"`},
		{"silent failure", "fail\n", "exit status 1"},
		{"hang", "hang\n", "no answer in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.name == "hang" {
				m.Timeout = time.Millisecond
			}
			_, err := m.Probe(context.Background(), m.program("usr/bin/tool", c.answer))
			if !errors.Is(err, ErrNoPython) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error that says %q", err, c.want)
			}
			if strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), m.path("usr/bin/tool")) {
				t.Errorf("%v, want one line that names the file", err)
			}
		})
	}
}

func TestNotAProgram(t *testing.T) {
	m := newMachine(t)
	m.file("text", "hello", 0o644)
	m.file("empty", "", 0o755)
	m.file("script", "#!/bin/sh\necho hello\n", 0o755)
	m.file("loop", "#!/bin/sh\necho "+m.path("loop2")+"\n", 0o755)
	m.file("loop2", "#!/bin/sh\necho "+m.path("loop")+"\n", 0o755)
	m.file("venv/pyvenv.cfg", "home = /nowhere\n", 0o644)
	m.file("relative/pyvenv.cfg", "home = bin\n", 0o644)
	m.dir("usr/bin")
	for name, want := range map[string]string{
		"none": "there is no such file", "usr/bin": "it is a directory", "text": "it is not executable",
		"empty": "the file is empty", "script": `it answered "hello"`, "loop": "without end",
		"venv/bin/python": `names "/nowhere" as the home`, "relative/bin/python": "no absolute home",
	} {
		if _, err := m.Probe(context.Background(), m.path(name)); !errors.Is(err, ErrNoPython) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %q", name, err, want)
		}
	}
}

func TestCancelled(t *testing.T) {
	m := newMachine(t)
	m.program("usr/bin/python3", "hang\n")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Find(ctx, Request{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestProbeRunsOnce(t *testing.T) {
	m := newMachine(t)
	run := func(version string) string {
		return m.program("usr/bin/python3", "print\n"+string(m.answer("usr/bin/python3", version)))
	}
	python := run("3.11.2")
	runs := func() int {
		data, err := os.ReadFile(python + ".runs")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), "run")
	}
	var keys []string
	for range 3 {
		p, err := m.Probe(context.Background(), python)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, p.Key)
	}
	if runs() != 1 || len(slices.Compact(keys)) != 1 {
		t.Errorf("%d runs, keys %q, want one of each", runs(), keys)
	}
	if key, err := m.Key(context.Background(), python); err != nil || key != keys[0] {
		t.Errorf("Key = %q, %v, want that of the Python", key, err)
	}

	later := time.Now().Add(time.Hour)
	if err := os.Remove(python); err != nil {
		t.Fatal(err)
	}
	run("3.11.3")
	if err := os.Chtimes(python, later, later); err != nil {
		t.Fatal(err)
	}
	p, err := m.Probe(context.Background(), python)
	if err != nil || p.VersionInfo != "3.11.3" || p.Key == keys[0] {
		t.Errorf("%v, %v after an upgrade in place, want 3.11.3 and another key", p, err)
	}

	for key := range m.Cache.(memory) {
		m.Cache.(memory)[key] = []byte("torn")
	}
	if p, err := m.Probe(context.Background(), python); err != nil || p.VersionInfo != "3.11.3" {
		t.Errorf("%v, %v with a torn answer, want it asked again", p, err)
	}
}

func TestVenvOfAVenv(t *testing.T) {
	m := newMachine(t)
	m.python("usr/bin/python3", "3.11.2")
	m.file("a/pyvenv.cfg", "home = "+m.path("usr/bin")+"\n", 0o644)
	m.file("a/bin/python3", "", 0o755)
	m.file("b/pyvenv.cfg", "HOME="+m.path("a/bin")+"\r\n", 0o644)
	p, err := m.Probe(context.Background(), m.path("b/bin/python"))
	if err != nil || p.Executable != m.path("usr/bin/python3") {
		t.Errorf("%v, %v", p, err)
	}
}

func TestInputs(t *testing.T) {
	m := shared(t)
	req := Request{Dir: m.dir("project/sub")}
	inputs := func() []string { return m.Inputs(req) }
	last := inputs()
	if !slices.Equal(last, inputs()) {
		t.Fatal("the same machine has other inputs")
	}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"a variable", func() { m.env["PYENV_VERSION"] = "3.12" }},
		{"PATH", func() { m.env["PATH"] += ":" + m.dir("more") }},
		{"a pin", func() { m.file("project/.python-version", "3.12\n", 0o644) }},
		{"another pin", func() { m.file("project/.python-version", "3.11\n", 0o644) }},
		{"pyenv's global version", func() { m.file("home/.pyenv/version", "3.12.1\n", 0o644) }},
		{"a new interpreter", func() { m.dir("home/.pyenv/versions/3.99.0/bin") }},
		{"the request", func() { req.Python = m.path("usr/bin/python3") }},
		{"an environment's base", func() { m.file("usr/pyvenv.cfg", "home = /other\n", 0o644) }},
	} {
		c.change()
		if now := inputs(); slices.Equal(now, last) {
			t.Errorf("%s changed and the inputs did not", c.name)
		} else {
			last = now
		}
	}
}
