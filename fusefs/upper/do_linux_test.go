package upper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUndo fails every step of every scenario: all is as before, and the error is
// the step's.
func TestUndo(t *testing.T) {
	for _, s := range scenarios {
		if s.user {
			continue // TestKillUndo has it
		}
		t.Run(s.name, func(t *testing.T) {
			for step := 0; ; step++ {
				dir := populate(t, false)
				before := state(t, dir, false)
				d := open(t, dir, Options{})
				steps := s.steps(t, d)
				if step == len(steps) {
					return
				}
				d.hook = failAfter(step, -1, nil)
				err := d.Do(mutationID, nil, steps...)
				if !errors.Is(err, unix.ENOSPC) {
					t.Fatalf("step %d: %v, want ENOSPC", step, err)
				}
				sameState(t, fmt.Sprintf("step %d failed", step), state(t, dir, false), before)
				if r, ok := d.Done(mutationID); !ok || r.Errno != unix.ENOSPC {
					t.Errorf("step %d: result %v, %v", step, r, ok)
				}
				d.hook = nil
				if err := d.Do(mutationID+1, nil, steps...); err != nil {
					t.Errorf("again, after step %d had failed: %v", step, err)
				}
			}
		})
	}
}

// TestUndoFull fills a file system that has room for some steps only.
func TestUndoFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "nr_inodes=12"); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	do(t, d, MakeFile("old", 0o600))
	before := state(t, dir, false)
	steps := []Step{Move("old", "moved"), MakeDir("d", 0o700)}
	fds := make([]int, 12)
	for i := range fds {
		steps = append(steps, MakeFile(fmt.Sprintf("d/%d", i), 0o600).Keep(&fds[i]))
	}
	if err := d.Do(mutationID, nil, steps...); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("%v, want ENOSPC", err)
	}
	sameState(t, "full", state(t, dir, false), before)
	if fds[0] != -1 {
		t.Errorf("a descriptor of what isn't there is left: %d", fds[0])
	}
	do(t, d, Move("old", "moved"))
}

func TestFailures(t *testing.T) {
	dir := populate(t, false)
	d := open(t, dir, Options{})
	if err := os.Symlink("dir", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	before := state(t, dir, false)
	long := strings.Repeat("n", 256)
	for _, test := range []struct {
		name string
		step Step
		want syscall.Errno
	}{
		{"target there", Move("a", "b"), unix.EEXIST},
		{"source missing", Move("none", "new"), unix.ENOENT},
		{"no such directory", MakeFile("none/f", 0), unix.ENOENT},
		{"file for a directory", MakeFile("a/f", 0), unix.ENOTDIR},
		{"link for a directory", MakeFile("link/f", 0), unix.ENOTDIR},
		{"link on the way", MakeFile("link/full/f", 0), unix.ELOOP},
		{"link out of it", MakeFile("out/f", 0), unix.ENOTDIR},
		{"over a link", MakeFile("link", 0), unix.EEXIST},
		{"into itself", Move("dir", "dir/full/dir"), unix.EINVAL},
		{"exchange with nothing", Exchange("a", "none"), unix.ENOENT},
		{"exchange of nothing", Exchange("none", "a"), unix.ENOENT},
		{"exchange with what is in it", Exchange("dir", "dir/full"), unix.EINVAL},
		{"exchange with what it is in", Exchange("dir/full", "dir"), unix.EINVAL},
		{"link of a directory", Hardlink("dir", "again"), unix.EPERM},
		{"parent", MakeFile("../f", 0), unix.EXDEV},
		{"way up", MakeFile("dir/../../f", 0), unix.EXDEV},
		{"absolute", MakeFile("/tmp/f", 0), unix.EXDEV},
		{"name ..", MakeDir("dir/..", 0), unix.EINVAL},
		{"name .", Move("dir/.", "new"), unix.EINVAL},
		{"no name", MakeFile("dir/", 0), unix.EINVAL},
		{"name of 256 bytes", MakeFile(long, 0), unix.ENAMETOOLONG},
		{"device", MakeNode("dev", unix.S_IFBLK|0o600), unix.EPERM},
		{"too long for the journal", MakeSymlink("l", strings.Repeat("x", maxJournal)), unix.ENAMETOOLONG},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := d.Do(0, nil, MakeDir("first", 0o700), test.step)
			var pe *os.PathError
			if !errors.Is(err, test.want) || !errors.As(err, &pe) {
				t.Errorf("%v, want %v", err, test.want)
			}
			sameState(t, test.name, state(t, dir, false), before)
		})
	}
}

// TestBroken has a mutation that can be neither finished nor undone: the
// directory takes no other, until it is opened again.
func TestBroken(t *testing.T) {
	dir := populate(t, false)
	before := state(t, dir, false)
	d := open(t, dir, Options{})
	d.hook = func(moment string) error {
		switch moment {
		case "before 1":
			return unix.EIO
		case "undo 0": // somebody is in the way
			return os.WriteFile(filepath.Join(dir, "a"), nil, 0o600)
		}
		return nil
	}
	if err := d.Do(7, nil, Move("a", "new"), Move("b", "other")); !errors.Is(err, unix.EIO) || !errors.Is(err, unix.EEXIST) {
		t.Fatalf("%v, want EIO and why it was not undone", err)
	}
	d.hook = nil
	if err := d.Do(8, nil, MakeFile("f", 0)); err == nil {
		t.Error("another mutation is taken")
	}
	d.Close()
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{}).Close()
	sameState(t, "opened again", state(t, dir, false), before)
}

// TestExchangeAside fails an exchange that the file system can't do at once, at
// every moment of it.
func TestExchangeAside(t *testing.T) {
	for _, moment := range []string{"aside 0", "half 0"} {
		t.Run(moment, func(t *testing.T) {
			dir := populate(t, false)
			d := open(t, dir, Options{})
			before := state(t, dir, false)
			d.renameExchange = func(int, string, int, string) error { return unix.EINVAL }
			d.hook = func(m string) error {
				if m == moment { // what was aside is gone: the last move fails
					return os.Rename(filepath.Join(dir, aside), filepath.Join(dir, tmpDir, "away"))
				}
				return nil
			}
			if err := d.Do(1, nil, Exchange("a", "dir")); !errors.Is(err, unix.ENOENT) {
				t.Errorf("%v, want ENOENT", err)
			}
			have := state(t, dir, false)
			have["a"] = before["a"] // which the test has taken
			sameState(t, moment, have, before)
		})
	}
}

// TestDeep makes and moves what lies deeper than a path can say.
func TestDeep(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	name := strings.Repeat("n", 255)
	var steps []Step
	p := "top"
	for range 40 {
		steps = append(steps, MakeDir(p, 0o755).KeepTime())
		p += "/" + name
	}
	fd := -1
	steps = append(steps, MakeFile(p, 0o640).Keep(&fd))
	do(t, d, steps...)
	unix.Close(fd)
	do(t, d, Move("top", "moved"))
	p = "moved" + strings.TrimPrefix(p, "top")
	if st, err := d.Stat(p); err != nil || st.Mode != unix.S_IFREG|0o640 {
		t.Errorf("mode %o, %v", st.Mode, err)
	}
	dirs := 0
	err := d.Scan(func(string, *Listing) error { dirs++; return nil })
	if err != nil || dirs != 41 {
		t.Errorf("%d directories, %v, want 41", dirs, err)
	}
	do(t, d, Move("moved", d.TrashPath()))
}

// TestDirsForget moves directories that are open, and makes others in their places.
func TestDirsForget(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	do(t, d, MakeDir("a", 0o700), MakeDir("a/b", 0o700), MakeFile("a/b/one", 0))
	do(t, d, Move("a", "c"), MakeDir("a", 0o700), MakeDir("a/b", 0o700), MakeFile("a/b/two", 0))
	d.hook = failAfter(3, -1, nil)
	if err := d.Do(0, nil, MakeDir("x", 0o700), MakeFile("x/f", 0), Move("c", "y"), MakeFile("never", 0)); err == nil {
		t.Fatal("nothing failed")
	}
	d.hook = nil
	do(t, d, MakeDir("x", 0o700), MakeFile("x/g", 0), MakeFile("c/b/three", 0))
	for _, name := range []string{"c/b/one", "a/b/two", "x/g", "c/b/three"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	var steps []Step
	for i := range 2 * maxDirs { // more than are kept open
		steps = append(steps, MakeDir(fmt.Sprint(i), 0o700), MakeFile(fmt.Sprintf("%d/f", i), 0))
	}
	do(t, d, steps...)
}

// TestConcurrent reads while directories move, for the race detector.
func TestConcurrent(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	do(t, d, MakeDir("a", 0o700), MakeFile("a/f", 0o600), MakeDir("stay", 0o700), MakeFile("stay/f", 0o600))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if _, err := d.Stat("stay/f"); err != nil {
					t.Error(err)
				}
				if _, err := d.Stat("a/f"); err != nil && !errors.Is(err, unix.ENOENT) {
					t.Error(err)
				}
				d.Done(1)
			}
		})
	}
	for range 100 {
		do(t, d, Move("a", "b"))
		do(t, d, Move("b", "a"), MakeFile("gone", 0))
		do(t, d, Move("gone", d.TrashPath()))
	}
	wg.Wait()
}

func TestRing(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	for unique := uint64(1); unique <= results+10; unique++ {
		if err := d.Do(unique, func() uint64 { return unique + 7 }); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := d.Done(10); ok {
		t.Error("a result is kept that there is no room for")
	}
	for unique := uint64(11); unique <= results+10; unique++ {
		if r, ok := d.Done(unique); !ok || r.Node != unique+7 {
			t.Fatalf("request %d: %v, %v", unique, r, ok)
		}
	}
	if _, ok := d.Done(0); ok {
		t.Error("there is a result for no request")
	}
}

// TestTorn opens a journal that a loss of power has left: one that is running, of
// steps that were never written.
func TestTorn(t *testing.T) {
	for _, at := range []int{countAt, sizeAt, sumAt, nextAt, stateAt, stepsAt + slotSize} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			dir := populate(t, false)
			before := state(t, dir, false)
			d := open(t, dir, Options{})
			s := MakeFile("new", 0)
			d.journal.write(1, 1, s.append(nil))
			d.journal.run()
			d.journal.b[at] ^= 0xfe
			d.journal.b[at+3] ^= 0x7e
			d.Close()
			d = open(t, dir, Options{})
			sameState(t, "torn", state(t, dir, false), before)
			do(t, d, s)
		})
	}
}
