package overlay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestUnchangedIsTheView(t *testing.T) {
	m := newMachine(t)
	for p, id := range m.snapshot() {
		if want, err := m.lower.Find(p); err != nil || id != want {
			t.Errorf("%q is node %x, the view's is %x, %v", p, id, want, err)
		}
	}
	if len(m.nodes) != 1 {
		t.Errorf("%d objects of nodes that nobody changed", len(m.nodes))
	}
}

// model is what a file system of one layer would have: nodes by path.
type model map[string]uint64

func (o model) kids(dir string) (n int) {
	for p := range o {
		if strings.HasPrefix(p, dir+"/") {
			n++
		}
	}
	return n
}

// move gives what is at a path, and what is below it, another.
func (o model) move(from, to string) {
	for p, id := range maps.Clone(o) {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(o, p)
			o[to+p[len(from):]] = id
		}
	}
}

// TestNames makes random changes and compares with a model after each, and the
// nodes after takeovers and remounts.
func TestNames(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := serveFiles(t, ordinaryFiles())
			m.run(rand.New(rand.NewPCG(seed, 0)), 300)
		})
	}
}

// run makes n random changes.
func (m *machine) run(r *rand.Rand, n int) {
	m.t.Helper()
	want := model(m.snapshot())
	dirs := func(p string) bool { return p == "." || m.stat(want[p]).Mode&syscall.S_IFMT == syscall.S_IFDIR }
	some := func() string { return slices.Sorted(maps.Keys(want))[r.IntN(len(want))] }
	free := func() string {
		for {
			dir := some()
			if r.IntN(8) == 0 {
				dir = "."
			}
			if dirs(dir) {
				return path.Join(dir, string(rune('a'+r.IntN(6)))+[]string{"", ".py", ".txt"}[r.IntN(3)])
			}
		}
	}
	for i := range n {
		var did string
		var e, wanted syscall.Errno
		switch op := r.IntN(9); op {
		case 0, 1, 2:
			p := free()
			made := []func(string) (uint64, syscall.Errno){m.create, m.mkdir, func(p string) (uint64, syscall.Errno) { return m.symlink("x", p) }}[op]
			did = fmt.Sprintf("making (%d) %s", op, p)
			if want[p] != 0 {
				wanted = syscall.EEXIST
			}
			var id uint64
			if id, e = made(p); e == 0 {
				want[p] = id
			}
		case 3, 4:
			p := some()
			did = "removing " + p
			switch {
			case dirs(p):
				if want.kids(p) > 0 {
					wanted = syscall.ENOTEMPTY
				}
				e = m.rmdir(p)
			default:
				e = m.unlink(p)
			}
			if e == 0 {
				delete(want, p)
			}
		case 5:
			from, to := some(), free()
			if dirs(from) || want[to] != 0 && dirs(to) {
				continue
			}
			did = "linking " + from + " to " + to
			if want[to] != 0 {
				wanted = syscall.EEXIST
			}
			if _, e = m.link(from, to); e == 0 {
				want[to] = want[from]
			}
		case 6, 7:
			from, to := some(), free()
			if op == 7 {
				to = some()
			}
			did = "renaming " + from + " to " + to
			fromDir, toDir := dirs(from), want[to] != 0 && dirs(to)
			switch {
			case want[from] == want[to]:
			case fromDir && strings.HasPrefix(to, from+"/"):
				wanted = syscall.EINVAL
			case want[to] == 0:
			case toDir && !fromDir:
				wanted = syscall.EISDIR
			case fromDir && !toDir:
				wanted = syscall.ENOTDIR
			case toDir && want.kids(to) > 0:
				wanted = syscall.ENOTEMPTY
			}
			if e = m.rename(from, to, 0); e == 0 && want[from] != want[to] {
				want.move(from, to)
			}
		case 8:
			a, b := some(), some()
			did = "exchanging " + a + " and " + b
			if a != b && want[a] != want[b] && (strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")) {
				if dirs(a) && strings.HasPrefix(b, a+"/") || dirs(b) && strings.HasPrefix(a, b+"/") {
					wanted = syscall.EINVAL
				}
			}
			if e = m.rename(a, b, exchange); e == 0 && want[a] != want[b] {
				want.move(a, "\x00")
				want.move(b, a)
				want.move("\x00", b)
			}
		}
		if e != wanted {
			m.t.Fatalf("change %d, %s: %v, want %v", i, did, e, wanted)
		}
		switch r.IntN(20) {
		case 0:
			did += " and a takeover"
			m.takeover()
		case 1:
			did += " and a remount"
			m.remount()
		}
		if got := m.snapshot(); !maps.Equal(got, want) {
			m.t.Fatalf("change %d, %s:\n%s", i, did, differ(got, want))
		}
	}
}

func differ(got, want map[string]uint64) string {
	var b strings.Builder
	for p, id := range want {
		if got[p] != id {
			fmt.Fprintf(&b, "%q is %x, want %x\n", p, got[p], id)
		}
	}
	for p, id := range got {
		if want[p] == 0 {
			fmt.Fprintf(&b, "%q is %x, want nothing\n", p, id)
		}
	}
	return b.String()
}

func TestRenamedLowerCopiesNothing(t *testing.T) {
	m := newMachine(t)
	pkg, a := m.node("lib/site/pkg"), m.node("lib/site/pkg/a.py")
	m.must(m.rename("lib/site/pkg", "lib/site/~kg", 0))
	for range 2 {
		if got := m.names("lib/site"); !slices.Equal(got, []string{"other", "~kg"}) {
			t.Fatalf("%q", got)
		}
		if m.node("lib/site/~kg") != pkg || m.node("lib/site/~kg/a.py") != a || m.node("lib/site/pkg") != 0 {
			t.Error("nodes have changed")
		}
		m.remount()
	}
	if got := upperFiles(t, m); !slices.ContainsFunc(got, func(p string) bool { return strings.HasSuffix(p, "/.wh.pkg") }) || slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, "~kg") }) {
		t.Errorf("upper has %q", got)
	}
}

func TestReservedNames(t *testing.T) {
	m := newMachine(t)
	if _, e := m.create("lib/.wh.x"); e != syscall.EPERM {
		t.Errorf("creating a whiteout: %v", e)
	}
	if e := m.rename("bin/tool", "bin/.wh.tool", 0); e != syscall.EPERM {
		t.Errorf("renaming to a whiteout: %v", e)
	}
	if _, e := m.create("lib/" + strings.Repeat("x", 256)); e != syscall.ENAMETOOLONG {
		t.Errorf("a name of 256 bytes: %v", e)
	}
	odd := "lib/site/other/.wh.odd"
	id := m.node(odd)
	if id == 0 {
		t.Fatal("an ordinary file of the lower is not there")
	}
	m.must(m.rename(odd, "lib/site/other/even", 0))
	m.remount()
	if got := m.names("lib/site/other"); !slices.Equal(got, []string{"c.txt", "even"}) || m.node("lib/site/other/even") != id {
		t.Errorf("after its rename: %q", got)
	}
}

func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", 255)
	m := serveFiles(t, map[string]string{"d/" + long: "long", "d/" + long[1:] + "/x": "x"})
	id, dir := m.node("d/"+long), m.node("d/"+long[1:])
	m.must(m.unlink("d/" + long))
	m.must(m.rename("d/"+long[1:], "d/"+long, 0)) // beside the whiteout, one record for both
	m.remount()
	if m.node("d/"+long) != dir || m.node("d/"+long[1:]) != 0 || id == dir {
		t.Error("a directory renamed to a long name is not there")
	}
	m.must(m.rename("d/"+long, "d/"+long[1:], 0))
	m.remount()
	if m.node("d/"+long) != 0 || m.node("d/"+long[1:]) != dir {
		t.Error("a directory renamed back is not there, or what its whiteout hides is")
	}
}

// ordinaryFiles returns the lower without the name that is not like others.
func ordinaryFiles() map[string]string {
	files := maps.Clone(lowerFiles)
	delete(files, "lib/site/other/.wh.odd")
	return files
}

func TestUnlinkedStaysUntilForgotten(t *testing.T) {
	for _, p := range []string{"lib/new", "bin/tool", "lib/made"} {
		t.Run(p, func(t *testing.T) {
			m := newMachine(t)
			switch p {
			case "lib/new":
				m.must1(m.create(p))
			case "lib/made":
				m.must1(m.mkdir(p))
			}
			out, e := m.lookup(p)
			m.must(e)
			remove := m.unlink
			if p == "lib/made" {
				remove = m.rmdir
			}
			m.must(remove(p))
			if a := m.stat(out.NodeId); a.Nlink != 0 || a.Ino != out.NodeId {
				t.Errorf("unlinked: %d links, inode %x", a.Nlink, a.Ino)
			}
			if p != "bin/tool" && len(m.orphans()) != 1 {
				t.Errorf("orphans: %v", m.orphans())
			}
			count := m.seen.shards[out.NodeId%lookupShards].counts[out.NodeId]
			m.Forget(out.NodeId, count-1)
			if m.nodes[out.NodeId] == nil {
				t.Fatal("gone while the kernel knows it")
			}
			m.Forget(out.NodeId, 1)
			if m.nodes[out.NodeId] != nil || len(m.orphans()) != 0 {
				t.Errorf("still there: %v", m.orphans())
			}
		})
	}
}

func TestOrphanOutlivesTakeoverOnly(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("lib/new"))
	m.must(m.unlink("lib/new"))
	m.takeover()
	if a := m.stat(id); a.Nlink != 0 {
		t.Errorf("%d links", a.Nlink)
	}
	m.Forget(id, 1)
	m.told.await(fmt.Sprintf("%x?", id))
	if len(m.orphans()) != 1 {
		t.Error("removed while the kernel knows it")
	}
	later := m.must1(m.create("lib/later"))
	m.must(m.unlink("lib/later"))
	m.Forget(later, 1)
	if m.nodes[later] != nil || len(m.orphans()) != 1 {
		t.Error("what was made since the takeover isn't removed")
	}
	m.remount()
	if len(m.orphans()) != 0 {
		t.Errorf("orphans of a mount that is gone: %v", m.orphans())
	}
}

// TestUnlinkedAfterTakeover: what was made since the process took over is counted, and
// goes when it is forgotten.
func TestUnlinkedAfterTakeover(t *testing.T) {
	m := newMachine(t)
	m.takeover()
	id := m.must1(m.create("lib/new"))
	m.must(m.unlink("lib/new"))
	count := m.seen.shards[id%lookupShards].counts[id]
	m.Forget(id, count)
	if m.nodes[id] != nil || len(m.orphans()) != 0 {
		t.Errorf("still there: %v", m.orphans())
	}
	if m.must1(m.create("lib/again")) == 0 || len(m.seen.shards[id%lookupShards].counts) > 1 {
		t.Error("what is gone is still counted")
	}
}

// TestOrphanForgotten: what there was before a takeover goes when the kernel says that
// it doesn't know it any more, whether that was heard of or not.
func TestOrphanForgotten(t *testing.T) {
	for _, heard := range []bool{true, false} {
		t.Run(fmt.Sprintf("heard of %t", heard), func(t *testing.T) {
			m := newMachine(t)
			id := m.must1(m.create("lib/new"))
			if !heard {
				m.must(m.unlink("lib/new"))
				m.told.forget(id)
			}
			m.takeover()
			if heard {
				m.must(m.unlink("lib/new"))
				m.told.forget(id)
				m.Forget(id, 1)
			}
			m.told.await(fmt.Sprintf("%x?", id))
			m.notify.inode(1) // told after what follows the answer
			m.told.await("1")
			if len(m.orphans()) != 0 {
				t.Errorf("still there: %v", m.orphans())
			}
		})
	}
}

func TestTmpfile(t *testing.T) {
	m := newMachine(t)
	var out fuse.CreateOut
	m.must(syscall.Errno(m.Tmpfile(nil, &fuse.CreateIn{InHeader: m.header(m.node("lib")), Mode: 0o600}, &out)))
	if a := m.stat(out.NodeId); a.Nlink != 0 || a.Mode != syscall.S_IFREG|0o600 {
		t.Errorf("links %d, mode %o", a.Nlink, a.Mode)
	}
	var named fuse.EntryOut
	in := fuse.LinkIn{InHeader: m.header(m.node("lib")), Oldnodeid: out.NodeId}
	m.must(syscall.Errno(m.Link(nil, &in, "named", &named)))
	if named.NodeId != out.NodeId || named.Nlink != 1 || m.node("lib/named") != out.NodeId || len(m.orphans()) != 0 {
		t.Errorf("linked: node %x of %x, links %d", named.NodeId, out.NodeId, named.Nlink)
	}
}

func TestDevicesAreRefused(t *testing.T) {
	m := newMachine(t)
	for _, kind := range []uint32{syscall.S_IFCHR, syscall.S_IFBLK} {
		if _, e := m.mknod("lib/dev", kind|0o600); e != syscall.EPERM {
			t.Errorf("mode %o: %v", kind, e)
		}
	}
	for _, kind := range []uint32{syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFREG} {
		p := fmt.Sprintf("lib/%o", kind)
		if a := m.stat(m.must1(m.mknod(p, kind|0o640))); a.Mode != kind|0o640 {
			t.Errorf("mode %o, want %o", a.Mode, kind|0o640)
		}
	}
}

// TestResentIsNotRepeated sends each change again to a process that took over.
func TestResentIsNotRepeated(t *testing.T) {
	m := newMachine(t)
	m.must1(m.create("lib/one"))
	m.must1(m.create("lib/two"))
	one, two, lib := m.node("lib/one"), m.node("lib/two"), m.node("lib")
	tests := []struct {
		name string
		send func(h fuse.InHeader) (uint64, fuse.Status)
		ok   func() bool
	}{
		{"mkdir", func(h fuse.InHeader) (uint64, fuse.Status) {
			var out fuse.EntryOut
			s := m.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "dir", &out)
			return out.NodeId, s
		}, func() bool { return m.node("lib/dir") != 0 }},
		{"create", func(h fuse.InHeader) (uint64, fuse.Status) {
			var out fuse.CreateOut
			s := m.Create(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644}, "file", &out)
			return out.NodeId, s
		}, func() bool { return m.node("lib/file") != 0 }},
		{"link", func(h fuse.InHeader) (uint64, fuse.Status) {
			var out fuse.EntryOut
			s := m.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: one}, "linked", &out)
			return out.NodeId, s
		}, func() bool { return m.node("lib/linked") == one }},
		{"tmpfile", func(h fuse.InHeader) (uint64, fuse.Status) {
			var out fuse.CreateOut
			s := m.Tmpfile(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644}, &out)
			return out.NodeId, s
		}, func() bool { return len(m.orphans()) == 1 }},
		{"exchange", func(h fuse.InHeader) (uint64, fuse.Status) {
			in := fuse.RenameIn{InHeader: h, Newdir: lib, Flags: exchange}
			return 0, m.Rename(nil, &in, "one", "two")
		}, func() bool { return m.node("lib/one") == two && m.node("lib/two") == one }},
		{"rename", func(h fuse.InHeader) (uint64, fuse.Status) {
			in := fuse.RenameIn{InHeader: h, Newdir: lib}
			return 0, m.Rename(nil, &in, "site", "etis")
		}, func() bool { return m.node("lib/etis") != 0 && m.node("lib/site") == 0 }},
		{"unlink", func(h fuse.InHeader) (uint64, fuse.Status) {
			return 0, m.Unlink(nil, &h, "one")
		}, func() bool { return m.node("lib/one") == 0 }},
		{"rmdir", func(h fuse.InHeader) (uint64, fuse.Status) {
			return 0, m.Rmdir(nil, &h, "dir")
		}, func() bool { return m.node("lib/dir") == 0 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := m.header(lib)
			id, s := test.send(h)
			if s != fuse.OK || !test.ok() {
				t.Fatalf("first time: %v", s)
			}
			m.takeover()
			h.Unique |= resent
			if again, s := test.send(h); s != fuse.OK || again != id || !test.ok() {
				t.Errorf("resent: %v, node %x, the first time %x", s, again, id)
			}
		})
	}
}

func TestListingGoesOnWhileNamesGo(t *testing.T) {
	m := newMachine(t)
	m.must1(m.mkdir("many"))
	const n = 300
	for i := range n {
		m.must1(m.create(fmt.Sprintf("many/%d", i)))
	}
	dir := m.node("many")
	removed := 0
	for off := uint64(0); ; {
		out := fuse.NewDirEntryList(make([]byte, page), off)
		if s := m.ReadDir(nil, &fuse.ReadIn{InHeader: m.header(dir), Offset: off}, out); s != fuse.OK {
			t.Fatal(s)
		}
		entries, err := fuse.ParseDirEntries(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name, ".") {
				continue
			}
			m.must(m.unlink("many/" + e.Name))
			removed++
		}
		m.must1(m.create(fmt.Sprintf("many/more%d", off))) // may be listed or not
		off = out.Offset
	}
	if removed < n {
		t.Errorf("%d of %d names were listed", removed, n)
	}
}

func TestListingKeepsNoDeadNames(t *testing.T) {
	m := newMachine(t)
	m.must1(m.mkdir("d"))
	for i := range 1000 {
		p := fmt.Sprintf("d/%d", i)
		m.must1(m.create(p))
		m.must(m.unlink(p))
	}
	if n := len(m.nodes[m.node("d")].listing.fresh); n > 2*mostDead {
		t.Errorf("%d names of an empty directory are kept", n)
	}
}

func TestReadDirPlusCounts(t *testing.T) {
	m := newMachine(t)
	m.must1(m.create("lib/site/pkg/new"))
	out := fuse.NewDirEntryList(make([]byte, 1<<16), 0)
	if s := m.ReadDirPlus(nil, &fuse.ReadIn{InHeader: m.header(m.node("lib/site/pkg"))}, out); s != fuse.OK {
		t.Fatal(s)
	}
	entries, outs, err := fuse.ParseDirLookupEntries(out.Bytes())
	if err != nil || len(entries) != 2+4 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i, e := range entries {
		id := outs[i].NodeId
		if strings.HasPrefix(e.Name, ".") {
			if id != 0 {
				t.Errorf("%q has a node", e.Name)
			}
			continue
		}
		if id != e.Ino || outs[i].Attr.Ino != id || outs[i].EntryValid != forever || !m.seen.known(id) {
			t.Errorf("%q: node %x, inode %x, attributes of %x", e.Name, id, e.Ino, outs[i].Attr.Ino)
		}
	}
}

func TestOwners(t *testing.T) {
	m := newMachine(t)
	if m.self.Uid != 0 {
		t.Skip("needs root, to give files away")
	}
	caller := fuse.Owner{Uid: 7, Gid: 8}
	dir := m.must1(m.mkdir("lib/made"))
	in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: m.header(dir), Valid: fuse.FATTR_GID | fuse.FATTR_MODE, Mode: 0o2775, Owner: fuse.Owner{Gid: 9}}}
	m.must(syscall.Errno(m.SetAttr(nil, &in, &fuse.AttrOut{})))
	header := func(dir uint64) fuse.InHeader {
		h := m.header(dir)
		h.Owner = caller
		return h
	}
	tests := []struct {
		name  string
		make  func() (id uint64, s fuse.Status)
		owner fuse.Owner
		mode  uint32
	}{
		{"file", func() (uint64, fuse.Status) {
			var out fuse.CreateOut
			s := m.Create(nil, &fuse.CreateIn{InHeader: header(m.node("lib")), Mode: 0o4755}, "f", &out)
			return out.NodeId, s
		}, caller, syscall.S_IFREG | 0o4755},
		{"file without a name", func() (uint64, fuse.Status) {
			var out fuse.CreateOut
			s := m.Tmpfile(nil, &fuse.CreateIn{InHeader: header(m.node("lib")), Mode: 0o2711}, &out)
			return out.NodeId, s
		}, caller, syscall.S_IFREG | 0o2711},
		{"symbolic link", func() (uint64, fuse.Status) {
			h := header(m.node("lib"))
			var out fuse.EntryOut
			s := m.Symlink(nil, &h, "x", "l", &out)
			return out.NodeId, s
		}, caller, syscall.S_IFLNK | 0o777},
		{"file in a setgid directory", func() (uint64, fuse.Status) {
			var out fuse.CreateOut
			s := m.Create(nil, &fuse.CreateIn{InHeader: header(dir), Mode: 0o644}, "f", &out)
			return out.NodeId, s
		}, fuse.Owner{Uid: 7, Gid: 9}, syscall.S_IFREG | 0o644},
		{"directory in a setgid directory", func() (uint64, fuse.Status) {
			var out fuse.EntryOut
			s := m.Mkdir(nil, &fuse.MkdirIn{InHeader: header(dir), Mode: 0o755}, "d", &out)
			return out.NodeId, s
		}, fuse.Owner{Uid: 7, Gid: 9}, syscall.S_IFDIR | 0o2755},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id, s := test.make()
			m.must(syscall.Errno(s))
			if a := m.stat(id); a.Owner != test.owner || a.Mode != test.mode {
				t.Errorf("owner %v, mode %o, want %v, %o", a.Owner, a.Mode, test.owner, test.mode)
			}
		})
	}
}

func TestDirectoryIsCopiedUpAsItWas(t *testing.T) {
	m := newMachine(t)
	dir := m.node("lib/site/pkg/sub")
	before := m.stat(dir)
	m.must(m.rename("lib/site/pkg/sub", "lib/moved", 0))
	m.must1(m.mkdir("lib/moved/new"))
	after := m.stat(dir)
	if after.Mode != before.Mode || after.Owner != before.Owner || after.Mtime == before.Mtime {
		t.Errorf("have %v, before it was changed %v", after, before)
	}
	site := m.node("lib/site")
	before = m.stat(site)
	m.must1(m.mkdir("lib/site/pkg/new")) // which puts lib/site into DIR, and changes nothing there
	if after := m.stat(site); after.Mode != before.Mode || after.Mtime != before.Mtime || after.Mtimensec != before.Mtimensec || after.Nlink != before.Nlink {
		t.Errorf("have %v, before something below was changed %v", after, before)
	}
}

func TestTimeOfDirectories(t *testing.T) {
	m := newMachine(t)
	tests := []struct {
		name    string
		change  func()
		changed []string
		kept    []string
	}{
		{"rename of the lower's", func() { m.must(m.rename("lib/site/pkg/a.py", "bin/a.py", 0)) }, []string{"lib/site/pkg", "bin"}, []string{"lib", "lib/site"}},
		{"rename of the renamed", func() { m.must(m.rename("bin/a.py", "lib/a.py", 0)) }, []string{"bin", "lib"}, []string{"lib/site/pkg"}},
		{"removal of the renamed", func() { m.must(m.unlink("lib/a.py")) }, []string{"lib"}, []string{"bin"}},
		{"a link", func() { m.must1(m.link("bin/tool", "lib/linked")) }, []string{"lib"}, []string{"bin"}},
		{"removal of the first name", func() { m.must(m.unlink("bin/tool")) }, []string{"bin"}, []string{"lib"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			times := func(paths []string) (all []uint64) {
				for _, p := range paths {
					a := m.stat(m.node(p))
					all = append(all, a.Mtime, uint64(a.Mtimensec))
				}
				return all
			}
			for _, p := range slices.Concat(test.changed, test.kept) {
				in := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: m.header(m.node(p)), Valid: fuse.FATTR_MTIME, Mtime: 5}}
				m.must(syscall.Errno(m.SetAttr(nil, &in, &fuse.AttrOut{})))
			}
			kept := times(test.kept)
			test.change()
			if got := times(test.kept); !slices.Equal(got, kept) {
				t.Errorf("times of %q: %v, were %v", test.kept, got, kept)
			}
			for _, p := range test.changed {
				if a := m.stat(m.node(p)); a.Mtime == 5 {
					t.Errorf("time of %q was not changed", p)
				}
			}
		})
	}
}

func TestPathAndReport(t *testing.T) {
	m := newMachine(t)
	a := m.node("lib/site/pkg/a.py")
	m.must(m.rename("lib/site/pkg", "moved", 0))
	made := m.must1(m.create("moved/made"))
	gone := m.must1(m.create("gone"))
	m.must(m.unlink("gone"))
	for id, want := range map[uint64]string{fuse.FUSE_ROOT_ID: ".", a: "moved/a.py", made: "moved/made", gone: "", m.node("bin/tool"): "bin/tool"} {
		if got := m.Path(id); got != want {
			t.Errorf("path of %x: %q, want %q", id, got, want)
		}
	}
	if got := string(m.Report()); !strings.Contains(got, `"unlinked":1`) {
		t.Errorf("report %s", got)
	}
}

func TestLookupOfTheUnchangedMakesNothing(t *testing.T) {
	m := newMachine(t)
	for _, p := range []string{"lib/site/pkg/a.py", code} {
		h, name := m.above(p)
		var out fuse.EntryOut
		n := testing.AllocsPerRun(100, func() {
			if s := m.Lookup(nil, &h, name, &out); s != fuse.OK {
				t.Fatal(s)
			}
		})
		if n > 0 {
			t.Errorf("%v allocations to look up %q", n, p)
		}
	}
}
