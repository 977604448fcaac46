package wheelhouse

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

var demoSpec = Spec{
	Name:    "Demo.Pkg",
	Version: "1.0",
	Files: map[string]string{
		"demo/__init__.py":                          "def main(): print('hello')\n",
		"demo/größe, quoted \".txt":                 "x",
		"demo_pkg-1.0.data/scripts/hello":           "#!python\nprint('script')\n",
		"demo_pkg-1.0.dist-info/licenses/LIC":       "free\n",
		"demo/" + strings.Repeat("long/", 40) + "f": strings.Repeat("long ", 5000),
	},
	Executable:     []string{"demo_pkg-1.0.data/scripts/hello"},
	Console:        map[string]string{"demo": "demo:main", "a": "demo:main"},
	GUI:            map[string]string{"demow": "demo:main"},
	Requires:       []string{"other>=2; python_version>'3'"},
	Extras:         []string{"fast"},
	RequiresPython: ">=3.8",
}

func TestMake(t *testing.T) {
	data, err := Make(demoSpec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Make(demoSpec)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("made twice, the bytes differ (error %v)", err)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	content := make(map[string]string)
	for _, m := range z.File {
		r, err := m.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		content[m.Name] = string(b)
		if m.Flags&8 != 0 {
			t.Errorf("%s has a data descriptor", m.Name)
		}
		want := fs.FileMode(0o644)
		if slices.Contains(demoSpec.Executable, m.Name) {
			want = 0o755
		}
		if m.Mode() != want {
			t.Errorf("%s has mode %v, want %v", m.Name, m.Mode(), want)
		}
	}
	for name, want := range demoSpec.Files {
		if content[name] != want {
			t.Errorf("%s holds %.40q, want %.40q", name, content[name], want)
		}
	}
	if got, want := content["demo_pkg-1.0.dist-info/METADATA"], `Metadata-Version: 2.1
Name: Demo.Pkg
Version: 1.0
Requires-Python: >=3.8
Requires-Dist: other>=2; python_version>'3'
Provides-Extra: fast
`; got != want {
		t.Errorf("METADATA is\n%s\nwant\n%s", got, want)
	}
	if got, want := content["demo_pkg-1.0.dist-info/entry_points.txt"], `[console_scripts]
a = demo:main
demo = demo:main
[gui_scripts]
demow = demo:main
`; got != want {
		t.Errorf("entry_points.txt is\n%s\nwant\n%s", got, want)
	}
	checkRecord(t, content, "demo_pkg-1.0.dist-info/RECORD")
	if got, want := z.File[len(z.File)-1].Name, "demo_pkg-1.0.dist-info/RECORD"; got != want {
		t.Errorf("the last member is %s, want %s", got, want)
	}
}

// checkRecord compares RECORD with the members.
func checkRecord(t *testing.T, content map[string]string, record string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(content[record])).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(content) {
		t.Errorf("RECORD has %d rows for %d members", len(rows), len(content))
	}
	for _, row := range rows {
		want := []string{"", ""}
		if row[0] != record {
			sum := digest.Of([]byte(content[row[0]]))
			want = []string{"sha256=" + sum.Record(), itoa(len(content[row[0]]))}
		}
		if !slices.Equal(row[1:], want) {
			t.Errorf("row of %q is %q, want %q", row[0], row[1:], want)
		}
	}
}

func TestMakeTags(t *testing.T) {
	s := Spec{Name: "x", Version: "1", Tag: "cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"}
	if got, want := s.Filename(), "x-1-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"; got != want {
		t.Errorf("file name %q, want %q", got, want)
	}
	want := `Wheel-Version: 1.0
Generator: wheelhouse
Root-Is-Purelib: false
Tag: cp38-abi3-manylinux_2_17_x86_64
Tag: cp38-abi3-manylinux2014_x86_64
`
	if got := s.wheel(); got != want {
		t.Errorf("WHEEL is\n%s\nwant\n%s", got, want)
	}
}

func TestMakeOverride(t *testing.T) {
	s := Spec{Name: "x", Version: "1", Files: map[string]string{"x-1.dist-info/METADATA": "broken"}}
	if got := s.members()["x-1.dist-info/METADATA"]; got != "broken" {
		t.Errorf("METADATA is %q, want what the spec says", got)
	}
}

func TestMakeUnknownExecutable(t *testing.T) {
	_, err := Make(Spec{Name: "x", Version: "1", Executable: []string{"bin/x"}})
	if err == nil || !strings.Contains(err.Error(), `"bin/x"`) {
		t.Errorf("error %v, want one that names the file", err)
	}
}

// TestMakePip has pip install a made wheel and run what it holds.
func TestMakePip(t *testing.T) {
	pip := realPip(t)
	dir := t.TempDir()
	s := demoSpec
	s.Requires = nil
	w, err := Write(dir, s)
	if err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	args := append(pip[1:], "install", "--quiet", "--no-index", "--target", target, filepath.Join(dir, w.Filename))
	if out, err := exec.Command(pip[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("pip install: %v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"demo/größe, quoted \".txt": "x",
		"demo/__init__.py":          demoSpec.Files["demo/__init__.py"],
	} {
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (error %v), want %q", name, got, err, want)
		}
	}
	for _, script := range []string{"demo", "demow", "hello"} {
		if _, err := os.Stat(filepath.Join(target, "bin", script)); err != nil {
			t.Error(err)
		}
	}
}

// realPip returns the command line of a pip of Python 3, or skips.
func realPip(t *testing.T) []string {
	t.Helper()
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	for _, v := range []string{"PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"} {
		t.Setenv(v, "")
		os.Unsetenv(v)
	}
	pip, err := findPip(t.Context())
	if err != nil {
		t.Skip("needs pip: ", err)
	}
	return pip
}
