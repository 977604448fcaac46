package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A target that is full is left as it was, with a word of what is full, and has
// the new environment as soon as there is room. Room comes little by little, so that
// a run ends at this step and the next at a later one.
func TestFull(t *testing.T) {
	sandbox.NeedSitefs(t)
	for _, test := range []struct {
		name string
		mode string
		make func(t *testing.T) (home, target string)
		fill func(dir string) error
		want string
		// Room comes back in pieces that are too large for a run to fail midway.
		coarse bool
	}{
		{"no space on ext4", "copy", targetOn("small ext4"), fillSpace, "no space left on device", false},
		{"no inodes on ext4", "copy", targetOn("small ext4", "-N", "256"), fillInodes, "no space left on device", false},
		{"no space on tmpfs", "copy", func(t *testing.T) (string, string) { return t.TempDir(), sandbox.Tmpfs(t, "4m") }, fillSpace, "no space left on device", false},
		{"a quota of btrfs", "copy", limited, fillSpace, "disk quota exceeded", false},
		{"clones on a full xfs", "clone", oneMount("xfs"), fillAll, "no space left on device", false},
		{"clones on a full btrfs", "clone", oneMount("small btrfs"), fillAll, "no space left on device", true},
		{"hard links on a full ext4", "hardlink", oneMount("ext4"), fillAll, "no space left on device", false},
		{"hard links on a full btrfs", "hardlink", oneMount("small btrfs"), fillAll, "no space left on device", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			home, target := test.make(t)
			t.Setenv("TMPDIR", home)
			e := newEnvironment(t, target, test.mode, true)
			if err := e.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			filler := folder(t, target, "venv-filler")
			if err := test.fill(filler); err != nil {
				t.Fatal(err)
			}
			building := false // whether a run came as far as that
			r := e.Run(t, e.materialize("new.toml")...)
			for r.Code != 0 && !t.Failed() {
				if !strings.Contains(r.Stderr, test.want) {
					t.Errorf("exit code %d, want a failure that says %q\n%s", r.Code, test.want, r.Stderr)
				}
				building = building || strings.Contains(r.Stderr, "is as it was")
				e.wantState(t, Old)
				if err := giveRoom(filler); err != nil {
					t.Fatal(err)
				}
				r = e.Run(t, e.materialize("new.toml")...)
			}
			if !building && !test.coarse {
				t.Error("no run failed while it built the environment")
			}
			e.wantState(t, New)
			if left, err := e.leftovers(); err != nil || len(left) > 0 {
				t.Errorf("left %q, %v", left, err)
			}
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
func limited(t *testing.T) (home, target string) {
	dir := loopMount(t, "btrfs")
	sub := filepath.Join(dir, "limited")
	must(t, "btrfs", "quota", "enable", dir)
	must(t, "btrfs", "subvolume", "create", sub)
	must(t, "btrfs", "qgroup", "limit", strconv.Itoa(8<<20), sub)
	return t.TempDir(), sub
}

// targetOn has a file system for the target alone.
func targetOn(fs string, options ...string) func(*testing.T) (string, string) {
	return func(t *testing.T) (string, string) { return t.TempDir(), loopMount(t, fs, options...) }
}

// fillAll leaves no room for data, nor for anything else: a clone or a link takes
// no data.
func fillAll(dir string) error {
	return errors.Join(reserve(dir), fillSpace(dir), fillInodes(dir))
}

// reserve takes most of the room, which is faster than to write.
func reserve(dir string) error {
	const left = 2 << 20
	f, err := os.Create(filepath.Join(dir, "0-reserved")) // before all other names
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-left)
	if errors.Is(err, unix.ENOSPC) {
		return nil // the more is left to write
	}
	return err
}

// fillSpace writes files until nothing more fits.
func fillSpace(dir string) error { return fill(dir, make([]byte, 32<<10)) }

// fillInodes makes files until there can be no more.
func fillInodes(dir string) error { return fill(dir, nil) }

func fill(dir string, content []byte) error {
	there, err := os.ReadDir(dir)
	for n := len(there); err == nil; n++ {
		err = writeThrough(filepath.Join(dir, fmt.Sprintf("%06d", n)), content)
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// writeThrough writes a file. What is refused when it reaches the disk is refused
// now.
func writeThrough(name string, content []byte) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// giveRoom takes the youngest files of a filler away: one of content, or some of
// none.
func giveRoom(dir string) error {
	const some = 16
	there, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return errors.New("there is room and nothing works")
	}
	for _, e := range slices.Backward(there[max(0, len(there)-some):]) {
		info, err := e.Info()
		if err := errors.Join(err, os.Remove(filepath.Join(dir, e.Name()))); err != nil {
			return err
		}
		if info.Size() > 0 {
			break
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd())) // some give room back only then
}
