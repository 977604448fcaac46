package upper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestScanHostile reads an upper that others have made up.
func TestScanHostile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(`{"name":"linked","lower":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	record := func(name string) string { return filepath.Base(RecordPath(".", name)) }
	write := func(name, content string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)
	}
	long := strings.Repeat("n", 255)
	for _, err := range []error{
		write("plain", ""), write(long, ""), write("not-utf8-\xff\n", ""), write(".wh", ""),
		write(".wh.nothing-there", ""), write(".wh.plain", ""), os.Mkdir(filepath.Join(dir, ".wh.dir"), 0o700),
		write(".wh.", ""), write(".wh..", ""), write(".wh...", ""), write(".wh..wh.plnk", ""), write(".wh."+strings.Repeat("w", 251), ""),
		write(record("garbage"), "{"),
		write(record("other"), `{"name":"third","lower":"a"}`),
		write(record("large"), strings.Repeat(" ", maxRecord+1)),
		write(recordPrefix, ""),
		os.Symlink(secret, filepath.Join(dir, record("linked"))),
		os.Mkdir(filepath.Join(dir, record("directory")), 0o700),
		unix.Mkfifo(filepath.Join(dir, record("fifo")), 0o600),
		os.Symlink("/", filepath.Join(dir, "root")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o700),
		os.Mkdir(filepath.Join(dir, "sub", sideDir), 0o700),
		write("sub/"+opaque, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, dir, Options{})
	listings := make(map[string]*Listing)
	if err := d.Scan(func(p string, l *Listing) error { listings[p] = l; return nil }); err != nil {
		t.Fatal(err)
	}
	if len(listings) != 2 || !listings["sub"].Opaque || len(listings["sub"].Entries) != 0 || listings["."].Opaque {
		t.Errorf("listed: %+v", listings)
	}
	top := listings["."]
	var names, ignored []string
	for _, e := range top.Entries {
		names = append(names, e.Name)
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, e.Name), &st); err != nil || st.Ino != e.Ino || st.Mode&unix.S_IFMT != e.Type {
			t.Errorf("%q is %o, inode %d, want %o, %d, %v", e.Name, e.Type, e.Ino, st.Mode, st.Ino, err)
		}
	}
	for _, i := range top.Ignored {
		ignored = append(ignored, i.Name)
	}
	for _, test := range []struct {
		what       string
		have, want []string
	}{
		{"entries", names, []string{"plain", long, "not-utf8-\xff\n", ".wh", "root", "sub"}},
		{"whiteouts", top.Whiteouts, []string{"nothing-there", "plain", "dir", strings.Repeat("w", 251)}},
		{"ignored", ignored, []string{".wh.", ".wh..", ".wh...", record("garbage"), record("other"), record("large"),
			recordPrefix, record("linked"), record("directory"), record("fifo")}},
	} {
		slices.Sort(test.have)
		slices.Sort(test.want)
		if !slices.Equal(test.have, test.want) {
			t.Errorf("%s: %q, want %q", test.what, test.have, test.want)
		}
	}
	if len(top.Records) != 0 {
		t.Errorf("records %+v", top.Records)
	}
}

// TestScanStat reads inode numbers where directories can't be trusted with them.
func TestScanStat(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	d.statAll = true
	do(t, d, MakeDir("d", 0o700), MakeFile("d/f", 0))
	err := d.Scan(func(p string, l *Listing) error {
		for _, e := range l.Entries {
			st, err := d.Stat(filepath.Join(p, e.Name))
			if err != nil || st.Ino != e.Ino || st.Mode&sIFMT != e.Type {
				t.Errorf("%q: %+v, %v", e.Name, e, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestScanStatVanishes: of what goes while a directory is read nothing is said.
func TestScanStatVanishes(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, Options{})
	d.statAll = true
	names := make([]string, 2000)
	for i := range names {
		names[i] = filepath.Join(dir, fmt.Sprint("name", i))
		if err := os.WriteFile(names[i], nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := make(chan error)
	go func() {
		var err error
		for _, name := range names {
			err = errors.Join(err, os.Remove(name))
		}
		gone <- err
	}()
	for {
		l, err := d.List(".")
		if err != nil {
			t.Error(err)
		}
		if err != nil || len(l.Entries) == 0 {
			break
		}
	}
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
}

func TestScanEnds(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	do(t, d, MakeDir("a", 0o700), MakeDir("b", 0o700))
	want := errors.New("enough")
	calls := 0
	if err := d.Scan(func(string, *Listing) error { calls++; return want }); err != want || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestChanged(t *testing.T) {
	d := open(t, t.TempDir(), Options{})
	record := func(dir string, r Record) Step {
		staged, err := d.StageRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		return Move(staged, RecordPath(dir, r.Name))
	}
	do(t, d,
		MakeDir("lib", 0o700), MakeFile("lib/new.py", 0), MakeFile("lib/.wh.gone.py", 0),
		MakeDir("lib/fresh", 0o700), MakeFile("lib/.wh.fresh", 0), MakeFile("lib/fresh/not-lower", 0),
		MakeDir("renamed", 0o700), record(".", Record{Name: "renamed", Lower: "lib/old"}), MakeFile("renamed/x", 0),
		MakeDir("renamed/deep", 0o700), MakeFile("renamed/deep/y", 0),
		record("lib", Record{Name: "meta", Lower: "lib/meta"}),
		record("lib", Record{Name: strings.Repeat("n", 255), Whiteout: true}),
		MakeDir("opaque", 0o700), MakeFile("opaque/"+opaque, 0), MakeFile("opaque/z", 0),
	)
	want := []string{
		"lib", "lib/fresh", "lib/gone.py", "lib/meta", "lib/new.py", "lib/" + strings.Repeat("n", 255),
		"lib/old", "lib/old/deep", "lib/old/deep/y", "lib/old/x", "opaque", "renamed",
	}
	slices.Sort(want)
	have, hidden, err := d.Changed()
	if err != nil || !slices.Equal(have, want) {
		t.Errorf("changed: %q, %v, want %q", have, err, want)
	}
	want = []string{"lib/fresh", "lib/gone.py", "lib/" + strings.Repeat("n", 255), "lib/old", "opaque"}
	if !slices.Equal(hidden, want) {
		t.Errorf("hidden: %q, want %q", hidden, want)
	}
}

func BenchmarkScan(b *testing.B) {
	for _, shape := range []struct{ dirs, files int }{{1, 100_000}, {10_000, 10}} {
		b.Run(fmt.Sprintf("%d-directories", shape.dirs), func(b *testing.B) {
			dir := b.TempDir()
			for i := range shape.dirs {
				sub := filepath.Join(dir, fmt.Sprint(i))
				if err := os.Mkdir(sub, 0o700); err != nil {
					b.Fatal(err)
				}
				for n := range shape.files {
					if err := unix.Mknod(filepath.Join(sub, fmt.Sprintf("file-%d.py", n)), unix.S_IFREG|0o600, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			d, err := Open(dir, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			for b.Loop() {
				entries := 0
				if err := d.Scan(func(_ string, l *Listing) error { entries += len(l.Entries); return nil }); err != nil {
					b.Fatal(err)
				}
				if entries != shape.dirs*(1+shape.files) {
					b.Fatalf("%d entries", entries)
				}
			}
		})
	}
}

// BenchmarkDo is what a mutation costs beside the system call it is for.
func BenchmarkDo(b *testing.B) {
	dir := b.TempDir()
	d, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if err := d.Do(0, nil, MakeDir("lib", 0o700), MakeDir("lib/pkg", 0o700), MakeFile("lib/pkg/a", 0)); err != nil {
		b.Fatal(err)
	}
	b.Run("rename", func(b *testing.B) {
		from, to := "lib/pkg/a", "lib/pkg/b"
		for i := range b.N {
			if err := d.Do(uint64(i+1), nil, Move(from, to)); err != nil {
				b.Fatal(err)
			}
			from, to = to, from
		}
		if from != "lib/pkg/a" {
			if err := d.Do(0, nil, Move(from, to)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("rename(2)", func(b *testing.B) {
		from, to := filepath.Join(dir, "lib/pkg/a"), filepath.Join(dir, "lib/pkg/b")
		for range b.N {
			if err := unix.Rename(from, to); err != nil {
				b.Fatal(err)
			}
			from, to = to, from
		}
		_ = unix.Rename(from, filepath.Join(dir, "lib/pkg/a")) // it may be there
	})
	b.Run("create and delete", func(b *testing.B) {
		fd := -1
		for i := range b.N {
			if err := d.Do(uint64(2*i+1), nil, MakeFile("lib/pkg/new", 0o644).Keep(&fd)); err != nil {
				b.Fatal(err)
			}
			unix.Close(fd)
			if err := d.Do(uint64(2*i+2), nil, Move("lib/pkg/new", d.TrashPath())); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open(2) and unlink(2)", func(b *testing.B) {
		name := filepath.Join(dir, "lib/pkg/new")
		for range b.N {
			fd, err := unix.Open(name, unix.O_CREAT|unix.O_RDWR|unix.O_EXCL, 0o644)
			if err != nil {
				b.Fatal(err)
			}
			unix.Close(fd)
			if err := unix.Unlink(name); err != nil {
				b.Fatal(err)
			}
		}
	})
}
