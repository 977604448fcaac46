package upper

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInode(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	do(t, d, MakeDir("d", 0o755), MakeFile("d/f", 0o644), MakeSymlink("d/l", "f"), MakeNode("d/p", unix.S_IFIFO|0o600))
	for _, err := range []error{
		d.Chmod("d/f", 0o4711),
		d.Utimes("d/f", &unix.Timespec{Sec: 5, Nsec: 6}, nil),
		d.Utimes("d/f", nil, &unix.Timespec{Sec: 7, Nsec: 8}),
		d.Utimes("d/l", nil, &unix.Timespec{Sec: 9}),
		d.Chown("d/l", os.Getuid(), -1),
		d.Chmod(".", 0o751),
		d.SyncDir("d"),
		d.Sync(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	st, err := d.Stat("d/f")
	if err != nil || st.Mode != unix.S_IFREG|0o4711 || st.Atim != (unix.Timespec{Sec: 5, Nsec: 6}) || st.Mtim != (unix.Timespec{Sec: 7, Nsec: 8}) {
		t.Errorf("d/f: %+v, %v", st, err)
	}
	if st, err := d.Stat("d/l"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Mtim.Sec != 9 {
		t.Errorf("d/l: %+v, %v", st, err)
	}
	if target, err := d.Readlink("d/l"); err != nil || target != "f" {
		t.Errorf("d/l leads to %q, %v", target, err)
	}
	if st, err := d.Stat("."); err != nil || st.Mode != unix.S_IFDIR|0o751 {
		t.Errorf("the top has mode %o, %v", st.Mode, err)
	}
	if err := d.Chmod("d/l", 0o600); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("chmod of a link: %v, want EOPNOTSUPP", err)
	}
	if _, err := d.OpenFile("d/l", unix.O_RDONLY); !errors.Is(err, unix.ELOOP) {
		t.Errorf("open of a link: %v, want ELOOP", err)
	}
	if err := closing(d.OpenFile("d/p", unix.O_RDONLY)); err != nil {
		t.Errorf("open of a fifo that nobody writes to: %v", err)
	}
	if _, err := d.OpenFile("new", unix.O_RDWR|unix.O_CREAT); !errors.Is(err, unix.EINVAL) {
		t.Errorf("open that makes: %v, want EINVAL", err)
	}
	if st, err := d.Statfs(); err != nil || st.Bsize == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

func TestXattr(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	do(t, d, MakeFile("f", 0o644), MakeSymlink("l", "f"))
	large := make([]byte, 2000)
	err := d.Setxattr("f", "user.large", large, unix.XATTR_CREATE)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("needs a file system with extended attributes")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Setxattr("f", "user.empty", nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Setxattr("f", "user.empty", nil, unix.XATTR_CREATE); !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want EEXIST", err)
	}
	if v, err := d.Getxattr("f", "user.large"); err != nil || len(v) != len(large) {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	if v, err := d.Getxattr("f", "user.empty"); err != nil || len(v) != 0 {
		t.Errorf("%q, %v", v, err)
	}
	attrs, err := d.Listxattr("f")
	slices.Sort(attrs)
	if err != nil || !slices.Equal(attrs, []string{"user.empty", "user.large"}) {
		t.Errorf("%q, %v", attrs, err)
	}
	if err := d.Setxattr("l", "user.x", nil, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("of a link: %v, want EPERM", err)
	}
	if err := d.Removexattr("f", "user.empty"); err != nil {
		t.Error(err)
	}
	if _, err := d.Getxattr("f", "user.empty"); !errors.Is(err, unix.ENODATA) {
		t.Errorf("%v, want ENODATA", err)
	}
}

// TestStage stages everything and moves it into its place.
func TestStage(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	defer unix.Umask(unix.Umask(0o777))
	fd, file, err := d.StageFile(0o444)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Error(err)
	}
	unix.Close(fd)
	sub, err1 := d.StageDir(0o711)
	link, err2 := d.StageSymlink("t")
	fifo, err3 := d.StageNode(unix.S_IFIFO | 0o622)
	white, err4 := d.StageWhiteout()
	record, err5 := d.StageRecord(Record{Name: "n", Lower: "l"})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	gone, err := d.StageDir(0)
	if err != nil {
		t.Fatal(err)
	}
	d.Discard(gone)
	do(t, d,
		Move(file, "file"), Move(sub, "sub"), Move(link, "link"), Move(fifo, "fifo"),
		Move(white, ".wh.gone"), Move(record, RecordPath(".", "n")),
	)
	for name, want := range map[string]uint32{
		"file": unix.S_IFREG | 0o444, "sub": unix.S_IFDIR | 0o711, "link": unix.S_IFLNK | 0o777, "fifo": unix.S_IFIFO | 0o622,
	} {
		if st, err := d.Stat(name); err != nil || st.Mode != want {
			t.Errorf("%s has mode %o, %v, want %o", name, st.Mode, err, want)
		}
	}
	d.Discard("file")
	if _, err := d.Stat("file"); err != nil {
		t.Errorf("what isn't staged was discarded: %v", err)
	}
	checkTmp(t, dir)
	if _, err := d.StageNode(unix.S_IFCHR); !errors.Is(err, unix.EPERM) {
		t.Errorf("a device: %v, want EPERM", err)
	}
	if _, err := d.StageRecord(Record{Name: "..", Lower: "l"}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a record of ..: %v, want EINVAL", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, ".wh.gone")); err != nil {
		t.Error(err)
	}
}
