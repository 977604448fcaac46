package resolve

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

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
)

const sha = "c75a69e28a550a7e93789579c22aa26b0f5b83b75dc4e08fe092980051e1090a"

// python312 is an interp.Python.
const python312 = `{"Key": "key", "Implementation": "cpython", "FullVersion": "3.12.1", "VersionInfo": "3.12.1",
"Tags": [{"Python": "cp312", "ABI": "cp312", "Platform": "linux_x86_64"}, {"Python": "py3", "ABI": "none", "Platform": "any"}],
"Markers": {"OSName": "posix", "SysPlatform": "linux", "PlatformMachine": "x86_64", "PlatformPythonImplementation": "CPython",
 "PythonVersion": "3.12", "PythonFullVersion": "3.12.1", "ImplementationName": "cpython", "ImplementationVersion": "3.12.1"}}`

// memory is a cache that nothing outlives.
type memory map[string][]byte

func (m memory) Get(key string) ([]byte, bool)      { v, ok := m[key]; return v, ok }
func (m memory) Put(key string, value []byte) error { m[key] = value; return nil }

// A world is a resolver among fake tools: shell scripts that log how they are
// called and print what they are told to.
type world struct {
	*Resolver
	t      *testing.T
	dir    string // bin, project and the logs are here
	python *interp.Python
	now    time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	for _, dir := range []string{"bin", "project", "home"} {
		if err := os.Mkdir(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.Resolver = &Resolver{
		Cache: memory{},
		// The scripts need a few programs of the system, which has no uv of its own there.
		Env: []string{"PATH=" + filepath.Join(w.dir, "bin"), "HOME=" + filepath.Join(w.dir, "home")},
		Now: func() time.Time { return w.now },
	}
	w.python = new(interp.Python)
	if err := json.Unmarshal([]byte(python312), w.python); err != nil {
		t.Fatal(err)
	}
	w.python.Executable = filepath.Join(w.dir, "prefix/bin/python")
	return w
}

// write writes a file below the world's folder and returns its path.
func (w *world) write(name, text string, mode os.FileMode) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// script writes a program that logs its arguments, working folder and standard
// input and then does what body says.
func (w *world) script(name, body string) {
	w.t.Helper()
	w.write(name, fmt.Sprintf(`#!/bin/sh
{
	echo "run $0"
	pwd
	for a in "$@"; do echo "arg $a"; done
	while read -r line; do echo "stdin $line"; done
	case " $* " in *" /dev/fd/3 "*) while read -r line; do echo "fd3 $line"; done <&3;; esac
} >>%q
%s
`, filepath.Join(w.dir, "log"), body), 0o755)
}

// prints is a script body that prints text.
func prints(text string) string { return "/bin/cat <<'END'\n" + text + "\nEND" }

// calls returns the log and empties it.
func (w *world) calls() string {
	w.t.Helper()
	path := filepath.Join(w.dir, "log")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	os.Remove(path)
	return string(data)
}

// request asks for what --with would.
func (w *world) request(args ...string) Request {
	w.t.Helper()
	req := Request{Python: w.python, Dir: filepath.Join(w.dir, "project")}
	for _, arg := range args {
		with, err := lock.ParseWith(arg, req.Dir)
		if err != nil {
			w.t.Fatal(err)
		}
		req.Withs = append(req.Withs, with)
	}
	return req
}

// resolve asks and returns the pins' names and versions, or the error.
func (w *world) resolve(req Request) string {
	w.t.Helper()
	a, err := w.With(context.Background(), req)
	if err != nil {
		return err.Error()
	}
	var pins []string
	for _, p := range a.Pins {
		text := p.String()
		if p.Requested {
			text += " requested"
		}
		if p.Direct {
			text += " direct"
		}
		pins = append(pins, text)
	}
	return strings.Join(append(pins, a.Notes...), ", ")
}

// hasLines reports the lines that text lacks.
func hasLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	have := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(have, line) {
			t.Errorf("found\n%s\nwant the line %q", text, line)
		}
	}
}

func lockText(name, version string) string {
	return fmt.Sprintf(`lock-version = "1.0"
created-by = "uv"
[[packages]]
name = %q
version = %q
wheels = [{url = "https://example.com/%s-%s-py3-none-any.whl", hashes = {sha256 = %q}}]`, name, version, name, version, sha)
}

func TestUV(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", "echo 'Resolved 1 package in 1ms' >&2\necho 'warning: foo has no extra' >&2\n"+prints(lockText("foo", "1.0")+`
[[packages]]
name = "local"
version = "2"
archive = {path = "dist/local-2-py3-none-any.whl", hashes = {sha256 = "`+sha+`"}}`))
	wheel := w.write("project/dist/local-2-py3-none-any.whl", "", 0o644)
	req := w.request("Foo>=1", "./dist/local-2-py3-none-any.whl[x]")
	req.Constraints, req.NoDeps = []string{"bar==1", "baz==2"}, true
	a, err := w.With(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Pins) != 2 || a.Pins[1].Path != wheel || !a.Pins[1].Direct || !a.Pins[1].Requested || !a.Pins[0].Requested || a.Pins[0].Direct {
		t.Errorf("found pins %+v", a.Pins)
	}
	if !slices.Equal(a.Notes, []string{"foo has no extra"}) || !a.Asked.Equal(w.now) {
		t.Errorf("found notes %q, asked %v", a.Notes, a.Asked)
	}
	hasLines(t, w.calls(), req.Dir, "arg pip", "arg compile", "arg pylock.toml", "arg :all:", "arg --no-deps", "arg "+w.python.Executable,
		"stdin Foo>=1", "stdin local[x] @ "+lock.FileURL(wheel), "fd3 bar==1", "fd3 baz==2")
}

func TestAnswersAreKeptForADay(t *testing.T) {
	w := newWorld(t)
	// The script stays as it is: it is part of the key.
	answer := func(version string) { w.write("answer", lockText("foo", version)+"\n", 0o644) }
	w.script("bin/uv", "while IFS= read -r line; do echo \"$line\"; done <"+filepath.Join(w.dir, "answer"))
	answer("1.0")
	req := w.request("foo")
	if got := w.resolve(req); got != "foo 1.0 requested" {
		t.Fatalf("found %q", got)
	}
	w.calls()
	answer("1.1")

	w.now = w.now.Add(MaxAge - time.Second)
	if got := w.resolve(req); got != "foo 1.0 requested" || w.calls() != "" {
		t.Errorf("found %q within a day, want the kept answer and no call", got)
	}
	refresh := req
	refresh.Refresh = true
	if got := w.resolve(refresh); got != "foo 1.1 requested" {
		t.Errorf("found %q on refresh, want the new answer", got)
	}
	hasLines(t, w.calls(), "arg --refresh")
	w.now = w.now.Add(MaxAge)
	answer("1.2")
	if got := w.resolve(req); got != "foo 1.2 requested" {
		t.Errorf("found %q after a day, want the new answer", got)
	}
}

// A resolver's own cache and log change whenever anybody runs it.
func TestAnswersOutliveWhatResolversWrite(t *testing.T) {
	w := newWorld(t)
	w.Env = append(w.Env, "UV_CACHE_DIR="+w.dir+"/uv-cache", "PIP_CACHE_DIR="+w.dir+"/pip-cache", "PIP_LOG="+w.dir+"/pip.log")
	used := func(name string) {
		w.write("uv-cache/"+name, "", 0o644)
		w.write("pip-cache/"+name, "", 0o644)
		w.write("pip.log", name, 0o644)
	}
	w.script("bin/uv", prints(lockText("foo", "1.0")))
	req := w.request("foo")
	used("one")
	w.resolve(req)
	w.calls()
	used("and another")
	if got := w.resolve(req); got != "foo 1.0 requested" || w.calls() != "" {
		t.Errorf("found %q, want the kept answer and no call", got)
	}
}

func TestOldAnswerWhenUnreachable(t *testing.T) {
	w := newWorld(t)
	const body = "test -e down && { echo 'error: connection to https://u:secret@example.com refused' >&2; exit 2; }\n"
	w.script("bin/uv", body+prints(lockText("foo", "1.0")))
	req := w.request("foo")
	w.resolve(req)
	w.write("project/down", "", 0o644)
	w.now = w.now.Add(30 * MaxAge)

	got := w.resolve(req)
	if !strings.HasPrefix(got, "foo 1.0 requested, using the answer of 2026-11-22 12:00:00") || !strings.Contains(got, "refused") || strings.Contains(got, "secret") {
		t.Errorf("found %q, want the old answer with a note that tells no password", got)
	}
	w.calls()
	offline := req
	offline.Offline = true
	if got := w.resolve(offline); got != "foo 1.0 requested" || w.calls() != "" {
		t.Errorf("found %q offline, want the old answer and no call", got)
	}
	refresh := req
	refresh.Refresh = true
	if got := w.resolve(refresh); !strings.Contains(got, "refused") || strings.HasPrefix(got, "foo 1.0") {
		t.Errorf("found %q on refresh, want the error", got)
	}
	other := w.request("bar")
	other.Offline = true
	_, err := w.With(context.Background(), other)
	if !errors.Is(err, ErrOffline) || !strings.Contains(err.Error(), `"bar"`) {
		t.Errorf("error %v offline, want ErrOffline and the name", err)
	}
}

func TestFailure(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", "echo 'error: No solution: see https://u:secret@example.com/simple' >&2; exit 1")
	got := w.resolve(w.request("foo @ https://u:secret@example.com/foo-1-py3-none-any.whl", "bar"))
	for _, want := range []string{`"bar"`, "CPython 3.12.1", "uv failed (exit code 1)", "  error: No solution: see https://example.com/simple", "change the requirements"} {
		if !strings.Contains(got, want) {
			t.Errorf("error %q, want one with %q", got, want)
		}
	}
	if strings.Contains(got, "secret") {
		t.Errorf("error %q tells a password", got)
	}
	if len(w.Cache.(memory)) != 0 {
		t.Error("a failure was kept")
	}
}

func TestUnreachableIndex(t *testing.T) {
	const way = "see that the index can be reached"
	tests := []struct{ name, script, body string }{
		{"uv", "bin/uv", "echo 'error: Request failed after 3 retries' >&2; exit 2"},
		{"pip", "prefix/bin/python", "echo \"WARNING: Retrying (Retry(total=0)) after connection broken by 'x'\" >&2; exit 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.script(test.script, test.body)
			q := w.request("foo")
			_, err := w.With(t.Context(), q)
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), way) {
				t.Errorf("error %v, want ErrUnreachable with %q", err, way)
			}
		})
	}
}

// uv exits with the same code when its configuration is at fault.
func TestBadConfiguration(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", "echo 'error: Failed to parse: uv.toml' >&2; exit 2")
	_, err := w.With(t.Context(), w.request("foo"))
	if err == nil || errors.Is(err, ErrUnreachable) || !strings.HasSuffix(err.Error(), "for wheels only: mend what it names") {
		t.Errorf("error %v, want one that sends nobody after the index", err)
	}
}

func TestUnusableAnswer(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", prints("lock-version = \"9\""))
	if got := w.resolve(w.request("foo")); !strings.Contains(got, `the resolver's answer for "foo" can't be used: found lock-version "9"`) {
		t.Errorf("found %q", got)
	}
	if len(w.Cache.(memory)) != 0 {
		t.Error("an answer that can't be used was kept")
	}
}

func TestDamagedCacheIsAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", prints(lockText("foo", "1.0")))
	req := w.request("foo")
	key, err := w.Key(req)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "{", `{"asked":"2026-11-22T12:00:00Z","pylock":"x"}`} {
		w.Cache.(memory)[key] = []byte(damaged)
		if got := w.resolve(req); got != "foo 1.0 requested" {
			t.Errorf("with %q in the cache: found %q", damaged, got)
		}
	}
}

// pipReport is as pip 23.0 and 24.2 print it, for a package of an index
// and a direct reference.
const pipReport = `{"version": "1", "pip_version": "23.0.1", "install": [
{"download_info": {"url": "https://example.com/Foo-1.0-py3-none-any.whl", "archive_info": {"hash": "sha256=` + sha + `"}},
 "is_direct": false, "requested": true, "metadata": {"metadata_version": "2.1", "name": "Foo", "version": "1.0"}},
{"download_info": {"url": "file:///w/bar-2-py3-none-any.whl", "archive_info": {"hash": "sha256=` + sha + `", "hashes": {"sha256": "` + sha + `"}}},
 "is_direct": true, "requested": true, "metadata": {"metadata_version": "2.1", "name": "bar", "version": "2"}}],
 "environment": {}}`

func TestPip(t *testing.T) {
	w := newWorld(t)
	w.script("prefix/bin/python", `test "$PIP_REQUIRE_VIRTUALENV" = 0 || exit 1`+"\n"+prints(pipReport))
	req := w.request("foo")
	req.Constraints, req.NoDeps = []string{"baz==2"}, true
	if got := w.resolve(req); got != "foo 1.0 requested, bar 2 direct" {
		t.Errorf("found %q", got)
	}
	hasLines(t, w.calls(), req.Dir, "arg install", "arg --dry-run", "arg -", "arg :all:", "arg --no-deps", "arg /dev/stdin", "stdin baz==2", "arg --", "arg foo")
}

func TestWhichToolIsAsked(t *testing.T) {
	const missing = "echo 'pyenv: uv: command not found' >&2; exit 127"
	answer, report := prints(lockText("foo", "1.0")), prints(pipReport)
	tests := []struct {
		name    string
		scripts map[string]string
		want    string // the program that answers, or the end of the error
	}{
		{"uv before pip", map[string]string{"bin/uv": answer, "prefix/bin/python": report}, "bin/uv"},
		{"a shim without a uv behind it", map[string]string{"bin/uv": missing, "prefix/bin/python": report}, "prefix/bin/python"},
		{"an old uv", map[string]string{"bin/uv": "echo \"error: unexpected argument '--format' found\" >&2; exit 2", "prefix/bin/python": report}, "prefix/bin/python"},
		{"the interpreter's pip before another", map[string]string{"prefix/bin/python": report, "bin/pip": report}, "prefix/bin/python"},
		{"the user's pip", map[string]string{"prefix/bin/python": "echo 'No module named pip' >&2; exit 1", "bin/pip": report}, "bin/pip"},
		{"an old pip", map[string]string{"prefix/bin/python": "echo 'no such option: --report' >&2; exit 2", "bin/pip3": report}, "bin/pip3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			for name, body := range test.scripts {
				w.script(name, body)
			}
			if got := w.resolve(w.request("foo")); !strings.HasPrefix(got, "foo 1.0 requested") {
				t.Fatalf("found %q", got)
			}
			var last string
			for line := range strings.Lines(w.calls()) {
				if path, ok := strings.CutPrefix(line, "run "); ok {
					last = strings.TrimSpace(path)
				}
			}
			if want := filepath.Join(w.dir, test.want); last != want {
				t.Errorf("%s answered, want %s", last, want)
			}
		})
	}
}

func TestNoResolver(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", "echo 'pyenv: uv: command not found' >&2; exit 127")
	w.script("prefix/bin/python", "echo 'No module named pip' >&2; exit 1")
	_, err := w.With(context.Background(), w.request("foo"))
	if !errors.Is(err, ErrNoResolver) {
		t.Fatalf("error %v, want ErrNoResolver", err)
	}
	for _, want := range []string{`"foo" can't be resolved`, "pyenv: uv: command not found", "prefix/bin/python has no pip", "install uv", "ensurepip"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want one with %q", err, want)
		}
	}
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", prints(lockText("foo", "1.0")))
	req := w.request("foo")
	w.resolve(req)
	w.now = w.now.Add(2 * MaxAge)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.With(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after cancel, want context.Canceled and no old answer", err)
	}
}

// TestKey changes everything the key should know, one at a time.
func TestKey(t *testing.T) {
	w := newWorld(t)
	w.script("bin/uv", "")
	w.write("project/constraints.txt", "a", 0o644)
	w.write("project/dist/local-2-py3-none-any.whl", "a", 0o644)
	w.Env = append(w.Env, "UV_CONSTRAINT=constraints.txt")
	key := func(req Request) string {
		t.Helper()
		k, err := w.Key(req)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := func() Request { return w.request("foo", "bar", "./dist/local-2-py3-none-any.whl") }
	last := key(base())
	if again := key(w.request("./dist/local-2-py3-none-any.whl", "bar", "foo")); again != last {
		t.Error("the order of requirements is part of the key")
	}
	w.Env = append(w.Env, "LANG=C")
	if again := key(base()); again != last {
		t.Error("a variable that isn't the resolvers' is part of the key")
	}

	req := base()
	changes := []struct {
		name   string
		change func()
	}{
		{"requirement", func() { req = w.request("foo>1", "bar", "./dist/local-2-py3-none-any.whl") }},
		{"constraint", func() { req.Constraints = []string{"baz==1"} }},
		{"no dependencies", func() { req.NoDeps = true }},
		{"interpreter", func() { w.python.Key = "other" }},
		{"wheel file", func() { w.write("project/dist/local-2-py3-none-any.whl", "longer", 0o644) }},
		{"variable of uv", func() { w.Env = append(w.Env, "UV_INDEX_URL=https://example.com/simple") }},
		{"variable of pip", func() { w.Env = append(w.Env, "PIP_PRE=1") }},
		{"file that a variable names", func() { w.write("project/constraints.txt", "longer", 0o644) }},
		{"uv itself", func() { w.script("bin/uv", "true") }},
		{"another pip", func() { w.script("bin/pip", "") }},
		{"uv.toml of the project", func() { w.write("project/uv.toml", "", 0o644) }},
		{"its content", func() { w.write("project/uv.toml", "#", 0o644) }},
		{"pyproject.toml above", func() { w.write("pyproject.toml", "", 0o644) }},
		{"uv.toml of the user", func() { w.write("home/.config/uv/uv.toml", "", 0o644) }},
		{"pip.conf of the user", func() { w.write("home/.config/pip/pip.conf", "", 0o644) }},
		{"pip.conf of old", func() { w.write("home/.pip/pip.conf", "", 0o644) }},
		{"pip.conf of the interpreter", func() { w.write("prefix/pip.conf", "", 0o644) }},
		{"folder of configuration", func() { w.Env = append(w.Env, "XDG_CONFIG_HOME="+w.dir+"/xdg") }},
		{"uv.toml there", func() { w.write("xdg/uv/uv.toml", "", 0o644) }},
		{"folder of the system's configuration", func() { w.Env = append(w.Env, "XDG_CONFIG_DIRS="+w.dir+"/etc"); w.write("etc/pip/pip.conf", "", 0o644) }},
		{"folder to run in", func() { req.Dir = w.dir }},
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			c.change()
			if k := key(req); k == last {
				t.Error("the key is the same")
			} else {
				last = k
			}
		})
	}
	_, err := w.Key(w.request("./dist/gone-2-py3-none-any.whl"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v for a wheel that isn't there, want ErrNotExist", err)
	}
}

// TestCredentials holds that logins come back to the hosts they are for, in the
// pins alone.
func TestCredentials(t *testing.T) {
	tests := []struct {
		name   string
		config func(*world)
		want   string // the pin's URL up to the path
	}{
		{"none", func(*world) {}, "https://example.com"},
		{"variable", func(w *world) {
			w.Env = append(w.Env, "UV_INDEX=corp=https://u:s%20x@example.com/simple https://b@example.org/")
		}, "https://u:s%20x@example.com"},
		{"pip.conf", func(w *world) {
			w.write("home/.config/pip/pip.conf", "[global]\nindex-url = https://u:s@example.com/simple\n", 0o644)
		}, "https://u:s@example.com"},
		{"uv.toml", func(w *world) {
			w.write("project/uv.toml", "index-url = \"https://u:s@example.com\"\n", 0o644)
		}, "https://u:s@example.com"},
		{"another host", func(w *world) { w.Env = append(w.Env, "PIP_INDEX_URL=https://u:s@example.com:8443/simple") }, "https://example.com"},
		{"another scheme", func(w *world) { w.Env = append(w.Env, "PIP_INDEX_URL=http://u:s@example.com/simple") }, "https://example.com"},
		{"variables in their place", func(w *world) { w.Env = append(w.Env, "PIP_INDEX_URL=https://${USER}:s@example.com/simple") }, "https://example.com"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.script("bin/uv", prints(lockText("foo", "1.0")))
			test.config(w)
			for _, which := range []string{"fresh", "kept"} {
				a, err := w.With(context.Background(), w.request("foo"))
				if err != nil {
					t.Fatal(err)
				}
				if want := test.want + "/foo-1.0-py3-none-any.whl"; a.Pins[0].URL != want {
					t.Errorf("%s: found %q, want %q", which, a.Pins[0].URL, want)
				}
			}
			for _, kept := range w.Cache.(memory) {
				if strings.Contains(string(kept), "@") {
					t.Errorf("the cache has the login: %s", kept)
				}
			}
		})
	}
}
