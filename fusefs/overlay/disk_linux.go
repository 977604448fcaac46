package overlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

// clone makes to share the blocks of from.
func clone(to, from int) error { return unix.IoctlFileClone(to, from) }

// copyFileRange copies at most n bytes.
func copyFileRange(to int, toOff int64, from int, fromOff, n int64) (int, error) {
	const most = 1 << 30 // what the kernel copies at once is a little less than 2 GiB
	return retry(func() (int, error) {
		return unix.CopyFileRange(from, &fromOff, to, &toOff, int(min(n, most)), 0)
	})
}

// seek is lseek(2) for data and holes, which needs no position of its own.
func seek(fd int, off int64, whence int) (int64, error) { return unix.Seek(fd, off, whence) }

// fallocate is fallocate(2).
func fallocate(fd int, mode uint32, off, n int64) error {
	_, err := retry(func() (int, error) { return 0, unix.Fallocate(fd, mode, off, n) })
	return err
}

// datasync is fdatasync(2).
func datasync(fd int) error { return unix.Fdatasync(fd) }

// writeError returns the error that writing back had since it was last asked for.
// It waits for nothing: no file has pages where it looks.
func writeError(fd int) error {
	const beyond = 1 << 62
	return unix.SyncFileRange(fd, beyond, 1, unix.SYNC_FILE_RANGE_WAIT_BEFORE)
}

// retry calls f again for as long as a signal interrupts it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// statfs converts what statfs(2) says.
func statfs(st *unix.Statfs_t) fuse.StatfsOut {
	return fuse.StatfsOut{
		Blocks:  st.Blocks,
		Bfree:   st.Bfree,
		Bavail:  st.Bavail,
		Files:   st.Files,
		Ffree:   st.Ffree,
		Bsize:   uint32(st.Bsize),
		Frsize:  uint32(st.Frsize),
		NameLen: maxName,
	}
}
