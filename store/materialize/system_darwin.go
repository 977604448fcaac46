package materialize

import (
	"os"

	"golang.org/x/sys/unix"
)

// Clonefile gives the clone the mode, the times and the extended attributes of the
// original.
var kernel = system{
	clone:     fileClone,
	keepsMode: true,
	link:      linkFile,
	copyRange: copyFileRange,
	direct:    direct,
	exchange:  exchange,
	renameNew: renameNew,
	rename:    os.Rename,
}

// fileClone clones one file. Clonefile would take a directory too, but its result
// where another process writes at the same time is two directories, "bin" and
// "bin 2".
func fileClone(from, dir int, name string, _ uint32) error {
	return retry(func() error { return unix.Fclonefileat(from, dir, name, unix.CLONE_NOOWNERCOPY) })
}

func linkFile(old string, dir int, name string) error {
	return retry(func() error { return unix.Linkat(unix.AT_FDCWD, old, dir, name, 0) })
}

func copyFileRange(int, int, int64) (int64, error) { return 0, unix.ENOSYS }

// direct does nothing: whether F_NOCACHE pays has not been measured.
func direct(int, bool) error { return unix.ENOTSUP }

// setFileTime is setTime for an open file.
func setFileTime(fd int, mtime int64) error {
	tv := []unix.Timeval{{Sec: mtime}, {Sec: mtime}}
	return retry(func() error { return unix.Futimes(fd, tv) })
}

func exchange(a, b string) error {
	return unix.RenamexNp(a, b, unix.RENAME_SWAP)
}

func renameNew(a, b string) error {
	return unix.RenamexNp(a, b, unix.RENAME_EXCL)
}
