package known

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// TestLocksAndWheels changes each file that is read.
func TestLocksAndWheels(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		change func(m *machine)
	}{
		{"the lock file", []string{"-r", "pylock.toml"}, func(m *machine) {
			m.lock("pylock.toml", m.wheel("wheels", "alpha", "1.1", ""))
		}},
		{"the second lock file", []string{"-r", "pylock.toml", "-r", "pylock.more.toml"}, func(m *machine) {
			m.lock("pylock.more.toml", m.wheel("wheels", "beta", "1.1", ""))
		}},
		{"the wheel", []string{"--with", "dist/gamma-1.0-py3-none-any.whl"}, func(m *machine) {
			m.wheel("dist", "gamma", "1.0", "x = 2\n")
		}},
		{"a wheel of the same size and time", []string{"--with", "dist/gamma-1.0-py3-none-any.whl"}, func(m *machine) {
			file := m.path("work/dist/gamma-1.0-py3-none-any.whl")
			before := stat(m.t, file)
			for digit := 2; digit < 10; digit++ {
				m.wheel("dist", "gamma", "1.0", fmt.Sprintf("x = %d\n", digit))
				if stat(m.t, file).Size() == before.Size() {
					break // it compresses as well as the first one
				}
			}
			if err := os.Chtimes(file, before.ModTime(), before.ModTime()); err != nil {
				m.t.Fatal(err)
			}
			if after := stat(m.t, file); after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
				m.t.Fatalf("the new wheel has %d bytes of %v, the old one %d of %v", after.Size(), after.ModTime(), before.Size(), before.ModTime())
			}
		}},
		{"a wheel in the folder", []string{"--with", "./dist"}, func(m *machine) {
			m.wheel("dist", "gamma", "1.0", "x = 2\n")
		}},
		{"a newer wheel in the folder", []string{"--with", "./dist"}, func(m *machine) {
			m.wheel("dist", "gamma", "1.1", "x = 1\n")
		}},
		{"one more wheel in the folder", []string{"--with", "./dist"}, func(m *machine) {
			m.wheel("dist", "delta", "1.0", "x = 1\n")
		}},
		{"one wheel less in the folder", []string{"--with", "./two"}, func(m *machine) {
			if err := os.Remove(m.path("work/two/epsilon-1.0-py3-none-any.whl")); err != nil {
				m.t.Fatal(err)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.lock("pylock.toml", m.wheel("wheels", "alpha", "1.0", ""))
			m.lock("pylock.more.toml", m.wheel("wheels", "beta", "1.0", ""))
			m.wheel("dist", "gamma", "1.0", "x = 1\n")
			m.wheel("two", "delta", "1.0", "")
			m.wheel("two", "epsilon", "1.0", "")
			before := m.good(tt.args...)
			if again := m.good(tt.args...); again != before {
				t.Fatalf("the same inputs give %s, then %s", before, again)
			}
			tt.change(m)
			if after := m.good(tt.args...); after == before {
				t.Error("the change gives the same tree")
			}
		})
	}
}

func stat(t *testing.T, file string) os.FileInfo {
	t.Helper()
	fi, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// optionsLock has something for every option that selects.
const optionsLock = `
lock-version = "1.0"
created-by = "hand"
extras = ["one", "two"]
dependency-groups = ["dev", "docs"]
default-groups = ["dev"]
` + "\n"

// TestOptions adds each option to a run without it.
func TestOptions(t *testing.T) {
	m := newMachine(t)
	lock := optionsLock
	for name, marker := range map[string]string{
		"one": "'one' in extras", "two": "'two' in extras",
		"dev": "'dev' in dependency_groups", "docs": "'docs' in dependency_groups",
	} {
		w := m.wheel("wheels", name, "1.0", "")
		lock += "[[packages]]\nname = \"" + name + "\"\nversion = \"1.0\"\nmarker = \"" + marker + "\"\n" +
			"wheels = [{ path = \"wheels/" + w.Filename + "\", hashes = { sha256 = \"" + w.Digest.String() + "\" } }]\n"
	}
	m.write("pylock.toml", lock)
	trees := map[string]string{}
	for _, options := range []string{
		"",
		"--extra one",
		"--extra two",
		"--all-extras",
		"--group docs",
		"--all-groups --extra one",
		"--no-group dev",
		"--no-default-groups --extra one",
		"--system-site-packages",
		"--relocatable",
	} {
		tree := m.good(append([]string{"-r", "pylock.toml"}, strings.Fields(options)...)...)
		if other, same := trees[tree]; same {
			t.Errorf("%q and %q give the same tree", options, other)
		}
		trees[tree] = options
	}
}

// TestOptionsThatRefuse has options that make an error of what is known.
func TestOptionsThatRefuse(t *testing.T) {
	m := newMachine(t)
	m.lock("pylock.toml", m.wheel("wheels", "alpha", "1.0", ""))
	m.wheel("wheels", "beta", "1.0", "")
	m.write("wheels/README", "")
	known := m.good("-r", "pylock.toml")
	for _, python := range []string{"pypy2.7", "<3", "/nowhere/python"} {
		if got := m.tree("-r", "pylock.toml", "--python", python); !strings.HasPrefix(got, "error: ") {
			t.Errorf("--python %q gives %s", python, got)
		}
	}
	if got := m.good("-r", "pylock.toml", "--strict"); got != known {
		t.Errorf("--strict changes the tree of wheels that don't collide")
	}
}

// TestName has two projects with the same lock: an environment shows its name.
func TestName(t *testing.T) {
	m := newMachine(t)
	w := m.wheel("wheels", "alpha", "1.0", "")
	m.lock("one/pylock.toml", w)
	m.lock("two/pylock.toml", w)
	one, two := m.good("-r", "one/pylock.toml"), m.good("-r", "two/pylock.toml")
	if one == two {
		t.Error("two projects of other names have one tree, and so one prompt")
	}
}

// pythons returns two interpreters of different versions.
func pythons(t *testing.T) (one, other string) {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	candidates := []string{"/usr/bin/python3", "/usr/local/bin/python3"}
	for _, pattern := range []string{".pyenv/versions/3.*/bin/python3", ".local/share/uv/python/cpython-3.*/bin/python3"} {
		found, err := filepath.Glob(filepath.Join(home, pattern))
		if err != nil {
			t.Fatal(err)
		}
		candidates = append(candidates, found...)
	}
	for _, c := range candidates {
		if v := release(c); v != "" && v != release(python) {
			return python, c
		}
	}
	t.Skip("needs two interpreters of CPython 3.8 or later")
	return "", ""
}

// release returns an interpreter's version if it is one that sitefs takes.
func release(python string) string {
	const script = "import sys; print('%d.%d.%d' % sys.version_info[:3] if sys.version_info >= (3, 8) else '')"
	out, err := exec.Command(python, "-c", script).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// TestInterpreter changes each thing that decides which interpreter is taken,
// and the interpreter.
func TestInterpreter(t *testing.T) {
	one, other := pythons(t)
	tests := []struct {
		name   string
		before func(m *machine) (args []string)
		after  func(m *machine) (args []string)
	}{
		{"--python",
			func(m *machine) []string { return []string{"--python", one} },
			func(m *machine) []string { return []string{"--python", other} },
		},
		{"SITEFS_PYTHON",
			func(m *machine) []string { m.setenv("SITEFS_PYTHON", one); return nil },
			func(m *machine) []string { m.setenv("SITEFS_PYTHON", other); return nil },
		},
		{".python-version",
			func(m *machine) []string {
				m.setenv("PATH", m.pathWith(one)+":"+m.pathWith(other))
				m.write(".python-version", release(one)+"\n")
				return nil
			},
			func(m *machine) []string { m.write(".python-version", release(other)+"\n"); return nil },
		},
		{"a new .python-version",
			func(m *machine) []string { m.setenv("PATH", m.pathWith(one)+":"+m.pathWith(other)); return nil },
			func(m *machine) []string { m.write(".python-version", release(other)+"\n"); return nil },
		},
		{"VIRTUAL_ENV",
			func(m *machine) []string { m.setenv("VIRTUAL_ENV", m.venv(one, "venv-one")); return nil },
			func(m *machine) []string { m.setenv("VIRTUAL_ENV", m.venv(other, "venv-other")); return nil },
		},
		{"the active environment, made anew",
			func(m *machine) []string { m.setenv("VIRTUAL_ENV", m.venv(one, "venv")); return nil },
			func(m *machine) []string {
				if err := os.RemoveAll(m.path("work/venv")); err != nil {
					m.t.Fatal(err)
				}
				m.venv(other, "venv")
				return nil
			},
		},
		{"PATH",
			func(m *machine) []string { m.setenv("PATH", m.pathWith(one)); return nil },
			func(m *machine) []string { m.setenv("PATH", m.pathWith(other)); return nil },
		},
		{"an earlier interpreter on PATH",
			func(m *machine) []string {
				m.write("early/README", "")
				m.setenv("PATH", m.path("work/early")+":"+m.pathWith(one))
				return nil
			},
			func(m *machine) []string { m.link(other, "early/python3"); return nil },
		},
		{"a link to the interpreter",
			func(m *machine) []string { m.link(one, "bin/python3"); return []string{"--python", "bin/python3"} },
			func(m *machine) []string { m.link(other, "bin/python3"); return []string{"--python", "bin/python3"} },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.lock("pylock.toml", m.wheel("wheels", "alpha", "1.0", ""))
			args := append(tt.before(m), "-r", "pylock.toml")
			before := m.good(args...)
			if again := m.good(args...); again != before {
				t.Fatalf("the same inputs give %s, then %s", before, again)
			}
			if after := m.good(append(tt.after(m), "-r", "pylock.toml")...); after == before {
				t.Error("another interpreter gives the same tree")
			}
		})
	}
}

// pathWith returns a PATH on which python3 is the interpreter.
func (m *machine) pathWith(python string) string {
	dir := "path-" + strings.ReplaceAll(python, "/", "-")
	m.link(python, dir+"/python3")
	return m.path("work/"+dir) + ":" + bin + ":/usr/bin:/bin"
}

// venv makes a virtual environment and returns its path.
func (m *machine) venv(python, name string) string {
	m.t.Helper()
	dir := m.path("work/" + name)
	if out, err := exec.Command(python, "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		m.t.Skipf("needs the venv module of %s: %v\n%s", python, err, out)
	}
	return dir
}

// TestMachine runs where uname(2) says another machine: markers and tags follow it.
func TestMachine(t *testing.T) {
	sandbox.NeedProgram(t, "setarch")
	m := newMachine(t)
	w := m.wheel("wheels", "alpha", "1.0", "")
	m.write("pylock.toml", "lock-version = \"1.0\"\ncreated-by = \"hand\"\n[[packages]]\nname = \"alpha\"\nversion = \"1.0\"\nmarker = \"'2.6.' not in platform_release\"\n"+
		"wheels = [{ path = \"wheels/"+w.Filename+"\", hashes = { sha256 = \""+w.Digest.String()+"\" } }]\n")
	before := m.good("-r", "pylock.toml")
	arch, err := exec.Command("uname", "-m").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := m.command("run", "-v", "-r", "pylock.toml", "--", "true")
	cmd.Args = append([]string{"setarch", strings.TrimSpace(string(arch)), "--uname-2.6"}, cmd.Args...)
	if cmd.Path, err = exec.LookPath("setarch"); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if match := noteOfTree.FindStringSubmatch(string(out)); match == nil || match[1] == before {
		t.Errorf("on another release of the kernel the tree is the same:\n%s", out)
	}
}
