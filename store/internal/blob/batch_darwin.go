package blob

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames a file and fails with EEXIST where the new name exists.
func renameNew(fromDir int, from string, toDir int, to string) error {
	err := unix.RenameatxNp(fromDir, from, toDir, to, unix.RENAME_EXCL)
	if err == unix.EINVAL || err == unix.ENOTSUP {
		return renameByLink(fromDir, from, toDir, to)
	}
	return err
}

// syncAll does nothing: macOS has no sync of one file system that waits.
func syncAll(*os.File) (done bool, err error) { return false, nil }

// syncFile makes the bytes of a file durable. Fsync alone leaves them in the
// disk's cache here.
func syncFile(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_FULLFSYNC, 0)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) {
		return unix.Fsync(fd)
	}
	return err
}

// copyRange does nothing: macOS has no such call.
func copyRange(to, from, n int) (int, error) { return 0, unix.ENOSYS }
