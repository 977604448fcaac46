package repair

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/verify"
)

const (
	site = "lib/python3.12/site-packages/"
	info = site + "pkg-1.0.dist-info/"
)

// members are the files of the test's wheel in site-packages.
var members = map[string]string{
	"pkg/__init__.py":                    "import pkg.core\n",
	"pkg/core.py":                        "x = 1\n",
	"pkg/empty.py":                       "",
	"pkg-1.0.dist-info/METADATA":         "Name: pkg\nVersion: 1.0\n",
	"pkg-1.0.dist-info/WHEEL":            "Wheel-Version: 1.0\nTag: py3-none-any\n",
	"pkg-1.0.dist-info/entry_points.txt": "[console_scripts]\npkg = pkg:main\n",
}

// shipped is a script of the wheel.
const shipped = "#!python\nprint(1)\n"

// newWheel returns the wheel, with its files in src.
func newWheel(t testing.TB, src blobs) *wheel.Info {
	t.Helper()
	w := &wheel.Info{
		Name: "pkg", Version: "1.0", Filename: "pkg-1.0-py3-none-any.whl", Tags: []string{"py3-none-any"},
		EntryPoints: []wheel.EntryPoint{{Name: "pkg", Module: "pkg", Attr: "main"}},
		Files:       []wheel.File{{Scheme: wheel.Scripts, Path: "tool", Exec: true, Size: int64(len(shipped)), Digest: src.add(t, shipped), Python: true}},
	}
	for p, text := range members {
		w.Files = append(w.Files, wheel.File{Path: p, Size: int64(len(text)), Digest: src.add(t, text)})
	}
	return w
}

func put(t testing.TB, dir, path, text string) {
	t.Helper()
	path = filepath.Join(dir, path)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(text), 0o644))
}

func drop(t testing.TB, dir string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		check(t, os.RemoveAll(filepath.Join(dir, p)))
	}
}

func row(path, text string) string {
	return fmt.Sprintf("%s,sha256=%s,%d\r\n", path, digest.Of([]byte(text)).Record(), len(text))
}

// install makes the environment that the installer, pip or uv, makes of the wheel.
func install(t testing.TB, installer string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	head := "#!" + dir + "/bin/python\n"
	files := maps.Clone(members)
	config, body := "home = /usr/bin\n", bodies[pipBody]
	files["pkg-1.0.dist-info/INSTALLER"] = "pip\n"
	if installer == "uv" {
		config, body = config+"uv = 0.13.9\n", bodies[uvBody]
		files["pkg-1.0.dist-info/INSTALLER"] = "uv"
	}
	files["../../../bin/pkg"] = head + fmt.Sprintf(body, "pkg", "main", "main")
	files["../../../bin/tool"] = head + "print(1)\n"
	record := "pkg-1.0.dist-info/RECORD,,\r\n"
	for p, text := range files {
		put(t, dir, site+p, text)
		record += row(p, text)
	}
	put(t, dir, info+"RECORD", record)
	put(t, dir, "pyvenv.cfg", config)
	check(t, os.Chmod(filepath.Join(dir, "bin/pkg"), 0o755))
	check(t, os.Chmod(filepath.Join(dir, "bin/tool"), 0o755))
	return dir
}

// unfinish takes away what uv writes last: RECORD is the wheel's own.
func unfinish(t *testing.T, dir string) {
	t.Helper()
	record := "pkg-1.0.dist-info/RECORD,,\n" + row("pkg-1.0.data/scripts/tool", shipped)
	for p, text := range members {
		record += row(p, text)
	}
	put(t, dir, info+"RECORD", record)
	drop(t, dir, info+"INSTALLER", "bin")
}

func TestRecords(t *testing.T) {
	all := slices.Sorted(maps.Keys(members))
	for i, p := range all {
		all[i] = site + p
	}
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		o      Options
		want   Report // notes are compared by their number
		broken bool   // something is left to find
	}{
		{"missing", func(t *testing.T, dir string) {
			drop(t, dir, site+"pkg/core.py", site+"pkg/empty.py", "bin/pkg", "bin/tool", info+"INSTALLER")
		}, Options{}, Report{Restored: []string{"bin/pkg", "bin/tool", info + "INSTALLER", site + "pkg/core.py", site + "pkg/empty.py"}}, false},
		{"a folder", func(t *testing.T, dir string) {
			drop(t, dir, site+"pkg")
		}, Options{}, Report{Restored: []string{site + "pkg/__init__.py", site + "pkg/core.py", site + "pkg/empty.py"}}, false},
		{"cut off", func(t *testing.T, dir string) {
			put(t, dir, site+"pkg/core.py", "x =")
			put(t, dir, site+"pkg/__init__.py", "import\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
			put(t, dir, "bin/pkg", "#!/")
		}, Options{}, Report{Restored: []string{"bin/pkg", site + "pkg/__init__.py", site + "pkg/core.py"}}, false},
		{"edited", func(t *testing.T, dir string) {
			put(t, dir, site+"pkg/core.py", "x = 1\nbreakpoint()\n")
			put(t, dir, site+"pkg/empty.py", "x")
			drop(t, dir, site+"pkg/__init__.py")
		}, Options{}, Report{
			Restored: []string{site + "pkg/__init__.py"},
			Kept:     []string{site + "pkg/core.py", site + "pkg/empty.py"},
		}, true},
		{"edited, discarded", func(t *testing.T, dir string) {
			put(t, dir, site+"pkg/core.py", "x = 2\n")
			put(t, dir, site+"pkg/__pycache__/core.cpython-312.pyc", "of the edited file")
			put(t, dir, "bin/pkg", "#!/bin/sh\n")
		}, Options{DiscardChanges: true}, Report{
			Restored: []string{"bin/pkg", site + "pkg/core.py"},
			Removed:  []string{site + "pkg/__pycache__/core.cpython-312.pyc"},
		}, false},
		{"a pipe", func(t *testing.T, dir string) {
			drop(t, dir, site+"pkg/core.py", "bin/pkg")
			check(t, unix.Mkfifo(filepath.Join(dir, site+"pkg/core.py"), 0o644))
			check(t, unix.Mkfifo(filepath.Join(dir, "bin/pkg"), 0o755))
		}, Options{}, Report{Kept: []string{"bin/pkg", site + "pkg/core.py"}}, true},
		{"a script that can't be run", func(t *testing.T, dir string) {
			check(t, os.Chmod(filepath.Join(dir, "bin/pkg"), 0o644))
		}, Options{}, Report{Restored: []string{"bin/pkg"}}, false},
		{"an install that never ended", func(t *testing.T, dir string) {
			unfinish(t, dir)
			drop(t, dir, site+"pkg/core.py")
		}, Options{}, Report{}, true}, // see TestUnfinished
		{"no RECORD", func(t *testing.T, dir string) {
			drop(t, dir, info+"RECORD", site+"pkg/core.py", "bin/pkg")
		}, Options{}, Report{
			Restored: []string{"bin/pkg", info + "RECORD", site + "pkg/core.py"},
			Notes:    []Reason{{"pkg 1.0", ""}},
		}, false},
		{"no RECORD and no WHEEL", func(t *testing.T, dir string) {
			drop(t, dir, info+"RECORD", info+"WHEEL", site+"pkg")
		}, Options{}, Report{
			Restored: []string{info + "RECORD", info + "WHEEL", site + "pkg/__init__.py", site + "pkg/core.py", site + "pkg/empty.py"},
			Notes:    []Reason{{"pkg 1.0", ""}},
		}, false},
		{"nothing left but the name", func(t *testing.T, dir string) {
			drop(t, dir, info, site+"pkg")
			check(t, os.Mkdir(filepath.Join(dir, info), 0o755))
		}, Options{}, Report{
			Restored: slices.Sorted(slices.Values(append(all, info+"INSTALLER", info+"RECORD"))),
			Notes:    []Reason{{"pkg 1.0", ""}},
		}, false},
		{"no RECORD and no WHEEL, and another file", func(t *testing.T, dir string) {
			drop(t, dir, info+"RECORD", info+"WHEEL")
			put(t, dir, site+"pkg/core.py", "x = 3\n")
		}, Options{}, Report{Failed: []Reason{{"pkg 1.0", errNoOther.Error()}}}, true},
		{"another build", func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, info+"RECORD"))
			check(t, err)
			put(t, dir, info+"RECORD", strings.ReplaceAll(string(b), row("pkg/core.py", "x = 1\n"), row("pkg/core.py", "x = 3\n")))
			drop(t, dir, site+"pkg/core.py")
		}, Options{}, Report{Failed: []Reason{{"pkg 1.0", errNoOther.Error()}}}, true},
		{"another build, by its tags", func(t *testing.T, dir string) {
			put(t, dir, info+"WHEEL", "Tag: py2-none-any\n")
			drop(t, dir, info+"RECORD")
		}, Options{}, Report{Failed: []Reason{{"pkg 1.0", errNoOther.Error()}}}, true},
		{"editable", func(t *testing.T, dir string) {
			put(t, dir, info+"direct_url.json", `{"url": "file:///src", "dir_info": {"editable": true}}`)
			drop(t, dir, site+"pkg/core.py")
		}, Options{}, Report{Failed: []Reason{{"pkg 1.0", "it is installed from the sources at file:///src: install it again with -e"}}}, true},
		{"built from sources", func(t *testing.T, dir string) {
			put(t, dir, info+"direct_url.json", `{"url": "https://example.com/src.git", "vcs_info": {"vcs": "git", "commit_id": "f00"}}`)
			drop(t, dir, site+"pkg/core.py")
		}, Options{}, Report{Failed: []Reason{{"pkg 1.0", "it was built from https://example.com/src.git: install it again from there"}}}, true},
		{"a wheel's URL", func(t *testing.T, dir string) {
			direct := `{"url": "https://example.com/pkg-1.0-py3-none-any.whl", "archive_info": {}}`
			put(t, dir, info+"direct_url.json", direct)
			b, err := os.ReadFile(filepath.Join(dir, info+"RECORD"))
			check(t, err)
			put(t, dir, info+"RECORD", string(b)+row("pkg-1.0.dist-info/direct_url.json", direct))
			drop(t, dir, site+"pkg/core.py")
		}, Options{}, Report{Restored: []string{site + "pkg/core.py"}}, false},
		{"nobody's", func(t *testing.T, dir string) {
			drop(t, dir, "pyvenv.cfg")
		}, Options{}, Report{Failed: []Reason{{"pyvenv.cfg", "no package lists it: make the environment again"}}}, true},
	}
	for _, installer := range []string{"pip", "uv"} {
		for _, test := range tests {
			if test.name == "an install that never ended" {
				continue
			}
			t.Run(installer+", "+test.name, func(t *testing.T) {
				src, dir := blobs(t.TempDir()), install(t, installer)
				test.change(t, dir)
				got, left := rescueIt(t, dir, src, test.o)
				if left.Whole() == test.broken && len(test.want.Failed) == 0 {
					t.Errorf("after the repair: %+v", left)
				}
				if !slices.Equal(got.Restored, test.want.Restored) || !slices.Equal(got.Removed, test.want.Removed) || !slices.Equal(got.Kept, test.want.Kept) || !slices.Equal(got.Failed, test.want.Failed) || len(got.Notes) != len(test.want.Notes) {
					t.Errorf("got\n%+v\nwant\n%+v", got, test.want)
				}
			})
		}
	}
}

// errNoOther is what follows the wheels.
var errNoOther = errors.New("an index knows no other wheel")

// rescueIt repairs dir with the wheel and returns what is left to find.
func rescueIt(t *testing.T, dir string, src blobs, o Options) (*Report, *verify.Result) {
	t.Helper()
	w := newWheel(t, src)
	find := func() *verify.Result {
		found, err := verify.Records(context.Background(), dir, verify.Options{Deep: true})
		check(t, err)
		return found
	}
	other := *w // another build of the same version
	other.Tags, other.Files = []string{"cp312-abi3-linux_x86_64"}, slices.Clone(w.Files)
	for i := range other.Files {
		if strings.HasSuffix(other.Files[i].Path, "METADATA") {
			other.Files[i].Digest, other.Files[i].Size = src.add(t, "Name: other\n"), 12
		}
	}
	wheels := func(context.Context, []*verify.Distribution) func(*verify.Distribution) iter.Seq2[*wheel.Info, error] {
		return func(d *verify.Distribution) iter.Seq2[*wheel.Info, error] {
			return func(yield func(*wheel.Info, error) bool) {
				if d.String() != "pkg 1.0" {
					t.Errorf("asked for a wheel of %s", d)
				}
				chosen := d.Broken != nil && d.Tags == nil
				if (chosen || yield(&other, nil)) && yield(w, nil) {
					yield(nil, errNoOther)
				}
			}
		}
	}
	report, err := Records(context.Background(), dir, src, find(), wheels, o)
	check(t, err)
	return report, find()
}

// TestUnfinished: the environment becomes what the installer would have made.
func TestUnfinished(t *testing.T) {
	for _, installer := range []string{"pip", "uv"} {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, RECORD broken %t", installer, broken), func(t *testing.T) {
				src, dir := blobs(t.TempDir()), install(t, installer)
				whole := snapshot(t, dir)
				unfinish(t, dir)
				if broken {
					drop(t, dir, info+"RECORD")
				}
				drop(t, dir, site+"pkg/core.py")
				report, left := rescueIt(t, dir, src, Options{})
				if left.Err() != nil || len(report.Failed) > 0 {
					t.Errorf("%+v, left %+v", report, left)
				}
				for p, text := range snapshot(t, dir) {
					if whole[p] != text {
						t.Errorf("%s is %q, was %q", p, text, whole[p])
					}
					delete(whole, p)
				}
				if len(whole) > 0 {
					t.Errorf("gone: %q", slices.Sorted(maps.Keys(whole)))
				}
			})
		}
	}
}

// snapshot returns the files of dir, the lines of RECORD sorted.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	check(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		text := string(b)
		if e.Name() == "RECORD" {
			lines := strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
			slices.Sort(lines)
			text = strings.Join(lines, "\n")
		}
		files[strings.TrimPrefix(p, dir)] = text
		return err
	}))
	return files
}

func TestCompare(t *testing.T) {
	long := strings.Repeat("0123456789", 20000)
	tests := []struct {
		name, there, right string
		want               state
	}{
		{"equal", "abc", "abc", same},
		{"nothing", "", "", same},
		{"empty", "", "abc", cutOff},
		{"short", "ab", "abc", cutOff},
		{"zeros", "a\x00\x00", "abc", cutOff},
		{"zeros and short", "a\x00", "abc", cutOff},
		{"other", "abd", "abc", edited},
		{"longer", "abcd", "abc", edited},
		{"longer by zeros", "abc\x00", "abc", edited},
		{"long", long, long, same},
		{"long and short", long[:100000], long, cutOff},
		{"long and zeros", long[:100000] + strings.Repeat("\x00", 100000), long, cutOff},
		{"long, something behind zeros", long[:70000] + strings.Repeat("\x00", 70000) + "x", long, edited},
	}
	for _, test := range tests {
		got, err := compare(strings.NewReader(test.there), strings.NewReader(test.right))
		if err != nil || got != test.want {
			t.Errorf("%s: %d, %v; want %d", test.name, got, err, test.want)
		}
	}
}
