package overlay

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	cache = "lib/site/pkg/__pycache__"
	code  = cache + "/a.cpython-312.pyc"
)

// upperFiles returns what is in DIR, without the side area.
func upperFiles(t *testing.T, m *machine) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(m.upper, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == ".wh..wh.sitefs" {
			return fs.SkipDir
		}
		rel, rerr := filepath.Rel(m.upper, p)
		if rerr != nil {
			return rerr
		}
		paths = append(paths, "/"+rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestGhostsGoWithTheirSource(t *testing.T) {
	m := newMachine(t)
	if m.node(code) == 0 || m.node(cache) == 0 {
		t.Fatal("no bytecode")
	}
	ghost, pkg := m.node(cache), m.node("lib/site/pkg")
	m.must(m.unlink("lib/site/pkg/a.py"))
	if m.node(code) != 0 {
		t.Error("bytecode without a source")
	}
	m.told.await(fmt.Sprintf("%x/a.cpython-312.pyc", ghost))
	if m.node(cache) != ghost {
		t.Error("__pycache__ is gone while there is a source")
	}
	m.must(m.unlink("lib/site/pkg/__init__.py"))
	if m.node(cache) != 0 {
		t.Error("__pycache__ without a source")
	}
	m.told.await(fmt.Sprintf("%x/__pycache__", pkg))
	m.told.list = nil
	m.takeover()
	m.told.await(fmt.Sprintf("%x/__pycache__", pkg)) // since it may have been told to nobody
	if m.node(cache) != 0 {
		t.Error("__pycache__ without a source, after a takeover")
	}
}

func TestRemovedGhostStaysAway(t *testing.T) {
	m := newMachine(t)
	if m.node(code) == 0 {
		t.Fatal("no bytecode")
	}
	m.must(m.unlink(code))
	for range 2 {
		if m.node(code) != 0 {
			t.Error("it is back")
		}
		if got := m.names("lib/site/pkg"); slices.Contains(got, "__pycache__") {
			t.Errorf("a directory that has nothing but a whiteout is listed: %q", got)
		}
		m.remount()
	}
	m.must(m.rmdir(cache))
	m.remount()
	if m.node(cache) != 0 {
		t.Error("__pycache__ is back")
	}
	m.must1(m.mkdir(cache))
	own := m.must1(m.create(code))
	m.remount()
	if m.node(code) != own || !slices.Contains(m.names("lib/site/pkg"), "__pycache__") {
		t.Error("a __pycache__ of the upper is not there")
	}
}

func TestOwnBytecodeInGhost(t *testing.T) {
	m := newMachine(t)
	ghost := m.node(cache)
	temp := m.must1(m.create(code + ".1234"))
	m.told.await(fmt.Sprintf("%x", m.node("lib/site/pkg")))
	m.must(m.rename(code+".1234", code, 0))
	for range 2 {
		if m.node(cache) != ghost || m.node(code) != temp {
			t.Errorf("__pycache__ is %x, was %x; its file %x, was %x", m.node(cache), ghost, m.node(code), temp)
		}
		if got := m.names(cache); !slices.Equal(got, []string{"a.cpython-312.pyc"}) {
			t.Errorf("%q", got)
		}
		if got := m.names("lib/site/pkg"); !slices.Contains(got, "__pycache__") {
			t.Errorf("it is not listed: %q", got)
		}
		m.snapshot() // agrees with itself
		m.remount()
	}
	if e := m.rmdir(cache); e == 0 {
		t.Error("removed with a file in it")
	}
	m.must(m.unlink(code))
	m.must(m.rmdir(cache))
}

func TestGhostKeepsNoDirectory(t *testing.T) {
	m := newMachine(t)
	m.node(code) // a kernel that knows them
	m.must(m.unlink(code))
	for _, name := range []string{"a.py", "__init__.py", "sub/b.py", "sub/data"} {
		m.must(m.unlink("lib/site/pkg/" + name))
	}
	m.must(m.rmdir("lib/site/pkg/sub"))
	m.must(m.rmdir("lib/site/pkg"))
	for range 2 {
		if m.node("lib/site/pkg") != 0 {
			t.Error("it is back")
		}
		m.remount()
	}
	for _, p := range upperFiles(t, m) {
		if strings.HasPrefix(p, "/lib/site/pkg") {
			t.Errorf("%q is left", p)
		}
	}
}

func TestRenamedGhostsAreCopies(t *testing.T) {
	m := newMachine(t)
	id := m.node(code)
	m.must(m.rename(code, "lib/kept", 0))
	for range 2 {
		if m.node(code) != 0 || m.node("lib/kept") != id {
			t.Errorf("renamed: old %x, new %x, was %x", m.node(code), m.node("lib/kept"), id)
		}
		m.remount()
	}
	m.must(m.rename(cache, "lib/cache", 0))
	for range 2 {
		if m.node(cache) != 0 || m.node("lib/cache") == 0 {
			t.Error("__pycache__ was not renamed")
		}
		m.snapshot()
		m.remount()
	}
}
