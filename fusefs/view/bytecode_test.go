package view

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// source is a file to be compiled and how.
type source struct {
	digest digest.Digest
	opt    int
}

// compiler is a Bytecode whose .pyc are what compile says, kept as files with
// something behind that is not theirs.
type compiler struct {
	tag   string
	dir   string
	stamp uint16 // of all .pyc

	// compile returns a .pyc, or none and whether that is final.
	compile func(cancel <-chan struct{}, a tree.Attr, opt int) (pyc string, final bool)

	looked, compiled atomic.Int64 // calls

	mu    sync.Mutex
	sizes map[source]int64
	final map[source]bool
	used  []string
}

const trailer = "what is behind the .pyc"

func newCompiler(t testing.TB, compile func(cancel <-chan struct{}, a tree.Attr, opt int) (string, bool)) *compiler {
	return &compiler{tag: "cpython-312", dir: t.TempDir(), stamp: 0x123, compile: compile, sizes: make(map[source]int64), final: make(map[source]bool)}
}

// always compiles everything.
func always(_ <-chan struct{}, a tree.Attr, opt int) (string, bool) {
	return fmt.Sprintf("bytecode of %s, opt %d", a.Digest, opt), false
}

func (c *compiler) Tag() string { return c.tag }

func (c *compiler) path(s source) string {
	return filepath.Join(c.dir, fmt.Sprintf("%s.%d", s.digest, s.opt))
}

func (c *compiler) Lookup(cancel <-chan struct{}, _ tree.ID, a tree.Attr, opt int, make bool) (size int64, stamp uint16, final bool) {
	c.looked.Add(1)
	s := source{a.Digest, opt}
	c.mu.Lock()
	size, final = c.sizes[s], c.final[s]
	c.mu.Unlock()
	if size > 0 || final || !make {
		return size, c.stamp, final
	}
	c.compiled.Add(1)
	pyc, final := c.compile(cancel, a, opt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if pyc == "" {
		c.final[s] = final
		return 0, 0, final
	}
	if c.sizes[s] == 0 { // else another was faster, and somebody may be reading it
		if err := os.WriteFile(c.path(s), []byte(pyc+trailer), 0o600); err != nil {
			return 0, 0, false
		}
		c.sizes[s] = int64(len(pyc))
	}
	return c.sizes[s], c.stamp, false
}

func (c *compiler) Open(a tree.Attr, opt int, stamp uint16) (int, int64, error) {
	if stamp != c.stamp {
		return -1, 0, fs.ErrNotExist
	}
	s := source{a.Digest, opt}
	c.mu.Lock()
	size := c.sizes[s]
	c.mu.Unlock()
	fd, err := syscall.Open(c.path(s), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	return fd, size, err
}

func (c *compiler) Used(id tree.ID, opt int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = append(c.used, fmt.Sprintf("%d.%d", id, opt))
}

// usedSoFar returns the arguments of all calls of Used.
func (c *compiler) usedSoFar() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.used)
}

// newSources serves a tree of sources and of what only looks like them.
func newSources(t testing.TB, o Options) fixture {
	t.Helper()
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	file := func(path, content string) error {
		return b.File(path, false, int64(len(content)), store.put(t, content))
	}
	err := errors.Join(
		file("site/mod.py", "x = 1\n"),
		file("site/.py", "hidden = 1\n"),
		file("site/mod.txt", "text\n"),
		b.File("site/script.py", true, 6, store.put(t, "y = 2\n")),
		b.Inline("site/generated.py", false, []byte("z = 3\n")),
		b.Symlink("site/link.py", "mod.py"),
		file("site/pkg/__init__.py", ""),
		file("site/pkg/a.b.py", "a = 1\n"),
		file("site/dir.py/other.py", "b = 1\n"),
		file("site/data/table.csv", "1,2\n"),
		b.Inline("site/inline/generated.py", false, nil),
		b.Symlink("site/links/mod.py", "../mod.py"),
		file("site/hidden/.py", ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, b, store, o)
}

// lookup asks for one name as the process pid.
func (f fixture) lookup(dir uint64, pid uint32, name string) (fuse.EntryOut, fuse.Status) {
	var out fuse.EntryOut
	s := f.Lookup(nil, &fuse.InHeader{NodeId: dir, Caller: fuse.Caller{Pid: pid}}, name, &out)
	return out, s
}

func TestCacheDirectory(t *testing.T) {
	f := newSources(t, Options{UID: 7, GID: 8, Bytecode: newCompiler(t, always)})
	tests := []struct {
		dir   string
		exist bool
	}{
		{"site", true},
		{"site/pkg", true},
		{"site/dir.py", true},
		{"site/data", false},
		{"site/inline", false},
		{"site/links", false},
		{"site/hidden", false},
	}
	for _, test := range tests {
		t.Run(test.dir, func(t *testing.T) {
			dir := f.find(t, test.dir)
			e, s := f.lookup(dir.NodeId, 1, "__pycache__")
			if !s.Ok() || e.EntryValid != forever {
				t.Fatalf("%v, valid for %d", s, e.EntryValid)
			}
			if !test.exist {
				if e.NodeId != 0 {
					t.Errorf("node %d, want none", e.NodeId)
				}
				return
			}
			a := e.Attr
			if a.Mode != syscall.S_IFDIR|0o755 || a.Nlink != 2 || a.Size != 4096 || a.Owner != (fuse.Owner{Uid: 7, Gid: 8}) {
				t.Errorf("%+v", a)
			}
			if a.Mtime != dir.Attr.Mtime || a.Ino != e.NodeId || e.AttrValid != forever {
				t.Errorf("mtime %d, inode %d, node %d, valid for %d; the directory has mtime %d", a.Mtime, a.Ino, e.NodeId, e.AttrValid, dir.Attr.Mtime)
			}
			var out fuse.AttrOut
			if s := f.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}, &out); !s.Ok() || out.Attr != a {
				t.Errorf("GETATTR: %v, %+v, LOOKUP said %+v", s, out.Attr, a)
			}
			if names := f.names(t, e.NodeId); !slices.Equal(names, []string{".", ".."}) {
				t.Errorf("lists %q", names)
			}
			if names := f.names(t, dir.NodeId); slices.Contains(names, "__pycache__") {
				t.Errorf("the directory lists %q", names)
			}
		})
	}
}

// names lists a directory.
func (f fixture) names(t *testing.T, node uint64) (names []string) {
	t.Helper()
	list := fuse.NewDirEntryList(make([]byte, 4096), 0)
	if s := f.ReadDirPlus(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node}}, list); !s.Ok() {
		t.Fatal(s)
	}
	entries, _, err := fuse.ParseDirLookupEntries(list.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

func TestCodeNames(t *testing.T) {
	c := newCompiler(t, always)
	f := newSources(t, Options{Bytecode: c})
	long := strings.Repeat("x", 250)
	tests := []struct {
		dir, name string
		source    string // "": there is none
		opt       int
	}{
		{"site", "mod.cpython-312.pyc", "mod.py", 0},
		{"site", "mod.cpython-312.opt-1.pyc", "mod.py", 1},
		{"site", "mod.cpython-312.opt-2.pyc", "mod.py", 2},
		{"site", "script.cpython-312.pyc", "script.py", 0},
		{"site/pkg", "__init__.cpython-312.pyc", "__init__.py", 0},
		{"site/pkg", "a.b.cpython-312.pyc", "a.b.py", 0},
		{"site", "mod.cpython-312.opt-0.pyc", "", 0},
		{"site", "mod.cpython-312.opt-3.pyc", "", 0},
		{"site", "mod.cpython-312.opt-.pyc", "", 0},
		{"site", "mod.cpython-312.opt-11.pyc", "", 0},
		{"site", "mod.cpython-312.opt-pytest.pyc", "", 0},
		{"site", "mod.cpython-312.opt-1.opt-1.pyc", "", 0},
		{"site", "mod.cpython-312-pytest-8.3.4.pyc", "", 0},
		{"site", "mod.cpython-311.pyc", "", 0},
		{"site", "mod.cpython-3121.pyc", "", 0},
		{"site", "mod.pypy310.pyc", "", 0},
		{"site", "modcpython-312.pyc", "", 0},
		{"site", "mod.cpython-312.pyc.140234", "", 0}, // importlib's, while it writes
		{"site", "mod.cpython-312.pyo", "", 0},
		{"site", "mod.cpython-312.", "", 0},
		{"site", "mod.cpython-312", "", 0},
		{"site", "mod.pyc", "", 0},
		{"site", "mod.py", "", 0},
		{"site", ".pyc", "", 0},
		{"site", ".cpython-312.pyc", "", 0},
		{"site", "absent.cpython-312.pyc", "", 0},
		{"site", "mod.txt.cpython-312.pyc", "", 0},
		{"site", "generated.cpython-312.pyc", "", 0}, // in no blob
		{"site", "link.cpython-312.pyc", "", 0},      // a link has no content
		{"site", "dir.cpython-312.pyc", "", 0},       // a directory
		{"site", "__pycache__", "", 0},
		{"site", long + ".cpython-312.pyc", "", 0},
		{"site", long + long + ".cpython-312.pyc", "", 0},
	}
	for _, test := range tests {
		t.Run(test.dir+"/"+test.name, func(t *testing.T) {
			before := c.looked.Load()
			e, s := f.lookup(f.find(t, test.dir+"/__pycache__").NodeId, 1, test.name)
			if test.source == "" {
				if !s.Ok() || e.NodeId != 0 || e.EntryValid != forever {
					t.Errorf("%v, node %d, valid for %d; want a negative entry for good", s, e.NodeId, e.EntryValid)
				}
				if c.looked.Load() != before {
					t.Error("the compiler was asked")
				}
				return
			}
			if !s.Ok() || e.NodeId == 0 || e.EntryValid != forever || e.AttrValid != forever {
				t.Fatalf("%v, node %d, valid for %d and %d", s, e.NodeId, e.EntryValid, e.AttrValid)
			}
			py := f.find(t, test.dir+"/"+test.source).Attr
			content := f.content(t, e.NodeId, 1)
			if a := e.Attr; a.Mode != syscall.S_IFREG|0o644 || a.Mtime != py.Mtime || a.Nlink != 1 || a.Size != uint64(len(content)) {
				t.Errorf("%+v, want a regular file of %d bytes, mtime %d", a, len(content), py.Mtime)
			}
			if want := fmt.Sprintf("opt %d", test.opt); !strings.HasSuffix(content, want) {
				t.Errorf("content %q, want %s", content, want)
			}
			var out fuse.AttrOut
			in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}
			if s := f.GetAttr(nil, &in, &out); !s.Ok() || out.Attr != e.Attr {
				t.Errorf("GETATTR: %v, %+v, LOOKUP said %+v", s, out.Attr, e.Attr)
			}
		})
	}
	if _, s := f.lookup(f.find(t, "site/__pycache__/mod.cpython-312.pyc").NodeId, 1, "x"); s != fuse.ENOTDIR {
		t.Errorf("a name in a .pyc: %v, want ENOTDIR", s)
	}
}

// content reads a file as the process pid.
func (f fixture) content(t testing.TB, node uint64, pid uint32) string {
	t.Helper()
	b, s := f.readNode(node, pid, 0)
	if !s.Ok() {
		t.Fatal(s)
	}
	return b
}

func (f fixture) readNode(node uint64, pid uint32, off uint64) (string, fuse.Status) {
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node, Caller: fuse.Caller{Pid: pid}}, Offset: off}
	r, s := f.Read(nil, &in, make([]byte, 4096))
	if !s.Ok() {
		return "", s
	}
	defer r.Done()
	b, s := r.Bytes(nil)
	return string(b), s
}

func TestReadCode(t *testing.T) {
	f := newSources(t, Options{Bytecode: newCompiler(t, func(<-chan struct{}, tree.Attr, int) (string, bool) { return "0123456789", false })})
	node := f.find(t, "site/__pycache__/mod.cpython-312.pyc").NodeId
	for off, want := range map[uint64]string{0: "0123456789", 7: "789", 10: "", 1 << 62: ""} {
		if got, s := f.readNode(node, 1, off); got != want || !s.Ok() {
			t.Errorf("at %d: %q, %v, want %q", off, got, s, want)
		}
	}
}

// Whatever happens to the file of a .pyc, no program sees a part of it.
func TestReadDamagedCode(t *testing.T) {
	c := newCompiler(t, always)
	f := newSources(t, Options{Bytecode: c})
	node := f.find(t, "site/__pycache__/mod.cpython-312.pyc").NodeId
	path := c.path(source{digest.Of([]byte("x = 1\n")), 0})
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if got, s := f.readNode(node, 1, 0); s != fuse.EIO {
		t.Errorf("cut short: %q, %v, want EIO", got, s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, s := f.readNode(node, 1, 0); s != fuse.Status(syscall.ESTALE) {
		t.Errorf("removed: %q, %v, want ESTALE", got, s)
	}
	if d := digest.Of([]byte("x = 1\n")); !strings.Contains(f.log.String(), d.String()) {
		t.Errorf("%q does not name the source %s", f.log, d)
	}
}

func TestCodeThatIsNotThere(t *testing.T) {
	stale := fuse.Status(syscall.ESTALE)
	tests := []struct {
		name   string
		final  bool
		status fuse.Status
		valid  uint64
	}{
		{"for good", true, fuse.OK, forever},
		{"for now", false, fuse.ENOENT, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newSources(t, Options{Bytecode: newCompiler(t, func(<-chan struct{}, tree.Attr, int) (string, bool) { return "", test.final })})
			e, s := f.lookup(f.find(t, "site/__pycache__").NodeId, 1, "mod.cpython-312.pyc")
			if s != test.status || e.NodeId != 0 || e.EntryValid != test.valid {
				t.Errorf("%v, node %d, valid for %d, want %v, 0, %d", s, e.NodeId, e.EntryValid, test.status, test.valid)
			}
			in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: code.node(tree.ID(f.find(t, "site/mod.py").NodeId))}}
			if s := f.GetAttr(nil, &in, &fuse.AttrOut{}); s != stale {
				t.Errorf("GETATTR: %v, want %v", s, stale)
			}
		})
	}
}

func TestWithoutBytecode(t *testing.T) {
	f := newSources(t, Options{})
	dir := f.find(t, "site")
	if e, s := f.lookup(dir.NodeId, 1, "__pycache__"); !s.Ok() || e.NodeId != 0 || e.EntryValid != forever {
		t.Errorf("%v, node %d, valid for %d; want a negative entry for good", s, e.NodeId, e.EntryValid)
	}
	in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: cacheDir.node(tree.ID(dir.NodeId))}}
	if s := f.GetAttr(nil, &in, &fuse.AttrOut{}); s != fuse.Status(syscall.ESTALE) {
		t.Errorf("GETATTR: %v, want ESTALE", s)
	}
}

func TestStaleVariants(t *testing.T) {
	f := newSources(t, Options{Bytecode: newCompiler(t, always)})
	dir := tree.ID(f.find(t, "site").NodeId)
	file := tree.ID(f.find(t, "site/mod.py").NodeId)
	f.find(t, "site/__pycache__/mod.cpython-312.pyc")
	for _, node := range []uint64{
		cacheDir.node(file),
		code.node(dir),
		code.node(tree.ID(f.find(t, "site/link.py").NodeId)),
		cacheDir.node(1 << 20),
		code.node(1 << 20),
		codeOf(0, 0x123+1).node(file), // compiled anew since
		codeOf(maxOpt+1, 0x123).node(file),
		variant(15 << stampBits).node(file),
		code.node(0),
	} {
		in := fuse.InHeader{NodeId: node}
		if s := f.GetAttr(nil, &fuse.GetAttrIn{InHeader: in}, &fuse.AttrOut{}); s != fuse.Status(syscall.ESTALE) {
			t.Errorf("GETATTR of node %#x: %v, want ESTALE", node, s)
		}
		if _, s := f.readNode(node, 1, 0); s != fuse.Status(syscall.ESTALE) {
			t.Errorf("READ of node %#x: %v, want ESTALE", node, s)
		}
	}
}

func TestIDsAreUnique(t *testing.T) {
	for _, dir := range []string{"", "site", "site/pkg"} {
		t.Run(dir, func(t *testing.T) {
			f := newSources(t, Options{Dir: dir, Bytecode: newCompiler(t, always)})
			seen := make(map[uint64]string)
			add := func(path string, e fuse.EntryOut) {
				if before, ok := seen[e.NodeId]; ok {
					t.Errorf("%q and %q are node %#x", before, path, e.NodeId)
				}
				seen[e.NodeId] = path
			}
			var walk func(node uint64, path string)
			walk = func(node uint64, path string) {
				cache, _ := f.lookup(node, 1, "__pycache__")
				if cache.NodeId != 0 {
					add(path+"/__pycache__", cache)
				}
				for _, name := range f.names(t, node)[2:] {
					e, s := f.lookup(node, 1, name)
					if !s.Ok() {
						t.Fatal(name, s)
					}
					add(path+"/"+name, e)
					if e.Attr.Mode&syscall.S_IFMT == syscall.S_IFDIR {
						walk(e.NodeId, path+"/"+name)
					}
					stem, ok := strings.CutSuffix(name, ".py")
					for _, opt := range []string{"", ".opt-1", ".opt-2"} {
						if e, _ := f.lookup(cache.NodeId, 1, stem+".cpython-312"+opt+".pyc"); ok && e.NodeId != 0 {
							add(path+"/__pycache__/"+stem+opt, e)
							f.content(t, e.NodeId, 1)
						}
					}
				}
			}
			seen[fuse.FUSE_ROOT_ID] = "."
			walk(fuse.FUSE_ROOT_ID, ".")
			if dir == "" && len(seen) < 30 {
				t.Errorf("saw only %d nodes", len(seen))
			}
		})
	}
}

// A served directory has its __pycache__ under the kernel's number for a root.
func TestCacheOfTheServedDirectory(t *testing.T) {
	c := newCompiler(t, always)
	whole := newSources(t, Options{Bytecode: c})
	f := newSources(t, Options{Dir: "site", Bytecode: c})
	const path = "__pycache__/mod.cpython-312.pyc"
	if a, b := f.find(t, path), whole.find(t, "site/"+path); a != b {
		t.Errorf("%+v, in the whole tree %+v", a, b)
	}
	if a, b := f.find(t, "__pycache__").NodeId, whole.find(t, "site/__pycache__").NodeId; a != b {
		t.Errorf("__pycache__ is node %d, in the whole tree %d", a, b)
	}
}

// newModules serves a directory of n modules.
func newModules(t testing.TB, n int, b Bytecode) (f fixture, cache uint64) {
	t.Helper()
	store := blobs(t.TempDir())
	builder := tree.NewBuilder("test")
	for i := range n {
		content := fmt.Sprintf("x = %d\n", i)
		if err := builder.File(fmt.Sprintf("m%d.py", i), false, int64(len(content)), digest.Of([]byte(content))); err != nil {
			t.Fatal(err)
		}
	}
	f = serve(t, builder, store, Options{Bytecode: b})
	return f, f.find(t, "__pycache__").NodeId
}

func module(i int) string { return fmt.Sprintf("m%d.cpython-312.pyc", i) }

func TestProcessThatOnlyLooks(t *testing.T) {
	c := newCompiler(t, always)
	const n = 3000
	f, cache := newModules(t, n, c)
	const looker, importer, sameSlot = 77, 78, 77 + unreadSlots
	for i := range n - 10 {
		e, s := f.lookup(cache, looker, module(i))
		if i >= mostUnread && s != fuse.ENOENT {
			t.Fatalf("LOOKUP %d: %v, node %d, want ENOENT", i, s, e.NodeId)
		}
	}
	if got := c.compiled.Load(); got != mostUnread {
		t.Errorf("%d compiled for a process that reads none, want %d", got, mostUnread)
	}
	// What there is, it gets.
	e, s := f.lookup(cache, looker, module(0))
	if !s.Ok() || e.NodeId == 0 {
		t.Errorf("%v, node %d of a .pyc that is there", s, e.NodeId)
	}
	compiles := func(pid uint32, i int) bool {
		before := c.compiled.Load()
		f.lookup(cache, pid, module(i))
		return c.compiled.Load() > before
	}
	if !compiles(importer, n-1) {
		t.Error("not compiled for another process")
	}
	if compiles(looker, n-2) {
		t.Error("compiled because another process had something compiled")
	}
	f.content(t, e.NodeId, importer)
	if compiles(looker, n-2) {
		t.Error("compiled because another process read")
	}
	f.content(t, e.NodeId, sameSlot)
	if compiles(looker, n-2) {
		t.Error("compiled because a process that shares the slot read")
	}
	f.content(t, e.NodeId, looker)
	for i := range mostUnread {
		if !compiles(looker, n/2+i) {
			t.Fatalf("LOOKUP %d after a READ: not compiled", i)
		}
	}
	if compiles(looker, n-2) {
		t.Errorf("%d compiled after one READ, want %d", mostUnread+1, mostUnread)
	}
	if !compiles(sameSlot, n-2) {
		t.Error("not compiled for a process that shares the slot")
	}
}

// A compiler that is away for a while must not cost a process its compilations.
func TestUncompiledIsNotCounted(t *testing.T) {
	away := true
	c := newCompiler(t, nil)
	c.compile = func(cancel <-chan struct{}, a tree.Attr, opt int) (string, bool) {
		if away {
			return "", false
		}
		return always(cancel, a, opt)
	}
	const n = 5 * mostUnread
	f, cache := newModules(t, n, c)
	for i := range n {
		f.lookup(cache, 1, module(i))
	}
	away = false
	if e, s := f.lookup(cache, 1, module(0)); !s.Ok() || e.NodeId == 0 {
		t.Errorf("%v, node %d, want a .pyc", s, e.NodeId)
	}
}

// A source that can't be compiled costs as much as one that can.
func TestFailuresAreCounted(t *testing.T) {
	c := newCompiler(t, func(<-chan struct{}, tree.Attr, int) (string, bool) { return "", true })
	const n = 5 * mostUnread
	f, cache := newModules(t, n, c)
	for i := range n {
		f.lookup(cache, 1, module(i))
	}
	if got := c.compiled.Load(); got != mostUnread {
		t.Errorf("%d compiled for a process that reads none, want %d", got, mostUnread)
	}
	// One that is remembered costs nothing.
	const other = 2
	for range n {
		f.lookup(cache, other, module(0))
	}
	f.lookup(cache, other, module(n-1))
	if got := c.compiled.Load(); got != mostUnread+1 {
		t.Errorf("%d compiled after the failures of another process, want %d", got, mostUnread+1)
	}
}

func TestUsed(t *testing.T) {
	c := newCompiler(t, always)
	f, cache := newModules(t, 3, c)
	find := func(i int) uint64 {
		e, s := f.lookup(cache, 1, module(i))
		if !s.Ok() {
			t.Fatal(s)
		}
		return e.NodeId
	}
	made := find(0)
	if used := c.usedSoFar(); len(used) != 0 {
		t.Fatalf("%q used before a READ", used)
	}
	f.readNode(made, 2, 5)
	if used := c.usedSoFar(); len(used) != 0 {
		t.Fatalf("%q used after a READ of the middle", used)
	}
	f.content(t, made, 2)
	f.content(t, made, 1)
	want := []string{fmt.Sprintf("%d.0", f.find(t, "m0.py").NodeId)}
	if used := c.usedSoFar(); !slices.Equal(used, want) {
		t.Errorf("%q used, want %q, once", used, want)
	}
	// What was there before is none of its business.
	c.Lookup(nil, 0, tree.Attr{Digest: digest.Of([]byte("x = 1\n"))}, 0, true)
	f.content(t, find(1), 1)
	if used := c.usedSoFar(); !slices.Equal(used, want) {
		t.Errorf("%q used, want %q", used, want)
	}
}

func TestFreshOfOneSlot(t *testing.T) {
	var s fresh
	a := code.node(1)
	b := a + 1
	for s.slot(a) != s.slot(b) {
		b++
	}
	s.add(a)
	s.add(b)
	if s.take(a) {
		t.Error("a node whose place was taken is still there")
	}
	if !s.take(b) || s.take(b) {
		t.Error("a node is there not just once")
	}
}

func TestCancelReachesTheCompiler(t *testing.T) {
	f := newSources(t, Options{Bytecode: newCompiler(t, func(cancel <-chan struct{}, _ tree.Attr, _ int) (string, bool) {
		<-cancel
		return "", false
	})})
	cancel := make(chan struct{})
	close(cancel)
	in := fuse.InHeader{NodeId: f.find(t, "site/__pycache__").NodeId}
	if s := f.Lookup(cancel, &in, "mod.cpython-312.pyc", &fuse.EntryOut{}); s != fuse.ENOENT {
		t.Errorf("LOOKUP: %v, want ENOENT", s)
	}
	getattr := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: code.node(tree.ID(f.find(t, "site/mod.py").NodeId))}}
	if s := f.GetAttr(cancel, &getattr, &fuse.AttrOut{}); s != fuse.Status(syscall.ESTALE) {
		t.Errorf("GETATTR: %v, want ESTALE", s)
	}
}

// Many processes at once, for the race detector.
func TestConcurrentLookups(t *testing.T) {
	c := newCompiler(t, always)
	f, cache := newModules(t, 100, c)
	var wg sync.WaitGroup
	for pid := range uint32(8) {
		wg.Go(func() {
			for i := range 100 {
				e, s := f.lookup(cache, pid%4, module(i))
				if !s.Ok() {
					t.Error(s)
					return
				}
				if got, s := f.readNode(e.NodeId, pid%4, 0); !s.Ok() || !strings.HasPrefix(got, "bytecode of ") || strings.HasSuffix(got, trailer) {
					t.Errorf("module %d: %q, %v", i, got, s)
				}
			}
		})
	}
	wg.Wait()
}

// one is a Bytecode with one .pyc, in a file.
type one struct{ fd int }

func (one) Tag() string { return "cpython-312" }
func (one) Lookup(<-chan struct{}, tree.ID, tree.Attr, int, bool) (int64, uint16, bool) {
	return 10, 0xabc, false
}
func (o one) Open(tree.Attr, int, uint16) (int, int64, error) {
	fd, err := syscall.Dup(o.fd)
	return fd, 10, err
}
func (one) Used(tree.ID, int) {}

func newOne(t testing.TB) fixture {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if _, err := io.WriteString(file, "0123456789"); err != nil {
		t.Fatal(err)
	}
	return newSources(t, Options{Bytecode: one{int(file.Fd())}})
}

func TestNoAllocationsForBytecode(t *testing.T) {
	f := newOne(t)
	dir := fuse.InHeader{NodeId: f.find(t, "site").NodeId}
	cache := fuse.InHeader{NodeId: f.find(t, "site/__pycache__").NodeId}
	read := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: f.find(t, "site/__pycache__/mod.cpython-312.pyc").NodeId}}
	getattr := fuse.GetAttrIn{InHeader: read.InHeader}
	buf := make([]byte, 16384)
	var entry fuse.EntryOut
	var attr fuse.AttrOut
	tests := []struct {
		name string
		op   func()
	}{
		{"LOOKUP of __pycache__", func() { f.Lookup(nil, &dir, "__pycache__", &entry) }},
		{"LOOKUP", func() { f.Lookup(nil, &cache, "mod.cpython-312.opt-1.pyc", &entry) }},
		{"LOOKUP of an absent source", func() { f.Lookup(nil, &cache, "a_module_that_is_not_in_the_tree.cpython-312.pyc", &entry) }},
		{"GETATTR", func() { f.GetAttr(nil, &getattr, &attr) }},
		{"READ", func() {
			r, s := f.Read(nil, &read, buf)
			if s.Ok() {
				r.Done()
			}
		}},
	}
	for _, test := range tests {
		if n := testing.AllocsPerRun(100, test.op); n > 0 {
			t.Errorf("%s: %v allocations, want 0", test.name, n)
		}
	}
}

func BenchmarkLookupBytecode(b *testing.B) {
	f := newOne(b)
	in := fuse.InHeader{NodeId: f.find(b, "site/__pycache__").NodeId}
	var out fuse.EntryOut
	b.ReportAllocs()
	for b.Loop() {
		f.Lookup(nil, &in, "mod.cpython-312.pyc", &out)
	}
}

func BenchmarkReadBytecode(b *testing.B) {
	f := newOne(b)
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: f.find(b, "site/__pycache__/mod.cpython-312.pyc").NodeId}}
	buf := make([]byte, 16384)
	b.ReportAllocs()
	for b.Loop() {
		if r, s := f.Read(nil, &in, buf); s.Ok() {
			r.Done()
		}
	}
}
