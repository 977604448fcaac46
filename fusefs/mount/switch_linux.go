package mount

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// moveMountBeneath is MOVE_MOUNT_BENEATH of <linux/mount.h> (Linux 6.5): the mount
// comes to lie under the one that is seen.
const moveMountBeneath = 0x200

func moveBeneath(fd int, dir string) error {
	return unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH|moveMountBeneath)
}

// attachOver mounts in the place of the mount on dir: beneath it, whereupon that
// one is detached.
func attachOver(dir string, a access) (*device, error) {
	d, err := attachBeneath(dir, a)
	return d, here.explain(dir, err)
}

func attachBeneath(dir string, a access) (d *device, err error) {
	fd, err := openDevice()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mounting on %q: %w", dir, err), unix.Close(fd))
		}
	}()
	detached, err := newMount(fd, a)
	if err != nil {
		return nil, err
	}
	defer unix.Close(detached)
	if err := moveBeneath(detached, dir); err != nil {
		return nil, err
	}
	if err := unmount(dir, true, false); err != nil {
		return nil, err
	}
	return &device{dir: dir, fd: fd, made: RungMount}, nil
}

// newMount returns a mount that is nowhere yet, of the requests that come from the
// descriptor device.
func newMount(device int, a access) (fd int, err error) {
	fs, err := unix.Fsopen(fuseKernelType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{
		{"source", fsName},
		{"subtype", subtype},
		{"fd", strconv.Itoa(device)},
		{"rootmode", "40000"},
		{"user_id", strconv.Itoa(os.Getuid())},
		{"group_id", strconv.Itoa(os.Getgid())},
		{"max_read", strconv.Itoa(maxTransfer)},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", o[0], o[1], err)
		}
	}
	flags := []string{a.mode(), "default_permissions"}
	if a.allowOther {
		flags = append(flags, "allow_other")
	}
	for _, f := range flags {
		if err := unix.FsconfigSetFlag(fs, f); err != nil {
			return -1, fmt.Errorf("fsconfig %s: %w", f, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	attributes := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	if !a.writable {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	return fd, os.NewSyscallError("fsmount", err)
}

// fuseKernelType is the file system's name without its subtype.
const fuseKernelType = "fuse"
