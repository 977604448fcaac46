package materialize

import (
	"os"

	"golang.org/x/sys/unix"
)

var kernel = system{
	clone:     fileClone,
	link:      linkFile,
	copyRange: copyFileRange,
	direct:    direct,
	exchange:  exchange,
	renameNew: renameNew,
	rename:    os.Rename,
}

func fileClone(from, dir int, name string, mode uint32) error {
	fd, err := createFile(dir, name, mode)
	if err != nil {
		return err
	}
	err = retry(func() error { return unix.IoctlFileClone(fd, from) })
	return closeAfter(fd, err)
}

func linkFile(old string, dir int, name string) error {
	return retry(func() error { return unix.Linkat(unix.AT_FDCWD, old, dir, name, 0) })
}

// copyMost is what one call is asked for: a signal can end the run between two.
const copyMost = 64 << 20

func copyFileRange(to, from int, n int64) (int64, error) {
	var done int
	err := retry(func() (err error) {
		done, err = unix.CopyFileRange(from, nil, to, nil, int(min(n, copyMost)), 0)
		return err
	})
	return int64(done), err
}

// direct has what is written to an open file pass by the page cache, or not.
func direct(fd int, on bool) error {
	flags := 0
	if on {
		flags = unix.O_DIRECT
	}
	return retry(func() error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	})
}

// setFileTime is setTime for an open file. It needs Linux 5.8.
func setFileTime(fd int, mtime int64) error {
	ts := []unix.Timespec{{Sec: mtime}, {Sec: mtime}}
	return retry(func() error { return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH) })
}

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func renameNew(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_NOREPLACE)
}
