package interp

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded reads an answer of probe.py under testdata. Those of interpreters
// that the authors' machines lack are written after the interpreters' sources.
func recorded(t *testing.T, name string) *report {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	r := new(report)
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordedAnswers(t *testing.T) {
	for _, c := range []struct {
		name, purelib, headers, text string
		tags                         string // the first, then one that is taken
		refused                      string // one that is not
	}{
		{
			"cpython-3.13t", "lib/python3.13t/site-packages", "include/site/python3.13",
			"CPython 3.13.0 free-threaded (/usr/local/bin/python3.13t)",
			"cp313-cp313t-linux_x86_64 cp313-cp313t-manylinux_2_36_x86_64", "cp313-abi3-linux_x86_64",
		},
		{
			"cpython-3.14.0rc2t", "lib/python3.14t/site-packages", "include/site/python3.14",
			"CPython 3.14.0rc2 free-threaded (/opt/python-3.14t/bin/python3)",
			"cp314-cp314t-linux_x86_64 py3-none-any", "cp314-cp314-linux_x86_64",
		},
		{
			"fedora-3.12", "lib/python3.12/site-packages", "include/site/python3.12",
			"CPython 3.12.3 (/usr/bin/python3)",
			"cp312-cp312-linux_x86_64 cp37-abi3-manylinux2014_x86_64", "cp312-cp312-musllinux_1_2_x86_64",
		},
		{
			"alpine-3.12", "lib/python3.12/site-packages", "include/site/python3.12",
			"CPython 3.12.3 (/usr/bin/python3)",
			"cp312-cp312-linux_x86_64 cp312-cp312-musllinux_1_2_x86_64", "cp312-cp312-manylinux2014_x86_64",
		},
		{
			"debug-3.12", "lib/python3.12/site-packages", "include/site/python3.12",
			"CPython 3.12.3 (/usr/bin/python3-dbg)",
			"cp312-cp312d-linux_x86_64 cp312-cp312-linux_x86_64", "cp311-cp311-linux_x86_64",
		},
		{
			"softfloat-3.11", "lib/python3.11/site-packages", "include/site/python3.11",
			"CPython 3.11.2 (/usr/bin/python3)",
			"cp311-cp311-linux_armv7l py3-none-linux_armv7l", "cp311-cp311-manylinux_2_17_armv7l",
		},
		{
			"macos-3.12", "lib/python3.12/site-packages", "include/site/python3.12",
			"CPython 3.12.4 (/opt/homebrew/opt/python@3.12/bin/python3.12)",
			"cp312-cp312-macosx_14_0_arm64 cp312-cp312-macosx_11_0_universal2", "cp312-cp312-macosx_11_0_x86_64",
		},
		{
			"pypy-3.10", "lib/pypy3.10/site-packages", "include/site/python3.10",
			"PyPy 3.10.14 (/opt/pypy3.10-v7.3.17-linux64/bin/pypy3)",
			"pp310-pypy310_pp73-linux_x86_64 pp3-none-any", "cp310-cp310-linux_x86_64",
		},
		{
			"graalpy-3.11", "lib/python3.11/site-packages", "include/site/python3.11",
			"GraalVM 3.11.7 (/opt/graalpy/bin/graalpy)",
			"graalpy311-graalpy240_311_native-linux_x86_64 py3-none-any", "cp311-none-any",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := recorded(t, c.name).python()
			if err != nil {
				t.Fatal(err)
			}
			want := Layout{Purelib: c.purelib, Platlib: c.purelib, Scripts: "bin", Headers: c.headers}
			if p.Layout != want {
				t.Errorf("layout %+v, want %+v", p.Layout, want)
			}
			if p.String() != c.text || p.Home != filepath.Dir(p.Executable) {
				t.Errorf("%s with home %q, want %s", p, p.Home, c.text)
			}
			first, taken, _ := strings.Cut(c.tags, " ")
			if p.Tags[0].String() != first {
				t.Errorf("the first tag is %s, want %s", p.Tags[0], first)
			}
			if !takes(p, taken) || takes(p, c.refused) {
				t.Errorf("takes %s: %v, takes %s: %v", taken, takes(p, taken), c.refused, takes(p, c.refused))
			}
		})
	}
}

func takes(p *Python, text string) bool {
	for _, t := range p.Tags {
		if t.String() == text {
			return true
		}
	}
	return false
}

func TestUnusableAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*report)
		want   string
	}{
		{"too old", func(r *report) { r.Version = [3]int{3, 7, 17} }, "it is Python 3.7.17, and sitefs needs 3.8 or newer"},
		{"no path", func(r *report) { r.Executable = "" }, "no absolute path"},
		{"no name", func(r *report) { r.Implementation = "" }, "no implementation"},
		{"outside", func(r *report) { r.Paths["purelib"] = "/usr/lib/python3" }, "not inside the environment"},
		{"two directories", func(r *report) { r.Paths["platlib"] = "/venv/lib32/python3.13/site-packages" }, "sitefs serves one directory"},
		{"libc", func(r *report) { r.Libc = "glibc new" }, `version "new" does not begin with two numbers`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recorded(t, "cpython-3.13t")
			c.change(r)
			_, err := r.python()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error that says %q", err, c.want)
			}
		})
	}
}
