package view

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// blobs are files in a directory, as in a store.
type blobs string

func (b blobs) path(d digest.Digest) string { return filepath.Join(string(b), d.String()) }

func (b blobs) OpenBlob(d digest.Digest) (int, error) {
	return syscall.Open(b.path(d), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
}

func (b blobs) put(t testing.TB, content string) digest.Digest {
	t.Helper()
	d := digest.Of([]byte(content))
	if err := os.WriteFile(b.path(d), []byte(content), 0o444); err != nil {
		t.Fatal(err)
	}
	return d
}

const (
	created = 1_700_000_000
	prefix  = "/srv/venv"
)

// fixture is a tree with a node of each kind.
type fixture struct {
	*FS
	blobs blobs
	log   *bytes.Buffer
}

var bigContent = strings.Repeat("0123456789", 1000)

func newFixture(t testing.TB, o Options) fixture {
	t.Helper()
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	err := errors.Join(
		b.File("lib/site/big.txt", false, int64(len(bigContent)), store.put(t, bigContent)),
		b.File("lib/site/mod.py", false, 6, store.put(t, "x = 1\n")),
		b.File("lib/site/gone.txt", false, 9, digest.Of([]byte("not there"))),
		b.File("lib/site/short.txt", false, 100, store.put(t, "short")),
		b.File("lib/site/pkg/tool.sh", true, 4, store.put(t, "tool")),
		b.Inline("lib/site/empty", false, nil),
		b.Inline("lib/site/inline", true, []byte("inline bytes")),
		b.Template("bin/activate", false, []byte("P=\x00P\n")),
		b.Symlink("lib64", "lib"),
		b.Symlink("long", strings.Repeat("x", 60)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, b, store, o)
}

// serve serves what b builds.
func serve(t testing.TB, b *tree.Builder, store blobs, o Options) fixture {
	t.Helper()
	data, err := b.Build(created)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(data, prefix, nil)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	o.Log = log.New(&buf, "", 0)
	f, err := New(tr, store, o)
	if err != nil {
		t.Fatal(err)
	}
	return fixture{f, store, &buf}
}

// find walks to a path by LOOKUP, as the kernel does.
func (f fixture) find(t testing.TB, path string) fuse.EntryOut {
	t.Helper()
	out := fuse.EntryOut{NodeId: fuse.FUSE_ROOT_ID}
	for name := range strings.SplitSeq(path, "/") {
		in := fuse.InHeader{NodeId: out.NodeId}
		out = fuse.EntryOut{}
		if s := f.Lookup(nil, &in, name, &out); !s.Ok() || out.NodeId == 0 {
			t.Fatalf("looking up %q of %q: %v, node %d", name, path, s, out.NodeId)
		}
	}
	return out
}

func TestAttributes(t *testing.T) {
	f := newFixture(t, Options{UID: 7, GID: 8})
	py := digest.Of([]byte("x = 1\n"))
	pyTime := uint64(315619200) + uint64(py[0]) + uint64(py[1])<<8 + uint64(py[2])<<16 + uint64(py[3]&0xf)<<24
	tests := []struct {
		path   string
		mode   uint32
		size   uint64
		blocks uint64
		nlink  uint32
		mtime  uint64 // 0: a directory's, which its digest decides
	}{
		{"lib", syscall.S_IFDIR | 0o755, 4096, 8, 3, 0},
		{"lib/site", syscall.S_IFDIR | 0o755, 4096, 8, 3, 0},
		{"lib/site/pkg", syscall.S_IFDIR | 0o755, 4096, 8, 2, 0},
		{"lib/site/big.txt", syscall.S_IFREG | 0o644, 10000, 24, 1, created},
		{"lib/site/mod.py", syscall.S_IFREG | 0o644, 6, 8, 1, pyTime},
		{"lib/site/pkg/tool.sh", syscall.S_IFREG | 0o755, 4, 8, 1, created},
		{"lib/site/empty", syscall.S_IFREG | 0o644, 0, 0, 1, created},
		{"lib/site/inline", syscall.S_IFREG | 0o755, 12, 8, 1, created},
		{"bin/activate", syscall.S_IFREG | 0o644, uint64(len("P=" + prefix + "\n")), 8, 1, created},
		{"lib64", syscall.S_IFLNK | 0o777, 3, 0, 1, created},
		{"long", syscall.S_IFLNK | 0o777, 60, 8, 1, created},
	}
	inodes := make(map[uint64]string)
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			e := f.find(t, test.path)
			a := e.Attr
			if a.Mode != test.mode || a.Size != test.size || a.Blocks != test.blocks || a.Nlink != test.nlink {
				t.Errorf("mode %o, size %d, blocks %d, nlink %d, want %o, %d, %d, %d", a.Mode, a.Size, a.Blocks, a.Nlink, test.mode, test.size, test.blocks, test.nlink)
			}
			if test.mtime != 0 && a.Mtime != test.mtime {
				t.Errorf("mtime %d, want %d", a.Mtime, test.mtime)
			}
			if a.Ctime != a.Mtime || a.Atime != a.Mtime {
				t.Errorf("atime %d, mtime %d, ctime %d differ", a.Atime, a.Mtime, a.Ctime)
			}
			if a.Owner != (fuse.Owner{Uid: 7, Gid: 8}) || a.Blksize != 4096 {
				t.Errorf("owner %v, block size %d", a.Owner, a.Blksize)
			}
			if e.Generation != 1 || e.EntryValid != forever || e.AttrValid != forever {
				t.Errorf("generation %d, valid for %d and %d", e.Generation, e.EntryValid, e.AttrValid)
			}
			if a.Ino != e.NodeId || inodes[a.Ino] != "" {
				t.Errorf("inode %d of node %d, also of %q", a.Ino, e.NodeId, inodes[a.Ino])
			}
			inodes[a.Ino] = test.path
			var out fuse.AttrOut
			in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}
			if s := f.GetAttr(nil, &in, &out); !s.Ok() || out.Attr != a || out.AttrValid != forever {
				t.Errorf("GETATTR: %v, %+v, LOOKUP said %+v", s, out, a)
			}
		})
	}
}

func TestAbsentNameIsKept(t *testing.T) {
	f := newFixture(t, Options{})
	var out fuse.EntryOut
	s := f.Lookup(nil, &fuse.InHeader{NodeId: 1}, "absent", &out)
	if !s.Ok() || out.NodeId != 0 || out.EntryValid != forever {
		t.Errorf("%v, node %d, valid for %d; want a negative entry for good", s, out.NodeId, out.EntryValid)
	}
}

// noTables has lost the tables of its wheels.
type noTables struct{}

func (noTables) Table(digest.Digest, string) ([]byte, error) { return nil, os.ErrNotExist }

func TestMissingTableIsNoAbsentName(t *testing.T) {
	wheel := tree.NewBuilder("test")
	if err := wheel.File("pkg/mod.py", false, 1, digest.Of([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	data, err := wheel.Build(created)
	if err != nil {
		t.Fatal(err)
	}
	table, err := tree.OpenTable(data)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := table.Find("pkg")
	if err != nil {
		t.Fatal(err)
	}
	b := tree.NewBuilder("test")
	if err := b.Ref("pkg", b.Table(digest.Of([]byte("wheel")), table), pkg); err != nil {
		t.Fatal(err)
	}
	if data, err = b.Build(created); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(data, prefix, noTables{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(tr, blobs(""), Options{Log: log.New(&bytes.Buffer{}, "", 0)})
	if err != nil {
		t.Fatal(err)
	}
	dir := fixture{FS: f}.find(t, "pkg")
	var out fuse.EntryOut
	if s := f.Lookup(nil, &fuse.InHeader{NodeId: dir.NodeId}, "mod.py", &out); s != fuse.EIO {
		t.Errorf("%v, node %d, want EIO", s, out.NodeId)
	}
}

func (f fixture) read(t testing.TB, path string, off uint64, size int) (string, fuse.Status) {
	t.Helper()
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: f.find(t, path).NodeId}, Offset: off}
	buf := make([]byte, size)
	r, s := f.Read(nil, &in, buf)
	if !s.Ok() {
		return "", s
	}
	defer r.Done()
	b, s := r.Bytes(nil)
	return string(b), s
}

func TestRead(t *testing.T) {
	f := newFixture(t, Options{})
	tests := []struct {
		path   string
		off    uint64
		size   int
		want   string
		status fuse.Status
	}{
		{"lib/site/big.txt", 0, 20000, bigContent, fuse.OK},
		{"lib/site/big.txt", 9990, 4096, "0123456789", fuse.OK},
		{"lib/site/big.txt", 10000, 4096, "", fuse.OK},
		{"lib/site/big.txt", 1 << 62, 4096, "", fuse.OK},
		{"lib/site/big.txt", 5, 3, "567", fuse.OK},
		{"lib/site/empty", 0, 4096, "", fuse.OK},
		{"lib/site/inline", 7, 4096, "bytes", fuse.OK},
		{"lib/site/inline", 1 << 62, 4096, "", fuse.OK},
		{"bin/activate", 0, 4096, "P=" + prefix + "\n", fuse.OK},
		{"lib/site/gone.txt", 0, 4096, "", fuse.EIO},
		{"lib/site/short.txt", 0, 4096, "", fuse.EIO}, // the kernel would fill up with zeroes
		{"lib", 0, 4096, "", fuse.Status(syscall.EISDIR)},
		{"lib64", 0, 4096, "", fuse.EINVAL},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s at %d", test.path, test.off), func(t *testing.T) {
			got, s := f.read(t, test.path, test.off, test.size)
			if got != test.want || s != test.status {
				t.Errorf("%.20q, %v, want %.20q, %v", got, s, test.want, test.status)
			}
		})
	}
}

func TestReadResultInTheReply(t *testing.T) {
	buf := []byte("abcdef")
	r := Filled(buf[:4]).(*filled)
	if n, s := r.Readv([][]byte{buf[:4]}); n != 4 || s != fuse.OK || string(buf) != "abcdef" {
		t.Errorf("in place: %d, %v, %q", n, s, buf)
	}
	a, b := make([]byte, 3), make([]byte, 1)
	if n, s := r.Readv([][]byte{a, b}); n != 4 || s != fuse.OK || string(a)+string(b) != "abcd" {
		t.Errorf("scattered: %d, %v, %q %q", n, s, a, b)
	}
	if n, s := Filled(nil).(*filled).Readv([][]byte{{}}); n != 0 || s != fuse.OK {
		t.Errorf("empty: %d, %v", n, s)
	}
}

func TestReportsAreBounded(t *testing.T) {
	f := newFixture(t, Options{})
	now := time.Unix(created, 0)
	f.fault.now = func() time.Time { return now }
	for range 1000 {
		f.read(t, "lib/site/gone.txt", 0, 10)
	}
	if n := strings.Count(f.log.String(), "\n"); n != 1 {
		t.Errorf("%d lines in one moment, want 1:\n%s", n, f.log)
	}
	gone := digest.Of([]byte("not there"))
	if !strings.Contains(f.log.String(), gone.String()) {
		t.Errorf("%q does not name the blob %s", f.log, gone)
	}
	if !strings.Contains(f.LastError(), gone.String()) {
		t.Errorf("the last error is %q, want it to name the blob %s", f.LastError(), gone)
	}
	now = now.Add(reportEvery)
	f.log.Reset()
	f.read(t, "lib/site/gone.txt", 0, 10)
	if !strings.Contains(f.log.String(), "999 more") {
		t.Errorf("%q does not say how many were kept back", f.log)
	}
}

func TestReadlink(t *testing.T) {
	f := newFixture(t, Options{})
	b, s := f.Readlink(nil, &fuse.InHeader{NodeId: f.find(t, "lib64").NodeId})
	if !s.Ok() || string(b) != "lib" {
		t.Errorf("%q, %v, want lib", b, s)
	}
	if _, s := f.Readlink(nil, &fuse.InHeader{NodeId: f.find(t, "lib").NodeId}); s != fuse.EINVAL {
		t.Errorf("of a directory: %v, want EINVAL", s)
	}
}

func TestList(t *testing.T) {
	f := newFixture(t, Options{})
	dir := f.find(t, "lib/site").NodeId
	want := []string{".", "..", "big.txt", "empty", "gone.txt", "inline", "mod.py", "pkg", "short.txt"}
	for _, size := range []int{200, 400, 4096} {
		t.Run(fmt.Sprintf("READDIR in %d bytes", size), func(t *testing.T) {
			var names []string
			for off := uint64(0); ; {
				list := fuse.NewDirEntryList(make([]byte, size), off)
				in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: off}
				if s := f.ReadDir(nil, &in, list); !s.Ok() {
					t.Fatal(s)
				}
				entries, err := fuse.ParseDirEntries(list.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				for _, e := range entries {
					names = append(names, e.Name)
					off = e.Off
				}
			}
			if fmt.Sprint(names) != fmt.Sprint(want) {
				t.Errorf("%q, want %q", names, want)
			}
		})
		t.Run(fmt.Sprintf("READDIRPLUS in %d bytes", size), func(t *testing.T) {
			var names []string
			for off := uint64(0); ; {
				list := fuse.NewDirEntryList(make([]byte, size), off)
				in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: off}
				if s := f.ReadDirPlus(nil, &in, list); !s.Ok() {
					t.Fatal(s)
				}
				entries, outs, err := fuse.ParseDirLookupEntries(list.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				for i, e := range entries {
					names = append(names, e.Name)
					off = e.Off
					if strings.HasPrefix(e.Name, ".") {
						if outs[i].NodeId != 0 {
							t.Errorf("%q has node %d, want none", e.Name, outs[i].NodeId)
						}
						continue
					}
					if looked := f.find(t, "lib/site/"+e.Name); outs[i] != looked || e.Ino != looked.Attr.Ino || e.Mode != looked.Attr.Mode&syscall.S_IFMT {
						t.Errorf("%q: %+v %+v, LOOKUP says %+v", e.Name, e, outs[i], looked)
					}
				}
			}
			if fmt.Sprint(names) != fmt.Sprint(want) {
				t.Errorf("%q, want %q", names, want)
			}
		})
	}
	list := fuse.NewDirEntryList(make([]byte, 4096), 1<<40)
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: 1 << 40}
	if s := f.ReadDir(nil, &in, list); !s.Ok() || len(list.Bytes()) != 0 {
		t.Errorf("beyond the end: %v, %d bytes", s, len(list.Bytes()))
	}
}

func TestOneDirectoryOfATree(t *testing.T) {
	whole := newFixture(t, Options{})
	f := newFixture(t, Options{Dir: "lib/site"})
	got, s := f.read(t, "pkg/tool.sh", 0, 100)
	if got != "tool" || !s.Ok() {
		t.Errorf("pkg/tool.sh: %q, %v", got, s)
	}
	var out fuse.AttrOut
	in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}}
	if s := f.GetAttr(nil, &in, &out); !s.Ok() || out.Ino != fuse.FUSE_ROOT_ID || out.Nlink != 3 {
		t.Errorf("root: %v, %+v", s, out.Attr)
	}
	if a, b := f.find(t, "pkg").NodeId, whole.find(t, "lib/site/pkg").NodeId; a != b {
		t.Errorf("node %d, in the whole tree %d", a, b)
	}
	for _, dir := range []string{"lib/absent", "lib/site/mod.py"} {
		if _, err := New(whole.tree, whole.blobs, Options{Dir: dir}); err == nil {
			t.Errorf("%q was served", dir)
		}
	}
}

func TestStaleNode(t *testing.T) {
	f := newFixture(t, Options{})
	for _, id := range []uint64{0, 1 << 20, 5 << 32, ^uint64(0)} {
		in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: id}}
		if s := f.GetAttr(nil, &in, &fuse.AttrOut{}); s != fuse.Status(syscall.ESTALE) {
			t.Errorf("node %d: %v, want ESTALE", id, s)
		}
	}
}

func TestStatFs(t *testing.T) {
	f := newFixture(t, Options{})
	var out fuse.StatfsOut
	s := f.StatFs(nil, &fuse.InHeader{NodeId: 1}, &out)
	a, err := f.tree.Stat(tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	if want := (uint64(a.Size) + 4095) / 4096; !s.Ok() || out.Blocks != want || out.Bfree != 0 || out.Bavail != 0 || out.Bsize != 4096 || out.NameLen != 255 {
		t.Errorf("%v, %+v, want %d blocks and none free", s, out, want)
	}
}

// What a hot mount must not ask again.
func TestRefusals(t *testing.T) {
	f := newFixture(t, Options{})
	tests := []struct {
		name string
		got  fuse.Status
		want syscall.Errno
	}{
		{"OPEN", f.Open(nil, &fuse.OpenIn{}, &fuse.OpenOut{}), syscall.ENOSYS},
		{"OPENDIR", f.OpenDir(nil, &fuse.OpenIn{}, &fuse.OpenOut{}), syscall.ENOSYS},
		{"ACCESS", f.Access(nil, &fuse.AccessIn{}), syscall.ENOSYS},
		{"FLUSH", f.Flush(nil, &fuse.FlushIn{}), syscall.ENOSYS},
		{"LSEEK", f.Lseek(nil, &fuse.LseekIn{}, &fuse.LseekOut{}), syscall.ENOSYS},
		{"IOCTL", f.Ioctl(nil, &fuse.IoctlIn{}, nil, &fuse.IoctlOut{}, nil), syscall.ENOTTY},
	}
	for _, test := range tests {
		if test.got != fuse.Status(test.want) {
			t.Errorf("%s: %v, want %v", test.name, test.got, test.want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	f := newFixture(t, Options{})
	site := fuse.InHeader{NodeId: f.find(t, "lib/site").NodeId}
	read := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: f.find(t, "lib/site/big.txt").NodeId}}
	getattr := fuse.GetAttrIn{InHeader: read.InHeader}
	list := fuse.ReadIn{InHeader: site}
	buf := make([]byte, 16384)
	var entry fuse.EntryOut
	var attr fuse.AttrOut
	tests := []struct {
		name string
		most float64
		op   func()
	}{
		{"LOOKUP", 0, func() { f.Lookup(nil, &site, "mod.py", &entry) }},
		{"LOOKUP of an absent name", 0, func() { f.Lookup(nil, &site, "absent", &entry) }},
		{"GETATTR", 0, func() { f.GetAttr(nil, &getattr, &attr) }},
		// The blob's path is this test's own.
		{"READ", testing.AllocsPerRun(10, func() { fd, _ := f.blobs.OpenBlob(digest.Of([]byte(bigContent))); syscall.Close(fd) }), func() {
			r, s := f.Read(nil, &read, buf)
			if s.Ok() {
				r.Done()
			}
		}},
		// The list itself, and the function that fills it.
		{"READDIRPLUS", 3, func() { f.ReadDirPlus(nil, &list, fuse.NewDirEntryList(buf, 0)) }},
	}
	for _, test := range tests {
		if n := testing.AllocsPerRun(100, test.op); n > test.most {
			t.Errorf("%s: %v allocations, want %v", test.name, n, test.most)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	f := newFixture(b, Options{})
	in := fuse.InHeader{NodeId: f.find(b, "lib/site").NodeId}
	var out fuse.EntryOut
	for b.Loop() {
		f.Lookup(nil, &in, "mod.py", &out)
	}
}

func BenchmarkRead(b *testing.B) {
	f := newFixture(b, Options{})
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: f.find(b, "lib/site/big.txt").NodeId}}
	buf := make([]byte, 16384)
	for b.Loop() {
		if r, s := f.Read(nil, &in, buf); s.Ok() {
			r.Done()
		}
	}
}
