package store

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// newStore makes a store that must not warn.
func newStore(t *testing.T) *Store {
	t.Helper()
	return openStore(t, filepath.Join(t.TempDir(), "store"))
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{Warn: func(m string) { t.Errorf("warning: %s", m) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A testWheel is a wheel that a test makes.
type testWheel struct {
	filename string
	data     []byte
}

func (w testWheel) digest() digest.Digest { return digest.Of(w.data) }

// makeWheel makes a wheel with these files beside its metadata. RECORD says the
// truth, unless recorded has other bytes for a name.
func makeWheel(t *testing.T, name string, files, recorded map[string]string) testWheel {
	t.Helper()
	info := name + "-1.0.dist-info/"
	all := maps.Clone(files)
	all[info+"METADATA"] = "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1.0\n"
	all[info+"WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
	var record strings.Builder
	for _, path := range slices.Sorted(maps.Keys(all)) {
		content, other := recorded[path]
		if !other {
			content = all[path]
		}
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", path, digest.Of([]byte(content)).Record(), len(content))
	}
	fmt.Fprintf(&record, "%sRECORD,,\n", info)
	all[info+"RECORD"] = record.String()

	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: path, Method: zip.Deflate})
		if err == nil {
			_, err = w.Write([]byte(all[path]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return testWheel{name + "-1.0-py3-none-any.whl", b.Bytes()}
}

// demoWheel is a small wheel with two equal files.
func demoWheel(t *testing.T) testWheel {
	return makeWheel(t, "demo", map[string]string{
		"demo/__init__.py":     "",
		"demo/sub/__init__.py": "",
		"demo/core.py":         "answer = 42\n",
	}, nil)
}

func add(i *Ingest, w testWheel, o AddOptions) (Added, error) {
	return i.Add(context.Background(), bytes.NewReader(w.data), int64(len(w.data)), w.filename, o)
}

func newIngest(t *testing.T, s *Store) *Ingest {
	t.Helper()
	i, err := s.NewIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// ingest puts wheels into the store.
func ingest(t *testing.T, s *Store, wheels ...testWheel) {
	t.Helper()
	i := newIngest(t, s)
	for _, w := range wheels {
		if _, err := add(i, w, AddOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.Commit(); err != nil {
		t.Fatal(err)
	}
}

// expectWheel holds the store to having a wheel, whole: every blob hashes to
// its name.
func expectWheel(t *testing.T, s *Store, w testWheel) {
	t.Helper()
	if !s.HasWheel(w.digest()) {
		t.Fatalf("the store lacks wheel %q", w.filename)
	}
	info, err := s.Info(w.digest())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range info.Files {
		b, err := s.ReadBlob(f.Digest)
		if err != nil || digest.Of(b) != f.Digest || int64(len(b)) != f.Size {
			t.Errorf("file %q: its blob has %d bytes and the digest %v, %v; want %d and %v", f.Path, len(b), digest.Of(b), err, f.Size, f.Digest)
		}
	}
}

// expectFiles holds the number of files below a folder of the store.
func expectFiles(t *testing.T, s *Store, folder string, want int) {
	t.Helper()
	var found []string
	err := filepath.WalkDir(s.path(folder), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != want {
		t.Errorf("%s holds %q, %v, want %d files", folder, found, err, want)
	}
}

func expectNoTmp(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(entries) > 0 {
		t.Errorf("tmp holds %v, %v, want nothing", entries, err)
	}
}

// testTree makes a tree with one file of this content.
func testTree(t *testing.T, content string) []byte {
	t.Helper()
	b := tree.NewBuilder("lib-python3.12")
	if err := b.Inline("pyvenv.cfg", false, []byte(content)); err != nil {
		t.Fatal(err)
	}
	data, err := b.Build(1_700_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system or gives files away")
	}
}

// mountTmpfs mounts a tmpfs in a new directory.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", options)
	return dir
}

func TestDefaultDir(t *testing.T) {
	tests := []struct {
		name, store, xdg, home, want string
	}{
		{"SITEFS_STORE first", "/s", "/x", "/h", "/s"},
		{"then XDG_CACHE_HOME", "", "/x", "/h", "/x/sitefs"},
		{"a relative XDG_CACHE_HOME counts for nothing", "", "x", "/h", "/h/" + homeCache + "/sitefs"},
		{"then the home directory", "", "", "/h", "/h/" + homeCache + "/sitefs"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("SITEFS_STORE", test.store)
			t.Setenv("XDG_CACHE_HOME", test.xdg)
			t.Setenv("HOME", test.home)
			if got, err := DefaultDir(); got != test.want || err != nil {
				t.Errorf("DefaultDir is %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestOpenCreates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	s := openStore(t, dir)
	expectNoTmp(t, s)
	if b, err := os.ReadFile(filepath.Join(dir, "FORMAT")); string(b) != "sitefs store 1\n" {
		t.Errorf("FORMAT holds %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "README")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the store is %v, %v, want 0700", info.Mode(), err)
	}
	openStore(t, dir)
}

// TestOpenInterrupted opens what a creation that was killed leaves.
func TestOpenInterrupted(t *testing.T) {
	dir := newStore(t).Dir()
	for _, name := range []string{"FORMAT", "README", "known"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	ingest(t, openStore(t, dir), demoWheel(t))
}

// TestOpenExisting opens what is there and makes nothing.
func TestOpenExisting(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	empty := t.TempDir()
	for _, dir := range []string{absent, empty} {
		if _, err := Open(dir, Options{Existing: true}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want %v", err, fs.ErrNotExist)
		}
	}
	if _, err := os.Lstat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q was made: %v", absent, err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("%v was made, %v", left, err)
	}
	s, err := Open(newStore(t).Dir(), Options{Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDisplaced tells a store that stays from one that was moved, removed or made
// anew.
func TestDisplaced(t *testing.T) {
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		do   func(t *testing.T, dir string)
		want bool
	}{
		{"nothing", func(*testing.T, string) {}, false},
		{"moved", func(t *testing.T, dir string) { rename(t, dir, dir+" moved") }, true},
		{"moved and back", func(t *testing.T, dir string) {
			rename(t, dir, dir+" moved")
			rename(t, dir+" moved", dir)
		}, false},
		{"made anew", func(t *testing.T, dir string) {
			rename(t, dir, dir+" moved")
			openStore(t, dir)
		}, true},
		{"emptied and filled", func(t *testing.T, dir string) {
			rename(t, filepath.Join(dir, "blobs"), filepath.Join(dir, "blobs moved"))
			if err := os.Mkdir(filepath.Join(dir, "blobs"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := openStore(t, filepath.Join(t.TempDir(), "store"))
			test.do(t, s.Dir())
			if got := s.Displaced(); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	format := func(content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { write(t, filepath.Join(dir, "FORMAT"), content) }
	}
	tests := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		is    error
		want  []string // in the message
	}{
		{"newer format", format("sitefs store 2\n"), ErrFormat, []string{"format 2", "up to 1"}},
		{"older format", format("sitefs store 0\n"), ErrFormat, []string{"format 0", "want 1"}},
		{"no format", format("hello"), ErrFormat, []string{`"hello"`, "sitefs store 1"}},
		{"empty format", format(""), ErrFormat, []string{"sitefs store 1", "SITEFS_STORE"}},
		{"open to everybody", func(t *testing.T, dir string) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, ErrOwner, []string{"everybody may write", "chmod 700"}},
		{"not a store", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "FORMAT")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "thesis.tex"), "")
		}, ErrFormat, []string{"thesis.tex", "SITEFS_STORE"}},
		{"a file", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "")
		}, ErrFormat, []string{"not a directory", "SITEFS_STORE"}},
		{"another user's", func(t *testing.T, dir string) {
			needRoot(t)
			if err := os.Chown(dir, 65534, -1); err != nil {
				t.Fatal(err)
			}
		}, ErrOwner, []string{"user 65534", "user 0", "SITEFS_STORE"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := newStore(t).Dir()
			test.spoil(t, dir)
			s, err := Open(dir, Options{})
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, test.is) {
				t.Fatalf("error is %v, want %v", err, test.is)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnly serves from a store that can't be written to, and refuses what
// writes.
func TestReadOnly(t *testing.T) {
	w := demoWheel(t)
	rw := newStore(t)
	ingest(t, rw, w)
	sum, err := rw.PutTree(testTree(t, "home = /usr/bin\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rw.PutKnown(digest.Of([]byte("inputs")), KnownEntry{Tree: sum}); err != nil {
		t.Fatal(err)
	}
	if err := rw.Writable(); err != nil {
		t.Error(err)
	}
	makeReadOnly(t, rw.Dir())

	s := openStore(t, rw.Dir())
	expectWheel(t, s, w)
	if tr, err := s.OpenTree(sum, "/venv"); err != nil || tr.Digest() != sum {
		t.Errorf("open tree: %v", err)
	}
	if e, ok := s.Known(digest.Of([]byte("inputs"))); !ok || e.Tree != sum {
		t.Errorf("known: %v, %v", e, ok)
	}
	if list, err := s.Wheels(context.Background()); err != nil || len(list) != 1 || list[0].Name != "demo" {
		t.Errorf("wheels: %+v, %v", list, err)
	}
	if list, err := s.Trees(context.Background()); err != nil || len(list) != 1 || list[0].Digest != sum {
		t.Errorf("trees: %+v, %v", list, err)
	}
	lease, err := s.Lease(sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
	writers := map[string]func() error{
		"ingest":    func() error { _, err := s.NewIngest(context.Background()); return err },
		"put tree":  func() error { _, err := s.PutTree(testTree(t, "other\n")); return err },
		"put known": func() error { return s.PutKnown(digest.Digest{}, KnownEntry{}) },
		"cache":     func() error { return s.Cache("interp").Put("k", nil) },
		"downloads": func() error { _, err := s.Downloads(); return err },
		"scratch":   func() error { _, err := s.NewScratch(); return err },
		"writable":  s.Writable,
	}
	for name, write := range writers {
		if err := write(); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), s.Dir()) {
			t.Errorf("%s: error is %v, want %v and the store's name", name, err, ErrReadOnly)
		}
	}
}

// makeReadOnly takes the right to write away: from root by a mount, from
// others by the mode.
func makeReadOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() == 0 {
		mountReadOnly(t, dir)
		return
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
}

func TestTrees(t *testing.T) {
	s := newStore(t)
	data := testTree(t, "home = /usr/bin\n")
	sum, err := s.PutTree(data)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.PutTree(data)
	if err != nil || again != sum || !s.HasTree(sum) {
		t.Errorf("again: %v, %v, want %v", again, err, sum)
	}
	tr, err := s.OpenTree(sum, "/venv")
	if err != nil {
		t.Fatal(err)
	}
	if _, a, err := tr.Find("pyvenv.cfg"); err != nil || a.Size != int64(len("home = /usr/bin\n")) {
		t.Errorf("pyvenv.cfg has %d bytes, %v", a.Size, err)
	}
	if _, err := s.OpenTree(digest.Digest{}, "/venv"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tree that was never put: %v, want %v", err, fs.ErrNotExist)
	}
	spoilt := bytes.Clone(data)
	spoilt[len(spoilt)-20] ^= 1
	if _, err := s.PutTree(spoilt); !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("spoilt: %v, want %v", err, tree.ErrCorrupt)
	}
	other := digest.Of([]byte("other"))
	if err := os.Link(s.path(treeName(sum)), s.path(treeName(other))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenTree(other, "/venv"); !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("a tree under a wrong name: %v, want %v", err, tree.ErrCorrupt)
	}
	expectNoTmp(t, s)
}

func TestTables(t *testing.T) {
	s := newStore(t)
	const layout = "lib-python3.12"
	one, two := digest.Of([]byte("one")), digest.Of([]byte("two"))
	if _, err := s.Table(one, layout); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a table that was never put: %v, want %v", err, fs.ErrNotExist)
	}
	tables := map[digest.Digest][]byte{one: testTree(t, "1"), two: testTree(t, "2")}
	if err := s.PutTables(layout, tables); err != nil {
		t.Fatal(err)
	}
	for d, want := range tables {
		if got, err := s.Table(d, layout); err != nil || !bytes.Equal(got, want) {
			t.Errorf("table of %v has %d bytes, %v, want %d", d, len(got), err, len(want))
		}
	}
	if err := s.PutTables(layout, map[digest.Digest][]byte{one: []byte("no table")}); !errors.Is(err, tree.ErrCorrupt) {
		t.Errorf("no table: %v, want %v", err, tree.ErrCorrupt)
	}
	for _, bad := range []string{"", "info", "a/b"} {
		if _, err := s.Table(one, bad); err == nil {
			t.Errorf("layout %q is accepted", bad)
		}
	}
	expectNoTmp(t, s)
}

func TestKnown(t *testing.T) {
	s := newStore(t)
	sum, err := s.PutTree(testTree(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	key := digest.Of([]byte("inputs"))
	if _, ok := s.Known(key); ok {
		t.Error("inputs are known that nobody has told of")
	}
	for _, note := range []string{"first", "second"} {
		if err := s.PutKnown(key, KnownEntry{Tree: sum, Note: note}); err != nil {
			t.Fatal(err)
		}
		if e, ok := s.Known(key); !ok || e.Tree != sum || e.Note != note {
			t.Errorf("known: %+v, %v, want the note %q", e, ok, note)
		}
	}
	if err := s.PutKnown(key, KnownEntry{Tree: digest.Of([]byte("gone"))}); err != nil {
		t.Fatal(err)
	}
	if e, ok := s.Known(key); ok {
		t.Errorf("known: %+v, though its tree is gone", e)
	}
	expectNoTmp(t, s)
}

// TestTorn shows that a file that a power loss cut short counts as absent.
func TestTorn(t *testing.T) {
	s := newStore(t)
	c := s.Cache("interp")
	if _, ok := c.Get("python"); ok {
		t.Error("an empty cache has an answer")
	}
	const answer = `{"version": "3.12.1"}`
	if err := c.Put("python", []byte(answer)); err != nil {
		t.Fatal(err)
	}
	if b, ok := c.Get("python"); !ok || string(b) != answer {
		t.Errorf("answer is %q, %v, want %q", b, ok, answer)
	}
	if _, ok := s.Cache("answers").Get("python"); ok {
		t.Error("another cache has the answer too")
	}
	path := s.path(c.name("python"))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		write(t, path, string(whole[:n]))
		if b, ok := c.Get("python"); ok {
			t.Fatalf("after %d of %d bytes the answer is %q", n, len(whole), b)
		}
	}
}

// TestSweep shows that a sweep takes what is dead and leaves what lives.
func TestSweep(t *testing.T) {
	s := newStore(t)
	live, err := s.newStage()
	if err != nil {
		t.Fatal(err)
	}
	scratch, err := s.NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	lease, err := s.Lease(digest.Of([]byte("tree")))
	if err != nil {
		t.Fatal(err)
	}
	downloads, err := s.Downloads()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(downloads, "partial"), "")
	dead := []string{s.path("tmp", stagePrefix+"1"), s.path("tmp", filePrefix+"2"), s.path("leases", "3")}
	if err := os.Mkdir(dead[0], 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(dead[1:], filepath.Join(dead[0], "a")) {
		write(t, path, "")
	}
	if err := s.sweep(); err != nil {
		t.Fatal(err)
	}
	for _, path := range dead {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want it gone", path, err)
		}
	}
	for _, path := range []string{live.dir.Name(), scratch.Path(), lease.f.Name(), filepath.Join(downloads, "partial")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	dead = []string{s.path("tmp", stagePrefix+"4")}
	if err := os.Mkdir(dead[0], 0o700); err != nil {
		t.Fatal(err)
	}
	next, err := s.NewScratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q: %v, want it gone with the next scratch folder", dead[0], err)
	}
	if err := errors.Join(live.close(), scratch.Close(), next.Close(), lease.Close()); err != nil {
		t.Error(err)
	}
	expectFiles(t, s, "leases", 0)
	expectFiles(t, s, "tmp", 1) // the downloads
}

// TestNoCatalog does what a start with known inputs does while another process
// holds the catalog: nothing waits for it.
func TestNoCatalog(t *testing.T) {
	s := newStore(t)
	w := demoWheel(t)
	ingest(t, s, w)
	const layout = "lib-python3.12"
	if err := s.PutTables(layout, map[digest.Digest][]byte{w.digest(): testTree(t, "t")}); err != nil {
		t.Fatal(err)
	}
	sum, err := s.PutTree(testTree(t, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutKnown(sum, KnownEntry{Tree: sum}); err != nil {
		t.Fatal(err)
	}
	// Whoever opens this catalog fails at once.
	if err := errors.Join(os.RemoveAll(s.path("catalog.lock")), os.Mkdir(s.path("catalog.lock"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, s.Dir())
	if _, err := s.Wheels(context.Background()); err == nil {
		t.Fatal("the catalog can still be opened: the test shows nothing")
	}
	lease, err := s.Lease(sum)
	if err == nil {
		err = lease.Close()
	}
	if err != nil {
		t.Error(err)
	}
	if _, ok := s.Known(sum); !ok {
		t.Error("inputs are not known")
	}
	if _, err := s.OpenTree(sum, "/venv"); err != nil {
		t.Error(err)
	}
	if _, err := s.Table(w.digest(), layout); err != nil {
		t.Error(err)
	}
	expectWheel(t, s, w)
	if _, ok, err := s.WheelByHash(context.Background(), "sha256", w.digest().String()); !ok || err != nil {
		t.Errorf("by sha256: %v, %v", ok, err)
	}
}

func TestOpenBlob(t *testing.T) {
	s := newStore(t)
	ingest(t, s, demoWheel(t))
	fd, err := s.OpenBlob(digest.Of([]byte("answer = 42\n")))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, 100)
	if n, err := unix.Pread(fd, b, 9); err != nil || string(b[:n]) != "42\n" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if _, err := s.OpenBlob(digest.Of([]byte("none"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob that isn't there: %v, want %v", err, fs.ErrNotExist)
	}
}
