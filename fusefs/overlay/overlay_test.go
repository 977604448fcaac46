package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
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

// pycs is bytecode that is there for every source.
type pycs struct{ dir string }

const pyc = "bytecode"

func (pycs) Tag() string { return "cpython-312" }

func (pycs) Lookup(<-chan struct{}, tree.ID, tree.Attr, int, bool) (int64, uint16, bool) {
	return int64(len(pyc)), 7, false
}

func (p pycs) Open(tree.Attr, int, uint16) (int, int64, error) {
	fd, err := syscall.Open(filepath.Join(p.dir, "pyc"), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	return fd, int64(len(pyc)), err
}

func (pycs) Used(tree.ID, int) {}

// told keeps what a kernel is told, and tells it if there is one.
type told struct {
	mu        sync.Mutex
	server    *fuse.Server // nil: there is none
	list      []string
	more      sync.Cond
	forgotten map[uint64]bool
}

func newTold() *told {
	n := &told{}
	n.more.L = &n.mu
	return n
}

func (n *told) add(s string) *fuse.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, s)
	n.more.Broadcast()
	return n.server
}

func (n *told) Entry(parent uint64, name string) error {
	if server := n.add(fmt.Sprintf("%x/%s", parent, name)); server != nil {
		return notified(server.EntryNotify(parent, name))
	}
	return nil
}

func (n *told) Inode(node uint64) error {
	if server := n.add(fmt.Sprintf("%x", node)); server != nil {
		return notified(server.InodeNotify(node, 0, 0))
	}
	return nil
}

func notified(s fuse.Status) error {
	if s == fuse.OK {
		return nil
	}
	return syscall.Errno(s)
}

// Known answers that the kernel knows a node but those that it was said to have
// forgotten.
func (n *told) Known(node uint64) (bool, error) {
	n.add(fmt.Sprintf("%x?", node))
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.forgotten[node], nil
}

// forget has the kernel have forgotten a node.
func (n *told) forget(node uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.forgotten == nil {
		n.forgotten = make(map[uint64]bool)
	}
	n.forgotten[node] = true
}

// await waits until the kernel was told.
func (n *told) await(want string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for !slices.Contains(n.list, want) {
		n.more.Wait()
	}
}

// machine is an overlay with a kernel in front of it that keeps nothing: every path
// is walked by LOOKUP.
type machine struct {
	*FS
	t      testing.TB
	lower  *view.FS
	upper  string // DIR
	lock   *os.File
	area   []byte
	dir    *upper.Dir
	log    bytes.Buffer
	unique uint64
	told   *told
	at     func(string)
}

// content of the lower.
var lowerFiles = map[string]string{
	"lib/site/pkg/__init__.py": "",
	"lib/site/pkg/a.py":        "a = 1\n",
	"lib/site/pkg/sub/b.py":    "b = 1\n",
	"lib/site/pkg/sub/data":    "data",
	"lib/site/other/c.txt":     "c",
	"lib/site/other/.wh.odd":   "an ordinary file",
	"bin/tool":                 "#!/bin/sh\n",
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	return serveFiles(t, lowerFiles)
}

// serveFiles serves a tree of files, those in bin executable, and of a symbolic link.
func serveFiles(t testing.TB, files map[string]string) *machine {
	t.Helper()
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	for _, path := range slices.Sorted(maps.Keys(files)) {
		content := files[path]
		if err := b.File(path, strings.HasPrefix(path, "bin/"), int64(len(content)), store.put(t, content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Symlink("lib64", "lib"); err != nil {
		t.Fatal(err)
	}
	return serve(t, b, store)
}

// serve serves what b builds, with an empty upper.
func serve(t testing.TB, b *tree.Builder, store blobs) *machine {
	t.Helper()
	data, err := b.Build(1_700_000_000)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(data, "/srv/venv", nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, upper: t.TempDir(), told: newTold(), at: func(string) {}}
	code := pycs{t.TempDir()}
	if err := os.WriteFile(filepath.Join(code.dir, "pyc"), []byte(pyc), 0o600); err != nil {
		t.Fatal(err)
	}
	o := view.Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Bytecode: code, Log: log.New(&m.log, "", 0)}
	if m.lower, err = view.New(tr, store, o); err != nil {
		t.Fatal(err)
	}
	if m.lock, err = upper.Lock(m.upper); err != nil {
		t.Fatal(err)
	}
	m.open()
	t.Cleanup(func() {
		m.close()
		if err := m.lock.Close(); err != nil {
			t.Error(err)
		}
		if m.log.Len() > 0 && !t.Failed() {
			t.Errorf("logged: %s", &m.log)
		}
	})
	return m
}

// open begins a session, or goes on with the one of m.area.
func (m *machine) open() {
	m.t.Helper()
	if m.area == nil {
		m.area = make([]byte, upper.AreaSize)
	}
	dir, err := upper.Open(m.upper, upper.Options{Area: m.area, Locked: m.lock, At: func(moment string) { m.at(moment) }})
	if err != nil {
		m.t.Fatal(err)
	}
	m.dir = dir
	o := Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Log: log.New(&m.log, "", 0), Notify: m.told}
	if m.FS, err = New(m.lower, dir, o); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) close() {
	m.t.Helper()
	if err := errors.Join(m.FS.Close(), m.dir.Close()); err != nil {
		m.t.Error(err)
	}
}

// takeover gives the mount to another process.
func (m *machine) takeover() {
	m.t.Helper()
	m.close()
	m.open()
	if !m.dir.Resumed() {
		m.t.Fatal("the successor is in another session")
	}
}

// die has another process take over from one that was killed.
func (m *machine) die() {
	m.t.Helper()
	m.at = func(string) {}
	m.open()
}

// remount unmounts, and mounts again.
func (m *machine) remount() {
	m.t.Helper()
	m.close()
	m.area = nil
	m.open()
}

// header returns that of the next request about a node.
func (m *machine) header(node uint64) fuse.InHeader {
	m.unique += 2
	return fuse.InHeader{
		Unique: m.unique,
		NodeId: node,
		Caller: fuse.Caller{Owner: fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}},
	}
}

// lookup walks to a path.
func (m *machine) lookup(path string) (fuse.EntryOut, syscall.Errno) {
	out := fuse.EntryOut{NodeId: fuse.FUSE_ROOT_ID}
	if path == "." {
		return out, 0
	}
	for name := range strings.SplitSeq(path, "/") {
		h := m.header(out.NodeId)
		out = fuse.EntryOut{}
		if s := m.Lookup(nil, &h, name, &out); s != fuse.OK {
			return out, syscall.Errno(s)
		}
		if out.NodeId == 0 {
			return out, syscall.ENOENT
		}
	}
	return out, 0
}

// node returns the ID at a path, 0 if there is nothing.
func (m *machine) node(path string) uint64 {
	m.t.Helper()
	out, e := m.lookup(path)
	if e != 0 && e != syscall.ENOENT {
		m.t.Fatalf("looking up %q: %v", path, e)
	}
	return out.NodeId
}

// above returns the node of the directory that path is in, and its name there.
func (m *machine) above(path string) (fuse.InHeader, string) {
	m.t.Helper()
	dir, name := filepath.Split(path)
	return m.header(m.node(filepath.Clean(dir))), name
}

func (m *machine) mkdir(path string) (uint64, syscall.Errno) {
	m.t.Helper()
	h, name := m.above(path)
	var out fuse.EntryOut
	s := m.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name, &out)
	return out.NodeId, syscall.Errno(s)
}

func (m *machine) create(path string) (uint64, syscall.Errno) {
	m.t.Helper()
	h, name := m.above(path)
	var out fuse.CreateOut
	s := m.Create(nil, &fuse.CreateIn{InHeader: h, Mode: 0o644}, name, &out)
	return out.NodeId, syscall.Errno(s)
}

func (m *machine) symlink(target, path string) (uint64, syscall.Errno) {
	m.t.Helper()
	h, name := m.above(path)
	var out fuse.EntryOut
	s := m.Symlink(nil, &h, target, name, &out)
	return out.NodeId, syscall.Errno(s)
}

func (m *machine) mknod(path string, mode uint32) (uint64, syscall.Errno) {
	m.t.Helper()
	h, name := m.above(path)
	var out fuse.EntryOut
	s := m.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: mode}, name, &out)
	return out.NodeId, syscall.Errno(s)
}

func (m *machine) link(from, to string) (uint64, syscall.Errno) {
	m.t.Helper()
	h, name := m.above(to)
	var out fuse.EntryOut
	s := m.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: m.node(from)}, name, &out)
	return out.NodeId, syscall.Errno(s)
}

func (m *machine) unlink(path string) syscall.Errno {
	m.t.Helper()
	h, name := m.above(path)
	return syscall.Errno(m.Unlink(nil, &h, name))
}

func (m *machine) rmdir(path string) syscall.Errno {
	m.t.Helper()
	h, name := m.above(path)
	return syscall.Errno(m.Rmdir(nil, &h, name))
}

func (m *machine) rename(from, to string, flags uint32) syscall.Errno {
	m.t.Helper()
	h, oldName := m.above(from)
	newDir, newName := m.above(to)
	in := fuse.RenameIn{InHeader: h, Newdir: newDir.NodeId, Flags: flags}
	return syscall.Errno(m.Rename(nil, &in, oldName, newName))
}

// must fails the test on an error.
func (m *machine) must(e syscall.Errno) {
	m.t.Helper()
	if e != 0 {
		m.t.Fatal(e)
	}
}

// must1 returns the node and fails the test on an error.
func (m *machine) must1(node uint64, e syscall.Errno) uint64 {
	m.t.Helper()
	m.must(e)
	return node
}

// page is small so that every listing takes several requests.
const page = 512

// list returns the entries of a directory, but the dots, in their order.
func (m *machine) list(dir uint64) []fuse.DirEntry {
	m.t.Helper()
	var all []fuse.DirEntry
	for off := uint64(0); ; {
		out := fuse.NewDirEntryList(make([]byte, page), off)
		in := fuse.ReadIn{InHeader: m.header(dir), Offset: off}
		if s := m.ReadDir(nil, &in, out); s != fuse.OK {
			m.t.Fatalf("listing %d: %v", dir, s)
		}
		entries, err := fuse.ParseDirEntries(out.Bytes())
		if err != nil {
			m.t.Fatal(err)
		}
		if len(entries) == 0 {
			return all
		}
		for _, e := range entries {
			if e.Name != "." && e.Name != ".." {
				all = append(all, e)
			}
		}
		off = out.Offset
	}
}

// names returns what a listing of a path has, sorted.
func (m *machine) names(path string) []string {
	m.t.Helper()
	names := []string{}
	for _, e := range m.list(m.node(path)) {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}

// snapshot returns the nodes of all paths below a directory, and checks that
// listings, lookups, link counts and the listing with attributes agree.
func (m *machine) snapshot() map[string]uint64 {
	m.t.Helper()
	all := make(map[string]uint64)
	m.walk(fuse.FUSE_ROOT_ID, "", all)
	names := make(map[uint64]uint32)
	for _, id := range all {
		names[id]++
	}
	for p, id := range all {
		if a := m.stat(id); a.Mode&syscall.S_IFMT != syscall.S_IFDIR && a.Nlink != names[id] {
			m.t.Fatalf("%q has %d links and %d names", p, a.Nlink, names[id])
		}
	}
	return all
}

func (m *machine) walk(dir uint64, path string, all map[string]uint64) {
	m.t.Helper()
	dirs := uint32(0)
	for _, e := range m.list(dir) {
		at := path + e.Name
		if _, ok := all[at]; ok {
			m.t.Fatalf("%q is listed twice", at)
		}
		all[at] = e.Ino
		h := m.header(dir)
		var out fuse.EntryOut
		if s := m.Lookup(nil, &h, e.Name, &out); s != fuse.OK || out.NodeId != e.Ino || out.Mode&syscall.S_IFMT != e.Mode {
			m.t.Fatalf("%q is listed as node %x, mode %o, and looked up as %x, mode %o, status %v", at, e.Ino, e.Mode, out.NodeId, out.Mode, s)
		}
		if e.Mode == syscall.S_IFDIR {
			dirs++
			m.walk(e.Ino, at+"/", all)
		}
	}
	if a := m.stat(dir); a.Nlink != 2+dirs {
		m.t.Fatalf("%q has %d links and %d directories", path, a.Nlink, dirs)
	}
}

func (m *machine) stat(node uint64) fuse.Attr {
	m.t.Helper()
	var out fuse.AttrOut
	if s := m.GetAttr(nil, &fuse.GetAttrIn{InHeader: m.header(node)}, &out); s != fuse.OK {
		m.t.Fatalf("GETATTR of %x: %v", node, s)
	}
	return out.Attr
}

// orphans returns what DIR keeps of what was unlinked.
func (m *machine) orphans() []fs.DirEntry {
	m.t.Helper()
	list, err := os.ReadDir(filepath.Join(m.upper, ".wh..wh.sitefs", "orphans"))
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}
