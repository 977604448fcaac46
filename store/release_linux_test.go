package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestRelease finds a table as it was when its memory was given back.
func TestRelease(t *testing.T) {
	s := newStore(t)
	sum, err := s.PutTree(testTree(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	name := treeName(sum)
	b, err := s.mapFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(b)
	if resident(t, s.path(name)) == 0 {
		t.Error("nothing of a table that was read is in memory")
	}
	if err := s.Release(); err != nil {
		t.Error(err)
	}
	if kb := resident(t, s.path(name)); kb != 0 {
		t.Errorf("%d kB are in memory, want 0", kb)
	}
	if !bytes.Equal(b, before) {
		t.Error("the table changed")
	}
}

// resident returns how much of a mapped file this process has in memory, in kB.
func resident(t *testing.T, path string) (kb int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, own, found := strings.Cut(string(maps), path+"\n")
	_, own, ok := strings.Cut(own, "\nRss:")
	if !found || !ok {
		t.Fatalf("%q is not mapped", path)
	}
	if _, err := fmt.Sscan(own, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
