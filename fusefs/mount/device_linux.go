package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	fuseDevice = "/dev/fuse"

	// fsName and fsType are what mount tables show. The subtype is how mounts of
	// this program are told from others.
	fsName = "sitefs"
	fsType = "fuse." + subtype

	subtype = "sitefs"
)

// device is a mount and the descriptor that its requests come from.
type device struct {
	dir string
	fd  int

	// made says how: what fusermount3 has mounted it must unmount too.
	made string
}

// attach mounts on dir in the way that rung names. With "" it does so by itself
// where it may, else with fusermount3.
func attach(dir string, a access, rung string) (*device, error) {
	d, err := attachBy(dir, a, rung)
	return d, here.explain(dir, err)
}

func attachBy(dir string, a access, rung string) (*device, error) {
	switch rung {
	case "":
		return attachBest(dir, a)
	case RungHelper:
		return attachHelper(dir, a)
	case RungMount, RungNamespace:
		d, err := attachDirect(dir, a)
		if errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("%w: %w; mount(2) is for root, and in a container for one with --device /dev/fuse and --cap-add SYS_ADMIN", ErrNoFUSE, err)
		}
		if err != nil {
			return nil, err
		}
		d.made = rung
		return d, nil
	}
	return nil, fmt.Errorf("%q is no way to mount, want %q, %q or %q", rung, RungMount, RungHelper, RungNamespace)
}

func attachBest(dir string, a access) (*device, error) {
	d, err := attachDirect(dir, a)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return d, err
	}
	helped, herr := attachHelper(dir, a)
	if herr == nil {
		return helped, nil
	}
	if os.Geteuid() == 0 {
		// A container without the right to mount: the helper can't do more.
		return nil, fmt.Errorf("%w: %w; a container needs --device /dev/fuse and --cap-add SYS_ADMIN", ErrNoFUSE, err)
	}
	return nil, herr
}

// attachDirect mounts with mount(2).
func attachDirect(dir string, a access) (*device, error) {
	fd, err := openDevice()
	if err != nil {
		return nil, err
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,%s", fd, os.Getuid(), os.Getgid(), a.options())
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if !a.writable {
		flags |= unix.MS_RDONLY
	}
	err = unix.Mount(fsName, dir, fsType, flags, data)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mounting on %q: %w", dir, err)
	}
	return &device{dir: dir, fd: fd, made: RungMount}, nil
}

func openDevice() (fd int, err error) {
	fd, err = unix.Open(fuseDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return -1, fmt.Errorf("%w: no %s: load the kernel module with \"modprobe fuse\"; a container needs --device /dev/fuse", ErrNoFUSE, fuseDevice)
	case err != nil:
		return -1, fmt.Errorf("opening %s: %w", fuseDevice, err)
	}
	return fd, nil
}

// options are the options that mount(2) and fusermount3 share. The kernel checks
// permissions itself, from the attributes it has.
func (a access) options() string {
	o := fmt.Sprintf("default_permissions,max_read=%d", maxTransfer)
	if a.allowOther {
		o += ",allow_other"
	}
	return o
}

// mode is the option that says whether the mount may be written to.
func (a access) mode() string {
	if a.writable {
		return "rw"
	}
	return "ro"
}

// attachHelper mounts with fusermount3, which is setuid root. It sends the
// descriptor over the socket that _FUSE_COMMFD names.
func attachHelper(dir string, a access) (*device, error) {
	helper, err := findHelper()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "commfd")
	defer unix.Close(ours)
	defer theirs.Close()

	opts := fmt.Sprintf("%s,nosuid,nodev,fsname=%s,subtype=%s,%s", a.mode(), fsName, subtype, a.options())
	cmd := exec.Command(helper, "-o", opts, "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3", "LC_ALL=C")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := runHelper(cmd); err != nil {
		return nil, fmt.Errorf("%w on %q: %w", ErrNoFUSE, dir, err)
	}
	d := &device{dir: dir, made: RungHelper}
	if d.fd, err = receiveFD(ours); err != nil {
		return nil, errors.Join(fmt.Errorf("receiving the descriptor from %s: %w", helper, err), d.detach(true))
	}
	if err := unix.SetNonblock(d.fd, true); err != nil {
		return nil, errors.Join(err, d.detach(true), d.close())
	}
	return d, nil
}

// findHelper returns the path of fusermount3. Systems with version 2 of
// libfuse alone call it fusermount; it speaks the same language.
func findHelper() (string, error) {
	for _, name := range []string{"fusermount3", "fusermount"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no fusermount3 on PATH, which users other than root need to mount; install the package fuse3", ErrNoFUSE)
}

// runHelper runs fusermount3; its error is what it says.
func runHelper(cmd *exec.Cmd) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if text := strings.TrimSpace(stderr.String()); err != nil && text != "" {
		return fmt.Errorf("%s (%w)", text, err)
	}
	return err
}

// receiveFD receives one descriptor, closed on exec.
func receiveFD(socket int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.New("no descriptor in the message")
}

// detach unmounts. Without lazy a mount that is in use stays, and the error is
// an [ErrBusy]. A mount that is gone already is no error.
func (d *device) detach(lazy bool) error {
	table, err := mounts()
	if err != nil {
		return err
	}
	e, ok := top(table, d.dir)
	if !ok {
		return nil
	}
	if e.fsType != fsType {
		// umount(2) takes a path and would take that one away.
		return fmt.Errorf("unmounting %q: %w by a %s; unmount that first", d.dir, errCovered, e.fsType)
	}
	return unmount(d.dir, lazy, d.made == RungHelper)
}

// rung says how the mount was made.
func (d *device) rung() string { return d.made }

// number returns the st_dev of the mount, without touching it.
func (d *device) number() (uint64, error) {
	table, err := mounts()
	if err != nil {
		return 0, err
	}
	e, ok := top(table, d.dir)
	if !ok || e.fsType != fsType {
		return 0, fmt.Errorf("%q was mounted and is not in the mount table", d.dir)
	}
	return e.number, nil
}

// close closes the descriptor, which ends the connection to the kernel: whoever
// still uses the mount gets ENOTCONN.
func (d *device) close() error { return unix.Close(d.fd) }

// unmount unmounts what is on dir.
func unmount(dir string, lazy, helper bool) error {
	if helper {
		return unmountHelper(dir, lazy)
	}
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	switch err := unix.Unmount(dir, flags); {
	case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("unmounting %q: %w", dir, ErrBusy)
	case errors.Is(err, fs.ErrPermission):
		return unmountHelper(dir, lazy)
	default:
		return fmt.Errorf("unmounting %q: %w", dir, err)
	}
}

// unmountHelper unmounts with fusermount3.
func unmountHelper(dir string, lazy bool) error {
	helper, err := findHelper()
	if err != nil {
		return err
	}
	args := []string{"-u", "--", dir}
	if lazy {
		args = []string{"-u", "-z", "--", dir}
	}
	cmd := exec.Command(helper, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err = runHelper(cmd)
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "busy"):
		return fmt.Errorf("unmounting %q: %w", dir, ErrBusy)
	case !isMounted(dir):
		return nil
	}
	return fmt.Errorf("unmounting %q: %w", dir, err)
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY)
}
