package materialize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A fakeStore is a store of files, by digest, in a directory.
type fakeStore struct {
	dir      string
	trees    map[digest.Digest][]byte
	maxLinks uint64 // that an inode takes, its own name included; 0 is any number
}

func newStore(t testing.TB) *fakeStore {
	t.Helper()
	s := &fakeStore{dir: filepath.Join(t.TempDir(), "store"), trees: map[digest.Digest][]byte{}}
	s.create(t)
	return s
}

// create makes the store's directory.
func (s *fakeStore) create(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"", "blobs", "links"} {
		check(t, os.Mkdir(filepath.Join(s.dir, dir), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(s.dir, "FORMAT"), []byte("a store\n"), 0o444))
}

func (s *fakeStore) Dir() string { return s.dir }

func (s *fakeStore) BlobPath(d digest.Digest) string {
	return filepath.Join(s.dir, "blobs", d.String())
}

func (s *fakeStore) OpenBlob(d digest.Digest) (int, error) {
	return unix.Open(s.BlobPath(d), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func (s *fakeStore) OpenTree(d digest.Digest, prefix string) (*tree.Tree, error) {
	b, ok := s.trees[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return tree.Open(b, prefix, nil)
}

func (s *fakeStore) linkPath(a tree.Attr, n int) string {
	return filepath.Join(s.dir, "links", fmt.Sprintf("%v-%v-%d.%d", a.Digest, a.Exec, a.Mtime, n))
}

func (s *fakeStore) MakeLinks(_ context.Context, files []tree.Attr) error {
	next := map[string]int{}
	for _, a := range files {
		first := s.linkPath(a, 0)
		path := s.linkPath(a, next[first])
		next[first]++
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		b, err := os.ReadFile(s.BlobPath(a.Digest))
		if err != nil {
			return err
		}
		at := time.Unix(a.Mtime, 0)
		if err := errors.Join(os.WriteFile(path, b, 0o600), os.Chmod(path, fs.FileMode(modeOf(a))), os.Chtimes(path, at, at)); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeStore) Link(a tree.Attr, n int, dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Stat(s.linkPath(a, n), &st); err == nil && s.maxLinks > 0 && uint64(st.Nlink) >= s.maxLinks {
		return unix.EMLINK
	}
	return unix.Linkat(unix.AT_FDCWD, s.linkPath(a, n), dir, name, 0)
}

func (s *fakeStore) DropLinks(files []tree.Attr) error {
	for _, a := range files {
		for n := 0; os.Remove(s.linkPath(a, n)) == nil; n++ {
		}
	}
	return nil
}

// A file of a test's tree; one whose name ends in ".so" is executable.
type files map[string]string

var demo = files{
	"lib/site/a/__init__.py": "",
	"lib/site/a/mod.py":      "x = 1\n",
	"lib/site/a/big.bin":     strings.Repeat("0123456789abcde\n", 3*bufferSize/16) + "end",
	"lib/site/a/one.so":      "elf",
	"lib/site/a/two.so":      "elf",
	"lib/site/b/deep/er.txt": "text",
}

// tree puts a tree of these files into the store, with a template, a symlink and a
// file of its own.
func (s *fakeStore) tree(t testing.TB, all files) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder("lib-python3.12")
	for path, text := range all {
		d := digest.Of([]byte(text))
		if err := os.WriteFile(s.BlobPath(d), []byte(text), 0o444); !errors.Is(err, fs.ErrPermission) {
			check(t, err) // the second path of a content, for an ordinary user
		}
		check(t, b.File(path, strings.HasSuffix(path, ".so"), int64(len(text)), d))
	}
	check(t, b.Inline("pyvenv.cfg", false, []byte("home = /usr\n")))
	check(t, b.Template("bin/tool", true, append([]byte(tree.MarkScript), "import a\n"...)))
	check(t, b.Symlink("lib64", "lib"))
	built, err := b.Build(1e9)
	check(t, err)
	tr, err := tree.Open(built, "/venv", nil)
	check(t, err)
	s.trees[tr.Digest()] = built
	return tr
}

// noClone is a kernel whose file systems can't clone.
func noClone() system {
	sys := kernel
	sys.clone = func(int, int, string, uint32) error { return unix.EOPNOTSUPP }
	return sys
}

// copyClone is a kernel that clones on every file system.
func copyClone() system {
	sys := kernel
	sys.clone = func(from, dir int, name string, mode uint32) error {
		fd, err := createFile(dir, name, mode)
		if err != nil {
			return err
		}
		b := make([]byte, 1<<20)
		n, err := unix.Pread(from, b, 0)
		if err == nil {
			err = writeAll(fd, b[:n])
		}
		return closeAfter(fd, err)
	}
	return sys
}

// macClone is copyClone as macOS clones.
func macClone() system {
	sys := copyClone()
	clone := sys.clone
	sys.clone = func(from, dir int, name string, _ uint32) error { return clone(from, dir, name, 0o444) }
	sys.keepsMode = true
	return sys
}

// expectTree holds a directory to being the tree, every byte and directory time of it.
func expectTree(t *testing.T, s *fakeStore, tr *tree.Tree, dir string) {
	t.Helper()
	found, err := verify.Tree(context.Background(), tr, dir, verify.Options{Deep: true, BlobPath: s.BlobPath})
	check(t, err)
	if err := found.Err(); err != nil {
		t.Errorf("%q: %v: %+v", dir, err, found)
	}
	check(t, tr.Walk(func(path string, _ tree.ID, a tree.Attr) error {
		if info, err := os.Lstat(filepath.Join(dir, path)); err != nil || a.Kind == tree.Dir && (info.ModTime() != time.Unix(a.Mtime, 0) || info.Mode().Perm() != dirMode) {
			t.Errorf("%s: %v, %v, want time %d", path, info, err, a.Mtime)
		}
		return nil
	}))
}

func TestBuild(t *testing.T) {
	tests := []struct {
		mode Mode
		sys  system
		want Report
	}{
		{Copy, kernel, Report{Mode: "copy", Copied: 8}},
		{Auto, noClone(), Report{Mode: "copy", Copied: 8}},
		{Auto, copyClone(), Report{Mode: "clone", Cloned: 5, Copied: 3}},
		{Clone, copyClone(), Report{Mode: "clone", Cloned: 5, Copied: 3}},
		{Clone, macClone(), Report{Mode: "clone", Cloned: 5, Copied: 3}},
		{Hardlink, noClone(), Report{Mode: "hardlink", Linked: 6, Copied: 2}},
		{Symlink, noClone(), Report{Mode: "symlink", Symlinked: 3, Copied: 5}},
	}
	for _, test := range tests {
		for _, workers := range []int{1, 4} {
			t.Run(fmt.Sprintf("%v as %s, %d workers", test.mode, test.want.Mode, workers), func(t *testing.T) {
				s := newStore(t)
				tr := s.tree(t, demo)
				dir := filepath.Join(t.TempDir(), "venv")
				var got Report
				check(t, build(context.Background(), test.sys, tr, s, dir, nil, Options{Mode: test.mode, Workers: workers}, &got))
				expectTree(t, s, tr, dir)
				if got.Reason == "" {
					t.Error("no reason is given for the mode")
				}
				want := test.want
				want.Reason, want.Files, want.Dirs, want.Bytes = got.Reason, 9, 7, got.Bytes
				if !equal(got, want) {
					t.Errorf("report %+v, want %+v", got, want)
				}
				one, err := os.Stat(filepath.Join(dir, "lib/site/a/one.so"))
				check(t, err)
				two, err := os.Stat(filepath.Join(dir, "lib/site/a/two.so"))
				check(t, err)
				if os.SameFile(one, two) {
					t.Error("two equal libraries are one inode")
				}
			})
		}
	}
}

// equal compares reports, whose list of paths a build leaves empty.
func equal(a, b Report) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

// TestBuildUmask: what others may do is the tree's to say.
func TestBuildUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := newStore(t)
	tr := s.tree(t, demo)
	for _, mode := range []Mode{Clone, Copy} {
		dir := filepath.Join(t.TempDir(), "venv")
		check(t, build(context.Background(), copyClone(), tr, s, dir, nil, Options{Mode: mode}, new(Report)))
		expectTree(t, s, tr, dir)
	}
}

// TestBuildNamedMode: a mode that was asked for by name never becomes another one.
func TestBuildNamedMode(t *testing.T) {
	s := newStore(t)
	tr := s.tree(t, demo)
	for _, errno := range refusals {
		sys := kernel
		sys.clone = func(int, int, string, uint32) error { return errno }
		sys.link = func(string, int, string) error { return errno }
		for _, mode := range []Mode{Clone, Hardlink} {
			dir := filepath.Join(t.TempDir(), "venv")
			err := build(context.Background(), sys, tr, s, dir, nil, Options{Mode: mode}, new(Report))
			if !errors.Is(err, ErrMode) || !strings.Contains(err.Error(), errnoName(errno)) {
				t.Errorf("%v, refused with %v: %v, want %v with the errno's name", mode, errno, err, ErrMode)
			}
			expectEmpty(t, dir)
		}
	}
}

// TestBuildProbeFails: what is no refusal is a failure, and no other mode is tried.
func TestBuildProbeFails(t *testing.T) {
	s := newStore(t)
	tr := s.tree(t, demo)
	for _, errno := range []unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EACCES, unix.EMLINK} {
		sys := kernel
		sys.clone = func(int, int, string, uint32) error { return errno }
		dir := filepath.Join(t.TempDir(), "venv")
		err := build(context.Background(), sys, tr, s, dir, nil, Options{}, new(Report))
		if !errors.Is(err, errno) || errors.Is(err, ErrMode) {
			t.Errorf("clone fails with %v: %v", errno, err)
		}
		expectEmpty(t, dir)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%q holds %v, %v, want nothing", dir, entries, err)
	}
}

// TestBuildCloneFails is the case that sitefs exists for: on a volume that has just
// cloned files one clone fails, with whatever error. Nothing may take its place: the
// build ends there.
func TestBuildCloneFails(t *testing.T) {
	errnos := append([]unix.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EACCES, unix.EEXIST, unix.ENOENT, unix.EMLINK, unix.EBUSY}, refusals...)
	for _, errno := range errnos {
		for k := 2; k <= 6; k++ { // the first one is the probe's
			t.Run(fmt.Sprintf("%s at clone %d", unix.ErrnoName(errno), k), func(t *testing.T) {
				s := newStore(t)
				tr := s.tree(t, demo)
				calls := 0
				sys := copyClone()
				clone := sys.clone
				sys.clone = func(from, dir int, name string, mode uint32) error {
					if calls++; calls == k {
						return errno
					}
					return clone(from, dir, name, mode)
				}
				dir := filepath.Join(t.TempDir(), "venv")
				var r Report
				err := build(context.Background(), sys, tr, s, dir, nil, Options{Workers: 1}, &r)
				if !errors.Is(err, errno) || errors.Is(err, ErrMode) {
					t.Errorf("%v, want the error of the clone", err)
				}
				if calls != k || r.Cloned != k-2 {
					t.Errorf("%d clones were tried and %d made after the probe's, want %d and %d", calls, r.Cloned, k, k-2)
				}
			})
		}
	}
}

// TestBuildShort: a blob that is cut short is never taken for the file.
func TestBuildShort(t *testing.T) {
	for _, path := range []string{"lib/site/a/big.bin", "lib/site/a/mod.py"} {
		s := newStore(t)
		tr := s.tree(t, demo)
		check(t, os.Remove(s.BlobPath(digest.Of([]byte(demo[path])))))
		check(t, os.WriteFile(s.BlobPath(digest.Of([]byte(demo[path]))), []byte("x ="), 0o444))
		dir := filepath.Join(t.TempDir(), "venv")
		err := build(context.Background(), kernel, tr, s, dir, nil, Options{Mode: Copy}, new(Report))
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names it", path, err)
		}
	}
}

func TestBuildExists(t *testing.T) {
	s := newStore(t)
	err := build(context.Background(), kernel, s.tree(t, demo), s, t.TempDir(), nil, Options{}, new(Report))
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("into a directory that is there: %v, want %v", err, fs.ErrExist)
	}
}

func TestBuildCancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := newStore(t)
	tr := s.tree(t, demo)
	sys := copyClone()
	clone := sys.clone
	sys.clone = func(from, dir int, name string, mode uint32) error {
		cancel(nil)
		return clone(from, dir, name, mode)
	}
	err := build(ctx, sys, tr, s, filepath.Join(t.TempDir(), "venv"), nil, Options{}, new(Report))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

func TestBuildReuse(t *testing.T) {
	const changed, unchanged = "lib/site/a/mod.py", "lib/site/a/big.bin"
	next := files{"lib/site/c/new.py": "y = 1\n"}
	for path, text := range demo {
		next[path] = text
	}
	next[changed] = "x = 2\n"
	tests := []struct {
		name     string
		was, now Mode
		edit     func(path string) error // of the file that hasn't changed
		want     int
	}{
		{"copies", Copy, Copy, nil, 4},
		{"clones", Clone, Clone, nil, 4},
		{"copies by clones", Copy, Clone, nil, 4},
		{"hard links", Hardlink, Copy, nil, 0},
		{"for hard links", Copy, Hardlink, nil, 0},
		{"edited", Copy, Copy, func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("X", len(demo[unchanged]))), 0)
		}, 3},
		{"mode", Copy, Copy, func(path string) error { return os.Chmod(path, 0o600) }, 3},
		{"linked", Copy, Copy, func(path string) error { return os.Link(path, path+".bak") }, 3},
		{"missing", Copy, Copy, os.Remove, 3},
		{"a directory", Copy, Copy, func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) }, 3},
		{"its directory is a symlink", Copy, Copy, func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir))
		}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			old, tr := s.tree(t, demo), s.tree(t, next)
			base := t.TempDir()
			from := &previous{old, filepath.Join(base, "old"), test.was}
			check(t, build(context.Background(), copyClone(), old, s, from.dir, nil, Options{Mode: test.was}, new(Report)))
			if test.edit != nil {
				check(t, test.edit(filepath.Join(from.dir, unchanged)))
			}
			var r Report
			check(t, build(context.Background(), copyClone(), tr, s, filepath.Join(base, "new"), from, Options{Mode: test.now}, &r))
			if r.Reused != test.want {
				t.Errorf("%d files reused, want %d", r.Reused, test.want)
			}
			expectTree(t, s, tr, filepath.Join(base, "new"))
			if test.edit == nil {
				expectTree(t, s, old, from.dir) // whole until the exchange
			}
		})
	}
}
