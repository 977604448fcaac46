package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// MountOptions say how an environment is mounted on a directory of the user's.
type MountOptions struct {
	Prefix string // where the environment is seen; "" is where it is mounted
	Layout string

	// AllowOther lets other users in, root among them: without it the mount is the
	// user's alone. Owner is whose the files are, nil for the user's.
	AllowOther bool
	Owner      *Owner

	// Command is the line of sh that mounts it, told by what lies beneath the mount.
	// With "" nothing is put there, and MountAll knows nothing of the mount.
	Command string

	// Overlay is the directory that changes go to, "" for a read-only mount. Rebase
	// takes changes that were made over another tree.
	Overlay string `json:",omitempty"`
	Rebase  bool   `json:"-"`

	scratch bool   // Overlay is none yet, and goes with the mount
	rung    string // as mount.Config has it; "" is what the user named, if anything
}

// An Owner is who files belong to.
type Owner struct{ UID, GID uint32 }

// Mount mounts the environment on dir until it is unmounted. Where dir holds the
// environment already nothing is done; another one makes way, and the processes
// in it keep what they have open.
func (s *Session) Mount(ctx context.Context, env *Environment, dir string, o MountOptions) error {
	if target, err := os.Readlink(dir); err == nil {
		return fmt.Errorf("%w: %q is a symbolic link to %q: name that directory, or remove the link", mount.ErrMountPoint, dir, target)
	}
	if o.Overlay != "" {
		var err error
		if o.Overlay, err = s.resolved(o.Overlay); err != nil {
			return fmt.Errorf("%w: %w", ErrOverlay, err)
		}
	}
	want, undo, err := s.want(ctx, env, dir, o, 0)
	if err != nil {
		return err
	}
	if err := s.mount(ctx, want, o); err != nil {
		err = errors.Join(err, undo())
		if o.AllowOther && errors.Is(err, mount.ErrNoFUSE) && strings.Contains(err.Error(), fuseOption) {
			err = fmt.Errorf("%w: %s", err, allowOtherHelp)
		}
		return err
	}
	if o.Command != "" {
		if err := s.remember(env, dir, o); err != nil {
			return err
		}
	}
	if o.AllowOther || os.Getuid() == 0 {
		return nil
	}
	return s.sayOnce("private", "a mount is its user's alone: root, sudo, other users' services and docker -v can't look into it; `sitefs mount --help` has what to do about that (said once)")
}

// fuseOption is the line of /etc/fuse.conf that lets users let others in.
const fuseOption = "user_allow_other"

const allowOtherHelp = "have root put the line " + fuseOption + " into /etc/fuse.conf, or mount as root, or leave out --allow-other and run as yourself what needs the environment"

// mount mounts, in the place of whatever of ours is there.
func (s *Session) mount(ctx context.Context, want mount.Want, o MountOptions) error {
	status, err := mount.Look(ctx, want.Dir)
	if err != nil && !errors.Is(err, mount.ErrNotMounted) {
		return err
	}
	if err == nil && status.State != mount.StateDead {
		err = mount.Hold(ctx, want)
		if errors.Is(err, mount.ErrInUse) {
			err = s.replace(ctx, status, want, o)
		}
		return err
	}
	dead := isDead(want.Dir)
	if dead {
		if err := mount.Unmount(ctx, want.Dir, true); err != nil && !errors.Is(err, mount.ErrNotMounted) {
			return err
		}
	}
	if err := hold(ctx, want, o); err != nil {
		return err
	}
	if dead {
		s.revived(want.Dir)
	}
	return nil
}

// replace mounts in the place of another environment, whose status is given. One
// with the same overlay has to end first: it would go on with what runs in it.
func (s *Session) replace(ctx context.Context, status mount.Status, want mount.Want, o MountOptions) error {
	var old Info
	if json.Unmarshal(status.Info, &old) == nil && old.Overlay != "" {
		if old.Overlay != o.Overlay {
			s.Note(fmt.Sprintf("what was changed in %s stays in the overlay %s", want.Dir, old.Overlay))
		} else if err := mount.Unmount(ctx, want.Dir, false); err != nil && !errors.Is(err, mount.ErrNotMounted) {
			return fmt.Errorf("another environment can't be put below the overlay %s while it is used: %w", o.Overlay, err)
		} else {
			return hold(ctx, want, o)
		}
	}
	gap, err := mount.Switch(ctx, want)
	if err == nil && gap > 0 {
		s.Note(fmt.Sprintf("%s was not mounted for %s, between the old environment and the new", want.Dir, gap.Round(time.Millisecond)))
	}
	return err
}

// hold mounts where nothing is mounted, over a stub.
func hold(ctx context.Context, want mount.Want, o MountOptions) error {
	if o.Command == "" {
		return mount.Hold(ctx, want)
	}
	noted, err := heldFile(want.Dir)
	if err != nil {
		return err
	}
	beneath, err := putStub(want.Dir, o.Layout, noted, o.Command)
	if errors.Is(err, errForeign) {
		return mount.Hold(ctx, want) // it says what is wrong, or somebody was faster and nothing is
	}
	if err != nil {
		return err
	}
	if err := mount.Hold(ctx, want); err != nil {
		return errors.Join(err, beneath.undo())
	}
	return nil
}

// Unmount takes away what is mounted on dir, with what lies beneath it. Errors are
// those of [mount.Unmount].
func Unmount(ctx context.Context, dir string, detach bool) error {
	err := mount.Unmount(ctx, dir, detach)
	if err != nil && !errors.Is(err, mount.ErrNotMounted) {
		return err
	}
	unlock, lerr := lockStubs()
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	defer unlock()
	found, serr := removeStub(dir)
	serr = errors.Join(serr, forget(dir))
	if found && serr == nil {
		return nil // somebody else unmounted, or the machine started anew
	}
	return errors.Join(err, serr)
}

// isDead reports whether a mount is on dir that nobody serves. The kernel answers
// stat(2) from its cache, statfs(2) it passes on.
func isDead(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED)
}

// revived says that a mount was found dead.
func (s *Session) revived(dir string) {
	s.Warn(fmt.Sprintf("the mount on %s was dead, its processes were killed: it is mounted again", dir))
}
