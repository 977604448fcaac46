package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A substitute is a second mount of the file system on a directory, beneath the
// first: it shows when that is unmounted, until another environment is there.
//
// It has no server that could be asked for it. So there is a note of it, in the
// state home, which is locked while somebody looks after it. A note that is not
// locked is of a process that was killed: the next one finishes what that began.
type substitute struct {
	dir    string
	number uint64 // st_dev, that of the first mount too
	note   *os.File
}

// keepVisible puts a substitute beneath the mount of ours on dir. It returns nil
// where there is none, and where this process or this kernel can't.
func keepVisible(dir string) (*substitute, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	if !isMounted(dir) {
		return nil, nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, nil
	}
	defer unix.Close(fd)
	s := &substitute{dir: dir}
	if s.note, err = lockNote(dir); err != nil {
		return nil, err
	}
	placed, err := s.begin(fd)
	if err != nil {
		return nil, errors.Join(err, s.note.Close())
	}
	if !placed {
		return nil, s.forget()
	}
	return s, nil
}

// begin notes the substitute and puts the mount fd in its place. One of a process
// that was killed is there already.
func (s *substitute) begin(fd int) (placed bool, err error) {
	table, err := mounts()
	if err != nil {
		return false, err
	}
	first, _ := top(table, s.dir)
	s.number = first.number
	if s.noted() == s.number && s.count(table) > 1 {
		return true, nil
	}
	if _, err := s.note.WriteAt(fmt.Appendf(nil, "%*d", noteSize, s.number), 0); err != nil {
		return false, err
	}
	return moveBeneath(fd, s.dir) == nil, nil
}

// end detaches the mounts with the substitute's number, all but left of them, and
// removes the note. Where another environment is seen they are gone already.
func (s *substitute) end(left int) error {
	for {
		table, err := mounts()
		if err != nil {
			return errors.Join(err, s.note.Close())
		}
		e, ok := top(table, s.dir)
		if !ok || e.fsType != fsType || e.number != s.number || s.count(table) <= left {
			return s.forget()
		}
		if err := unmount(s.dir, true, false); err != nil {
			return errors.Join(err, s.note.Close())
		}
	}
}

// count returns how many mounts on the directory have the substitute's number.
func (s *substitute) count(table []entry) int {
	n := 0
	for _, e := range table {
		if e.dir == s.dir && e.fsType == fsType && e.number == s.number {
			n++
		}
	}
	return n
}

// endLeft ends the substitute on dir of a process that was killed, if there is one
// and nothing else is seen, and reports whether there was.
func endLeft(dir string) (found bool, err error) {
	dir, err = resolve(dir)
	if err != nil {
		return false, err
	}
	path, err := noteFile(dir)
	if err != nil {
		return false, err
	}
	note, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if unix.Flock(int(note.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !isLinked(note) {
		return false, note.Close() // somebody looks after it
	}
	s := &substitute{dir: dir, note: note}
	s.number = s.noted()
	table, err := mounts()
	if err != nil {
		return false, errors.Join(err, note.Close())
	}
	if e, ok := top(table, dir); ok && (e.fsType != fsType || e.number != s.number) {
		return false, note.Close()
	}
	return true, s.end(0)
}

// noteSize is the length of a note, which is a number.
const noteSize = 20

// noteFile returns the path of the note for dir.
func noteFile(dir string) (string, error) {
	home, err := StateHome()
	if err != nil {
		return "", err
	}
	state, err := StateDir(dir)
	return filepath.Join(home, "switches", filepath.Base(state)), err
}

// lockNote makes the note for dir if need be, and waits for who looks after it.
func lockNote(dir string) (*os.File, error) {
	path, err := noteFile(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			return nil, errors.Join(fmt.Errorf("locking %q: %w", path, err), f.Close())
		}
		if isLinked(f) {
			return f, nil
		}
		f.Close() // who had it locked has removed it
	}
}

func isLinked(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// noted returns the number in the note, 0 if it is new.
func (s *substitute) noted() uint64 {
	var n uint64
	if _, err := fmt.Fscan(io.NewSectionReader(s.note, 0, noteSize), &n); err != nil {
		return 0
	}
	return n
}

// forget removes the note.
func (s *substitute) forget() error {
	return errors.Join(os.Remove(s.note.Name()), s.note.Close())
}
