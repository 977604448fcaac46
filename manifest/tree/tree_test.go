package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

var update = flag.Bool("update", false, "write testdata/format anew: only together with a new format version")

const (
	layout = "lib-python3.12"
	prefix = "/srv/venv"
	site   = "lib/python3.12/site-packages/"

	wheelTime = 1_700_000_000
	treeTime  = 1_800_000_000
)

var (
	wheelA = digest.Of([]byte("a-1-py3-none-any.whl"))
	wheelB = digest.Of([]byte("b-1-py3-none-any.whl"))
)

// tables is a Tables in memory that counts how often each was asked for.
type tables struct {
	mu    sync.Mutex
	bytes map[digest.Digest][]byte
	asked map[digest.Digest]int
}

func (t *tables) Table(wheel digest.Digest, name string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked[wheel]++
	b, ok := t.bytes[wheel]
	if !ok || name != layout {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buildWheel returns a table with one node of each kind that a wheel may have.
func buildWheel(t testing.TB, name string) []byte {
	b := NewBuilder(layout)
	b.Meta = []byte(name)
	content := func(path string) (int64, digest.Digest) { return int64(len(path)), digest.Of([]byte(path)) }
	for _, path := range []string{
		site + name + "/__init__.py",
		site + name + "/sub/__init__.py",
		site + name + "/sub/data.txt",
		site + name + "_top.py",
		site + name + ".so",
		"share/doc/" + name,
	} {
		size, d := content(path)
		check(t, b.File(path, strings.HasSuffix(path, ".so"), size, d))
	}
	check(t, b.Inline(site+name+"-1.dist-info/INSTALLER", false, []byte("sitefs\n")))
	check(t, b.Template("bin/"+name, true, []byte(MarkScript+"import "+name+"\n")))
	check(t, b.Template("bin/"+name+".py", true, []byte(MarkSource+"import "+name+"\n")))
	return must(b.Build(wheelTime))
}

// buildTree returns a tree of two wheels that share bin, share and
// site-packages, and the wheels' tables.
func buildTree(t testing.TB) ([]byte, *tables) {
	from := &tables{bytes: map[digest.Digest][]byte{}, asked: map[digest.Digest]int{}}
	b := NewBuilder(layout)
	b.Meta = []byte("manifest")
	for name, wheel := range map[string]digest.Digest{"a": wheelA, "b": wheelB} {
		from.bytes[wheel] = buildWheel(t, name)
	}
	for i, name := range []string{"a", "b"} {
		wheel := []digest.Digest{wheelA, wheelB}[i]
		tab := must(OpenTable(from.bytes[wheel]))
		number := b.Table(wheel, tab)
		for _, path := range []string{
			"bin/" + name, "bin/" + name + ".py", "share/doc/" + name,
			site + name, site + name + "_top.py", site + name + ".so", site + name + "-1.dist-info",
		} {
			check(t, b.Ref(path, number, must(tab.Find(path))))
		}
	}
	check(t, b.Template("bin/activate", false, []byte("VIRTUAL_ENV="+MarkShell+"\n")))
	check(t, b.Symlink("bin/python", "/usr/bin/python3.12"))
	check(t, b.Symlink("lib64", "lib"))
	check(t, b.Inline("pyvenv.cfg", false, []byte("home = /usr/bin\n")))
	check(t, b.Dir("include"))
	return must(b.Build(treeTime)), from
}

func openTree(t testing.TB) (*Tree, *tables) {
	own, from := buildTree(t)
	tr, err := Open(own, prefix, from)
	check(t, err)
	return tr, from
}

var allPaths = []string{
	"bin", "bin/a", "bin/a.py", "bin/activate", "bin/b", "bin/b.py", "bin/python",
	"include", "lib", "lib/python3.12", "lib/python3.12/site-packages",
	site + "a", site + "a/__init__.py", site + "a/sub", site + "a/sub/__init__.py", site + "a/sub/data.txt",
	site + "a-1.dist-info", site + "a-1.dist-info/INSTALLER", site + "a.so", site + "a_top.py",
	site + "b", site + "b/__init__.py", site + "b/sub", site + "b/sub/__init__.py", site + "b/sub/data.txt",
	site + "b-1.dist-info", site + "b-1.dist-info/INSTALLER", site + "b.so", site + "b_top.py",
	"lib64", "pyvenv.cfg", "share", "share/doc", "share/doc/a", "share/doc/b",
}

func TestWalk(t *testing.T) {
	tr, _ := openTree(t)
	var paths []string
	check(t, tr.Walk(func(path string, id ID, a Attr) error {
		paths = append(paths, path)
		if got, err := tr.Path(id); got != path {
			t.Errorf("Path(%d) = %q, %v; want %q", id, got, err, path)
		}
		if got, err := tr.Stat(id); got != a {
			t.Errorf("Stat(%q) = %+v, %v; the listing says %+v", path, got, err, a)
		}
		if gotID, got, err := tr.Find(path); gotID != id || got != a {
			t.Errorf("Find(%q) = %d, %+v, %v; the listing says %d, %+v", path, gotID, got, err, id, a)
		}
		return nil
	}))
	slices.Sort(paths)
	if want := slices.Sorted(slices.Values(allPaths)); !slices.Equal(paths, want) {
		t.Errorf("walked\n%q, want\n%q", paths, want)
	}
}

func TestWalkSkipsAndStops(t *testing.T) {
	tr, _ := openTree(t)
	var paths []string
	check(t, tr.Walk(func(path string, _ ID, a Attr) error {
		paths = append(paths, path)
		if path != "lib" && a.Kind == Dir {
			return fs.SkipDir
		}
		return nil
	}))
	if want := []string{"bin", "include", "lib", "lib/python3.12", "lib64", "pyvenv.cfg", "share"}; !slices.Equal(paths, want) {
		t.Errorf("walked %q, want %q", paths, want)
	}
	stop := errors.New("stop")
	if err := tr.Walk(func(string, ID, Attr) error { return stop }); err != stop {
		t.Errorf("Walk = %v, want the function's error", err)
	}
}

// TestSameIDs holds invariants 1 and 2: equal trees give equal ids, in any
// order of access, and every path has its own.
func TestSameIDs(t *testing.T) {
	first, _ := openTree(t)
	second, _ := openTree(t)
	seen := make(map[ID]string)
	for _, path := range allPaths {
		id, _, err := first.Find(path)
		check(t, err)
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q have the same id %d", path, other, id)
		}
		seen[id] = path
	}
	for _, path := range slices.Backward(allPaths) {
		id, _, err := second.Find(path)
		check(t, err)
		if seen[id] != path {
			t.Errorf("%q has id %d, which was %q in the first process", path, id, seen[id])
		}
	}
	if id, _, _ := first.Find(site + "b/sub"); id>>32 != 2 {
		t.Errorf("a directory of the second wheel has id %#x, want table 2", id)
	}
}

// TestMtime holds invariant 3.
func TestMtime(t *testing.T) {
	tr, _ := openTree(t)
	byDigest := func(d digest.Digest) int64 {
		return 315619200 + int64(binary.LittleEndian.Uint32(d[:])&0xfffffff)
	}
	tests := []struct {
		path string
		want int64
	}{
		{site + "a/__init__.py", byDigest(digest.Of([]byte(site + "a/__init__.py")))},
		{site + "a_top.py", byDigest(digest.Of([]byte(site + "a_top.py")))},
		{site + "a/sub/data.txt", wheelTime},
		{site + "a.so", wheelTime},
		{"bin/a", wheelTime},
		{site + "a-1.dist-info/INSTALLER", wheelTime},
		{"pyvenv.cfg", treeTime},
		{"bin/activate", treeTime},
		{"bin/python", treeTime},
	}
	for _, tt := range tests {
		if _, a, err := tr.Find(tt.path); err != nil || a.Mtime != tt.want {
			t.Errorf("mtime of %q = %d, %v; want %d", tt.path, a.Mtime, err, tt.want)
		}
	}
	for _, path := range []string{"include", "lib", site + "a", site + "a/sub"} {
		if _, a, err := tr.Find(path); err != nil || a.Mtime != byDigest(a.Digest) {
			t.Errorf("mtime of directory %q = %d, %v; want %d", path, a.Mtime, err, byDigest(a.Digest))
		}
	}
}

// TestDirectoryDigest shows that a directory's mtime changes with any child, at any depth.
func TestDirectoryDigest(t *testing.T) {
	build := func(change func(*Builder)) digest.Digest {
		b := NewBuilder(layout)
		check(t, b.File("d/keep", false, 1, digest.Of([]byte("1"))))
		change(b)
		tab := must(OpenTable(must(b.Build(0))))
		return must(tab.Find("d")).Digest
	}
	seen := make(map[digest.Digest]string)
	for name, change := range map[string]func(*Builder){
		"nothing":    func(*Builder) {},
		"file":       func(b *Builder) { check(t, b.File("d/f", false, 1, digest.Of([]byte("2")))) },
		"content":    func(b *Builder) { check(t, b.File("d/f", false, 1, digest.Of([]byte("3")))) },
		"executable": func(b *Builder) { check(t, b.File("d/f", true, 1, digest.Of([]byte("2")))) },
		"name":       func(b *Builder) { check(t, b.File("d/g", false, 1, digest.Of([]byte("2")))) },
		"deep":       func(b *Builder) { check(t, b.File("d/e/f", false, 1, digest.Of([]byte("2")))) },
		"symlink":    func(b *Builder) { check(t, b.Symlink("d/f", "2")) },
	} {
		d := build(change)
		if other, ok := seen[d]; ok {
			t.Errorf("%q and %q give the same directory digest", name, other)
		}
		seen[d] = name
	}
}

// TestTemplatePythonMtime shows that a Python file rendered for two prefixes
// has two modification times, since it has two contents.
func TestTemplatePythonMtime(t *testing.T) {
	own, from := buildTree(t)
	var mtimes []int64
	for _, p := range []string{"/one", "/two"} {
		tr, err := Open(own, p, from)
		check(t, err)
		_, a, err := tr.Find("bin/a.py")
		check(t, err)
		mtimes = append(mtimes, a.Mtime)
	}
	if mtimes[0] == mtimes[1] || mtimes[0] < epoch || mtimes[0] >= epoch+1<<mtimeBits {
		t.Errorf("mtimes %d, want two numbers from %d", mtimes, epoch)
	}
}

func TestAttributes(t *testing.T) {
	tr, _ := openTree(t)
	rendered := "#!/srv/venv/bin/python\nimport a\n"
	tests := []struct {
		path    string
		kind    Kind
		exec    bool
		size    int64
		subdirs uint32
	}{
		{"bin/a", Template, true, int64(len(rendered)), 0},
		{"bin/python", Symlink, false, int64(len("/usr/bin/python3.12")), 0},
		{site + "a.so", File, true, int64(len(site + "a.so")), 0},
		{"pyvenv.cfg", Inline, false, int64(len("home = /usr/bin\n")), 0},
		{"include", Dir, false, 0, 0},
		{site + "a", Dir, false, int64(3*len(site) + len("a/__init__.py") + len("a/sub/__init__.py") + len("a/sub/data.txt")), 1},
		{"lib/python3.12/site-packages", Dir, false, -1, 4},
		{"share", Dir, false, -1, 1},
	}
	for _, tt := range tests {
		_, a, err := tr.Find(tt.path)
		if err != nil || a.Kind != tt.kind || a.Exec != tt.exec || a.Subdirs != tt.subdirs || tt.size >= 0 && a.Size != tt.size {
			t.Errorf("%q: %+v, %v; want kind %d, exec %t, size %d, %d directories", tt.path, a, err, tt.kind, tt.exec, tt.size, tt.subdirs)
		}
	}
	id, _, err := tr.Find("bin/a")
	check(t, err)
	if b, err := tr.Bytes(id); string(b) != rendered {
		t.Errorf("Bytes = %q, %v; want %q", b, err, rendered)
	}
	if id, _, err = tr.Find("bin/python"); err != nil {
		t.Fatal(err)
	}
	if b, err := tr.Link(id); string(b) != "/usr/bin/python3.12" {
		t.Errorf("Link = %q, %v", b, err)
	}
}

func TestErrors(t *testing.T) {
	tr, _ := openTree(t)
	file, _, err := tr.Find("pyvenv.cfg")
	check(t, err)
	so, _, err := tr.Find(site + "a.so")
	check(t, err)
	look := func(id ID, name string) error { _, _, err := tr.Lookup(id, name); return err }
	stat := func(id ID) error { _, err := tr.Stat(id); return err }
	tests := []struct {
		name      string
		got, want error
	}{
		{"absent", look(Root, "nothing"), fs.ErrNotExist},
		{"between", look(Root, "lib32"), fs.ErrNotExist},
		{"empty name", look(Root, ""), fs.ErrNotExist},
		{"in a file", look(file, "x"), ErrNotDir},
		{"zero id", stat(0), ErrStale},
		{"no such index", stat(1 << 30), ErrStale},
		{"no such table", stat(3<<32 + 1), ErrStale},
		{"huge id", stat(1<<64 - 1), ErrStale},
		{"link of a file", func() error { _, err := tr.Link(file); return err }(), ErrKind},
		{"bytes of a blob", func() error { _, err := tr.Bytes(so); return err }(), ErrKind},
		{"child", func() error { c, _ := tr.Children(Root); _, _, _, err := c.At(c.Len()); return err }(), ErrStale},
		{"children of a file", func() error { _, err := tr.Children(file); return err }(), ErrNotDir},
	}
	for _, tt := range tests {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

// TestUntouchedTables shows that listing and lookup leave alone the tables
// whose nodes the tree's own references describe.
func TestUntouchedTables(t *testing.T) {
	tr, from := openTree(t)
	for _, path := range []string{"lib", site + "a", site + "b", site + "b_top.py", "share/doc", "bin/activate"} {
		_, _, err := tr.Find(path)
		check(t, err)
	}
	if len(from.asked) != 0 {
		t.Errorf("%d tables asked for, want none", len(from.asked))
	}
	for range 3 {
		_, _, err := tr.Find(site + "a/sub/data.txt")
		check(t, err)
	}
	if want := map[digest.Digest]int{wheelA: 1}; !maps.Equal(from.asked, want) {
		t.Errorf("asked for %v, want %v", from.asked, want)
	}
}

func TestConcurrentFirstTouch(t *testing.T) {
	tr, _ := openTree(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := tr.Walk(func(string, ID, Attr) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestWrongTable(t *testing.T) {
	own, from := buildTree(t)
	from.bytes[wheelA], from.bytes[wheelB] = from.bytes[wheelB], nil
	tr, err := Open(own, prefix, from)
	check(t, err)
	for _, path := range []string{site + "a.so", site + "b.so"} {
		if _, _, err := tr.Find(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Find(%q) = %v, want %v", path, err, ErrCorrupt)
		}
	}
	delete(from.bytes, wheelA)
	if _, _, err := tr.Find(site + "a.so"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the table: %v, want %v", err, fs.ErrNotExist)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	tr, _ := openTree(t)
	dir, _, err := tr.Find(strings.TrimSuffix(site, "/"))
	check(t, err)
	_, _, err = tr.Lookup(dir, "a.so")
	check(t, err)
	bin, _, err := tr.Find("bin")
	check(t, err)
	for _, tt := range []struct {
		dir  ID
		name string
	}{{dir, "a.so"}, {dir, "b"}, {dir, "nothing"}, {bin, "a"}, {bin, "a.py"}} {
		if n := testing.AllocsPerRun(100, func() {
			id, _, err := tr.Lookup(tt.dir, tt.name)
			if err == nil {
				_, err = tr.Stat(id)
			}
			if err != nil && err != fs.ErrNotExist {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Lookup and Stat of %q allocate %v times", tt.name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		c, err := tr.Children(dir)
		for i := 0; i < c.Len() && err == nil; i++ {
			_, _, _, err = c.At(i)
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("listing allocates %v times", n)
	}
}

// TestCreatedIsNoPartOfTheName shows that two machines name a table alike.
func TestCreatedIsNoPartOfTheName(t *testing.T) {
	b := NewBuilder(layout)
	check(t, b.Inline("f", false, []byte("x")))
	one, two := must(b.Build(1)), must(b.Build(2))
	if bytes.Equal(one, two) || must(OpenTable(one)).Digest() != must(OpenTable(two)).Digest() {
		t.Error("want different bytes with the same digest")
	}
	check(t, Verify(two))
	two[len(two)-1] ^= 1
	if err := Verify(two); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Verify of a changed table = %v, want %v", err, ErrCorrupt)
	}
}

// TestFormat holds the bytes of format version 1 for ever.
func TestFormat(t *testing.T) {
	own, from := buildTree(t)
	for name, got := range map[string][]byte{"tree": own, "a.table": from.bytes[wheelA], "b.table": from.bytes[wheelB]} {
		file := filepath.Join("testdata", "format", "v1", name)
		if *update {
			check(t, os.MkdirAll(filepath.Dir(file), 0o755))
			check(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what version 1 wrote", file)
		}
		check(t, Verify(want))
	}
}

// TestHeader reads a header and a node by the offsets that the package comment states.
func TestHeader(t *testing.T) {
	own, _ := buildTree(t)
	le := binary.LittleEndian
	nodes, tabs, names, data := le.Uint32(own[12:]), le.Uint32(own[16:]), le.Uint32(own[20:]), le.Uint32(own[24:])
	if string(own[:8]) != "sitefs\x00\x01" || tabs != 2 || le.Uint32(own[28:]) != uint32(len(layout)) || le.Uint32(own[32:]) != uint32(len("manifest")) || le.Uint64(own[40:]) != treeTime {
		t.Errorf("header %x", own[:80])
	}
	if got, want := len(own), 128+64*int(nodes)+64*int(tabs)+int(names)+int(data)+len(layout)+len("manifest"); got != want {
		t.Errorf("%d bytes, the header says %d", got, want)
	}
	if want := slices.Concat(wheelA[:]); !bytes.Equal(own[128+64*nodes:][:32], want) {
		t.Error("the first table is not wheel a's")
	}
	if !bytes.HasSuffix(own, []byte(layout+"manifest")) {
		t.Error("layout and meta are not the end")
	}
}

func TestBuilderRefuses(t *testing.T) {
	tests := []struct {
		name string
		add  func(*Builder) error
		want string
	}{
		{"twice", func(b *Builder) error { return b.Inline("d/f", false, nil) }, "exists"},
		{"below a file", func(b *Builder) error { return b.Inline("d/f/x", false, nil) }, "not a directory"},
		{"file over a directory", func(b *Builder) error { return b.Inline("d", false, nil) }, "exists"},
		{"directory over a file", func(b *Builder) error { return b.Dir("d/f") }, "not a directory"},
		{"absolute", func(b *Builder) error { return b.Inline("/f", false, nil) }, "no file name"},
		{"empty", func(b *Builder) error { return b.Inline("", false, nil) }, "no file name"},
		{"double slash", func(b *Builder) error { return b.Inline("d//f", false, nil) }, "no file name"},
		{"parent", func(b *Builder) error { return b.Inline("d/../f", false, nil) }, "no file name"},
		{"NUL", func(b *Builder) error { return b.Dir("d\x00") }, "no file name"},
		{"long", func(b *Builder) error { return b.Dir(strings.Repeat("x", 256)) }, "256 bytes"},
		{"unknown mark", func(b *Builder) error { return b.Template("t", false, []byte("\x00x")) }, "NUL"},
		{"half a mark", func(b *Builder) error { return b.Template("t", false, []byte("x\x00")) }, "NUL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder(layout)
			check(t, b.Inline("d/f", false, nil))
			if err := tt.add(b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// TestDeterministic shows that the order in which nodes are added is not seen.
func TestDeterministic(t *testing.T) {
	build := func(order []int) []byte {
		b := NewBuilder(layout)
		for _, i := range order {
			check(t, b.Inline(fmt.Sprintf("d%d/f%d", i%3, i), false, []byte{byte(i)}))
		}
		return must(b.Build(1))
	}
	if !bytes.Equal(build([]int{0, 1, 2, 3, 4, 5}), build([]int{5, 3, 1, 4, 0, 2})) {
		t.Error("the order of adding changes the bytes")
	}
}

// FuzzOpen walks whatever opens: no panic, and every error is one of ours.
func FuzzOpen(f *testing.F) {
	own, from := buildTree(f)
	f.Add(own, from.bytes[wheelA])
	f.Add(own[:headerSize], from.bytes[wheelA][:200])
	for _, off := range []int{offNodes, offTables, offNames, offData, offLayout, offMeta, headerSize + 4, headerSize + 16, headerSize + 20} {
		bad := slices.Clone(own)
		bad[off]++
		f.Add(bad, from.bytes[wheelA])
	}
	f.Fuzz(func(t *testing.T, own, table []byte) {
		from := tablesFunc(func() []byte { return table })
		tr, err := Open(own, prefix, from)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Open: %v, want %v", err, ErrCorrupt)
			}
			return
		}
		// Any table will do here; the digests of fuzzed ones never agree.
		for i := range tr.loaded {
			if tab, err := OpenTable(table); err == nil {
				tr.loaded[i].Store(tab)
			}
		}
		tr.Wheels()
		nodes := 0
		tooMany := errors.New("enough")
		err = tr.Walk(func(path string, id ID, a Attr) error {
			if nodes++; nodes > 1_000 {
				return tooMany // directories may share children in a corrupt table
			}
			tr.Bytes(id)
			tr.Link(id)
			tr.Path(id)
			tr.Lookup(id, "x")
			return nil
		})
		if err != nil && err != tooMany && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrStale) && !errors.Is(err, ErrNotDir) {
			t.Fatalf("Walk: %v", err)
		}
	})
}

type tablesFunc func() []byte

func (f tablesFunc) Table(digest.Digest, string) ([]byte, error) { return f(), nil }

func BenchmarkLookup(b *testing.B) {
	tr, _ := openTree(b)
	dir, _, _ := tr.Find(strings.TrimSuffix(site, "/"))
	for b.Loop() {
		tr.Lookup(dir, "b.so")
	}
}
