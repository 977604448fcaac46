package faults

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A target that is full is left as it was, with a word of what is full, and has
// the new environment as soon as there is room.
func TestFull(t *testing.T) {
	sandbox.NeedSitefs(t)
	for _, test := range []struct {
		name string
		make func(t *testing.T) (target string)
		fill func(dir string) error
		want string
	}{
		{"no space on ext4", func(t *testing.T) string { return loopMount(t, "small ext4") }, fillSpace, "no space left on device"},
		{"no inodes on ext4", func(t *testing.T) string { return loopMount(t, "small ext4", "-N", "256") }, fillInodes, "no space left on device"},
		{"no space on tmpfs", func(t *testing.T) string { return sandbox.Tmpfs(t, "4m") }, fillSpace, "no space left on device"},
		{"a quota of btrfs", limited, fillSpace, "disk quota exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := test.make(t)
			e := newEnvironment(t, target, "copy", true)
			if err := e.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			filler := folder(t, target, "venv-filler")
			if err := test.fill(filler); err != nil {
				t.Fatal(err)
			}
			r := e.Run(t, e.materialize("new.toml")...)
			if r.Code == 0 || !strings.Contains(r.Stderr, test.want) {
				t.Errorf("exit code %d, want a failure that says %q\n%s", r.Code, test.want, r.Stderr)
			}
			e.wantState(t, Old)
			if err := os.RemoveAll(filler); err != nil {
				t.Fatal(err)
			}
			if left, err := e.leftovers(); err != nil || len(left) > 0 {
				t.Errorf("left %q, %v", left, err)
			}
			e.Must(t, e.materialize("new.toml")...)
			e.wantState(t, New)
		})
	}
}

func (e *environment) wantState(t *testing.T, want State) {
	t.Helper()
	if state, why, err := e.state(); err != nil || state != want {
		t.Errorf("the target is %v, want %v: %s %v", state, want, why, err)
	}
}

// limited is a subvolume of btrfs whose quota is far below the space there is.
func limited(t *testing.T) string {
	dir := loopMount(t, "btrfs")
	sub := filepath.Join(dir, "limited")
	must(t, "btrfs", "quota", "enable", dir)
	must(t, "btrfs", "subvolume", "create", sub)
	must(t, "btrfs", "qgroup", "limit", strconv.Itoa(8<<20), sub)
	return sub
}

// fillSpace writes a file until nothing more fits.
func fillSpace(dir string) error {
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		_, err := f.Write(make([]byte, 64<<10))
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return nil
		}
		if err != nil {
			return err
		}
		// What is refused when it reaches the disk is refused now.
		if err := f.Sync(); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// fillInodes makes files until there can be no more.
func fillInodes(dir string) error {
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o666)
		if errors.Is(err, unix.ENOSPC) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
