package manifest

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// nastyNames are names of the directory above an environment. None holds a
// colon, which no element of PATH can.
var nastyNames = []string{
	"plain",
	"with space",
	"two  spaces ",
	"it's",
	"it's a space",
	`quote"d`,
	`quote"d space`,
	"$HOME",
	"$(exit 3) `exit 4`",
	`back\slash`,
	`back\slash \N{x} \x`,
	`ends in \`,
	"three '''quotes",
	"semi;colon & (parens)",
	"ünïcödé spåce",
	"!bang !! !$",
	"*glob? [a-z] {a,b}",
	"100% %s %n",
	"tab\there",
	"~tilde #hash",
	strings.Repeat("long", 40),
	strings.Repeat("long'er ", 24),
}

// nastyPrefixes are the cases of a test that runs scripts: relocatable scripts
// hold no prefix, so two names are enough for them.
var nastyPrefixes = map[bool][]string{false: nastyNames, true: nastyNames[:2]}

// command runs argv without the variables of an active environment.
func command(t *testing.T, env []string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// lookPath returns a program, or skips the test.
func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

// python returns the path of a Python 3.9 or later that is no shim, and its minor
// version, or skips the test.
func python(t *testing.T) (path string, minor int) {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3"} {
		out, err := exec.Command(name, "-c", "import sys; print(sys.version_info[1])").Output()
		if _, scanErr := fmt.Sscan(string(out), &minor); err == nil && scanErr == nil && minor >= 9 {
			return name, minor
		}
	}
	t.Skip("no Python 3.9 or later in the usual places")
	return "", 0
}

// environment writes the tree of wheels below a directory of the given name
// and returns its path.
func environment(t *testing.T, name string, s *memory, m *Manifest, executable string, minor int) string {
	t.Helper()
	py := cpython(minor)
	py.Executable, py.Home = executable, filepath.Dir(executable)
	m.Python = PythonOf(py)
	r, err := Compile(m, py, s, now)
	if err != nil {
		t.Fatal(err)
	}
	prefix := filepath.Join(t.TempDir(), name, "my env")
	materialize(t, s, open(t, s, r, prefix))
	return prefix
}

// TestActivate sources the activate scripts in real shells, under strict
// options where a shell has them.
func TestActivate(t *testing.T) {
	const posix = `set -eu
PS1='$ '; PYTHONHOME=/python; export PYTHONHOME; before=$PATH
. "$1"
printf '%s|%s|%s|%s|%s\n' "$VIRTUAL_ENV" "$VIRTUAL_ENV_PROMPT" "${PYTHONHOME-unset}" "$(command -v python)" "$PS1"
. "$1"
deactivate
printf '%s|%s|%s|%s\n' "${VIRTUAL_ENV-unset}" "${VIRTUAL_ENV_PROMPT-unset}" "$PYTHONHOME" "$PS1"
test "$PATH" = "$before"
test -z "$(command -v deactivate)"
`
	const fish = `set -gx PYTHONHOME /python; set before "$PATH"
source $argv[1]
printf '%s|%s|%s|%s|%s\n' "$VIRTUAL_ENV" "$VIRTUAL_ENV_PROMPT" (set -q PYTHONHOME; and echo set; or echo unset) (command -v python) '@'
fish_prompt > /dev/null
source $argv[1]
deactivate
set -q VIRTUAL_ENV; or set VIRTUAL_ENV unset
set -q VIRTUAL_ENV_PROMPT; or set VIRTUAL_ENV_PROMPT unset
printf '%s|%s|%s|%s\n' $VIRTUAL_ENV $VIRTUAL_ENV_PROMPT $PYTHONHOME '@'
test "$PATH" = "$before"; or exit 1
not functions -q deactivate; or exit 1
not functions -q _old_fish_prompt; or exit 1
`
	// csh has no positional arguments for a script from -c; the path comes by the environment.
	const csh = `setenv PYTHONHOME /python
set prompt = '@'
set before = "$PATH:q"
source "$SCRIPT:q"
if ( $?PYTHONHOME ) exit 1
printf '%s|%s|%s|%s|%s\n' "$VIRTUAL_ENV:q" "$VIRTUAL_ENV_PROMPT:q" unset "` + "`which python`" + `" "$prompt:q"
source "$SCRIPT:q"
deactivate
if ( $?VIRTUAL_ENV || $?VIRTUAL_ENV_PROMPT ) exit 1
printf '%s|%s|%s|%s\n' unset unset "$PYTHONHOME:q" "$prompt:q"
if ( "$PATH:q" != "$before:q" ) exit 1
`
	shells := []struct {
		argv   []string
		script string
		file   string
		prompt string // the prompt before
	}{
		{[]string{"sh"}, posix, "activate", "$ "},
		{[]string{"dash"}, posix, "activate", "$ "},
		{[]string{"bash", "--norc"}, posix, "activate", "$ "},
		{[]string{"zsh", "-f"}, posix, "activate", "$ "},
		{[]string{"fish", "--no-config"}, fish, "activate.fish", "@"},
		{[]string{"csh", "-f"}, csh, "activate.csh", "@"},
	}
	prompts := []string{"", `it's "my" $(exit 1) \prompt! 100%`}
	for _, shell := range shells {
		t.Run(shell.argv[0], func(t *testing.T) {
			shell.argv[0] = lookPath(t, shell.argv[0])
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(shell.script), 0o644); err != nil {
				t.Fatal(err)
			}
			for i, name := range nastyNames {
				prompt := prompts[i%2]
				prefix := environment(t, name, newMemory(), &Manifest{Prompt: prompt}, "/bin/sh", 12)
				shown := "my env"
				if prompt != "" {
					shown = prompt
				}
				ps1 := shell.prompt
				switch {
				case shell.file == "activate.fish":
				case prompt != "":
					ps1 = "(venv) " + ps1
				default:
					ps1 = "(my env) " + ps1
				}
				want := fmt.Sprintf("%s|%s|unset|%s/bin/python|%s\nunset|unset|/python|%s\n", prefix, shown, prefix, ps1, shell.prompt)
				activate := filepath.Join(prefix, "bin", shell.file)
				if got := command(t, []string{"SCRIPT=" + activate}, append(shell.argv, script, activate)...); got != want {
					t.Errorf("in %q:\n%s, want\n%s", name, got, want)
				}
			}
		})
	}
}

// TestEntryPoint runs generated scripts, directly and through a symlink.
func TestEntryPoint(t *testing.T) {
	executable, minor := python(t)
	for relocatable, names := range nastyPrefixes {
		for _, name := range names {
			s := newMemory()
			w := s.add("demo", []wheel.File{
				s.lib("demo.py", "import sys\ndef main(): print(sys.prefix, __name__, sys.argv[1:]); return 7\n"),
			}, func(info *wheel.Info) {
				info.EntryPoints = []wheel.EntryPoint{{Name: "demo", Module: "demo", Attr: "main"}}
			})
			prefix := environment(t, name, s, &Manifest{Wheels: []Wheel{w}, Relocatable: relocatable}, executable, minor)
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(prefix+"/bin/demo", link); err != nil {
				t.Fatal(err)
			}
			want := prefix + " demo ['a b', '$c']\n7\n"
			for _, path := range []string{prefix + "/bin/demo", link} {
				if got := command(t, nil, "/bin/sh", "-c", `"$@"; echo $?`, "sh", path, "a b", "$c"); got != want {
					t.Errorf("relocatable %t, %q: %q printed\n%s, want\n%s", relocatable, name, path, got, want)
				}
			}
		}
	}
}

// TestShippedScript runs .data/scripts files whose first lines mean something
// to Python: no prefix may change what it reads there.
func TestShippedScript(t *testing.T) {
	executable, minor := python(t)
	const docopt = "#!python -E\n\"\"\"Usage: x\"\"\"\nfrom __future__ import annotations\nimport sys\nprint(repr(__doc__), sys.prefix, sys.argv[1:])\n"
	const latin1 = "#!python\n# -*- coding: latin-1 -*-\nimport sys\nprint(ascii('\xe9'), sys.prefix, sys.argv[1:])\n"
	tests := []struct{ name, content, want string }{
		{"docstring", docopt, "'Usage: x'"},
		{"latin-1", latin1, `'\xe9'`},
	}
	for _, tt := range tests {
		for relocatable, names := range nastyPrefixes {
			for _, name := range names {
				s := newMemory()
				f := s.file(wheel.Scripts, "x", tt.content)
				f.Python = true
				w := s.add("demo", []wheel.File{f}, nil)
				prefix := environment(t, name, s, &Manifest{Wheels: []Wheel{w}, Relocatable: relocatable}, executable, minor)
				want := tt.want + " " + prefix + " ['a b']\n"
				if got := command(t, nil, prefix+"/bin/x", "a b"); got != want {
					t.Errorf("%s, relocatable %t, %q: printed\n%s, want\n%s", tt.name, relocatable, name, got, want)
				}
			}
		}
	}
}

func TestScriptOf38(t *testing.T) {
	got := string(newVenv(cpython(8)).script(wheel.EntryPoint{Name: "x", Module: "m", Attr: "A.b"}))
	if strings.Contains(got, "removesuffix") || !strings.Contains(got, "re.sub(") {
		t.Errorf("script for 3.8 is\n%s, want no str.removesuffix, which came with 3.9", got)
	}
}

func TestPipNames(t *testing.T) {
	names := func(points []wheel.EntryPoint) []string {
		var names []string
		for _, p := range points {
			names = append(names, p.Name+"="+p.Attr)
		}
		return names
	}
	v := newVenv(cpython(12))
	got := names(v.scripts([]wheel.EntryPoint{
		{Name: "pip", Attr: "a"}, {Name: "pip3", Attr: "b"}, {Name: "pip3.9", Attr: "c"}, {Name: "pipx", Attr: "d"}, {Name: "easy_install-3.9", Attr: "e"},
	}))
	if want := []string{"pipx=d", "easy_install-3.9=e", "pip=a", "pip3=a", "pip3.12=a"}; !reflect.DeepEqual(got, want) {
		t.Errorf("scripts %q, want %q", got, want)
	}
	got = names(v.scripts([]wheel.EntryPoint{{Name: "easy_install", Attr: "a"}, {Name: "easy_install-3.9", Attr: "b"}, {Name: "pip3", Attr: "c"}}))
	if want := []string{"pip3=c", "easy_install=a", "easy_install-3.12=a"}; !reflect.DeepEqual(got, want) {
		t.Errorf("scripts %q, want %q", got, want)
	}
}

// TestNoPip shows what pip says in an environment without it, and that it
// stays out of the way of a real one.
func TestNoPip(t *testing.T) {
	s := newMemory()
	prefix := environment(t, "e", s, &Manifest{}, "/bin/sh", 12)
	for _, name := range []string{"pip", "pip3", "pip3.12"} {
		out, err := exec.Command(prefix+"/bin/"+name, "install", "x").CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "sitefs: error: this environment has no pip") {
			t.Errorf("%s: %v, %q", name, err, out)
		}
	}
	pip := s.add("pip", nil, func(info *wheel.Info) {
		info.EntryPoints = []wheel.EntryPoint{{Name: "pip", Module: "pip", Attr: "main"}}
	})
	tr := open(t, s, compile(t, s, pip), "/srv/venv")
	for _, name := range []string{"pip", "pip3", "pip3.12"} {
		if got := read(t, s, tr, "bin/"+name); !strings.Contains(got, "from pip import main") {
			t.Errorf("%s is %q, want the wheel's", name, got)
		}
	}
}

// TestInsertRow compares with sorting all rows.
func TestInsertRow(t *testing.T) {
	paths := []string{"../../../bin/x", "a,b.py", `a"b".py`, "a.py", "a/b.py", "z"}
	d := digest.Of(nil)
	all := &record{site: "s"}
	for _, p := range paths {
		all.add("s/"+p, d, 1)
	}
	want := string(all.bytes())
	for skip, p := range paths {
		rest := &record{site: "s"}
		for i, q := range paths {
			if i != skip {
				rest.add("s/"+q, d, 1)
			}
		}
		if got := string(insertRow(rest.bytes(), p, d, 1)); got != want {
			t.Errorf("%q inserted:\n%s, want\n%s", p, got, want)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(want)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		if row[0] != all.rows[i].path {
			t.Errorf("row %d reads %q, want %q", i, row[0], all.rows[i].path)
		}
	}
}

func TestRelative(t *testing.T) {
	r := &record{site: "lib/python3.12/site-packages"}
	for path, want := range map[string]string{
		"lib/python3.12/site-packages/a.py":   "a.py",
		"lib/python3.12/a.py":                 "../a.py",
		"lib/a.py":                            "../../a.py",
		"bin/a":                               "../../../bin/a",
		"library/a":                           "../../../library/a",
		"lib/python3.12/site-packages-2/a.py": "../site-packages-2/a.py",
	} {
		if got := r.relative(path); got != want {
			t.Errorf("relative(%q) = %q, want %q", path, got, want)
		}
	}
}

// TestInterpreters runs an environment of every Python that pyenv has here.
func TestInterpreters(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip("no home directory")
	}
	pythons, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, executable := range pythons {
		py, err := interp.Probe(t.Context(), executable, nil)
		if errors.Is(err, interp.ErrNoPython) {
			continue // too old
		}
		if err != nil {
			t.Errorf("%s: %v", executable, err)
			continue
		}
		ran++
		s := newMemory()
		w := s.add("demo", []wheel.File{
			s.lib("demo.py", "import sys, sysconfig\ndef main(): print(sys.prefix, sys.executable, sysconfig.get_path('purelib'), sys.argv[0])\n"),
		}, func(info *wheel.Info) {
			info.EntryPoints = []wheel.EntryPoint{{Name: "demo", Module: "demo", Attr: "main"}}
		})
		r, err := Compile(&Manifest{Python: PythonOf(py), Wheels: []Wheel{w}}, py, s, now)
		if err != nil {
			t.Fatal(err)
		}
		prefix := filepath.Join(t.TempDir(), "venv")
		materialize(t, s, open(t, s, r, prefix))
		want := fmt.Sprintf("%s %s/bin/python %s/%s %s/bin/demo\n", prefix, prefix, prefix, py.Layout.Purelib, prefix)
		if got := command(t, nil, prefix+"/bin/demo"); got != want {
			t.Errorf("%s: printed\n%s, want\n%s", py, got, want)
		}
	}
	if ran == 0 {
		t.Skip("no Python 3.8 or later in ~/.pyenv/versions")
	}
}
