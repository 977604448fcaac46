package materialize

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// TestStaleLinks: root changes what an environment of hard links shares with the
// next one, which is right all the same.
func TestStaleLinks(t *testing.T) {
	tests := []struct {
		name   string
		change func(path string) error
		deep   bool
	}{
		{"append", func(path string) error { return os.WriteFile(path, []byte("x = 1\ny = 2\n"), 0) }, false},
		{"overwrite", func(path string) error { return os.WriteFile(path, []byte("x = 3\n"), 0) }, false},
		{"chmod", func(path string) error { return os.Chmod(path, 0o600) }, false},
		{"touch", func(path string) error { return os.Chtimes(path, time.Now(), time.Now()) }, false},
		{"overwrite unnoticed", func(path string) error {
			info, err := os.Stat(path)
			if err == nil {
				err = os.WriteFile(path, []byte("x = 3\n"), 0)
			}
			return errors.Join(err, os.Chtimes(path, info.ModTime(), info.ModTime()))
		}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSpot(t)
			tr := s.store.tree(t, demo)
			first := s.mustPut(tr, Options{Mode: Hardlink})
			check(t, test.change(filepath.Join(s.dest, "lib/site/a/mod.py")))
			s.dest = filepath.Join(filepath.Dir(s.dest), "other", "venv")
			r := s.mustPut(tr, Options{Mode: Hardlink, Deep: test.deep})
			s.expect(tr)
			if r.Linked != first.Linked || r.Copied != first.Copied || r.Files != first.Files {
				t.Errorf("report %+v, want the counts of one environment: %+v", r, first)
			}
			d := digest.Of([]byte("x = 1\n"))
			if b, err := os.ReadFile(s.store.BlobPath(d)); err != nil || digest.Of(b) != d {
				t.Errorf("the blob holds %q, %v", b, err)
			}
		})
	}
}

// keepingStore doesn't drop its links.
type keepingStore struct{ *fakeStore }

func (keepingStore) DropLinks([]tree.Attr) error { return nil }

// TestStaleLinksTwice: files that are wrong a second time end the run.
func TestStaleLinksTwice(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{Mode: Hardlink})
	check(t, os.Chmod(filepath.Join(s.dest, "lib/site/a/mod.py"), 0o600))
	dest := filepath.Join(t.TempDir(), "venv")
	_, err := Materialize(context.Background(), keepingStore{s.store}, tr.Digest(), dest, Options{Mode: Hardlink})
	if err == nil || !strings.Contains(err.Error(), "lib/site/a/mod.py: 0600, want 0644") {
		t.Errorf("error %v, want the file", err)
	}
	if _, err := os.Lstat(dest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is an environment: %v", err)
	}
}

// countingStore counts how often it is asked to make links.
type countingStore struct {
	*fakeStore
	asked atomic.Int32
}

func (s *countingStore) MakeLinks(ctx context.Context, files []tree.Attr) error {
	s.asked.Add(1)
	return s.fakeStore.MakeLinks(ctx, files)
}

// TestMissingLinks: what there is to link to is made when it is missing, and for a
// whole environment at once.
func TestMissingLinks(t *testing.T) {
	s := &countingStore{fakeStore: newStore(t)}
	tr := s.tree(t, demo)
	for _, want := range []int32{1, 0} {
		_, err := Materialize(context.Background(), s, tr.Digest(), filepath.Join(t.TempDir(), "venv"), Options{Mode: Hardlink})
		check(t, err)
		if n := s.asked.Swap(0); n != want {
			t.Errorf("links were made %d times, want %d", n, want)
		}
	}
}

// TestFullLinks: inodes that take no more links are followed by others, and no two
// paths of an environment share one.
func TestFullLinks(t *testing.T) {
	s := newStore(t)
	s.maxLinks = 3
	tr := s.tree(t, with(files{"lib/site/b/__init__.py": "", "lib/site/b/three.so": "elf"}))
	for i := range 5 {
		dest := filepath.Join(t.TempDir(), "venv")
		_, err := Materialize(context.Background(), s, tr.Digest(), dest, Options{Mode: Hardlink, Deep: true})
		check(t, err)
		paths := map[uint64]string{}
		check(t, filepath.WalkDir(dest, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			if other := paths[st.Ino]; other != "" {
				t.Errorf("environment %d: %s and %s have one inode", i, other, path)
			}
			paths[st.Ino] = path
			return nil
		}))
	}
}
