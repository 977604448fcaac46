package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sitefs/sitefs/manifest/digest"
)

func newFiles(t *testing.T, s *Store) *Files {
	t.Helper()
	f, err := s.NewFiles()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestFiles: files that are in no wheel become blobs, each content once, when they are
// committed and not before. One that the store has in part is put right.
func TestFiles(t *testing.T) {
	s := newStore(t)
	damaged := s.path(blobName(digest.Of([]byte("damaged"))))
	if err := os.MkdirAll(filepath.Dir(damaged), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, damaged, "dam")

	contents := []string{"one", "two", "one", "", "damaged"}
	add := func(f *Files) {
		for _, content := range contents {
			d, size, err := f.Add(context.Background(), strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if d != digest.Of([]byte(content)) || size != int64(len(content)) {
				t.Errorf("added %q as %v of %d bytes", content, d, size)
			}
		}
	}
	f := newFiles(t, s)
	add(f)
	if _, err := s.ReadBlob(digest.Of([]byte("one"))); err == nil {
		t.Error("a file is in the store before it was committed")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil {
		t.Error("committed twice")
	}
	again := newFiles(t, s)
	add(again)
	if err := again.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, content := range contents {
		if b, err := s.ReadBlob(digest.Of([]byte(content))); err != nil || string(b) != content {
			t.Errorf("the store has %q, %v; want %q", b, err, content)
		}
	}
	expectNoTmp(t, s)
}

// TestFilesGivenUp: what fails, and what is never committed, leaves nothing.
func TestFilesGivenUp(t *testing.T) {
	s := newStore(t)
	f := newFiles(t, s)
	want := errors.New("bad sector")
	if _, _, err := f.Add(context.Background(), iotest.ErrReader(want)); !errors.Is(err, want) {
		t.Errorf("adding what can't be read: %v, want %v", err, want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := f.Add(ctx, strings.NewReader("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("adding when it was interrupted: %v", err)
	}
	if _, _, err := f.Add(context.Background(), strings.NewReader("never committed")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadBlob(digest.Of([]byte("never committed"))); err == nil {
		t.Error("a file that was not committed is in the store")
	}
	expectNoTmp(t, s)
}
