package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
		if err := s.Link(a, int(d.Fd()), name); err != nil {
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

// linkTwo is linkat of a file system that takes two links to an inode, its own name
// included.
func linkTwo(fromDir int, from string, toDir int, to string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(fromDir, from, &st, 0); err == nil && st.Nlink >= 2 {
		return unix.EMLINK
	}
	return linkat(fromDir, from, toDir, to)
}

// TestLinkFull: where an inode takes no more links there is a second and a third
// one, and no caller learns of it.
func TestLinkFull(t *testing.T) {
	s := newStore(t)
	ingest(t, s, demoWheel(t))
	s.link = linkTwo
	inodes := map[uint64]bool{}
	for range 3 {
		inodes[statFile(t, filepath.Join(linkInto(t, s, map[string]tree.Attr{"a": answer}), "a")).Ino] = true
	}
	if len(inodes) != 3 {
		t.Errorf("three environments share %d inodes, want one each", len(inodes))
	}
	expectFiles(t, s, "links", 3)
}

// TestRenewLinks: what was written to an inode, the second one even, is in no new
// environment, and no environment is changed by that.
func TestRenewLinks(t *testing.T) {
	s := newStore(t)
	w := demoWheel(t)
	ingest(t, s, w)
	s.link = linkTwo
	files := map[string]tree.Attr{"a": answer}
	one, two := linkInto(t, s, files), linkInto(t, s, files)
	for _, dir := range []string{one, two} {
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("answer = 41\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RenewLinks(context.Background(), []tree.Attr{answer}); err != nil {
		t.Fatal(err)
	}
	expectFiles(t, s, "links", 2)
	expectNoTmp(t, s)
	for range 3 {
		if b, err := os.ReadFile(filepath.Join(linkInto(t, s, files), "a")); err != nil || string(b) != "answer = 42\n" {
			t.Errorf("a new environment has %q, %v", b, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(two, "a")); err != nil || string(b) != "answer = 41\n" {
		t.Errorf("an old environment has %q, %v", b, err)
	}
	expectWheel(t, s, w)
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
		if err := s.Link(a, int(d.Fd()), "a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("link to what isn't made: %v, want %v", err, fs.ErrNotExist)
		}
	}
	if err := s.MakeLinks(context.Background(), []tree.Attr{answer}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := s.Link(answer, int(d.Fd()), "a"); err == nil {
		t.Error("a link in a directory that was removed was made")
	}
}
