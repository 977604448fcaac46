package session

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
)

// scratchFolder is the folder of the state home with the overlays that go with their
// mounts. One that no process has locked is of a mount that is gone.
const scratchFolder = "scratch"

// newScratch returns the path of an overlay that nobody else has.
func newScratch() (string, error) {
	home, err := mount.StateHome()
	return filepath.Join(home, scratchFolder, rand.Text()), err
}

// makeScratch makes the directory of a scratch overlay and locks it.
func makeScratch(dir string) (*os.File, error) {
	unlock, err := lockScratches(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return upper.Lock(dir)
}

// removeScratch removes a scratch overlay, unless a process has it.
func removeScratch(dir string) (removed bool, err error) {
	unlock, err := lockScratches(filepath.Dir(dir))
	if err != nil {
		return false, err
	}
	defer unlock()
	lock, err := upper.Lock(dir)
	if errors.Is(err, upper.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(removeAll(dir), lock.Close())
}

// lockScratches keeps a scratch overlay that was just made from being taken for one
// that nobody has. The folder is made if it isn't there.
func lockScratches(folder string) (unlock func() error, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// removeAll removes a tree, also where the modes in it forbid it to its owner.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700) // WalkDir reads it afterwards
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// SweepScratches removes the scratch overlays of mounts whose processes were all
// killed, and what is left of the mounts.
func SweepScratches(ctx context.Context) error {
	home, err := mount.StateHome()
	if err != nil {
		return err
	}
	folder := filepath.Join(home, scratchFolder)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(folder, e.Name())
		removed, err := removeScratch(dir)
		if removed {
			err = errors.Join(err, unmountDead(ctx, dir))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unmountDead takes away what is left of the mount with that overlay.
func unmountDead(ctx context.Context, overlay string) error {
	mounts, err := mount.List(ctx)
	for _, m := range mounts {
		var i Info
		if json.Unmarshal(m.Info, &i) != nil || i.Overlay != overlay || m.State != mount.StateDead {
			continue
		}
		uerr := mount.Unmount(ctx, m.Dir, true)
		if !errors.Is(uerr, mount.ErrNotMounted) {
			err = errors.Join(err, uerr)
		}
	}
	return err
}

// flock waits for the lock of a file.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
