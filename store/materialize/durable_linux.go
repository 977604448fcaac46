package materialize

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// durable has what is below dir on the disk when it returns: by the file system as
// a whole, which for thousands of files takes a fraction of syncing each. So it
// covers the store's links too, which are on the same one where there are any.
func durable(dir string) error {
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := retry(func() error { return unix.Syncfs(fd) }); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
