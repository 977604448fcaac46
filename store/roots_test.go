package store

import (
	"slices"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

func TestRoots(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if roots, err := s.Roots(); len(roots) > 0 || err != nil {
		t.Errorf("a new store has roots %v, %v", roots, err)
	}
	one, two := digest.Of([]byte("one")), digest.Of([]byte("two"))
	want := []Root{{"/a", one}, {"/a", two}, {"/b", one}}
	for _, r := range append(want, want...) { // twice is no error
		if err := s.AddRoot(r.Dir, r.Tree); err != nil {
			t.Fatal(err)
		}
	}
	roots, err := s.Roots()
	if err != nil || len(roots) != len(want) {
		t.Errorf("roots %v, %v, want %v", roots, err, want)
	}
	for _, r := range want {
		if !slices.Contains(roots, r) {
			t.Errorf("roots %v lack %v", roots, r)
		}
	}
}
