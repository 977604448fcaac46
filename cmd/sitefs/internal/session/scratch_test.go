package session

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sitefs/sitefs/fusefs/mount"
)

func TestSweepKeepsWhatIsHeld(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	held, left := scratchIn(t), scratchIn(t)
	lock, err := makeScratch(held)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("needs overlays, which this system has none of: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	gone, err := makeScratch(left)
	if err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(left, "dir")
	if err := errors.Join(gone.Close(), os.Mkdir(locked, 0o700), os.WriteFile(filepath.Join(locked, "file"), nil, 0o600), os.Chmod(locked, 0)); err != nil {
		t.Fatal(err)
	}
	if err := SweepScratches(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(held); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of a scratch that nobody has: %v, want that there is none", err)
	}
}

func scratchIn(t *testing.T) string {
	t.Helper()
	dir, err := newScratch()
	if err != nil {
		t.Fatal(err)
	}
	home, err := mount.StateHome()
	if err != nil {
		t.Fatal(err)
	}
	if !within(dir, home) {
		t.Fatalf("a scratch is at %q, want one in %q", dir, home)
	}
	return dir
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{
		{"/a/b", "/a/b", true},
		{"/a/b/c", "/a/b", true},
		{"/a/b", "/", true},
		{"/a", "/a/b", false},
		{"/a/bc", "/a/b", false},
		{"/a/..b", "/a", true},
	} {
		if got := within(tt.path, tt.dir); got != tt.want {
			t.Errorf("within(%q, %q) = %v, want %v", tt.path, tt.dir, got, tt.want)
		}
	}
}

func TestScriptAt(t *testing.T) {
	const prefix = "/proj/.venv"
	for _, tt := range []struct{ name, text, want string }{
		{"shebang", "#!/proj/.venv/bin/python\nimport sys\n", "bin/tool"},
		{"trampoline", "#!/bin/sh\n'''exec' /proj/.venv/bin/python \"$0\" \"$@\"\n' '''\n", "bin/tool"},
		{"another", "#!/usr/bin/env python\nprint('/proj')\n", ""},
		{"empty", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.WriteFile(filepath.Join(dir, "bin", "tool"), []byte(tt.text), 0o755)); err != nil {
				t.Fatal(err)
			}
			if got := scriptAt(dir, prefix); got != tt.want {
				t.Errorf("the script is %q, want %q", got, tt.want)
			}
		})
	}
	if got := scriptAt(t.TempDir(), prefix); got != "" {
		t.Errorf("the script of an empty overlay is %q", got)
	}
}
