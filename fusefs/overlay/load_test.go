package overlay

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// layer writes files of another maker's layer into DIR: a name that ends in "/" is
// a directory, one with " = " a hard link.
func (m *machine) layer(names ...string) {
	m.t.Helper()
	for _, name := range names {
		name, old, isLink := strings.Cut(name, " = ")
		p := filepath.Join(m.upper, name)
		dir := filepath.Dir(p)
		if strings.HasSuffix(name, "/") {
			dir = p
		}
		err := os.MkdirAll(dir, 0o755)
		switch {
		case err != nil || dir == p:
		case isLink:
			err = os.Link(filepath.Join(m.upper, old), p)
		default:
			err = os.WriteFile(p, []byte("of the layer"), 0o644)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func TestLayerOfAnother(t *testing.T) {
	const site = "lib/site"
	tests := []struct {
		name  string
		layer []string
		gone  []string // of the lower, to a "/" all below
		added []string // or of another type
		same  []string // nodes of the lower that they are still
	}{
		{"nothing", nil, nil, nil, []string{"lib", "bin/tool"}},
		{"merged", []string{site + "/pkg/new"}, nil, []string{site + "/pkg/new"}, []string{site, site + "/pkg", site + "/pkg/a.py"}},
		{"changed", []string{site + "/pkg/a.py"}, nil, nil, []string{site + "/pkg/a.py"}},
		{"whiteout", []string{site + "/pkg/.wh.a.py"}, []string{site + "/pkg/a.py"}, nil, []string{site + "/pkg"}},
		{"whiteout of a directory", []string{site + "/.wh.pkg"}, []string{site + "/pkg/"}, nil, []string{site}},
		{"whiteout of nothing", []string{site + "/.wh.none"}, nil, nil, []string{site}},
		{"opaque", []string{site + "/pkg/.wh..wh..opq", site + "/pkg/new"}, []string{site + "/pkg/a.py", site + "/pkg/__init__.py", site + "/pkg/sub/"}, []string{site + "/pkg/new"}, []string{site + "/pkg"}},
		{"replaced", []string{site + "/.wh.pkg", site + "/pkg/new"}, []string{site + "/pkg/"}, []string{site + "/pkg", site + "/pkg/new"}, nil},
		{"file for a directory", []string{site + "/pkg"}, []string{site + "/pkg/"}, []string{site + "/pkg"}, nil},
		{"directory for a file", []string{"bin/tool/new"}, []string{"bin/tool"}, []string{"bin/tool", "bin/tool/new"}, nil},
		{"hard links", []string{"lib/one", "lib/two = lib/one"}, nil, []string{"lib/one", "lib/two"}, nil},
		{"a link of what is changed", []string{"lib/one", "bin/tool = lib/one"}, nil, []string{"lib/one"}, []string{"bin/tool"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			want := m.snapshot()
			for _, p := range test.gone {
				p, all := strings.CutSuffix(p, "/")
				delete(want, p)
				maps.DeleteFunc(want, func(q string, _ uint64) bool { return all && strings.HasPrefix(q, p+"/") })
			}
			m.close()
			m.layer(test.layer...)
			m.area = nil
			m.open()
			got := m.snapshot()
			for _, p := range test.added {
				if got[p] == 0 || ofLower(got[p]) && !strings.HasSuffix(test.name, "is changed") {
					t.Errorf("%q is node %x", p, got[p])
				}
				want[p] = got[p]
			}
			if !maps.Equal(got, want) {
				t.Errorf("have %q\nwant %q\n%s", paths(got), paths(want), differ(got, want))
			}
			for _, p := range test.same {
				if lower, err := m.lower.Find(p); err != nil || got[p] != lower {
					t.Errorf("%q is node %x, the lower's is %x, %v", p, got[p], lower, err)
				}
			}
			for _, p := range test.added {
				if m.stat(got[p]).Mode&0o40000 == 0 {
					m.must(m.unlink(p))
				}
			}
			for _, p := range slices.Backward(test.added) {
				if m.node(p) != 0 {
					m.must(m.rmdir(p))
				}
				delete(want, p)
			}
			m.remount()
			if got := m.snapshot(); !maps.Equal(got, want) {
				t.Errorf("after what it added was removed: have %q\nwant %q", paths(got), paths(want))
			}
		})
	}
}

func TestDamagedRecordIsLeftOut(t *testing.T) {
	m := newMachine(t)
	m.must(m.rename("bin/tool", "bin/renamed", 0))
	var record string
	for _, p := range upperFiles(t, m) {
		if strings.Contains(p, ".wh..wh.sitefs.") {
			record = filepath.Join(m.upper, p)
		}
	}
	if err := os.WriteFile(record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.remount()
	if got := m.names("bin"); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if !strings.Contains(m.log.String(), "no record") {
		t.Errorf("logged %q", &m.log)
	}
	m.log.Reset()
}

func TestWhiteoutsAreLinks(t *testing.T) {
	m := newMachine(t)
	inode := func(name string) uint64 {
		t.Helper()
		st, err := m.dir.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size != 0 || st.Mode != syscall.S_IFREG|whiteoutMode {
			t.Errorf("%q has %d bytes and mode %o", name, st.Size, st.Mode)
		}
		return st.Ino
	}
	m.must(m.unlink("lib/site/pkg/a.py"))
	m.must(m.unlink("lib/site/pkg/__init__.py"))
	first, second := inode("lib/site/pkg/.wh.a.py"), inode("lib/site/pkg/.wh.__init__.py")
	if first != second && !m.whiteouts.unable {
		t.Error("two whiteouts are two files")
	}
	m.whiteouts.links = mostLinks
	m.must(m.unlink("bin/tool"))
	if got := inode("bin/.wh.tool"); got == first {
		t.Error("more links than a file may have")
	}
	m.close()
	m.open()
	if left, err := os.ReadDir(filepath.Join(m.upper, ".wh..wh.sitefs", "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left in the staging area: %v, %v", left, err)
	}
	m.whiteouts.unable = true
	m.must(m.unlink("lib/site/other/c.txt"))
	inode("lib/site/other/.wh.c.txt")
}
