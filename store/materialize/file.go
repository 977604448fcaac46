package materialize

import "golang.org/x/sys/unix"

// openDir opens a directory, not through a symlink.
func openDir(dir int, name string) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// createFile makes a new, empty file.
func createFile(dir int, name string, mode uint32) (fd int, err error) {
	err = retry(func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// closeAfter closes a file that was written, with the error of the writing.
func closeAfter(fd int, err error) error {
	closed := unix.Close(fd)
	if err == nil && closed != unix.EINTR { // which has closed all the same
		err = closed
	}
	return err
}

// setTime sets the modification time of name in dir, in Unix seconds, not through
// a symlink.
func setTime(dir int, name string, mtime int64) error {
	ts := []unix.Timespec{{Sec: mtime}, {Sec: mtime}}
	return retry(func() error { return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW) })
}

// write writes p or, without an error, the beginning of it.
func write(fd int, p []byte) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Write(fd, p)
		return err
	})
	return max(n, 0), err
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := write(fd, p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// retry calls f until no signal interrupts it.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
