package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of landlock(7), by what asks for them.
const (
	reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR

	writing = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER

	owned = reading | writing | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO

	// never are the rights that no rule gives.
	never = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// ofFile are the rights that one can have to a file that is no folder.
	ofFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// landlock refuses the thread what r doesn't allow, and where the kernel knows of
// them TCP, abstract unix sockets and signals to others.
//
// The system calls are made here because go-landlock confines every thread, this
// process's other goroutines with them.
func landlock(r Rules) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	if abi < movesFrom && len(r.Own) > 0 {
		return errMoves
	}
	attr := ruleset(int(abi), r.Read != nil)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	for _, path := range r.Read {
		if err := allow(fd, path, attr.Handled_access_fs&reading); err != nil {
			return err
		}
	}
	for _, path := range append([]string{os.DevNull}, r.Write...) {
		if err := allow(fd, path, attr.Handled_access_fs&(reading|writing)); err != nil {
			return err
		}
	}
	for _, path := range r.Own {
		if err := allow(fd, path, attr.Handled_access_fs&owned); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// movesFrom is the first version of the interface with the right to move a file to
// another folder (REFER). Before nothing gives it.
const movesFrom = 2

var errMoves = errors.New("this kernel's Landlock lets nobody move a file to another folder")

// ruleset are the rights that are taken away, as many as the version of the
// interface has.
func ruleset(abi int, read bool) (r unix.LandlockRulesetAttr) {
	r.Handled_access_fs = owned&^reading | never
	if read {
		r.Handled_access_fs |= reading
	}
	if abi < movesFrom {
		r.Handled_access_fs &^= unix.LANDLOCK_ACCESS_FS_REFER // refused without being named
	}
	if abi < 3 {
		r.Handled_access_fs &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		r.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi < 5 {
		r.Handled_access_fs &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		r.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return r
}

// allow gives rights to a file, if there is one.
func allow(ruleset uintptr, path string, rights uint64) error {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if errors.Is(err, fs.ErrNotExist) || rights == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		rights &= ofFile
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(f.Fd())}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("allow %q: %w", path, errno)
	}
	return nil
}
