package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// answer is a file of demoWheel as a tree has it.
var answer = tree.Attr{Kind: tree.File, Size: 12, Mtime: 1_600_000_000, Digest: digest.Of([]byte("answer = 42\n"))}

// linkInto links files of a tree into a new directory and returns it.
func linkInto(t *testing.T, s *Store, files map[string]tree.Attr) string {
	t.Helper()
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var all []tree.Attr
	for _, a := range files {
		all = append(all, a)
	}
	if err := s.MakeLinks(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	for name, a := range files {
		if err := s.Link(a, 0, int(d.Fd()), name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func statFile(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("stat %q: %v", path, err)
	}
	return st
}

func TestLink(t *testing.T) {
	s := newStore(t)
	ingest(t, s, demoWheel(t))
	script, later := answer, answer
	script.Exec = true
	later.Mtime++
	files := map[string]tree.Attr{"a": answer, "script": script, "later": later}
	one, two := linkInto(t, s, files), linkInto(t, s, files)
	for name, a := range files {
		got, other := statFile(t, filepath.Join(one, name)), statFile(t, filepath.Join(two, name))
		if got.Ino != other.Ino || got.Nlink != 3 {
			t.Errorf("%s: inodes %d and %d with %d links, want one inode with 3", name, got.Ino, other.Ino, got.Nlink)
		}
		if uint32(got.Mode)&0o7777 != linkMode(a) || got.Mtim.Sec != a.Mtime || got.Mtim.Nsec != 0 {
			t.Errorf("%s: mode %o, time %v, want %o, %d", name, got.Mode&0o7777, got.Mtim, linkMode(a), a.Mtime)
		}
		b, err := os.ReadFile(filepath.Join(one, name))
		if err != nil || string(b) != "answer = 42\n" {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	expectFiles(t, s, "links", len(files))
	expectNoTmp(t, s)
}

// TestLinkKeepsBlobs: whoever writes into an environment of hard links, root
// even, reaches other such environments until the next one is made, and no blob.
func TestLinkKeepsBlobs(t *testing.T) {
	s := newStore(t)
	w := demoWheel(t)
	ingest(t, s, w)
	files := map[string]tree.Attr{"a": answer}
	one := linkInto(t, s, files)
	if err := os.WriteFile(filepath.Join(one, "a"), []byte("answer = 41\n"), 0); err != nil {
		t.Fatal(err)
	}
	expectWheel(t, s, w)
	two := linkInto(t, s, files)
	if b, err := os.ReadFile(filepath.Join(two, "a")); err != nil || string(b) != "answer = 42\n" {
		t.Errorf("the next environment has %q, %v", b, err)
	}
}

func TestMakeLinksAnew(t *testing.T) {
	changes := map[string]func(path string) error{
		"mode":    func(path string) error { return os.Chmod(path, 0o600) },
		"time":    func(path string) error { return os.Chtimes(path, time.Now(), time.Now()) },
		"size":    func(path string) error { return os.Truncate(path, 3) },
		"missing": os.Remove,
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			ingest(t, s, demoWheel(t))
			linkInto(t, s, map[string]tree.Attr{"a": answer})
			if err := change(s.path(linkName(answer, 0))); err != nil {
				t.Fatal(err)
			}
			st := statFile(t, filepath.Join(linkInto(t, s, map[string]tree.Attr{"a": answer}), "a"))
			if st.Mode&0o7777 != 0o644 || st.Mtim.Sec != answer.Mtime || st.Size != answer.Size {
				t.Errorf("mode %o, time %d, %d bytes, want 644, %d, %d", st.Mode&0o7777, st.Mtim.Sec, st.Size, answer.Mtime, answer.Size)
			}
		})
	}
}

// TestLinkNumbers: files that are alike get an inode each.
func TestLinkNumbers(t *testing.T) {
	s := newStore(t)
	w := demoWheel(t)
	ingest(t, s, w)
	script := answer
	script.Exec = true
	if err := s.MakeLinks(context.Background(), []tree.Attr{answer, script, answer, answer}); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, s, "links", 4)
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	inodes := map[uint64]bool{}
	for n := range 3 {
		name := strconv.Itoa(n)
		if err := s.Link(answer, n, int(d.Fd()), name); err != nil {
			t.Fatal(err)
		}
		inodes[statFile(t, filepath.Join(dir, name)).Ino] = true
	}
	if len(inodes) != 3 {
		t.Errorf("three paths share %d inodes, want one each", len(inodes))
	}
	if err := s.Link(answer, 3, int(d.Fd()), "3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a fourth inode: %v, want %v", err, fs.ErrNotExist)
	}
}

// TestDropLinks: what was written to an inode, whatever it looks like, is in no new
// environment, and no environment is changed by that.
func TestDropLinks(t *testing.T) {
	s := newStore(t)
	w := demoWheel(t)
	ingest(t, s, w)
	later := answer
	later.Mtime += 10 // its name begins like that of answer
	if err := s.MakeLinks(context.Background(), []tree.Attr{answer, answer, later}); err != nil {
		t.Fatal(err)
	}
	files := map[string]tree.Attr{"a": answer}
	one := linkInto(t, s, files)
	for n := range 2 {
		if err := os.WriteFile(s.path(linkName(answer, n)), []byte("answer = 41\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropLinks([]tree.Attr{answer}); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, s, "links", 1)
	if b, err := os.ReadFile(filepath.Join(linkInto(t, s, files), "a")); err != nil || string(b) != "answer = 42\n" {
		t.Errorf("a new environment has %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(one, "a")); err != nil || string(b) != "answer = 41\n" {
		t.Errorf("an old environment has %q, %v", b, err)
	}
	expectWheel(t, s, w)
	if err := s.DropLinks([]tree.Attr{{Kind: tree.File, Size: 1}}); err != nil {
		t.Errorf("nothing to drop: %v", err)
	}
}

// TestLinkErrors: what isn't there, or can't be linked, ends; it doesn't go round.
func TestLinkErrors(t *testing.T) {
	s := newStore(t)
	ingest(t, s, demoWheel(t))
	unknown := answer
	unknown.Digest = digest.Of([]byte("unknown"))
	gone := t.TempDir()
	d, err := os.Open(gone)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := s.MakeLinks(context.Background(), []tree.Attr{unknown}); err == nil {
		t.Error("an inode for a blob that isn't there was made")
	}
	for _, a := range []tree.Attr{unknown, answer} {
		if err := s.Link(a, 0, int(d.Fd()), "a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("link to what isn't made: %v, want %v", err, fs.ErrNotExist)
		}
	}
	if err := s.MakeLinks(context.Background(), []tree.Attr{answer}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := s.Link(answer, 0, int(d.Fd()), "a"); err == nil {
		t.Error("a link in a directory that was removed was made")
	}
}
