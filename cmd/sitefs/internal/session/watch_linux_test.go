package session

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchLinks: a deployment has a link to the release that counts, and renames
// another one over it.
func TestWatchLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lockIn := func(release string) string { return filepath.Join(dir, release, "pylock.toml") }
	write := func(t *testing.T, release string) {
		t.Helper()
		if err := os.WriteFile(lockIn(release), []byte(release), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	point := func(t *testing.T, release string) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := os.Symlink(release, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, "current")); err != nil {
			t.Fatal(err)
		}
	}
	for _, release := range []string{"one", "two"} {
		if err := os.Mkdir(filepath.Join(dir, release), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, release)
	}
	point(t, "one")
	w, err := newWatch([]string{lockIn("current")})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, step := range []struct {
		name    string
		do      func(*testing.T, string)
		release string
	}{
		{"the file is written", write, "one"},
		{"another release counts", point, "two"},
		{"its file is written", write, "two"},
		{"the first counts again", point, "one"},
		{"its file is written again", write, "one"},
		{"the other one is removed", func(t *testing.T, release string) {
			if err := os.RemoveAll(filepath.Join(dir, release)); err != nil {
				t.Fatal(err)
			}
		}, "two"},
		{"a release counts that isn't there yet", point, "two"},
		{"the first is back", point, "one"},
	} {
		step.do(t, step.release)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := w.wait(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "one")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.wait(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("with the folder removed: %v, want an error that says so", err)
	}
}
