// Package upgrade holds that tools which compare times see an upgrade: a mount's
// modification times serve Python's bytecode, and everybody else all the same.
package upgrade

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program under test.
var bin string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, nil) }

const (
	sitePackages = ".venv/lib/python3.12/site-packages/"
	header       = ".venv/include/site/python3.12/widgets/widgets.h"
)

// A project has the package widgets in its lock file, mounted on .venv.
type project struct {
	*sandbox.Home
	wheels string // the folder of its wheels
	others []wheelhouse.Wheel
}

// newProject returns a project whose lock file also pins the named wheels of the
// test cache.
func newProject(t *testing.T, others ...string) *project {
	t.Helper()
	sandbox.NeedSitefs(t)
	python := sandbox.PythonVersion(t, "3.12")
	p := &project{Home: sandbox.NewHome(t, bin, python)}
	p.Setenv("SITEFS_PYTHON", python)
	p.Setenv("PATH", filepath.Join(p.Dir, ".venv/bin")+":"+bin+":/usr/local/bin:/usr/bin:/bin")
	p.wheels = filepath.Join(p.Dir, "wheels")
	if err := os.Mkdir(p.wheels, 0o777); err != nil {
		t.Fatal(err)
	}
	list, err := wheelhouse.ReadList("../testdata/compare.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		for _, name := range others {
			if w.Name() == name {
				p.addOther(t, w)
			}
		}
	}
	if len(p.others) != len(others) {
		t.Fatalf("the list has %d of the wheels %q", len(p.others), others)
	}
	return p
}

func (p *project) addOther(t *testing.T, w wheelhouse.Wheel) {
	t.Helper()
	if len(wheelhouse.Missing([]wheelhouse.Wheel{w})) > 0 {
		t.Skipf("needs %s in %s: run go run ./integration/wheelhouse/fetch integration/testdata/compare.txt", w.Filename, wheelhouse.Dir())
	}
	if err := os.Symlink(w.Path(), filepath.Join(p.wheels, w.Filename)); err != nil {
		t.Fatal(err)
	}
	p.others = append(p.others, w)
}

// mount locks a version of widgets and mounts the environment.
func (p *project) mount(t *testing.T, version string) {
	t.Helper()
	wheel, err := wheelhouse.Write(p.wheels, wheelhouse.Spec{
		Name:    "widgets",
		Version: version,
		Files: map[string]string{
			"widgets/__init__.py":                            "",
			"widgets/version.py":                             "version = " + fmt.Sprintf("%q", version) + "\n",
			"widgets/static/widgets/site.css":                "/* " + version + " */\n",
			"widgets/static/widgets/always.css":              "/* the same */\n",
			"widgets-" + version + ".data/headers/widgets.h": "#define WIDGETS \"" + version + "\"\n",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := wheelhouse.PylockPath(append(p.others, wheel), "wheels")
	if err != nil {
		t.Fatal(err)
	}
	p.Write(t, "pylock.toml", string(lock))
	p.Must(t, "sitefs", "mount", "-r", "pylock.toml")
}

// upgrade mounts version 2.0 in the place of 1.0. A wheel's time has seconds, as
// those of many file systems, so what was made in the second before an upgrade
// couldn't be told from what is made after it.
func (p *project) upgrade(t *testing.T) {
	t.Helper()
	now := time.Now()
	<-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now))
	p.mount(t, "2.0")
}

// check compares a file of the project with what it should hold.
func (p *project) check(t *testing.T, name, want string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want {
		t.Errorf("%s holds %q, want %q", name, data, want)
	}
}

func (p *project) modified(t *testing.T, name string) time.Time {
	t.Helper()
	info, err := os.Stat(filepath.Join(p.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

func TestCollectstatic(t *testing.T) {
	p := newProject(t, "django", "asgiref", "sqlparse")
	p.Write(t, "settings.py", `
SECRET_KEY = "test"
INSTALLED_APPS = ["django.contrib.staticfiles", "widgets"]
STATIC_URL = "static/"
STATIC_ROOT = "collected"
`)
	p.Setenv("PYTHONPATH", p.Dir)
	collect := []string{"django-admin", "collectstatic", "--settings", "settings", "--noinput"}

	p.mount(t, "1.0")
	p.Must(t, collect...)
	p.check(t, "collected/widgets/site.css", "/* 1.0 */\n")
	if out := p.Must(t, collect...); !strings.Contains(out, "0 static files copied") {
		t.Errorf("a second time: %s", out)
	}
	p.upgrade(t)
	p.Must(t, collect...)
	p.check(t, "collected/widgets/site.css", "/* 2.0 */\n")
}

func TestNinja(t *testing.T) {
	sandbox.NeedProgram(t, "ninja")
	p := newProject(t)
	p.Write(t, "build.ninja", "rule copy\n  command = cp $in $out\nbuild out: copy "+header+"\n")

	p.mount(t, "1.0")
	p.Must(t, "ninja")
	p.check(t, "out", "#define WIDGETS \"1.0\"\n")
	if out := p.Must(t, "ninja"); !strings.Contains(out, "no work to do") {
		t.Errorf("a second time: %s", out)
	}
	p.upgrade(t)
	p.Must(t, "ninja")
	p.check(t, "out", "#define WIDGETS \"2.0\"\n")
}

func TestRsync(t *testing.T) {
	sandbox.NeedProgram(t, "rsync")
	for _, flags := range []string{"-ru", "-rtu"} {
		t.Run(flags, func(t *testing.T) {
			p := newProject(t)
			rsync := []string{"rsync", flags, sitePackages + "widgets/static/", "copy"}

			p.mount(t, "1.0")
			p.Must(t, rsync...)
			p.check(t, "copy/widgets/site.css", "/* 1.0 */\n")
			p.upgrade(t)
			p.Must(t, rsync...)
			p.check(t, "copy/widgets/site.css", "/* 2.0 */\n")
		})
	}
}

// Bytecode is valid as long as the time of its source is what it was: that has to
// stay when the content does, and only then, in whatever tree the file is.
func TestSourceTimes(t *testing.T) {
	p := newProject(t)
	p.mount(t, "1.0")
	same := p.modified(t, sitePackages+"widgets/__init__.py")
	changed := p.modified(t, sitePackages+"widgets/version.py")
	p.upgrade(t)
	if got := p.modified(t, sitePackages+"widgets/__init__.py"); !got.Equal(same) {
		t.Errorf("__init__.py is the same and its time went from %v to %v", same, got)
	}
	if got := p.modified(t, sitePackages+"widgets/version.py"); got.Equal(changed) {
		t.Errorf("version.py is another and its time is still %v", got)
	}

	p.Must(t, "sitefs", "mount", "-r", "pylock.toml", "other")
	if got := p.modified(t, "other/lib/python3.12/site-packages/widgets/__init__.py"); !got.Equal(same) {
		t.Errorf("in another mount __init__.py is of %v, want %v", got, same)
	}
}

// A process that had the old environment open goes on in it.
func TestOpenFilesStay(t *testing.T) {
	p := newProject(t)
	p.mount(t, "1.0")
	f, err := os.Open(filepath.Join(p.Dir, sitePackages, "widgets/version.py"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.upgrade(t)
	p.check(t, sitePackages+"widgets/version.py", "version = \"2.0\"\n")
	data, err := io.ReadAll(f)
	if err != nil || string(data) != "version = \"1.0\"\n" {
		t.Errorf("the open file holds %q, %v, want the old version", data, err)
	}
}
