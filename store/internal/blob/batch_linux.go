package blob

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames a file and fails with EEXIST where the new name exists.
func renameNew(fromDir int, from string, toDir int, to string) error {
	err := unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		return renameByLink(fromDir, from, toDir, to)
	}
	return err
}

// syncAll makes everything on f's file system durable. Errors of writes that
// went wrong since f was opened are reported (Linux 5.8).
func syncAll(f *os.File) (done bool, err error) {
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return false, &fs.PathError{Op: "syncfs", Path: f.Name(), Err: err}
	}
	return true, nil
}

// syncFile makes the bytes of a file durable.
func syncFile(fd int) error {
	for {
		if err := unix.Fsync(fd); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// copyRange has the kernel copy up to n bytes between the positions of two files.
func copyRange(to, from, n int) (int, error) {
	return unix.CopyFileRange(from, nil, to, nil, n, 0)
}
