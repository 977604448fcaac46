package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

const site = "lib/python3.12/site-packages/"

// row returns a row of RECORD.
func row(path, text string) string {
	return fmt.Sprintf("%s,sha256=%s,%d\n", path, digest.Of([]byte(text)).Record(), len(text))
}

// install makes an environment with one package as pip leaves it.
func install(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string]string{
		"pkg/__init__.py":            "import pkg.core\n",
		"pkg/core.py":                "x = 1\n",
		"pkg-1.0.dist-info/METADATA": "Name: pkg\nVersion: 1.0\n",
		"pkg-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n",

		"pkg-1.0.dist-info/INSTALLER":        "pip\n",
		"pkg-1.0.dist-info/entry_points.txt": "[console_scripts]\npkg = pkg:main\n",
		"../../../bin/pkg":                   "#!/venv/bin/python\n",
	}
	var record strings.Builder
	for path, text := range files {
		put(t, dir, site+path, text)
		record.WriteString(row(path, text))
	}
	record.WriteString("pkg/__pycache__/core.cpython-312.pyc,,\npkg-1.0.dist-info/RECORD,,\n")
	put(t, dir, site+"pkg-1.0.dist-info/RECORD", record.String())
	put(t, dir, "pyvenv.cfg", "home = /usr/bin\n")
	put(t, dir, "bin/activate", "")
	put(t, dir, ".lock", "")
	check(t, os.Chmod(filepath.Join(dir, "bin/pkg"), 0o755))
	return dir
}

// cutRecord changes the RECORD of the environment at dir.
func cutRecord(t *testing.T, dir string, cut func(string) string) {
	t.Helper()
	path := filepath.Join(dir, site+"pkg-1.0.dist-info/RECORD")
	b, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, []byte(cut(string(b))), 0o644))
}

// without removes the rows for which drop is true.
func without(drop func(string) bool) func(string) string {
	return func(record string) string {
		return strings.Join(slices.DeleteFunc(strings.SplitAfter(record, "\n"), drop), "")
	}
}

func TestRecords(t *testing.T) {
	const info = site + "pkg-1.0.dist-info"
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		deep   bool
		want   Result
	}{
		{"nothing", func(*testing.T, string) {}, false, Result{}},
		{"nothing, deep", func(*testing.T, string) {}, true, Result{}},
		{"missing", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, site+"pkg/core.py")))
			check(t, os.Remove(filepath.Join(dir, "bin/pkg")))
			check(t, os.Remove(filepath.Join(dir, "pyvenv.cfg")))
		}, false, Result{Missing: []string{"bin/pkg", site + "pkg/core.py", "pyvenv.cfg"}}},
		{"changed", func(t *testing.T, dir string) {
			put(t, dir, site+"pkg/core.py", "x = 10\n")
		}, false, Result{Changed: []Difference{{site + "pkg/core.py", "7 bytes", "6 bytes"}}}},
		{"an edit of the same size", func(t *testing.T, dir string) {
			put(t, dir, site+"pkg/core.py", "x = 2\n")
		}, true, Result{Changed: []Difference{{
			site + "pkg/core.py", "hash " + digest.Of([]byte("x = 2\n")).String(), digest.Of([]byte("x = 1\n")).String(),
		}}}},
		{"a script that can't be run", func(t *testing.T, dir string) {
			check(t, os.Chmod(filepath.Join(dir, "bin/pkg"), 0o644))
		}, false, Result{Mode: []Difference{{"bin/pkg", "0644", "0755"}}}},
		{"extra and conflict copies", func(t *testing.T, dir string) {
			put(t, dir, site+"mine/x.py", "")
			put(t, dir, site+"_virtualenv.py", "")
			put(t, dir, site+"pkg/core 2.py", "")
			put(t, dir, "bin/activate 2", "")
			put(t, dir, "bin/mine", "")
		}, false, Result{
			Extra:    []string{site + "mine/"},
			Conflict: []string{"bin/activate 2", site + "pkg/core 2.py"},
		}},
		{"links are files", func(t *testing.T, dir string) {
			put(t, dir, "elsewhere", "x = 1\n")
			check(t, os.Remove(filepath.Join(dir, site+"pkg/core.py")))
			check(t, os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, site+"pkg/core.py")))
			check(t, os.Remove(filepath.Join(dir, site+"pkg/__init__.py")))
			check(t, os.Symlink("nowhere", filepath.Join(dir, site+"pkg/__init__.py")))
		}, true, Result{Changed: []Difference{{site + "pkg/__init__.py", "a symlink that leads nowhere", "a file"}}}},
		{"an install that never ended", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, info+"/INSTALLER")))
			check(t, os.Remove(filepath.Join(dir, "bin/pkg")))
			cutRecord(t, dir, without(func(line string) bool {
				return strings.Contains(line, "INSTALLER") || strings.Contains(line, "bin/")
			}))
		}, false, Result{Missing: []string{"bin/pkg", info + "/INSTALLER"}}},
		{"no RECORD", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, info+"/RECORD")))
			check(t, os.RemoveAll(filepath.Join(dir, site+"pkg")))
		}, false, Result{Unknown: []Difference{{info, "it has no RECORD", "a list of its files"}}}},
		{"a RECORD cut off", func(t *testing.T, dir string) {
			cutRecord(t, dir, func(s string) string { return s[:len(s)-3] })
			check(t, os.RemoveAll(filepath.Join(dir, site+"pkg")))
		}, false, Result{Unknown: []Difference{{info, "its RECORD is cut off", "a list of its files"}}}},
		{"a RECORD cut off at a line's end", func(t *testing.T, dir string) {
			cutRecord(t, dir, without(func(line string) bool { return strings.Contains(line, "RECORD") }))
			check(t, os.RemoveAll(filepath.Join(dir, site+"pkg")))
		}, false, Result{Unknown: []Difference{{info, "its RECORD doesn't list its own RECORD", "a list of its files"}}}},
		{"a row that leaves the environment", func(t *testing.T, dir string) {
			cutRecord(t, dir, func(s string) string { return s + "../../../../etc/passwd,,\n/etc/passwd,,\n" })
		}, false, Result{Unknown: []Difference{
			{"../../../../etc/passwd", "listed by pkg 1.0", "a path in the environment"},
			{"/etc/passwd", "listed by pkg 1.0", "a path in the environment"},
		}}},
		{"a file of two distributions", func(t *testing.T, dir string) {
			for name, text := range map[string]string{"METADATA": "", "INSTALLER": "pip\n"} {
				put(t, dir, site+"other-2.0.dist-info/"+name, text)
			}
			put(t, dir, site+"other-2.0.dist-info/RECORD", row("other-2.0.dist-info/METADATA", "")+row("other-2.0.dist-info/INSTALLER", "pip\n")+
				"other-2.0.dist-info/RECORD,,\n"+row("pkg/core.py", "another"))
		}, true, Result{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := install(t)
			test.change(t, dir)
			got, err := Records(context.Background(), dir, Options{Deep: test.deep})
			check(t, err)
			if got.Files == 0 {
				t.Error("no file was compared")
			}
			got.Files, got.Bytes = 0, 0
			if !reflect.DeepEqual(got, &test.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, &test.want)
			}
		})
	}
}

func TestRecordsOfNoVenv(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := Records(context.Background(), dir, Options{}); !errors.Is(err, ErrNoVenv) {
			t.Errorf("error %v, want %v", err, ErrNoVenv)
		}
	}
}

// TestRecordsOfNothing: what is in an environment in which nothing is installed is
// extra.
func TestRecordsOfNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "pyvenv.cfg", "")
	put(t, dir, site+"mine.py", "")
	got, err := Records(context.Background(), dir, Options{})
	check(t, err)
	if want := (&Result{Files: 1, Extra: []string{site + "mine.py"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestInstalled(t *testing.T) {
	dir := install(t)
	put(t, dir, site+"pkg-1.0.dist-info/direct_url.json", `{"url": "file:///src/pkg", "dir_info": {"editable": true}}`)
	all, err := Installed(dir)
	check(t, err)
	if len(all) != 1 {
		t.Fatalf("%d distributions, want 1", len(all))
	}
	d := all[0]
	if d.String() != "pkg 1.0" || !d.Finished || len(d.Rows) != 9 || !slices.Equal(d.Tags, []string{"py2-none-any", "py3-none-any"}) || len(d.EntryPoints) != 1 {
		t.Errorf("found %+v", d)
	}
	if want := (Origin{"file:///src/pkg", true}); d.Origin != want {
		t.Errorf("origin %+v, want %+v", d.Origin, want)
	}
}
