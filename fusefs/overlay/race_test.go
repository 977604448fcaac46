package overlay

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// TestManyAtOnce has many requests under way at a time, more than a kernel sends
// about one directory, and compares what is shown with what the next mount shows.
func TestManyAtOnce(t *testing.T) {
	m := serveFiles(t, ordinaryFiles())
	nodes := slices.Collect(maps.Values(m.snapshot()))
	nodes = append(nodes, fuse.FUSE_ROOT_ID, m.node(cache))
	var mu sync.Mutex // of nodes
	var unique atomic.Uint64
	var all sync.WaitGroup
	for seed := range uint64(8) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			some := func() uint64 {
				mu.Lock()
				defer mu.Unlock()
				return nodes[r.IntN(len(nodes))]
			}
			header := func() fuse.InHeader {
				return fuse.InHeader{Unique: unique.Add(2), NodeId: some()}
			}
			names := []string{"a", "b.txt", "a.py", "pkg", "sub", "__pycache__", "a.cpython-312.pyc"}
			name := func() string { return names[r.IntN(len(names))] }
			got := func(s fuse.Status, id uint64) {
				if s == fuse.OK && id != 0 {
					mu.Lock()
					nodes = append(nodes, id)
					mu.Unlock()
				}
				if s == fuse.EIO || s == fuse.ENOSYS {
					t.Errorf("answered %v", s)
				}
			}
			for range 400 {
				h := header()
				var entry fuse.EntryOut
				switch r.IntN(14) {
				case 0, 1:
					got(m.Lookup(nil, &h, name(), &entry), entry.NodeId)
				case 2:
					var out fuse.CreateOut
					got(m.Create(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644}, name(), &out), out.NodeId)
				case 3:
					got(m.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name(), &entry), entry.NodeId)
				case 4:
					got(m.Unlink(nil, &h, name()), 0)
				case 5:
					got(m.Rmdir(nil, &h, name()), 0)
				case 6, 7:
					in := fuse.RenameIn{InHeader: h, Newdir: some(), Flags: uint32(r.IntN(3))}
					got(m.Rename(nil, &in, name(), name()), 0)
				case 8:
					got(m.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: some()}, name(), &entry), 0)
				case 9:
					var out fuse.AttrOut
					got(m.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, &out), 0)
				case 10:
					out := fuse.NewDirEntryList(make([]byte, page), 0)
					got(m.ReadDirPlus(nil, &fuse.ReadIn{InHeader: h}, out), 0)
				case 11:
					_, s := m.Write(nil, &fuse.WriteIn{InHeader: h, Size: 4, Offset: uint64(r.IntN(10))}, []byte("data"))
					got(s, 0)
				case 12:
					var out fuse.AttrOut
					in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h, Valid: fuse.FATTR_MODE, Mode: 0o700}}
					got(m.SetAttr(nil, &in, &out), 0)
				case 13:
					m.Forget(h.NodeId, 1)
				}
			}
		})
	}
	all.Wait()
	before := m.contents()
	m.remount()
	if after := m.contents(); !maps.Equal(before, after) {
		t.Errorf("before a remount\n%v\nafter\n%v", before, after)
	}
}

// contents returns what every path has: its node, type and size.
func (m *machine) contents() map[string][3]uint64 {
	m.t.Helper()
	all := make(map[string][3]uint64)
	for p, id := range m.snapshot() {
		a := m.stat(id)
		size := a.Size
		if a.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			size = 0
		}
		all[path.Clean(p)] = [3]uint64{id, uint64(a.Mode), size}
	}
	return all
}
