package tree

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

// TestRebuilt: a builder of a tree that nothing is done to builds that tree.
func TestRebuilt(t *testing.T) {
	own, from := buildTree(t)
	b := must(must(Open(own, prefix, from)).Builder())
	if again := must(b.Build(treeTime)); !bytes.Equal(again, own) {
		t.Errorf("built again the tree is %d other bytes, want the same %d", len(again), len(own))
	}
	if len(from.asked) > 0 {
		t.Errorf("tables were opened: %v, want none", from.asked)
	}
}

// TestEdited: what is changed below a wheel's directory is a node of the new tree's
// own, and what lies beside it has the ID and the attributes that it had.
func TestEdited(t *testing.T) {
	before, from := openTree(t)
	b := must(before.Builder())
	check(t, b.Remove(site+"a/sub/data.txt"))
	check(t, b.Remove(site+"b"))
	check(t, b.Remove("bin/b"))
	text := []byte("edited = True\n")
	check(t, b.Remove(site+"a/__init__.py"))
	check(t, b.File(site+"a/__init__.py", false, int64(len(text)), digest.Of(text)))
	check(t, b.File(site+"c/__init__.py", false, 0, digest.Of(nil)))
	after := must(Open(must(b.Build(treeTime)), prefix, from))

	var paths []string
	check(t, after.Walk(func(path string, _ ID, _ Attr) error { paths = append(paths, path); return nil }))
	want := slices.DeleteFunc(slices.Clone(allPaths), func(p string) bool {
		return p == site+"a/sub/data.txt" || p == "bin/b" || p == site+"b" || len(p) > len(site)+1 && p[:len(site)+2] == site+"b/"
	})
	want = append(want, site+"c", site+"c/__init__.py")
	slices.Sort(want)
	slices.Sort(paths)
	if !slices.Equal(paths, want) {
		t.Errorf("the new tree has\n%q\nwant\n%q", paths, want)
	}

	for _, path := range []string{site + "a/sub/__init__.py", site + "a.so", "bin/a", "pyvenv.cfg"} {
		_, a, err := before.Find(path)
		check(t, err)
		_, got, err := after.Find(path)
		check(t, err)
		if got != a {
			t.Errorf("%q is %+v, was %+v", path, got, a)
		}
	}
	if _, a, err := after.Find(site + "a/__init__.py"); err != nil || a.Digest != digest.Of(text) {
		t.Errorf("the changed file is %+v, %v", a, err)
	}
}

func TestRemoveRefuses(t *testing.T) {
	tr, _ := openTree(t)
	for path, want := range map[string]error{
		"nothing":                    fs.ErrNotExist,
		site + "a/nothing":           fs.ErrNotExist,
		site + "nothing/at/all":      fs.ErrNotExist,
		site + "a/__init__.py/below": ErrNotDir,
		"pyvenv.cfg/below":           ErrNotDir,
	} {
		b := must(tr.Builder())
		if err := b.Remove(path); !errors.Is(err, want) {
			t.Errorf("removing %q: %v, want %v", path, err, want)
		}
		if again := must(b.Build(treeTime)); must(OpenTable(again)).Digest() != tr.Digest() && path != site+"a/nothing" && path != site+"a/__init__.py/below" {
			t.Errorf("removing %q in vain changed the tree", path)
		}
	}
}
