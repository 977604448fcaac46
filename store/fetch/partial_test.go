package fetch

import (
	"os"
	"path/filepath"
	"testing"
)

// A file that its last holder removed, or replaced, is not the one to lock.
func TestStillAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.part")
	create := func() *os.File {
		t.Helper()
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	want := func(when string, f *os.File, want bool) {
		t.Helper()
		if got, err := stillAt(path, f); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	f := create()
	want("there", f, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("removed", f, false)
	other := create()
	want("replaced", f, false)
	want("the other", other, true)
}

// A private copy has no name from the start, so no death leaves it behind.
func TestPrivatePartial(t *testing.T) {
	dir := t.TempDir()
	pin := pinOf("", content(10))
	open := func() *partial {
		t.Helper()
		sums, err := newSums(pin)
		if err != nil {
			t.Fatal(err)
		}
		p, err := openPartial(dir, sums)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.close() })
		return p
	}
	first, second := open(), open()
	if first.path == "" || second.path != "" {
		t.Errorf("paths %q and %q, want one and none", first.path, second.path)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files, %v; want one", len(entries), err)
	}
}
