package materialize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

func (s *fakeStore) AddRoot(dir string, d digest.Digest) error {
	return os.WriteFile(filepath.Join(s.dir, "root"), []byte(dir+" "+d.String()), 0o600)
}

// A spot is a place for an environment, in a folder of its own.
type spot struct {
	t      *testing.T
	store  *fakeStore
	dest   string
	sys    system
	warned []string
}

func newSpot(t *testing.T) *spot {
	return &spot{t: t, store: newStore(t), dest: filepath.Join(t.TempDir(), "venv"), sys: kernel}
}

// put materializes tr, by copy unless o says otherwise.
func (s *spot) put(tr *tree.Tree, o Options) (*Report, error) {
	if o.Mode == Auto {
		o.Mode = Copy
	}
	o.Warn = func(text string) { s.warned = append(s.warned, text) }
	return materializeOn(context.Background(), s.sys, s.store, tr.Digest(), s.dest, o)
}

func (s *spot) mustPut(tr *tree.Tree, o Options) *Report {
	s.t.Helper()
	r, err := s.put(tr, o)
	check(s.t, err)
	return r
}

// expect holds what is at the spot to being tr, and to having nothing beside it.
func (s *spot) expect(tr *tree.Tree, extra ...string) {
	s.t.Helper()
	mark, err := ReadMark(s.dest)
	check(s.t, err)
	if mark.Tree != tr.Digest() || mark.Prefix != s.dest {
		s.t.Errorf("mark: %+v, want tree %v, prefix %q", mark, tr.Digest(), s.dest)
	}
	want, err := s.store.OpenTree(tr.Digest(), s.dest)
	check(s.t, err)
	found, err := verify.Tree(context.Background(), want, s.dest, verify.Options{Deep: true, Ignore: Own, BlobPath: s.store.BlobPath})
	check(s.t, err)
	if !found.Whole() || !slices.Equal(found.Extra, extra) {
		s.t.Errorf("%q: %+v, want extra %q", s.dest, found, extra)
	}
	s.expectAlone()
}

func (s *spot) expectAlone() {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.dest))
	check(s.t, err)
	for _, e := range entries {
		if e.Name() != filepath.Base(s.dest) {
			s.t.Errorf("%q is left beside %q", e.Name(), s.dest)
		}
	}
}

// write adds a file of the user's.
func (s *spot) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dest, name)
	check(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(s.t, os.WriteFile(path, []byte(text), 0o600))
}

func (s *spot) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dest, name))
	check(s.t, err)
	return string(b)
}

// with returns demo with other files.
func with(more files) files {
	all := maps.Clone(demo)
	maps.Copy(all, more)
	return all
}

var other = with(files{"lib/site/a/mod.py": "x = 2\n", "lib/site/c/new.py": "y = 1\n"})

func TestMaterialize(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)

	r := s.mustPut(one, Options{})
	s.expect(one)
	if r.Unchanged || r.Dest != s.dest || r.Tree != one.Digest().String() || r.Files == 0 {
		t.Errorf("report: %+v", r)
	}
	info, err := os.Stat(s.dest)
	check(t, err)
	root, err := one.Stat(tree.Root)
	check(t, err)
	if want := time.Unix(root.Mtime, 0); info.ModTime() != want {
		t.Errorf("the top directory's time is %v, want the tree's, %v", info.ModTime(), want)
	}

	if r := s.mustPut(one, Options{}); !r.Unchanged || r.Mode != "copy" {
		t.Errorf("again: %+v, want unchanged", r)
	}
	open, err := os.Open(filepath.Join(s.dest, "lib/site/a/mod.py"))
	check(t, err)
	defer open.Close()
	if r := s.mustPut(two, Options{}); r.Unchanged || r.Reused == 0 {
		t.Errorf("another tree: %+v", r)
	}
	s.expect(two)
	b := make([]byte, 6)
	if _, err := open.Read(b); err != nil || string(b) != "x = 1\n" {
		t.Errorf("a file that was open all the time reads %q, %v", b, err)
	}
	if len(s.warned) > 0 {
		t.Errorf("warnings: %q", s.warned)
	}
}

// TestMaterializeAgain: what makes a directory another one than was asked for.
func TestMaterializeAgain(t *testing.T) {
	tests := []struct {
		name string
		do   func(s *spot)
		o    Options
		warn string
	}{
		{"lost file", func(s *spot) { check(s.t, os.Remove(filepath.Join(s.dest, "lib/site/a/mod.py"))) }, Options{}, "had lost lib/site/a/mod.py"},
		{"edited file", func(s *spot) { s.write("lib/site/a/mod.py", "x = 3\n") }, Options{}, "other contents than its packages in lib/site/a/mod.py"},
		{"lost symlink", func(s *spot) { check(s.t, os.Remove(filepath.Join(s.dest, "lib64"))) }, Options{}, "had lost lib64"},
		{"other mode", func(*spot) {}, Options{Mode: Hardlink}, ""},
		{"compiled", func(*spot) {}, Options{Compiled: true}, ""},
		{"extra", func(s *spot) { s.write("lib/site/mine.py", "") }, Options{DiscardExtra: true}, "lib/site/mine.py; it is gone"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpot(t)
			tr := s.store.tree(t, demo)
			s.mustPut(tr, Options{})
			test.do(s)
			if r := s.mustPut(tr, test.o); r.Unchanged {
				t.Errorf("unchanged: %+v", r)
			}
			s.expect(tr)
			if got := strings.Join(s.warned, "\n"); !strings.Contains(got, test.warn) || (test.warn == "") != (got == "") {
				t.Errorf("warnings %q, want %q", got, test.warn)
			}
		})
	}
}

func TestMaterializeRefuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(s *spot)
		o    Options
		want string
	}{
		{"foreign", func(s *spot) { s.write("notes.txt", "mine") }, Options{}, "--force"},
		{"file", func(s *spot) { check(s.t, os.WriteFile(s.dest, nil, 0o600)) }, Options{Force: true}, "is no directory"},
		{"symlink", func(s *spot) { check(s.t, os.Symlink("elsewhere", s.dest)) }, Options{Force: true}, `symbolic link to "elsewhere"`},
		{"the store", func(s *spot) { s.dest = filepath.Dir(s.store.dir) }, Options{Force: true}, "holds the store"},
		{"a blob folder", func(s *spot) { s.dest = filepath.Join(s.store.dir, "blobs", "venv") }, Options{Force: true}, "is in the store"},
		{"the store by a symlink", func(s *spot) {
			link := filepath.Join(filepath.Dir(s.dest), "link")
			check(s.t, os.Symlink(s.store.dir, link))
			s.dest = filepath.Join(link, "new", "venv")
		}, Options{Force: true}, "is in the store"},
		{"where the user is", func(s *spot) { s.write("src/main.py", ""); s.t.Chdir(filepath.Join(s.dest, "src")) }, Options{Force: true}, "you are in it"},
		{"root", func(s *spot) { s.dest = "/" }, Options{Force: true}, "holds the store"},
		{"mark of another format", func(s *spot) { s.write(MarkName, `{"format": 2}`) }, Options{}, "has format 2, this sitefs knows 1"},
		{"torn mark", func(s *spot) { s.write(MarkName, `{"for`) }, Options{}, "unexpected end"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpot(t)
			beside := filepath.Dir(s.dest)
			test.do(s)
			_, err := s.put(s.store.tree(t, demo), test.o)
			if !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want ErrDest with %q", err, test.want)
			}
			left, err := filepath.Glob(filepath.Join(beside, ".*.sitefs-*"))
			if check(t, err); len(left) > 0 {
				t.Errorf("left are %q", left)
			}
		})
	}
}

func TestMaterializeForce(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.write("pyvenv.cfg", "another tool's")
	s.mustPut(tr, Options{Force: true})
	s.expect(tr)
}

func TestMaterializeEmptyDir(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	check(t, os.Mkdir(s.dest, 0o700))
	s.mustPut(tr, Options{})
	s.expect(tr)
}

// TestMaterializeTreeGone: without the old tree nobody knows what the user added.
func TestMaterializeTreeGone(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	delete(s.store.trees, one.Digest())
	if _, err := s.put(two, Options{}); !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), "--discard-extra") {
		t.Errorf("error %v, want ErrDest that names --discard-extra", err)
	}
	s.mustPut(two, Options{DiscardExtra: true})
	s.expect(two)
}

func TestMaterializeKeepsExtra(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	s.write("lib/site/mine.py", "mine")
	s.write("lib/site/c/added.txt", "beside what is new")
	s.write("lib/site/c/__pycache__/new.cpython-312.pyc", "bytecode")
	s.write("gone/deep/er.txt", "deep")
	check(t, os.Symlink("mine.py", filepath.Join(s.dest, "lib/site/link.py")))
	r := s.mustPut(two, Options{})
	want := []string{"gone/", "lib/site/c/", "lib/site/link.py", "lib/site/mine.py"}
	if !slices.Equal(r.Kept, want) {
		t.Errorf("kept %q, want %q", r.Kept, want)
	}
	s.expect(two, "gone/", "lib/site/c/added.txt", "lib/site/link.py", "lib/site/mine.py")
	if got := s.read("lib/site/link.py") + s.read("gone/deep/er.txt"); got != "minedeep" {
		t.Errorf("kept files read %q", got)
	}
	if r := s.mustPut(two, Options{}); !r.Unchanged || len(r.Kept) != 4 {
		t.Errorf("again: %+v, want unchanged, with what is kept", r)
	}
}

// TestKept: what the check of a new environment takes for the user's.
func TestKept(t *testing.T) {
	p := &placement{report: Report{Kept: []string{"a-b", "a/b/c.txt", "d-e/", "d/", "lib/mine.py"}}}
	tests := map[string]bool{
		"a-b":           true,
		"a":             true, // which the new tree has no more
		"a/b":           true,
		"a/b/c.txt":     true,
		"a/b/d.txt":     false,
		"a/c":           false,
		"a-b/x":         false,
		"d":             true,
		"d/x":           true, // beside what the new tree has in d
		"d/y/z":         true,
		"d-e/x":         true,
		"d-f":           false,
		"lib/mine.py":   true,
		"lib/mine.pyc":  false,
		"lib/yours.py":  false,
		"lib/mine.py/x": false,
		"z":             false,
	}
	for path, want := range tests {
		if got := p.kept(path); got != want {
			t.Errorf("kept(%q) = %v, want %v", path, got, want)
		}
	}
	if new(placement).kept("a") {
		t.Error("where nothing is kept a is kept")
	}
}

// TestKeeperCopies: what can't be linked is copied, with its mode and time.
func TestKeeperCopies(t *testing.T) {
	for _, errno := range unlinkable {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			dir := t.TempDir()
			at := time.Unix(1e9, 0)
			for _, name := range []string{"old/sub", "new"} {
				check(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
			}
			file := filepath.Join(dir, "old/sub/tool")
			check(t, os.WriteFile(file, []byte("text"), 0o700))
			check(t, os.Chtimes(file, at, at))
			check(t, os.Symlink("tool", filepath.Join(dir, "old/sub/link")))
			root, err := os.OpenRoot(dir)
			check(t, err)
			defer root.Close()
			k := &keeper{ctx: context.Background(), root: root, link: func(string, string) error { return errno }, from: "old", to: "new"}
			check(t, k.extra("sub"))
			info, err := os.Stat(filepath.Join(dir, "new/sub/link"))
			check(t, err)
			if info.Mode() != 0o700 || !info.ModTime().Equal(at) || info.Size() != 4 {
				t.Errorf("%v %v %d, want -rwx------ %v 4", info.Mode(), info.ModTime(), info.Size(), at)
			}
			check(t, unix.Mkfifo(filepath.Join(dir, "old/pipe"), 0o600))
			if err := k.extra("pipe"); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
				t.Errorf("a pipe: %v", err)
			}
		})
	}
}

// TestMaterializeClash: a file of the user's is never replaced unsaid.
func TestMaterializeClash(t *testing.T) {
	tests := []struct{ name, path, text string }{
		{"other content", "lib/site/c/new.py", "y = 3\n"},
		{"folder for a file", "lib/site/c/new.py/x", ""},
		{"file for a folder", "lib/site/c", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpot(t)
			one, two := s.store.tree(t, demo), s.store.tree(t, other)
			s.mustPut(one, Options{})
			s.write(test.path, test.text)
			if _, err := s.put(two, Options{}); !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), "lib/site/c") {
				t.Errorf("error %v, want ErrDest that names the file", err)
			}
			if got := s.read(test.path); got != test.text {
				t.Errorf("the user's file reads %q", got)
			}
			s.mustPut(two, Options{DiscardExtra: true})
			s.expect(two)
		})
	}

	t.Run("folder for a file of both", func(t *testing.T) {
		s := newSpot(t)
		one, two := s.store.tree(t, demo), s.store.tree(t, other)
		s.mustPut(one, Options{})
		check(t, os.Remove(filepath.Join(s.dest, "lib/site/a/mod.py")))
		s.write("lib/site/a/mod.py/notes", "mine")
		if _, err := s.put(two, Options{}); !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), "lib/site/a/mod.py") {
			t.Errorf("error %v, want ErrDest that names the folder", err)
		}
		if got := s.read("lib/site/a/mod.py/notes"); got != "mine" {
			t.Errorf("the user's file reads %q", got)
		}
		s.mustPut(two, Options{DiscardExtra: true})
		s.expect(two)
	})

	t.Run("same content", func(t *testing.T) {
		s := newSpot(t)
		one, two := s.store.tree(t, demo), s.store.tree(t, other)
		s.mustPut(one, Options{})
		s.write("lib/site/c/new.py", "y = 1\n")
		s.mustPut(two, Options{})
		s.expect(two)
	})
}

// TestMaterializeFails: an error leaves the old environment, and nothing else.
func TestMaterializeFails(t *testing.T) {
	for _, present := range []bool{true, false} {
		t.Run(fmt.Sprint("present=", present), func(t *testing.T) {
			s := newSpot(t)
			one, two := s.store.tree(t, demo), s.store.tree(t, other)
			if present {
				s.mustPut(one, Options{})
			}
			fail := func(string, string) error { return unix.EIO }
			s.sys.exchange, s.sys.renameNew = fail, fail
			if _, err := s.put(two, Options{}); !errors.Is(err, unix.EIO) {
				t.Errorf("error %v, want EIO", err)
			}
			if present {
				s.expect(one)
			} else {
				s.expectAlone()
			}
		})
	}
}

func TestMaterializeInterrupted(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	ctx, cancel := context.WithCancelCause(context.Background())
	s.sys.copyRange = func(int, int, int64) (int64, error) {
		cancel(fmt.Errorf("a signal: %w", context.Canceled))
		return 1, nil
	}
	_, err := materializeOn(ctx, s.sys, s.store, tr.Digest(), s.dest, Options{Mode: Copy})
	if want := fmt.Sprintf("%q was not made: interrupted: a signal: context canceled", s.dest); !errors.Is(err, context.Canceled) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	s.expectAlone()
}

// TestMaterializeInterruptedLate: once the new environment is in place nothing ends
// the run before the old one is gone.
func TestMaterializeInterruptedLate(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	s.sys.exchange = func(a, b string) error {
		cancel()
		return kernel.exchange(a, b)
	}
	_, err := materializeOn(ctx, s.sys, s.store, two.Digest(), s.dest, Options{Mode: Copy})
	check(t, err)
	s.expect(two)
}

// TestMaterializeOvertaken: what another program puts there meanwhile stays.
func TestMaterializeOvertaken(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	held, err := os.Open(s.dest) // so that its inode's number isn't used again
	check(t, err)
	defer held.Close()
	s.sys.copyRange = func(to, from int, n int64) (int64, error) {
		check(t, os.RemoveAll(s.dest))
		s.write("notes", "mine")
		return kernel.copyRange(to, from, n)
	}
	if _, err := s.put(two, Options{}); !errors.Is(err, ErrDest) {
		t.Errorf("error %v, want ErrDest", err)
	}
	if got := s.read("notes"); got != "mine" {
		t.Errorf("the other program's file reads %q", got)
	}
	s.expectAlone()
}

// TestMaterializeSpelled: one place, however it is written, has one lock.
func TestMaterializeSpelled(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	parent := filepath.Dir(s.dest)
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(parent, link))
	t.Chdir(parent)
	for _, dest := range []string{"venv", "./venv/", parent + "//venv/.", "absent/../venv", link + "/venv"} {
		site, err := openSite(context.Background(), kernel, s.dest, nil)
		check(t, err)
		waited := false
		r, err := Materialize(context.Background(), s.store, tr.Digest(), dest, Options{Mode: Copy, Prefix: s.dest, Warn: func(string) {
			waited = true
			site.close()
		}})
		check(t, err)
		if !waited || r.Unchanged != (dest != "venv") {
			t.Errorf("%s: waited %v, %+v", dest, waited, r)
		}
		s.expect(tr)
	}
}

// TestMaterializeNested: an environment within another one outlives its change.
func TestMaterializeNested(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	inner := *s
	inner.dest = filepath.Join(s.dest, "lib", "inner")
	inner.mustPut(one, Options{})
	s.mustPut(two, Options{})
	s.expect(two, "lib/inner/")
	if r := inner.mustPut(one, Options{}); !r.Unchanged {
		t.Errorf("the inner one: %+v, want unchanged", r)
	}
}

// TestMaterializeTwoSteps: a file system that can't exchange directories.
func TestMaterializeTwoSteps(t *testing.T) {
	for _, errno := range unexchangeable {
		t.Run(unix.ErrnoName(errno), func(t *testing.T) {
			s := newSpot(t)
			one, two := s.store.tree(t, demo), s.store.tree(t, other)
			refuse := func(string, string) error { return errno }
			s.sys.exchange, s.sys.renameNew = refuse, refuse
			s.mustPut(one, Options{})
			s.expect(one)
			s.write("mine", "")
			s.mustPut(two, Options{})
			s.expect(two, "mine")
		})
	}
}

// TestMaterializeStepFails: if one of two steps fails the old environment is put
// back, or else the next run completes them.
func TestMaterializeStepFails(t *testing.T) {
	tests := []struct {
		name  string
		fails []int // of the renames, from 1
		back  bool
	}{
		{"first", []int{1}, true},
		{"second", []int{2}, true},
		{"second, and the way back", []int{2, 3}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpot(t)
			one, two := s.store.tree(t, demo), s.store.tree(t, other)
			s.mustPut(one, Options{})
			s.sys.exchange = func(string, string) error { return unix.EINVAL }
			n := 0
			s.sys.rename = func(a, b string) error {
				if n++; slices.Contains(test.fails, n) {
					return unix.EIO
				}
				return os.Rename(a, b)
			}
			if _, err := s.put(two, Options{}); !errors.Is(err, unix.EIO) {
				t.Errorf("error %v, want EIO", err)
			}
			if test.back {
				s.expect(one)
				return
			}
			if r := s.mustPut(two, Options{}); !r.Unchanged {
				t.Errorf("%+v, want unchanged: the steps were completed", r)
			}
			s.expect(two)
		})
	}
}

// TestMaterializeJournal: a run that died between the steps is completed by the
// next one, whatever that is to make.
func TestMaterializeJournal(t *testing.T) {
	for _, dead := range []struct {
		name string
		do   func(s *spot, site *site, made string)
	}{
		{"before the first step", func(s *spot, site *site, made string) {}},
		{"between the steps", func(s *spot, site *site, made string) {
			check(s.t, os.Rename(s.dest, site.newName()))
		}},
		{"in the first step, on an overlay", func(s *spot, site *site, made string) {
			check(s.t, os.RemoveAll(filepath.Join(s.dest, "bin")))
		}},
		{"after the second step", func(s *spot, site *site, made string) {
			check(s.t, os.Rename(s.dest, site.newName()))
			check(s.t, os.Rename(made, s.dest))
		}},
	} {
		t.Run(dead.name, func(t *testing.T) {
			s := newSpot(t)
			one, two := s.store.tree(t, demo), s.store.tree(t, other)
			s.mustPut(two, Options{})
			site, err := openSite(context.Background(), kernel, s.dest, nil)
			check(t, err)
			made := site.newName()
			check(t, os.Rename(s.dest, made))
			s.writeTree(one)
			check(t, site.begun(made))
			dead.do(s, site, made)
			site.close()
			if r := s.mustPut(two, Options{}); !r.Unchanged {
				t.Errorf("%+v, want unchanged: it was made by the dead run", r)
			}
			s.expect(two)
		})
	}
}

// TestMaterializeForeignJournal: in a folder like /tmp another user's journal could
// put his directory in the place of our environment.
func TestMaterializeForeignJournal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{})
	site, err := openSite(context.Background(), kernel, s.dest, nil)
	check(t, err)
	made := site.newName()
	check(t, os.Mkdir(made, 0o755))
	check(t, site.begun(made))
	site.close()
	journal := site.path(journalSuffix)
	check(t, os.Chown(journal, 12345, -1))
	if _, err := s.put(tr, Options{}); err == nil || !strings.Contains(err.Error(), "is of user 12345") {
		t.Errorf("error %v, want one that says whose the journal is", err)
	}
	check(t, os.Remove(journal))
	s.mustPut(tr, Options{})
	s.expect(tr)
}

// writeTree writes an environment without locking the spot.
func (s *spot) writeTree(tr *tree.Tree) {
	s.t.Helper()
	aside := *s
	aside.dest = filepath.Join(s.t.TempDir(), "venv")
	aside.mustPut(tr, Options{Prefix: s.dest})
	check(s.t, os.Rename(aside.dest, s.dest))
}

// TestMaterializeLeftovers: what dead runs left goes, and nothing that looks alike.
func TestMaterializeLeftovers(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	parent := filepath.Dir(s.dest)
	for _, name := range []string{".venv.sitefs-0123456789/a", ".venv.sitefs-0123456789/sub/b", ".venv.sitefs-notours/a", ".venv2.sitefs-0123456789/a"} {
		path := filepath.Join(parent, name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o755))
		check(t, os.WriteFile(path, nil, 0o600))
	}
	check(t, os.Chmod(filepath.Join(parent, ".venv.sitefs-0123456789/sub"), 0o500))
	s.mustPut(tr, Options{})
	entries, err := os.ReadDir(parent)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{".venv.sitefs-notours", ".venv2.sitefs-0123456789", "venv"}; !slices.Equal(names, want) {
		t.Errorf("left are %q, want %q", names, want)
	}
}

// TestMaterializeWaits: the second run of two waits, and finds nothing to do.
func TestMaterializeWaits(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	entered, go_ := make(chan struct{}), make(chan struct{})
	first := *s
	first.sys.renameNew = func(a, b string) error {
		close(entered)
		<-go_
		return kernel.renameNew(a, b)
	}
	done := make(chan error, 1)
	go func() {
		_, err := first.put(tr, Options{})
		done <- err
	}()
	<-entered
	var waits []string
	r, err := Materialize(context.Background(), s.store, tr.Digest(), s.dest, Options{Mode: Copy, Warn: func(text string) {
		waits = append(waits, text)
		close(go_)
	}})
	check(t, err)
	check(t, <-done)
	if want := fmt.Sprintf("process %d is at work on %s: waiting for it", os.Getpid(), s.dest); !slices.Equal(waits, []string{want}) || !r.Unchanged {
		t.Errorf("said %q and reported %+v, want %q and nothing to do", waits, r, want)
	}
	s.expect(tr)
}

// TestHolder: what another user wrote to the lock file is not put on the terminal.
func TestHolder(t *testing.T) {
	for text, want := range map[string]string{"": "another process", "17\n": "process 17", "\x1b[2J": "another process", strings.Repeat("1", 99): "another process"} {
		f, err := os.Create(filepath.Join(t.TempDir(), "lock"))
		check(t, err)
		defer f.Close()
		_, err = f.WriteString(text)
		check(t, err)
		if got := holder(f); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
}

// TestMaterializeSticky: root is denied to create what another user's dead run left
// in a folder like /tmp, and takes it over all the same.
func TestMaterializeSticky(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	parent := filepath.Dir(s.dest)
	check(t, os.Chmod(parent, fs.ModeSticky|0o777))
	lock := filepath.Join(parent, ".venv.sitefs-lock")
	check(t, os.WriteFile(lock, nil, 0o600))
	check(t, os.Chown(lock, 12345, 12345))
	s.mustPut(tr, Options{})
	s.expect(tr)
}

// TestMaterializeWaitEnds: nobody has to wait.
func TestMaterializeWaitEnds(t *testing.T) {
	s := newSpot(t)
	site, err := openSite(context.Background(), kernel, s.dest, nil)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = openSite(ctx, kernel, s.dest, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	site.close()
	s.expectAlone()
}

func TestMaterializeSymlinks(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{Mode: Symlink})
	s.expect(tr)
	root, err := os.ReadFile(filepath.Join(s.store.dir, "root"))
	check(t, err)
	if want := s.dest + " " + tr.Digest().String(); string(root) != want {
		t.Errorf("noted root %q, want %q", root, want)
	}
	if r := s.mustPut(tr, Options{Mode: Symlink}); !r.Unchanged {
		t.Errorf("again: %+v, want unchanged", r)
	}
}

// TestMaterializeOtherStore: symlinks lead to the store that was asked, and those to
// another one are nothing that the user wrote.
func TestMaterializeOtherStore(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{Mode: Symlink})
	s.store = newStore(t)
	s.store.tree(t, demo)
	if r := s.mustPut(tr, Options{Mode: Symlink}); r.Unchanged || len(s.warned) > 0 {
		t.Errorf("from another store: %+v, warnings %q", r, s.warned)
	}
	s.expect(tr)
}

func TestSiteLongName(t *testing.T) {
	s := newSpot(t)
	s.dest = filepath.Join(filepath.Dir(s.dest), strings.Repeat("n", unix.NAME_MAX))
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{})
	s.expect(tr)
}

// A meter is a Progress that counts.
type meter struct {
	begun, ended int
	size, wrote  atomic.Int64
}

func (m *meter) BeginWrite(size int64) { m.begun++; m.size.Add(size) }
func (m *meter) Wrote(size int64)      { m.wrote.Add(size) }
func (m *meter) EndWrite()             { m.ended++ }

func TestMaterializeProgress(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	m := new(meter)
	s.mustPut(tr, Options{Progress: m})
	// The paths in scripts have lengths of their own, and a symlink's target is bytes.
	if size, wrote := m.size.Load(), m.wrote.Load(); m.begun != 1 || m.ended != 1 || size < bufferSize || wrote < size {
		t.Errorf("begun %d, ended %d, %d of %d bytes", m.begun, m.ended, wrote, size)
	}
	s.mustPut(tr, Options{Progress: m})
	if m.begun != 1 {
		t.Error("began to write what is there already")
	}
}
