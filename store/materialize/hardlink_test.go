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

// unchangedStore doesn't renew its links.
type unchangedStore struct{ *fakeStore }

func (unchangedStore) RenewLinks(context.Context, []tree.Attr) error { return nil }

// TestStaleLinksTwice: files that are wrong a second time end the run.
func TestStaleLinksTwice(t *testing.T) {
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	s.mustPut(tr, Options{Mode: Hardlink})
	check(t, os.Chmod(filepath.Join(s.dest, "lib/site/a/mod.py"), 0o600))
	dest := filepath.Join(t.TempDir(), "venv")
	_, err := Materialize(context.Background(), unchangedStore{s.store}, tr.Digest(), dest, Options{Mode: Hardlink})
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

// TestMissingLinks: what there is to link to is made once, and only when it is
// missing.
func TestMissingLinks(t *testing.T) {
	s := &countingStore{fakeStore: newStore(t)}
	tr := s.tree(t, demo)
	for _, name := range []string{"one", "two"} {
		dest := filepath.Join(t.TempDir(), name)
		if _, err := Materialize(context.Background(), s, tr.Digest(), dest, Options{Mode: Hardlink}); err != nil {
			t.Fatal(err)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("%s: links were made %d times, want once", name, n)
		}
	}
}
