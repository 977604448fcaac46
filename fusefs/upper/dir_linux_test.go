package upper

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// open opens a directory and closes it when the test ends.
func open(t *testing.T, dir string, o Options) *Dir {
	t.Helper()
	d, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func do(t *testing.T, d *Dir, steps ...Step) {
	t.Helper()
	if err := d.Do(0, nil, steps...); err != nil {
		t.Fatal(err)
	}
}

func TestSteps(t *testing.T) {
	unix.Umask(0o77)
	defer unix.Umask(0o22)
	dir := t.TempDir()
	d := open(t, dir, Options{})
	fd := -1
	do(t, d,
		MakeDir("d", 0o1777),
		MakeFile("d/f", 0o4751),
		MakeSymlink("d/l", "some/where"),
		MakeNode("d/p", unix.S_IFIFO|0o666),
		MakeNode("d/s", unix.S_IFSOCK|0o640),
		MakeFile("d/k", 0o600).Keep(&fd),
		Hardlink("d/k", "h"),
		Move("d/l", "l"),
		MakeFile("t", 0o600).Mtime(Time{1234567890, 987654321}),
	)
	if _, err := unix.Write(fd, []byte("kept")); err != nil {
		t.Error(err)
	}
	unix.Close(fd)
	for name, want := range map[string]fs.FileMode{
		"d":   fs.ModeDir | fs.ModeSticky | 0o777,
		"d/f": fs.ModeSetuid | 0o751,
		"d/p": fs.ModeNamedPipe | 0o666,
		"d/s": fs.ModeSocket | 0o640,
		"l":   fs.ModeSymlink | 0o777,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "h")); err != nil || string(b) != "kept" {
		t.Errorf("h holds %q, %v", b, err)
	}
	if st, err := d.Stat("t"); err != nil || st.Mtim.Sec != 1234567890 || st.Mtim.Nsec != 987654321 {
		t.Errorf("t is of %v, %v", st.Mtim, err)
	}
	if err := d.Do(0, nil, MakeNode("dev", unix.S_IFCHR|0o600)); !errors.Is(err, unix.EPERM) {
		t.Errorf("a device: %v, want EPERM", err)
	}
}

func TestOpenAgain(t *testing.T) {
	dir := t.TempDir()
	base := Base{Tree: "t1", Prefix: "/p", Python: "3.12"}
	area := make([]byte, AreaSize)
	d := open(t, dir, Options{Base: base, Area: area})
	if d.Resumed() {
		t.Error("a new session is resumed")
	}
	do(t, d, MakeFile("f", 0o600), MakeFile(d.TrashPath(), 0o600))
	do(t, d, Move("f", OrphanPath(5)))
	if err := d.Do(12|resent, func() uint64 { return 34 }); err != nil {
		t.Fatal(err)
	}
	d.Close()

	d = open(t, dir, Options{Base: base, Area: area})
	if r, ok := d.Done(12); !ok || r.Node != 34 || !d.Resumed() {
		t.Errorf("a successor: result %v, %v, resumed %v", r, ok, d.Resumed())
	}
	if orphans, err := d.Orphans(); err != nil || len(orphans) != 1 || orphans[0].ID != 5 || orphans[0].Type != unix.S_IFREG {
		t.Errorf("a successor has the orphans %v, %v", orphans, err)
	}
	d.Close()
	checkTmp(t, dir)

	d = open(t, dir, Options{Area: make([]byte, AreaSize)})
	if _, ok := d.Done(12); ok || d.Resumed() {
		t.Error("a new session knows what the last has done")
	}
	if orphans, err := d.Orphans(); err != nil || len(orphans) != 0 {
		t.Errorf("a new session has the orphans %v, %v", orphans, err)
	}
	if d.Base() != base {
		t.Errorf("made over %v, want %v", d.Base(), base)
	}
	d.Close()

	d = open(t, dir, Options{Area: area})
	if d.Resumed() {
		t.Error("a session is resumed that another has followed")
	}
}

func TestRemoveOrphan(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	if err := os.MkdirAll(filepath.Join(dir, "x/1/2/3"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x/f", "x/1/f", "x/1/2/3/f", "x/1/2/g"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	do(t, d, Move("x", OrphanPath(1<<60)), MakeFile(OrphanPath(7), 0))
	for _, id := range []uint64{1 << 60, 7, 8} {
		if err := d.RemoveOrphan(id); err != nil {
			t.Error(err)
		}
	}
	if orphans, err := d.Orphans(); err != nil || len(orphans) != 0 {
		t.Errorf("left: %v, %v", orphans, err)
	}
}

// TestTrash deletes what is deep, large and shut.
func TestTrash(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	steps := []Step{MakeDir("x", 0o700)}
	p := "x"
	for range 300 {
		p += "/deeper"
		steps = append(steps, MakeDir(p, 0o700), MakeFile(p+"/f", 0))
	}
	steps = append(steps, MakeDir("x/shut", 0), MakeDir("x/shut/in", 0), MakeDir("x/deeper/shut", 0o500))
	do(t, d, steps...)
	do(t, d, Move("x", d.TrashPath()))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	checkTmp(t, dir)
}

func TestBase(t *testing.T) {
	dir := t.TempDir()
	one, two := Base{Tree: "one", Python: "3.12.1"}, Base{Tree: "two", Python: "3.12.2"}
	open(t, dir, Options{Base: one}).Close()
	moved := one
	moved.Prefix = "/elsewhere"
	open(t, dir, Options{Base: moved}).Close()

	_, err := Open(dir, Options{Base: two})
	var refused *BaseError
	if !errors.Is(err, ErrBase) || !errors.As(err, &refused) || refused.Have != moved || refused.Want != two {
		t.Fatalf("over another tree: %v", err)
	}
	open(t, dir, Options{}).Close()
	open(t, dir, Options{Base: two, Rebase: true}).Close()
	if d := open(t, dir, Options{Base: two}); d.Base() != two {
		t.Errorf("made over %v, want %v", d.Base(), two)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second session: %v, want ErrLocked with the process", err)
	}
	d := open(t, dir, Options{Locked: lock})
	d.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("after the session has lent the lock: %v", err)
	}
	if _, err := Open(t.TempDir(), Options{Locked: lock}); err == nil {
		t.Error("the lock of another directory is taken")
	}
	lock.Close()
	open(t, dir, Options{})
}

// TestLockDies holds that a lock goes with the process that has it, and with no sooner.
func TestLockDies(t *testing.T) {
	dir := t.TempDir()
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "1000")
	child.ExtraFiles = []*os.File{lock}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("while a process has the lock: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	open(t, dir, Options{})
}

func TestReadOnly(t *testing.T) {
	dir := copyGolden(t)
	open(t, dir, Options{}) // has the lock
	d, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if st, err := d.Stat("plain/file"); err != nil || st.Size != 4 {
		t.Errorf("stat: %v, %v", st.Size, err)
	}
	if d.Base().Tree != "0f1e2d3c" {
		t.Errorf("base %v", d.Base())
	}
	if err := d.Do(0, nil, MakeFile("f", 0)); !errors.Is(err, unix.EROFS) {
		t.Errorf("do: %v, want EROFS", err)
	}
	if _, _, err := d.StageFile(0); !errors.Is(err, unix.EROFS) {
		t.Errorf("stage: %v, want EROFS", err)
	}
	layer := t.TempDir()
	foreign, err := OpenReadOnly(layer)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := foreign.Scan(func(string, *Listing) error { return nil }); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(layer); err != nil || len(left) > 0 {
		t.Errorf("a layer that was looked at has %v, %v", left, err)
	}
}

func TestRefused(t *testing.T) {
	write := func(name, content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, sideDir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	plant := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			p := filepath.Join(dir, sideDir, name)
			if err := os.RemoveAll(p); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(t.TempDir(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, dir string)
		want string
	}{
		{"newer format", write(formatFile, "2\n"), "newer sitefs"},
		{"base that is garbage", write(baseFile, "{"), "base"},
		{"base that is large", write(baseFile, strings.Repeat(" ", maxSideFile+1)), "large"},
		{"journal of another kind", write(journalFile, "SQLite format 3"), "remove"},
		{"journal that is huge", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, sideDir, journalFile), 1<<40); err != nil {
				t.Fatal(err)
			}
		}, "bytes"},
		{"link for the side area", plant("."), "not the directory"},
		{"link for tmp", plant(tmpName), "tmp"},
		{"link for orphans", plant(orphansName), "orphans"},
		{"link for the journal", plant(journalFile), "journal"},
		{"link for the lock", plant(lockFile), "lock"},
		{"link for FORMAT", plant(formatFile), "FORMAT"},
		{"directory for the journal", func(t *testing.T, dir string) {
			p := filepath.Join(dir, sideDir, journalFile)
			if err := errors.Join(os.Remove(p), os.Mkdir(p, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "journal"},
		{"owner", func(t *testing.T, dir string) {
			if os.Getuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			if err := os.Chown(dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}, "belongs to user"},
		{"file", func(t *testing.T, dir string) {
			if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "not a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "upper")
			open(t, dir, Options{Base: Base{Tree: "t"}}).Close()
			test.do(t, dir)
			d, err := Open(dir, Options{})
			if err == nil {
				d.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q doesn't say %q", err, test.want)
			}
		})
	}
}

func TestFilesystems(t *testing.T) {
	for _, test := range []struct {
		name         string
		magic, flags int64
		want         string
	}{
		{"ext4", unix.EXT4_SUPER_MAGIC, 0, ""},
		{"NFS", unix.NFS_SUPER_MAGIC, 0, "is on NFS"},
		{"FAT", unix.MSDOS_SUPER_MAGIC, 0, "is on FAT"},
		{"SMB, its number as an int32", int64(int32(-0x1acb2be)), 0, "is on SMB"},
		{"read-only", unix.EXT4_SUPER_MAGIC, unix.ST_RDONLY, "read-only"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := checkFilesystem(test.magic, test.flags, "/dir")
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestReadOnlyFilesystem opens what can't be written to.
func TestReadOnlyFilesystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("needs to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if _, err := Open(dir, Options{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("%v, want EROFS", err)
	}
	d, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatalf("to look at: %v", err)
	}
	d.Close()
}

// TestShut opens a directory that its user may not write to.
func TestShut(t *testing.T) {
	dir := filepath.Join(publicDir(t), "upper")
	if err := os.Mkdir(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	asUser(t)
	if _, err := Open(dir, Options{}); !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "can't be written to") {
		t.Errorf("%v, want EACCES and what it is of", err)
	}
}
