package verify

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNoTrace: neither what is listed nor what is read has been accessed later.
func TestNoTrace(t *testing.T) {
	dir := t.TempDir()
	tr := newTree(t, "/venv")
	write(t, tr, dir)
	long := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	paths := []string{filepath.Join(dir, "lib/site/a"), filepath.Join(dir, "lib/site/a/mod.py")}
	for _, path := range paths {
		info, err := os.Stat(path)
		check(t, err)
		check(t, os.Chtimes(path, long, info.ModTime()))
	}
	if got, err := Tree(context.Background(), tr, dir, Options{Deep: true}); err != nil || got.Err() != nil {
		t.Fatalf("found %+v, %v", got, err)
	}
	for _, path := range paths {
		var st unix.Stat_t
		check(t, unix.Stat(path, &st))
		if st.Atim.Sec != long.Unix() {
			t.Errorf("%s was accessed at %v", path, time.Unix(st.Atim.Unix()))
		}
	}
}
