package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// trialPrefix begins the names of the folders that trials happen in.
const trialPrefix = ".sitefs-self-"

// takeFolder makes a folder for a trial in parent. It is the trial's as long as the
// lock is held, here or by a program that was started with it: after that another
// trial may sweep it up.
func takeFolder(parent string) (dir string, lock *os.File, err error) {
	for {
		if dir, err = os.MkdirTemp(parent, trialPrefix); err != nil {
			return "", nil, err
		}
		lock, err = lockFolder(dir)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
			continue // swept up before it was locked
		}
		if err != nil {
			return "", nil, errors.Join(err, os.Remove(dir))
		}
		return dir, lock, nil
	}
}

// lockFolder locks the folder at dir until the file is closed. The error wraps
// EWOULDBLOCK if somebody else has it.
func lockFolder(dir string) (_ *os.File, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
	}
	locked, err := f.Stat()
	if err != nil {
		return nil, err
	}
	there, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(locked, there) {
		return nil, &fs.PathError{Op: "flock", Path: dir, Err: fs.ErrNotExist}
	}
	return f, nil
}

// sweepFolders removes from parent the folders of this user's trials that were killed.
func sweepFolders(parent string) error {
	entries, err := fs.Glob(os.DirFS(parent), trialPrefix+"*")
	for _, name := range entries {
		err = errors.Join(err, sweepFolder(filepath.Join(parent, name)))
	}
	return err
}

// sweepFolder removes the folder at dir, unless it is another user's or in use.
func sweepFolder(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Getuid() || !info.IsDir() {
		return nil
	}
	lock, err := lockFolder(dir)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), lock.Close())
}
