package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// listings returns what the catalog says of a store.
func listings(t *testing.T, s *Store) (wheels []WheelEntry, trees []TreeEntry) {
	t.Helper()
	wheels, err := s.Wheels(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	trees, err = s.Trees(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return wheels, trees
}

// fullStore makes a store with two wheels and a tree, and a warn that counts.
func fullStore(t *testing.T) (s *Store, warnings *[]string) {
	t.Helper()
	warnings = new([]string)
	s, err := Open(filepath.Join(t.TempDir(), "store"), Options{Warn: func(m string) { *warnings = append(*warnings, m) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ingest(t, s, demoWheel(t), makeWheel(t, "other", map[string]string{"other.py": "1\n"}, nil))
	if _, err := s.PutTree(testTree(t, "x")); err != nil {
		t.Fatal(err)
	}
	return s, warnings
}

// TestCatalogRebuilt loses the catalog in several ways: the lists stay the same.
func TestCatalogRebuilt(t *testing.T) {
	tests := []struct {
		name string
		lose func(dir string) error
		said bool
	}{
		{"removed", os.RemoveAll, false},
		{"damaged", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("no manifest, but long enough to be one"), 0o600)
		}, true},
		{"not closed", func(dir string) error { return os.WriteFile(dir+".lock", nil, 0o600) }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, warnings := fullStore(t)
			wheels, trees := listings(t, s)
			if len(wheels) != 2 || len(trees) != 1 {
				t.Fatalf("listed %d wheels and %d trees, want 2 and 1", len(wheels), len(trees))
			}
			if err := test.lose(s.path("catalog")); err != nil {
				t.Fatal(err)
			}
			gotWheels, gotTrees := listings(t, s)
			if !reflect.DeepEqual(gotWheels, wheels) || !reflect.DeepEqual(gotTrees, trees) {
				t.Errorf("listed %+v and %+v, want %+v and %+v", gotWheels, gotTrees, wheels, trees)
			}
			if said := strings.Contains(strings.Join(*warnings, "\n"), "made anew"); said != test.said {
				t.Errorf("warnings are %q, want one: %v", *warnings, test.said)
			}
		})
	}
}

// TestCatalogFollows shows that the list is what the files say.
func TestCatalogFollows(t *testing.T) {
	s, _ := fullStore(t)
	w := demoWheel(t)
	if err := os.Remove(s.path(infoName(w.digest()))); err != nil {
		t.Fatal(err)
	}
	sum, err := s.PutTree(testTree(t, "y"))
	if err != nil {
		t.Fatal(err)
	}
	wheels, trees := listings(t, s)
	if len(wheels) != 1 || wheels[0].Name != "other" {
		t.Errorf("wheels are %+v, want the other one alone", wheels)
	}
	if len(trees) != 2 || trees[0].Digest != sum && trees[1].Digest != sum {
		t.Errorf("trees are %+v, want two", trees)
	}
	ingest(t, s, w)
	if wheels, _ := listings(t, s); len(wheels) != 2 {
		t.Errorf("wheels are %+v, want both", wheels)
	}
}

// TestCatalogFails shows that a wheel is stored though its entry in the catalog
// can't be written.
func TestCatalogFails(t *testing.T) {
	s, warnings := fullStore(t)
	lock := s.path("catalog.lock")
	if err := errors.Join(os.Remove(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}
	w := makeWheel(t, "late", map[string]string{"late.py": "1\n"}, nil)
	ingest(t, s, w)
	expectWheel(t, s, w)
	if len(*warnings) != 1 || !strings.Contains((*warnings)[0], "catch up") {
		t.Errorf("warnings are %q, want one", *warnings)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if wheels, _ := listings(t, s); len(wheels) != 3 {
		t.Errorf("listed %d wheels, want 3", len(wheels))
	}
}

// TestDamagedInfo shows that one damaged file is said and hides no other.
func TestDamagedInfo(t *testing.T) {
	s, warnings := fullStore(t)
	path := s.path(infoName(demoWheel(t).digest()))
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("{"), 0o444), os.RemoveAll(s.path("catalog"))); err != nil {
		t.Fatal(err)
	}
	if wheels, _ := listings(t, s); len(wheels) != 1 {
		t.Errorf("listed %d wheels, want 1", len(wheels))
	}
	if !strings.Contains(strings.Join(*warnings, "\n"), path) {
		t.Errorf("warnings are %q, want one that names %q", *warnings, path)
	}
}

// TestCatalogNoRoom shows that a disk too full for the catalog still takes a
// wheel that fits, and lists what it has.
func TestCatalogNoRoom(t *testing.T) {
	dir := mountTmpfs(t, "size=4m")
	var warnings []string
	s, err := Open(filepath.Join(dir, "store"), Options{Warn: func(m string) { warnings = append(warnings, m) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ingest(t, s, demoWheel(t))
	if len(warnings) != 1 || !strings.Contains(warnings[0], "16.8 MB") {
		t.Errorf("warnings are %q, want one with what the catalog needs", warnings)
	}
	if wheels, _ := listings(t, s); len(wheels) != 1 {
		t.Errorf("listed %d wheels, want 1", len(wheels))
	}
}
