package materialize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// unexchangeable are the errors by which a file system says that it can't exchange
// two directories: NFS and many others have no such call, and of a directory of a
// lower layer overlayfs can't change the name.
var unexchangeable = []unix.Errno{unix.EINVAL, unix.ENOSYS, unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTSUP}

func isOf(err error, list []unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(list, errno)
}

// put gives the directory made, which is on the disk, the place of the site. What
// was there is left under a name of ours.
func (s *site) put(made string, present bool) error {
	rename := s.sys.exchange
	if !present {
		rename = s.sys.renameNew
	}
	err := retry(func() error { return rename(made, s.dest) })
	switch {
	case err == nil:
		return s.sync()
	case !isOf(err, unexchangeable):
		return &os.LinkError{Op: "rename", Old: made, New: s.dest, Err: err}
	}
	if err := s.begun(made); err != nil {
		return err
	}
	return s.complete()
}

// sync has the names in the parent on the disk.
func (s *site) sync() error {
	if err := syncDir(s.parent); err != nil {
		return fmt.Errorf("the new environment is in place, but may be the old one after a power loss: %w", err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// A journal says that two steps were begun which an exchange would be one of. It is
// there until they are done, whoever does them.
type journal struct {
	Made string `json:"made"` // the name of the new environment
}

// begun writes the journal.
func (s *site) begun(made string) (err error) {
	text, err := json.Marshal(journal{filepath.Base(made)})
	if err != nil {
		return err
	}
	written, err := os.OpenFile(s.path(newJournalSuffix), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = written.Write(append(text, '\n'))
	if err = errors.Join(err, written.Sync(), written.Close()); err == nil {
		err = os.Rename(written.Name(), s.path(journalSuffix))
	}
	if err != nil {
		return errors.Join(err, os.Remove(written.Name()))
	}
	return syncDir(s.parent)
}

// complete does what the journal says is to be done, if there is one.
func (s *site) complete() error {
	text, err := s.readJournal()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var j journal
	if err := json.Unmarshal(text, &j); err != nil || !s.isNew(j.Made) {
		return fmt.Errorf("%q is not what sitefs writes (%q): look at it and remove it", s.path(journalSuffix), text)
	}
	made := filepath.Join(s.parent, j.Made)
	if _, err := os.Lstat(made); !errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(err, s.replace(made)); err != nil {
			return err
		}
	}
	if err := syncDir(s.parent); err != nil {
		return err
	}
	return os.Remove(s.path(journalSuffix))
}

// journalMost is more than a journal is long.
const journalMost = 4 << 10

// readJournal returns the text of the journal. In a folder like /tmp anybody could
// leave one, that would have us put his directory in the place of our environment.
func (s *site) readJournal() (text []byte, err error) {
	f, err := os.OpenFile(s.path(journalSuffix), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var file, parent unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &file); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if err := unix.Stat(s.parent, &parent); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: s.parent, Err: err}
	}
	// This user, root and who owns the folder may ask for that.
	if !slices.Contains([]uint32{uint32(os.Geteuid()), 0, parent.Uid}, file.Uid) {
		return nil, fmt.Errorf("%q is of user %d: have them complete it, or remove it", f.Name(), file.Uid)
	}
	return io.ReadAll(io.LimitReader(f, journalMost))
}

// replace is the two steps. Between them there is no environment, and never a
// part of one that looks whole. If a step fails the old environment is put back.
func (s *site) replace(made string) error {
	aside := s.newName()
	err := s.sys.rename(s.dest, aside)
	if errors.Is(err, unix.EXDEV) {
		if err := s.clear(); err != nil {
			return fmt.Errorf("the old environment is gone in part: %w: run the same again to complete it", err)
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.Remove(s.path(journalSuffix)))
	}
	if err := s.sys.rename(made, s.dest); err != nil {
		if back := s.sys.rename(aside, s.dest); back != nil {
			return fmt.Errorf("%w; and the old environment can't be put back (%w): run the same again to complete it", err, back)
		}
		return errors.Join(err, os.Remove(s.path(journalSuffix)))
	}
	return nil
}

// clear removes what is at the site and can't be renamed. The interpreter goes
// first, so that nobody starts in the rest.
func (s *site) clear() error {
	s.warn(fmt.Sprintf("%s is of a lower layer of an overlay, which can't rename it: it is removed, and for that long there is no environment", s.dest))
	for _, name := range []string{"bin/python", "bin", "pyvenv.cfg"} {
		if err := removeAll(filepath.Join(s.dest, name)); err != nil {
			return err
		}
	}
	return removeAll(s.dest)
}
