package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/store/internal/blob"
)

// What is being written has an entry in tmp with one of these prefixes, locked
// by its writer for as long as this lives. Other names there are left alone.
const (
	stagePrefix = "stage-" // a folder: the files of an ingest, of tables, of a tree; a [Scratch]
	filePrefix  = "file-"  // one small file
)

// lock locks the store for the making of an entry in tmp or leases
// (unix.LOCK_SH) or for their sweep (unix.LOCK_EX, with LOCK_NB: a sweep that
// another process does already need not be done).
func (s *Store) lock(how int) (unlock func(), err error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, s.diskError(err)
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// flock locks an open file or folder. The lock ends with the last descriptor,
// however its process ends.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// claim makes a locked entry with a new name. The store lock keeps a sweep from
// coming between the making and the locking.
func (s *Store) claim(make func() (*os.File, error)) (*os.File, error) {
	if s.readOnly != nil {
		return nil, s.readOnly
	}
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := make()
	if err != nil {
		return nil, s.diskError(err)
	}
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// A stage is a folder in tmp whose files become part of the store together.
type stage struct {
	*blob.Batch
	dir *os.File
}

func (s *Store) newStage() (*stage, error) {
	dir, err := s.claimFolder()
	if err != nil {
		return nil, err
	}
	return &stage{blob.NewBatch(s.root, dir), dir}, nil
}

// claimFolder makes a locked folder in tmp.
func (s *Store) claimFolder() (*os.File, error) {
	return s.claim(func() (*os.File, error) {
		path, err := os.MkdirTemp(s.path("tmp"), stagePrefix)
		if err != nil {
			return nil, err
		}
		return os.Open(path)
	})
}

// close removes the folder with whatever was not placed, and lets go of it.
func (st *stage) close() error {
	st.Batch.Close()
	return errors.Join(os.RemoveAll(st.dir.Name()), st.dir.Close())
}

// put makes files part of the store, by name, durably and in no order. One whose
// name is taken is dropped.
func (s *Store) put(files map[string][]byte) (err error) {
	st, err := s.newStage()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	var staged []string
	var step blob.Step
	for name, data := range files {
		file, err := st.Put(data)
		if err != nil {
			return s.diskError(err)
		}
		staged = append(staged, file)
		step.Place = append(step.Place, blob.Placement{Staged: file, Name: name})
	}
	if err := st.Sync(staged); err != nil {
		return s.diskError(err)
	}
	return s.diskError(st.Place(step))
}

// putPlain writes one small file and renames it over name. It is whole for
// every reader, but after a power loss it may be torn or gone.
func (s *Store) putPlain(name string, data []byte) error {
	f, err := s.claim(func() (*os.File, error) { return os.CreateTemp(s.path("tmp"), filePrefix) })
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	if err == nil {
		err = os.Rename(f.Name(), s.path(name))
	}
	if err != nil {
		return s.diskError(errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// sweep removes what dead processes left in tmp and leases. It waits for
// nobody.
func (s *Store) sweep() error {
	dead, err := s.claimDead()
	if err != nil {
		return err
	}
	for _, f := range dead {
		err = errors.Join(err, os.RemoveAll(f.Name()), f.Close())
	}
	if err != nil {
		return fmt.Errorf("remove what an interrupted process left: %w", s.diskError(err))
	}
	return nil
}

// claimDead locks every entry whose owner is dead. The locks of the entries
// outlive the store lock, so that the removal of a large one keeps nobody
// waiting.
func (s *Store) claimDead() (dead []*os.File, err error) {
	unlock, err := s.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, dir := range []string{"tmp", "leases"} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return dead, s.diskError(err)
		}
		for _, e := range entries {
			name := e.Name()
			if dir == "tmp" && !strings.HasPrefix(name, stagePrefix) && !strings.HasPrefix(name, filePrefix) {
				continue
			}
			f, err := os.Open(s.path(dir, name))
			if err != nil {
				continue // its owner has just removed it
			}
			if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
				f.Close()
				continue
			}
			dead = append(dead, f)
		}
	}
	return dead, nil
}

// Downloads returns a folder in tmp for partial downloads. They outlive their
// process, so that a later one can resume: no sweep touches them.
func (s *Store) Downloads() (string, error) {
	if s.readOnly != nil {
		return "", s.readOnly
	}
	dir := s.path("tmp", "downloads")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", s.diskError(err)
	}
	return dir, nil
}

// diskError adds to an error of the disk which one it is and what to do.
func (s *Store) diskError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: the file system at %q is full: %w: free some space there, or set SITEFS_STORE to another place", ErrNoSpace, mountPoint(s.dir), err)
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("the file system at %q fails: %w: look at the kernel's log (dmesg)", mountPoint(s.dir), err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: the file system at %q: %w", ErrReadOnly, mountPoint(s.dir), err)
	}
	return err
}

// mountPoint returns the highest directory above path that is on its file
// system.
func mountPoint(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return path
	}
	for dev := st.Dev; path != "/"; path = filepath.Dir(path) {
		if unix.Stat(filepath.Dir(path), &st) != nil || st.Dev != dev {
			break
		}
	}
	return path
}

// sizeText returns a number of bytes for people: "1.5 GB".
func sizeText(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, i := float64(n)/1000, 0
	for ; f >= 999.95 && i < len(units)-1; i++ {
		f /= 1000
	}
	return fmt.Sprintf("%.1f %cB", f, units[i])
}
