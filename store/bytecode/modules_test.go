package bytecode

import (
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/tree"
)

func TestImported(t *testing.T) {
	e := newEnv(t, map[string]string{
		"single.py":               "",
		"pkg/__init__.py":         "",
		"pkg/a.py":                "",
		"pkg/sub/__init__.py":     "",
		"pkg/sub/b.py":            "",
		"pkg/sub/native.so":       "",
		"ns/c.py":                 "",
		"both.py":                 "",
		"both/__init__.py":        "",
		"pkg/sub/deep/d.py":       "",
		"pkg/sub/__init__.py.bak": "",
	})
	l := &layout{tree: e.tree, site: site}
	tests := []struct {
		from  string
		names []string
		want  []string
	}{
		{"single.py", []string{"single"}, []string{"single.py"}},
		{"single.py", []string{"os", "sys", "pkg.none", "none.pkg"}, []string{"pkg/__init__.py"}},
		{"single.py", []string{"pkg.sub.b"}, []string{"pkg/__init__.py", "pkg/sub/__init__.py", "pkg/sub/b.py"}},
		{"single.py", []string{"pkg", "pkg.a"}, []string{"pkg/__init__.py", "pkg/__init__.py", "pkg/a.py"}},
		{"single.py", []string{"ns.c"}, []string{"ns/c.py"}},
		{"single.py", []string{"both"}, []string{"both/__init__.py"}}, // as importlib's FileFinder has it
		{"pkg/sub/b.py", []string{"."}, []string{"pkg/sub/__init__.py"}},
		{"pkg/sub/b.py", []string{"..a"}, []string{"pkg/__init__.py", "pkg/a.py"}},
		{"pkg/sub/b.py", []string{".native"}, []string{"pkg/sub/__init__.py"}},
		{"pkg/sub/b.py", []string{".deep.d"}, []string{"pkg/sub/__init__.py", "pkg/sub/deep/d.py"}},
		{"pkg/sub/b.py", []string{"......................x", "", "...", "a..b", "pkg/sub/b", "pkg.\x00"}, []string{"pkg/__init__.py"}},
	}
	for _, test := range tests {
		id, _ := e.find(t, test.from)
		var got []string
		for _, id := range l.imported(id, test.names) {
			s, ok := l.source(id)
			if !ok {
				t.Fatalf("node %d is no source", id)
			}
			got = append(got, s.Path)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s imports %q: %q, want %q", test.from, test.names, got, test.want)
		}
	}
}

// TestSource names sources by their path from site-packages, or from the root.
func TestSource(t *testing.T) {
	e := newEnv(t, map[string]string{"pkg/a.py": "a = 1"})
	l := &layout{tree: e.tree, site: site + "/pkg"}
	for path, want := range map[string]string{
		site + "/pkg/a.py": "a.py",
		site + "/pkg":      "",
	} {
		id, _, err := e.tree.Find(path)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := l.source(id); s.Path != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", path, s.Path, ok, want)
		}
	}
	if _, ok := l.source(tree.ID(1 << 40)); ok {
		t.Error("a node that the tree doesn't have is a source")
	}
}

// TestGuesses: the latest guess is taken first, each once, and none that somebody
// asked for.
func TestGuesses(t *testing.T) {
	e := newEnv(t, map[string]string{"a.py": "a", "b.py": "b", "c.py": "c", "d.py": "d", "twin.py": "d"})
	q := newQueue(&layout{tree: e.tree, site: site}, 1)
	ids := func(names string) (list []tree.ID) {
		for name := range strings.FieldsSeq(names) {
			id, _ := e.find(t, name+".py")
			list = append(list, id)
		}
		return list
	}
	q.guess(ids("a b"), 0)
	q.guess(ids("c a"), 0)
	q.guess(ids("a"), 1)
	if !q.ask(7, ids("d")[0], 0) || !q.ask(8, ids("twin")[0], 0) || q.ask(9, tree.Root, 0) {
		t.Error("sources, and only they, can be asked for")
	}
	q.guess(ids("d"), 0)
	var got []string
	for j := q.take(); j != nil; j = q.take() {
		name := j.source.Path
		if j.ahead {
			name += " ahead"
		}
		if j.opt == 1 {
			name += " optimised"
		}
		got = append(got, name)
		if q.empty() {
			t.Errorf("empty while %q is being made", name)
		}
		if waiting := q.done(j); j.ahead != (len(waiting) == 0) || !j.ahead && !slices.Equal(waiting, []uint64{7, 8}) {
			t.Errorf("%d wait for %q", waiting, name)
		}
	}
	if want := []string{"d.py", "d.py ahead", "a.py ahead optimised", "c.py ahead", "a.py ahead", "b.py ahead"}; !slices.Equal(got, want) {
		t.Errorf("taken: %q, want %q", got, want)
	}
	if !q.empty() {
		t.Error("something is left")
	}
	for range 2 * maxAhead {
		q.guess(ids("twin"), 2)
	}
	if n := len(q.guesses); n > maxAhead {
		t.Errorf("%d guesses are kept", n)
	}
}
