package manifest

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

const sitePackages = "lib/python3.12/site-packages/"

// commit returns the tree of a layer over base, at a prefix, and its manifest.
func commit(t *testing.T, s *memory, base *tree.Tree, l Layer, prefix string) (*tree.Tree, *Manifest) {
	t.Helper()
	r, err := CommitLayer(base, l, now)
	if err != nil {
		t.Fatal(err)
	}
	tr := open(t, s, r, prefix)
	m, err := Decode(tr.Meta())
	if err != nil {
		t.Fatal(err)
	}
	return tr, m
}

func inlined(path string, exec bool, content string) Change {
	return Change{Path: path, Kind: tree.Inline, Exec: exec, Content: []byte(content)}
}

func exists(t *testing.T, tr *tree.Tree, path string) bool {
	t.Helper()
	_, _, err := tr.Find(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// TestCommitLayer: what a layer installs, edits and removes is in the new tree, and
// all else is as it was.
func TestCommitLayer(t *testing.T) {
	s := newMemory()
	other := s.add("other", []wheel.File{s.lib("other/__init__.py", "o = 1\n")}, nil)
	base := open(t, s, compile(t, s, demo(s), other), "/old")
	text := "x = 2\n"
	d := digest.Of([]byte(text))
	s.blobs[d] = []byte(text)
	tr, m := commit(t, s, base, Layer{
		Changes: []Change{
			{Path: sitePackages + "demo/__init__.py", Kind: tree.File, Size: int64(len(text)), Digest: d},
			{Path: sitePackages + "demo/tool"},
			{Path: sitePackages + "other"},
			{Path: sitePackages + "other-1.dist-info"},
			inlined(sitePackages+"new/__init__.py", false, "n = 1\n"),
			{Path: sitePackages + "new/link.py", Kind: tree.Symlink, Content: []byte("__init__.py")},
			{Path: "var", Kind: tree.Dir},
			// A directory in the place of a file.
			{Path: "share/demo/data.txt"},
			inlined("share/demo/data.txt/below", false, "b"),
		},
		Installed: []Distribution{{"new", "3"}},
		Removed:   []Distribution{{"other", "1"}},
	}, "/new")

	for path, want := range map[string]string{
		sitePackages + "demo/__init__.py": text,
		sitePackages + "demo/cli.py":      read(t, s, base, sitePackages+"demo/cli.py"),
		sitePackages + "new/__init__.py":  "n = 1\n",
		sitePackages + "new/link.py":      "-> __init__.py",
		"share/demo/data.txt/below":       "b",
		"bin/demo":                        strings.ReplaceAll(read(t, s, base, "bin/demo"), "/old", "/new"),
	} {
		if got := read(t, s, tr, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	for _, path := range []string{sitePackages + "demo/tool", sitePackages + "other", sitePackages + "other-1.dist-info"} {
		if exists(t, tr, path) {
			t.Errorf("%s is still there", path)
		}
	}
	if !exists(t, tr, "var") {
		t.Error("the empty directory is lost")
	}
	if want := (&Commit{Base: base.Digest(), Installed: []Distribution{{"new", "3"}}, Removed: []Distribution{{"other", "1"}}}); m.Commit == nil ||
		m.Commit.Base != want.Base || !slices.Equal(m.Commit.Installed, want.Installed) || !slices.Equal(m.Commit.Removed, want.Removed) {
		t.Errorf("the manifest says %+v, want %+v", m.Commit, want)
	}
	if len(m.Wheels) != 1 || m.Wheels[0].Name != "demo" {
		t.Errorf("the manifest has the wheels %+v, want demo alone", m.Wheels)
	}

	// Once more: what an earlier commit installed is still there, or replaced.
	_, m = commit(t, s, tr, Layer{Installed: []Distribution{{"late", "1"}}}, "/new")
	if want := []Distribution{{"late", "1"}, {"new", "3"}}; !slices.Equal(m.Commit.Installed, want) || m.Commit.Base != tr.Digest() {
		t.Errorf("after a second commit the manifest says %+v, want %+v", m.Commit, want)
	}
	_, m = commit(t, s, tr, Layer{Removed: []Distribution{{"new", "3"}}}, "/new")
	if len(m.Commit.Installed) > 0 {
		t.Errorf("what was removed is still installed: %+v", m.Commit)
	}
}

// TestCommitNothing: the same files are the same nodes, wherever they come from.
func TestCommitNothing(t *testing.T) {
	s := newMemory()
	base := open(t, s, compile(t, s, demo(s)), "/old")
	tr, _ := commit(t, s, base, Layer{}, "/old")
	err := base.Walk(func(path string, id tree.ID, a tree.Attr) error {
		gotID, got, err := tr.Find(path)
		if err == nil && (gotID != id || got != a) {
			t.Errorf("%s is node %d, %+v; was node %d, %+v", path, gotID, got, id, a)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCommitScripts: a script that pip or uv wrote runs the interpreter of the venv
// that it is seen in, and RECORD claims no hash for it.
func TestCommitScripts(t *testing.T) {
	const body = "import sys\n"
	const python = "#!/new/bin/python\n"
	for name, test := range map[string]struct{ content, want string }{
		"shebang":      {"#!/old/bin/python\n" + body, python + body},
		"shebang 3":    {"#!/old/bin/python3\n" + body, python + body},
		"shebang 3.12": {"#!/old/bin/python3.12\n" + body, python + body},
		"trampoline":   {"#!/bin/sh\n'''exec' \"/old/bin/python3\" \"$0\" \"$@\"\n' '''\n" + body, python + body},
		"option":       {"#!/old/bin/python -u\n" + body, "#!/new/bin/python -u\n" + body},
		"other":        {"#!/old/bin/tool\n\x00", "#!/new/bin/tool\n\x00"},
		"other python": {"#!/usr/bin/python\n" + body, ""},
		"other place":  {"#!/older/bin/python\n" + body, ""},
		"sh":           {"#!/bin/sh\nexec /old/bin/python\n", ""},
		"binary":       {"\x7fELF\x00\x01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMemory()
			base := open(t, s, compile(t, s, demo(s)), "/old")
			record := "../../../bin/tool,sha256=" + digest.Of([]byte(test.content)).Record() + ",9\r\nnew.py,,\r\n"
			tr, _ := commit(t, s, base, Layer{Changes: []Change{
				inlined("bin/tool", true, test.content),
				inlined(sitePackages+"new-1.dist-info/RECORD", false, record),
			}}, "/new")
			want, wantRecord := test.want, "../../../bin/tool,,\nnew.py,,\n"
			if want == "" { // no template
				want, wantRecord = test.content, record
			}
			if got := read(t, s, tr, "bin/tool"); got != want {
				t.Errorf("the script is %q, want %q", got, want)
			}
			if got := read(t, s, tr, sitePackages+"new-1.dist-info/RECORD"); got != wantRecord {
				t.Errorf("RECORD is %q, want %q", got, wantRecord)
			}
		})
	}
}
