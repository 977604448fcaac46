package overlay

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A killed is what ends a process in these tests.
type killed struct{ moment string }

// change is a request that can be sent twice.
type change struct {
	name string
	send func(m *machine, h fuse.InHeader, dirs [2]uint64, id uint64) (uint64, fuse.Status)
}

// changes are made in lib/site/pkg, or from there to lib/site/other. Nothing has
// an object before.
var changes = []change{
	{"mkdir", func(m *machine, h fuse.InHeader, _ [2]uint64, _ uint64) (uint64, fuse.Status) {
		var out fuse.EntryOut
		s := m.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "new", &out)
		return out.NodeId, s
	}},
	{"create", func(m *machine, h fuse.InHeader, _ [2]uint64, _ uint64) (uint64, fuse.Status) {
		var out fuse.CreateOut
		s := m.Create(nil, &fuse.CreateIn{InHeader: h, Mode: 0o444}, "new", &out)
		return out.NodeId, s
	}},
	{"tmpfile", func(m *machine, h fuse.InHeader, _ [2]uint64, _ uint64) (uint64, fuse.Status) {
		var out fuse.CreateOut
		s := m.Tmpfile(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644}, &out)
		return 0, s
	}},
	{"symlink", func(m *machine, h fuse.InHeader, _ [2]uint64, _ uint64) (uint64, fuse.Status) {
		var out fuse.EntryOut
		s := m.Symlink(nil, &h, "target", "new", &out)
		return out.NodeId, s
	}},
	{"link", func(m *machine, h fuse.InHeader, _ [2]uint64, id uint64) (uint64, fuse.Status) {
		var out fuse.EntryOut
		s := m.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: id}, "new", &out)
		return out.NodeId, s
	}},
	{"unlink", func(m *machine, h fuse.InHeader, _ [2]uint64, _ uint64) (uint64, fuse.Status) {
		return 0, m.Unlink(nil, &h, "a.py")
	}},
	{"rename", renaming("a.py", "new", 0)},
	{"rename over", renaming("a.py", "c.txt", 0)},
	{"rename a directory", renaming("sub", "new", 0)},
	{"exchange", renaming("a.py", "c.txt", exchange)},
	{"exchange with a directory", renaming("sub", "c.txt", exchange)},
	{"rename bytecode", func(m *machine, h fuse.InHeader, dirs [2]uint64, _ uint64) (uint64, fuse.Status) {
		h.NodeId = m.lookupIn(dirs[0], "__pycache__")
		in := fuse.RenameIn{InHeader: h, Newdir: dirs[1]}
		return 0, m.Rename(nil, &in, "a.cpython-312.pyc", "new")
	}},
}

func renaming(from, to string, flags uint32) func(*machine, fuse.InHeader, [2]uint64, uint64) (uint64, fuse.Status) {
	return func(m *machine, h fuse.InHeader, dirs [2]uint64, _ uint64) (uint64, fuse.Status) {
		in := fuse.RenameIn{InHeader: h, Newdir: dirs[1], Flags: flags}
		return 0, m.Rename(nil, &in, from, to)
	}
}

// lookupIn returns the node under a name of a directory.
func (m *machine) lookupIn(dir uint64, name string) uint64 {
	m.t.Helper()
	h := m.header(dir)
	var out fuse.EntryOut
	m.must(syscall.Errno(m.Lookup(nil, &h, name, &out)))
	return out.NodeId
}

// TestKilledAtEachMoment kills the process between the system calls of each change,
// sends the request again to its successor, and wants what one that lives makes of it.
func TestKilledAtEachMoment(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			moments := []string{}
			m.at = func(moment string) { moments = append(moments, moment) }
			_, _, s := m.sendTo(c, 0)
			m.at = func(string) {}
			if s != fuse.OK || len(moments) < 4 {
				t.Fatalf("%v after %q", s, moments)
			}
			want := paths(m.snapshot())
			for i, moment := range moments {
				t.Run(fmt.Sprintf("%d %s", i, moment), func(t *testing.T) {
					m := newMachine(t)
					before := m.snapshot()
					n := 0
					m.at = func(moment string) {
						if n++; n > i {
							panic(killed{moment})
						}
					}
					h, _, _ := m.sendTo(c, 0)
					m.die()
					_, id, s := m.sendTo(c, h.Unique|resent)
					after := m.snapshot()
					if s != fuse.OK || !slices.Equal(paths(after), want) {
						t.Fatalf("resent: %v\nhave %q\nwant %q", s, paths(after), want)
					}
					if id != 0 && after["lib/site/pkg/new"] != id {
						t.Errorf("answered node %x, it is %x", id, after["lib/site/pkg/new"])
					}
					for p, id := range before {
						if after[p] == 0 && !slices.Contains(slices.Collect(maps.Values(after)), id) && c.name != "unlink" && c.name != "rename over" {
							t.Errorf("node %x of %q is gone", id, p)
						}
					}
					m.remount()
					if again := m.snapshot(); !maps.Equal(again, after) {
						t.Errorf("after a remount: %s", differ(again, after))
					}
				})
			}
		})
	}
}

func paths(nodes map[string]uint64) []string { return slices.Sorted(maps.Keys(nodes)) }

// sendTo sends a change, with a fresh number if unique is 0, and returns it and the
// answer, unless the process dies of it.
func (m *machine) sendTo(c change, unique uint64) (h fuse.InHeader, id uint64, s fuse.Status) {
	m.t.Helper()
	dirs := [2]uint64{m.node("lib/site/pkg"), m.node("lib/site/other")}
	file := m.node("lib/site/pkg/a.py")
	if h = m.header(dirs[0]); unique != 0 {
		h.Unique = unique
	}
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(killed); !ok {
				panic(e)
			}
		}
	}()
	id, s = c.send(m, h, dirs, file)
	return h, id, s
}
