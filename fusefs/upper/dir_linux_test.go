package upper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
		MakeFile("d/f", 0o4751).Keep(&fd),
		MakeSymlink("d/l", "some/where"),
		MakeNode("d/p", unix.S_IFIFO|0o666),
		MakeNode("d/s", unix.S_IFSOCK|0o640),
		Hardlink("d/f", "h"),
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
