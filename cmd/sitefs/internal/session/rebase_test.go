package session

import (
	"maps"
	"slices"
	"testing"

	"github.com/sitefs/sitefs/manifest/tree"
)

// oneTree returns a tree of files with their content.
func oneTree(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder("test")
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if err := b.Inline(p, false, []byte(files[p])); err != nil {
			t.Fatal(err)
		}
	}
	own, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	built, err := tree.Open(own, "/p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// TestPathsBelow holds that a directory which an overlay removed whole is compared
// with all that is in it, in either tree.
func TestPathsBelow(t *testing.T) {
	old := oneTree(t, map[string]string{"lib/a/one": "1", "lib/a/deep/two": "2", "lib/ab/three": "3", "gone": "4"})
	now := oneTree(t, map[string]string{"lib/a/one": "1", "lib/a/new": "2", "lib/ab/three": "5"})
	have, err := pathsBelow([]string{"gone", "lib/a"}, old, now)
	want := []string{"lib/a/deep", "lib/a/deep/two", "lib/a/new", "lib/a/one"}
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("%q, %v, want %q", have, err, want)
	}
	for p, want := range map[string]bool{"lib/a": true, "lib/a/one": true, "lib/a/new": false, "lib/ab/three": false, "gone": false, "none": true} {
		if have, err := samePath(old, now, p); err != nil || have != want {
			t.Errorf("%s is the same: %v, %v, want %v", p, have, err, want)
		}
	}
}
