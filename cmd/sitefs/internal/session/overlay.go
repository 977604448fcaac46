package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
)

// ErrOverlay is a directory that can't be an overlay's.
var ErrOverlay = errors.New("not usable for an overlay")

// errNeedsMount is why no overlay is had where nothing can be mounted.
var errNeedsMount = errors.New("an overlay needs a mount, and a copy of the environment is not one: changes in it would show in every run; leave out --overlay or --scratch, or `sitefs materialize` to a directory of your own")

// An upperDir is a directory that changes go to.
type upperDir struct {
	path   string // absolute, without symbolic links
	made   bool   // it wasn't there
	stands string // tells it from one that takes its path later
}

// openUpper returns the directory of an overlay over env that is mounted on
// mountPoint. It is made if it isn't there. What can't be one, or is in use, is refused
// before anything happens to the mount that is there now.
func (s *Session) openUpper(ctx context.Context, env *Environment, mountPoint string, o *MountOptions) (u upperDir, err error) {
	if u.path, err = s.resolved(o.Overlay); err != nil {
		return u, fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	if mountPoint, err = s.resolved(mountPoint); err != nil {
		return u, fmt.Errorf("%w: %w", mount.ErrMountPoint, err)
	}
	if err := s.checkPlace(ctx, u.path, mountPoint); err != nil {
		return u, err
	}
	err = os.Mkdir(u.path, 0o777)
	switch {
	case err == nil:
		u.made = true
	case errors.Is(err, fs.ErrNotExist):
		return u, fmt.Errorf("%w: the folder that %q would be in is not there: make it first", ErrOverlay, u.path)
	case !errors.Is(err, fs.ErrExist):
		return u, fmt.Errorf("%w: %w: choose another directory", ErrOverlay, err)
	}
	if err := s.check(ctx, &u, env, mountPoint, o); err != nil {
		return u, errors.Join(err, u.undo())
	}
	return u, nil
}

// undo removes the directory again if it was made for a mount that is not.
func (u *upperDir) undo() error {
	if !u.made {
		return nil
	}
	return removeEmpty(u.path)
}

// resolved returns path as an absolute one without symbolic links. The last part
// need not be there.
func (s *Session) resolved(path string) (string, error) {
	path = s.absolute(path)
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("%q is a symbolic link that leads nowhere: remove it, or make what it names", path)
	}
	if real, err = s.resolved(filepath.Dir(path)); err != nil {
		return "", err
	}
	return filepath.Join(real, filepath.Base(path)), nil
}

// checkPlace refuses a directory where it would change what it lies over, or what
// lies over it.
func (s *Session) checkPlace(ctx context.Context, dir, mountPoint string) error {
	storeDir, err := filepath.EvalSymlinks(s.Store.Dir())
	if err != nil {
		return err
	}
	switch {
	case within(dir, storeDir) || within(storeDir, dir):
		return fmt.Errorf("%w: %q is in the store, or has it inside (%s): nothing that a command changes may get there; choose another directory", ErrOverlay, dir, storeDir)
	case within(dir, mountPoint):
		return fmt.Errorf("%w: %q is what is mounted on, %s, or in it: choose a directory beside it", ErrOverlay, dir, mountPoint)
	case within(mountPoint, dir):
		return fmt.Errorf("%w: %s, which is mounted on, is in %q, and would be in its own changes: choose a directory beside it", ErrOverlay, mountPoint, dir)
	}
	mounts, err := mount.List(ctx)
	for _, m := range mounts {
		if within(dir, m.Dir) {
			return fmt.Errorf("%w: %q is in an environment that sitefs mounts, %s: choose a directory outside", ErrOverlay, dir, m.Dir)
		}
	}
	return err
}

// within reports whether path is dir or in it; both are absolute and clean.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// check refuses a directory that can't hold changes to env, or that something holds.
func (s *Session) check(ctx context.Context, u *upperDir, env *Environment, mountPoint string, o *MountOptions) error {
	fi, err := os.Stat(u.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir():
		return fmt.Errorf("%w: %q is a file: name a directory", ErrOverlay, u.path)
	case !ok:
		return fmt.Errorf("%w: %q has no inode number", ErrOverlay, u.path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %q belongs to user %d, and this is user %d: choose a directory of your own", ErrOverlay, u.path, st.Uid, os.Geteuid())
	}
	u.stands = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	d, err := upper.OpenReadOnly(u.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	err = s.checkBase(d, u.path, env, o)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	if err := checkOurs(u.path); err != nil {
		return err
	}
	if err := unix.Access(u.path, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("%w: %q can't be written to (%w): choose another directory", ErrOverlay, u.path, err)
	}
	return s.checkNotMounted(ctx, u.path, mountPoint)
}

// checkOurs refuses a directory with files that came there otherwise, such as
// somebody's home: they would be seen in the environment, and changed there.
func checkOurs(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, upper.SideDir)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrOverlay, err)
	}
	return fmt.Errorf("%w: %q isn't empty, and no overlay: choose another directory; or, if it is a layer of an image, say so with `mkdir %s`",
		ErrOverlay, dir, shellWord(filepath.Join(dir, upper.SideDir)))
}

// checkNotMounted refuses a directory whose changes another mount shows: two would
// overwrite each other's. A mount that nobody uses makes way.
func (s *Session) checkNotMounted(ctx context.Context, dir, mountPoint string) error {
	mounts, err := mount.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		var i Info
		if json.Unmarshal(m.Info, &i) != nil || i.Overlay != dir || m.Dir == mountPoint {
			continue
		}
		switch m.State {
		case mount.StateWarm, mount.StateDead:
			err := mount.Unmount(ctx, m.Dir, m.State == mount.StateDead)
			if err != nil && !errors.Is(err, mount.ErrNotMounted) {
				return err
			}
		case mount.StateHeld:
			return fmt.Errorf("%q is the overlay of %s, and %w: one mount at a time may have it; run `sitefs umount %s` first", dir, m.Dir, mount.ErrInUse, shellWord(m.Dir))
		default:
			return fmt.Errorf("%q is the overlay of %s, where commands run, and %w: one mount at a time may have it; `sitefs status %s` names the commands", dir, m.Dir, mount.ErrInUse, shellWord(m.Dir))
		}
	}
	return nil
}
