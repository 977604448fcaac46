package session

import (
	"reflect"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/bytecode"
)

func TestOptimization(t *testing.T) {
	for value, want := range map[string]int{
		"": 0, "0": 0, "1": 1, "2": 2, "3": 2, "01": 1,
		"-1": 1, "yes": 1, "1.5": 1,
	} {
		if got := optimization(value); got != want {
			t.Errorf("PYTHONOPTIMIZE=%q is level %d, want %d", value, got, want)
		}
	}
}

// The sources of a wheel are those that a tree of it has: what is compiled for
// one is found by the other.
func TestSources(t *testing.T) {
	const site = "lib/python3.12/site-packages"
	files := []struct {
		scheme wheel.Scheme
		path   string // in the scheme
		place  string // in the tree
		source bool
	}{
		{wheel.Purelib, "a/__init__.py", site + "/a/__init__.py", true},
		{wheel.Purelib, "a/data.txt", site + "/a/data.txt", false},
		{wheel.Purelib, "a/stub.pyi", site + "/a/stub.pyi", false},
		{wheel.Platlib, "b.py", site + "/b.py", true},
		{wheel.Headers, "h.py", "include/site/python3.12/a/h.py", false},
		{wheel.Scripts, "run.py", "bin/run.py", false},
		{wheel.Data, "share/d.py", "share/d.py", false},
	}
	var info wheel.Info
	var want []bytecode.Source
	b := tree.NewBuilder("test")
	for i, f := range files {
		d := digest.Of([]byte(f.path))
		size := int64(100 + i)
		info.Files = append(info.Files, wheel.File{Scheme: f.scheme, Path: f.path, Digest: d, Size: size})
		if err := b.File(f.place, false, size, d); err != nil {
			t.Fatal(err)
		}
		if f.source {
			want = append(want, bytecode.Source{Path: f.path, Digest: d, Size: size, Mtime: tree.SourceTime(d)})
		}
	}
	if got := wheelSources(&info); !reflect.DeepEqual(got, want) {
		t.Errorf("of the wheel\n%v, want\n%v", got, want)
	}
	if err := b.Symlink(site+"/link.py", "b.py"); err != nil {
		t.Fatal(err)
	}
	if err := b.Inline(site+"/made.py", false, []byte("x = 1\n")); err != nil {
		t.Fatal(err)
	}
	data, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(data, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := treeSources(tr, site); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of the tree\n%v, %v, want\n%v", got, err, want)
	}
}
