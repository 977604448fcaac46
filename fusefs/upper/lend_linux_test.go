package upper

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLend does as an ordinary user what modes forbid, and finds them as they were.
func TestLend(t *testing.T) {
	dir := populate(t, true)
	asUser(t)
	d := open(t, dir, Options{})
	do(t, d,
		MakeFile("shut/in/f", 0o444), Hardlink("shut/in/g", "h"), MakeDir("zero", 0o700), MakeFile("zero/f", 0),
		MakeDir("zero/sub", 0), MakeSymlink("zero/l", "target"),
	)
	if err := d.Chmod("zero", 0); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		do   func() error
	}{
		{"open for writing", func() error { return closing(d.OpenFile("shut/in/f", unix.O_RDWR)) }},
		{"open below", func() error { return closing(d.OpenFile("zero/f", unix.O_RDWR)) }},
		{"list", func() error { _, err := d.List("zero"); return err }},
		{"list with a stat of each", func() error {
			defer func(all bool) { d.statAll = all }(d.statAll)
			d.statAll = true
			_, err := d.List("zero")
			return err
		}},
		{"scan", func() error { return d.Scan(func(string, *Listing) error { return nil }) }},
		{"stat", func() error { _, err := d.Stat("zero/f"); return err }},
		{"readlink", func() error { _, err := d.Readlink("zero/l"); return err }},
		{"utimes", func() error { return d.Utimes("zero/f", nil, &unix.Timespec{Sec: 1}) }},
		{"chmod", func() error { return d.Chmod("zero/f", 0o404) }},
		{"chown", func() error { return d.Chown("zero/f", -1, -1) }},
		{"setxattr", func() error { return d.Setxattr("zero/f", "user.a", []byte("b"), 0) }},
		{"sync", func() error { return d.SyncDir("zero") }},
		{"make", func() error { return d.Do(0, nil, MakeFile("zero/new", 0).KeepTime()) }},
		{"move a directory", func() error { return d.Do(0, nil, Move("zero/sub", "sub"), Move("sub", "zero/sub")) }},
		{"delete", func() error { return d.Do(0, nil, Move("zero/new", d.TrashPath())) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A subtest has a goroutine, and so a thread, of its own.
			asUser(t)
			if err := test.do(); err != nil {
				t.Error(err)
			}
			modes(t, d)
		})
	}
	if st, err := d.Stat("zero/f"); err != nil || st.Mode&0o7777 != 0o404 {
		t.Errorf("zero/f has mode %o, %v", st.Mode, err)
	}
	do(t, d, Move("zero", d.TrashPath()), Move("shut/in", d.TrashPath()))
}

// modes holds the modes of what TestLend has shut.
func modes(t *testing.T, d *Dir) {
	t.Helper()
	for _, test := range []struct {
		path string
		want uint32
	}{{"shut", 0o111}, {"shut/in", 0o111}, {"shut/in/f", 0o444}, {"zero", 0}, {"zero/sub", 0}} {
		st, err := d.Stat(test.path)
		if err != nil || st.Mode&0o7777 != test.want {
			t.Errorf("%s has mode %o, %v, want %o", test.path, st.Mode&0o7777, err, test.want)
		}
	}
}

// closing closes what was opened.
func closing(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// TestLendOthers finds what belongs to somebody else forbidden.
func TestLendOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to have another user's files")
	}
	dir := populate(t, true)
	if err := os.Chown(dir+"/shut", 1, 1); err != nil {
		t.Fatal(err)
	}
	asUser(t)
	d := open(t, dir, Options{})
	if err := d.Do(0, nil, MakeFile("shut/f", 0)); !errors.Is(err, unix.EACCES) {
		t.Errorf("%v, want EACCES", err)
	}
}
