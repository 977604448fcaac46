package power

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A disk notes writes and barriers in their order, and holds what was written.
func TestDisk(t *testing.T) {
	sandbox.NeedFUSE(t)
	sandbox.NeedRoot(t, "for loop devices")
	d, err := Attach(t.TempDir(), NewImage(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	began := d.Now()
	text := bytes.Repeat([]byte("text"), 2048)
	f, err := os.OpenFile(d.Device(), os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt(text, 4096)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	log, content, cerr := d.Close()
	if err := errors.Join(err, cerr); err != nil {
		t.Fatal(err)
	}
	found := make([]byte, 1<<20)
	content.read(found, 0)
	if want := slices.Concat(zeros[:], text, make([]byte, 1<<20-4096-len(text))); !bytes.Equal(found, want) {
		t.Error("the disk doesn't hold what was written")
	}
	covered := log.Before(log.Len())
	if covered.read(found, 0); log.Bytes() != int64(len(text)) || !bytes.Equal(found[4096:4096+len(text)], text) {
		t.Errorf("the log has %d bytes, want the %d written", log.Bytes(), len(text))
	}
	if b := log.Barriers(); len(b) == 0 || b[len(b)-1] <= began {
		t.Errorf("barriers after %d events, want one after the write, which came after %d", b, began)
	}
}

// What a barrier covers is never lost, and the rest may be in any part.
func TestTorn(t *testing.T) {
	write := func(n int64, content ...byte) event {
		e := event{offset: n * blockSize}
		for _, c := range content {
			e.data = append(e.data, bytes.Repeat([]byte{c}, blockSize)...)
		}
		return e
	}
	log := &Log{NewImage(3 * blockSize), []event{write(0, 'a', 'b'), {}, write(1, 'c', 'd'), write(1, 'e')}}
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for range 200 {
		m := log.Torn(log.Len(), random)
		var got [3]byte
		for i := range got {
			m.read(got[i:i+1], int64(i*blockSize))
		}
		seen[fmt.Sprintf("%q", got)] = true
	}
	want := map[string]bool{}
	for _, second := range "bce" {
		for _, third := range "\x00d" {
			want[fmt.Sprintf("%q", [3]byte{'a', byte(second), byte(third)})] = true
		}
	}
	for s := range want {
		if !seen[s] {
			t.Errorf("%s was never tried", s)
		}
	}
	for s := range seen {
		if !want[s] {
			t.Errorf("%s can't be: a barrier was not kept", s)
		}
	}
}

// A writer puts a file in the place of another.
type writer struct {
	sync bool // as one has to
}

// fileText is of many blocks, so that it can be there in part.
func fileText(version string) []byte { return bytes.Repeat([]byte(version), 100_000) }

func (w writer) prepare(dir string) error {
	return os.WriteFile(filepath.Join(dir, "file"), fileText("old"), 0o666)
}

func (w writer) run(dir string) error {
	f, err := os.Create(filepath.Join(dir, "temporary"))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(fileText("new")); err != nil {
		return err
	}
	if w.sync {
		err = f.Sync()
	}
	err = errors.Join(err, os.Rename(f.Name(), filepath.Join(dir, "file")))
	if !w.sync || err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// check holds what a file written with care is, whenever the power goes.
func (writer) check(dir string, done bool) error {
	found, err := os.ReadFile(filepath.Join(dir, "file"))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("there is no file")
	}
	if err != nil {
		return err
	}
	switch {
	case bytes.Equal(found, fileText("new")):
		return nil
	case !bytes.Equal(found, fileText("old")):
		return errors.New("the file is neither the old one nor the new one")
	case done:
		return errors.New("the file is the old one")
	}
	return nil
}

// A writer that syncs loses nothing. One that doesn't loses, and so does the first
// on a disk that hears no barrier: the recorder sees both.
func TestRecorder(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, fs fileSystem) {
		careful, careless := writer{sync: true}, writer{}
		s := record(t, fs, careful.prepare, careful.run)
		for _, err := range s.losses(t, careful.check) {
			t.Error(err)
		}
		s.wantDeafLosses(t, careful.check)
		s = record(t, fs, careless.prepare, careless.run)
		if lost := s.losses(t, careless.check); len(lost) == 0 {
			t.Error("a program that doesn't sync lost nothing")
		}
	})
}
