package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// A package's bytecode is answered by a view, and never listed.
var pkg = wheelhouse.Spec{Name: "pkg", Version: "1.0", Files: map[string]string{
	"pkg/__init__.py":     "",
	"pkg/mod.py":          "value = 'original'\n",
	"pkg/other.py":        "value = 'other'\n",
	"pkg/sub/__init__.py": "value = 'sub'\n",
	"pkg/data.txt":        "data\n",
}}

// A bytecode is an overlay whose Python writes bytecode.
type bytecode struct {
	*overlay
	t   *testing.T
	tag string // cpython-311
}

func newBytecode(t *testing.T) *bytecode {
	t.Helper()
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	b := &bytecode{overlay: newOverlay(t, 0, pkg), t: t}
	b.Unsetenv("PYTHONDONTWRITEBYTECODE")
	b.mount(t)
	b.tag = b.python("import sys; print(sys.implementation.cache_tag)")
	return b
}

// python runs a script in the environment.
func (b *bytecode) python(script string) string {
	b.t.Helper()
	return strings.TrimSpace(b.Must(b.t, filepath.Join(b.venv, "bin/python"), "-c", script))
}

func (b *bytecode) path(name string) string { return filepath.Join(b.site, name) }

// pyc returns the name of a module's bytecode.
func (b *bytecode) pyc(module string) string {
	dir, name := filepath.Split(module)
	return dir + "__pycache__/" + name + "." + b.tag + ".pyc"
}

// there complains unless names are there, gone unless they are not.
func (b *bytecode) there(names ...string) {
	b.t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(b.path(name)); err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bytecode) gone(names ...string) {
	b.t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(b.path(name)); !errors.Is(err, fs.ErrNotExist) {
			b.t.Errorf("%s: %v, want nothing there", name, err)
		}
	}
}

func (b *bytecode) lists(dir string, want ...string) {
	b.t.Helper()
	entries, err := os.ReadDir(b.path(dir))
	if err != nil {
		b.t.Error(err)
		return
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("%s lists %q, want %q", dir, got, want)
	}
}

func (b *bytecode) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Error(err)
	}
}

// again does f, and once more in another worker and in another mount: what holds
// has to hold there.
func (b *bytecode) again(f func()) {
	b.t.Helper()
	f()
	b.killWorker(b.t)
	b.dropNames(b.t)
	f()
	b.remount(b.t)
	f()
}

// Bytecode that nobody wrote vanishes when it is removed, with its source, and with
// the folder it is in, and stands in nobody's way.
func TestGhosts(t *testing.T) {
	for name, test := range map[string]func(b *bytecode){
		"is there and not listed": func(b *bytecode) {
			b.again(func() {
				b.there(b.pyc("pkg/mod"), "pkg/__pycache__")
				b.lists("pkg", "__init__.py", "data.txt", "mod.py", "other.py", "sub")
				b.lists("pkg/__pycache__")
			})
			b.python("import pkg.mod")
			if out := b.Must(b.t, "find", b.path("pkg"), "-name", "*pyc*"); out != "" {
				b.t.Errorf("find says %s", out)
			}
			if _, err := os.Lstat(filepath.Join(b.upper, "lib")); !errors.Is(err, fs.ErrNotExist) {
				b.t.Errorf("reading has left something in the upper directory: %v", err)
			}
		},
		"rm -r of the package": func(b *bytecode) {
			b.python("import pkg.mod, pkg.other, pkg.sub")
			b.there(b.pyc("pkg/mod"), b.pyc("pkg/sub/__init__"))
			b.Must(b.t, "rm", "-r", b.path("pkg"))
			b.again(func() { b.gone("pkg", "pkg/__pycache__", b.pyc("pkg/mod")) })
			b.must(os.Mkdir(b.path("pkg"), 0o755))
			b.again(func() {
				b.lists("pkg")
				b.gone("pkg/__pycache__", b.pyc("pkg/mod"), "pkg/sub/__pycache__")
			})
			b.must(os.Remove(b.path("pkg")))
		},
		"unlink": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.must(os.Remove(b.path(b.pyc("pkg/mod"))))
			b.again(func() {
				b.gone(b.pyc("pkg/mod"))
				b.there(b.pyc("pkg/other"))
			})
			if got := b.python("import pkg.mod; print(pkg.mod.value)"); got != "original" {
				b.t.Errorf("the module's value is %q", got)
			}
			b.there(b.pyc("pkg/mod")) // Python wrote it
			b.lists("pkg/__pycache__", filepath.Base(b.pyc("pkg/mod")))
		},
		"rmdir of __pycache__": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.must(os.Remove(b.path("pkg/__pycache__")))
			b.again(func() { b.gone("pkg/__pycache__", b.pyc("pkg/mod")) })
		},
		"rm -r of __pycache__": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.must(os.RemoveAll(b.path("pkg/__pycache__")))
			b.again(func() { b.gone("pkg/__pycache__", b.pyc("pkg/mod")) })
			b.python("import pkg.mod")
			b.lists("pkg/__pycache__", filepath.Base(b.pyc("pkg/__init__")), filepath.Base(b.pyc("pkg/mod")))
		},
		"rename of the bytecode": func(b *bytecode) {
			want, err := os.ReadFile(b.path(b.pyc("pkg/mod")))
			b.must(err)
			b.must(os.Rename(b.path(b.pyc("pkg/mod")), b.path("pkg/kept.pyc")))
			b.again(func() {
				b.gone(b.pyc("pkg/mod"))
				got, err := os.ReadFile(b.path("pkg/kept.pyc"))
				if err != nil || string(got) != string(want) {
					b.t.Errorf("what was renamed holds %d bytes, want %d; %v", len(got), len(want), err)
				}
			})
		},
		"rename of __pycache__": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.must(os.Rename(b.path("pkg/__pycache__"), b.path("pkg/cache")))
			b.again(func() {
				b.gone("pkg/__pycache__", b.pyc("pkg/mod"))
				b.there("pkg/cache")
			})
		},
		"rename of the package": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.must(os.Rename(b.path("pkg"), b.path("moved")))
			b.again(func() {
				b.gone("pkg", b.pyc("pkg/mod"))
				b.there("moved/mod.py")
			})
			if got := b.python("import moved.mod; print(moved.mod.value)"); got != "original" {
				b.t.Errorf("the module's value is %q", got)
			}
			b.must(os.Rename(b.path("moved"), b.path("pkg"))) // as pip rolls back
			b.again(func() { b.there(b.pyc("pkg/mod"), b.pyc("pkg/sub/__init__")) })
		},
		"its source is removed": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"), b.pyc("pkg/sub/__init__"))
			b.must(os.Remove(b.path("pkg/mod.py")))
			b.must(os.Remove(b.path("pkg/sub/__init__.py")))
			sandbox.Eventually(b.t, func() string { // the kernel is told behind the removal's back
				for _, name := range []string{b.pyc("pkg/mod"), "pkg/sub/__pycache__"} {
					if _, err := os.Lstat(b.path(name)); !errors.Is(err, fs.ErrNotExist) {
						return fmt.Sprintf("%s: %v, want nothing there", name, err)
					}
				}
				return ""
			})
			b.again(func() { b.gone(b.pyc("pkg/mod"), "pkg/sub/__pycache__") })
			b.there(b.pyc("pkg/other"))
			b.must(os.Remove(b.path("pkg/sub")))
		},
		"its source is replaced": func(b *bytecode) {
			if got := b.python("import pkg.mod; print(pkg.mod.value)"); got != "original" {
				b.t.Errorf("the module's value is %q", got)
			}
			b.must(os.WriteFile(b.path("pkg/new"), []byte("value = 'replaced'\n"), 0o644))
			b.must(os.Rename(b.path("pkg/new"), b.path("pkg/mod.py")))
			b.again(func() {
				if got := b.python("import pkg.mod; print(pkg.mod.value)"); got != "replaced" {
					b.t.Errorf("the module's value is %q", got)
				}
			})
		},
		"its source is edited": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			f, err := os.OpenFile(b.path("pkg/mod.py"), os.O_RDWR, 0)
			b.must(err)
			_, err = f.WriteAt([]byte("value = 'modified'\n"), 0) // as long as before
			b.must(errors.Join(err, f.Close()))
			for range 2 {
				if got := b.python("import pkg.mod; print(pkg.mod.value)"); got != "modified" {
					b.t.Errorf("the module's value is %q", got)
				}
			}
			b.again(func() { b.lists("pkg/__pycache__", filepath.Base(b.pyc("pkg/mod"))) })
			b.there(b.pyc("pkg/other")) // which is as before
		},
		"compileall over it": func(b *bytecode) {
			b.there(b.pyc("pkg/mod"))
			b.Must(b.t, filepath.Join(b.venv, "bin/python"), "-m", "compileall", "-q", "-f", b.path("pkg"))
			b.again(func() {
				b.lists("pkg/__pycache__", filepath.Base(b.pyc("pkg/__init__")), filepath.Base(b.pyc("pkg/mod")), filepath.Base(b.pyc("pkg/other")))
			})
			b.Must(b.t, "rm", "-r", b.path("pkg"))
			b.again(func() { b.gone("pkg") })
		},
		"rmdir of the package when its files are gone": func(b *bytecode) {
			b.python("import pkg.mod, pkg.sub")
			for _, name := range []string{"__init__.py", "mod.py", "other.py", "data.txt", "sub/__init__.py", "sub"} {
				b.must(os.Remove(b.path("pkg/" + name)))
			}
			b.must(os.Remove(b.path("pkg")))
			b.again(func() { b.gone("pkg") })
		},
		"pip uninstall": func(b *bytecode) {
			b.python("import pkg.mod, pkg.sub")
			b.Must(b.t, filepath.Join(b.venv, "bin/python"), "-m", "pip", "uninstall", "-y", "-q", "--root-user-action=ignore", "pkg")
			b.again(func() {
				b.gone("pkg", "pkg-1.0.dist-info", b.pyc("pkg/mod"))
			})
		},
	} {
		t.Run(name, func(t *testing.T) { test(newBytecode(t)) })
	}
}
