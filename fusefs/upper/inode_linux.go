package upper

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// single calls f with the directory of path and the name there, for one system
// call on one inode that needs no permission but to get there.
func (d *Dir) single(op, path string, f func(dir int, name string) error) error {
	parent, _ := split(path)
	return pathError(op, path, d.permit(func() error { return d.in(path, f) }, parent))
}

// inside is single for a call that needs permission to read or write the inode.
func (d *Dir) inside(op, path string, f func(dir int, name string) error) error {
	return pathError(op, path, d.permit(func() error { return d.in(path, f) }, path))
}

// OpenFile opens what is at path, with the flags of open(2) but those that make
// files. The descriptor is the caller's to close.
func (d *Dir) OpenFile(path string, flags int) (fd int, err error) {
	if flags&unix.O_CREAT != 0 {
		return -1, pathError("open", path, unix.EINVAL)
	}
	err = d.inside("open", path, func(dir int, name string) error {
		var err error
		// Without O_NONBLOCK a fifo in the place of a file would be waited for.
		fd, err = openAt(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

func openAt(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Stat returns the attributes of what is at path, a link's own.
func (d *Dir) Stat(path string) (st unix.Stat_t, err error) {
	err = d.single("stat", path, func(dir int, name string) error {
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

// Readlink returns the target of a symbolic link.
func (d *Dir) Readlink(path string) (target string, err error) {
	err = d.single("readlink", path, func(dir int, name string) error {
		buf := make([]byte, pathMax+1)
		n, err := unix.Readlinkat(dir, name, buf)
		if err == nil {
			target = string(buf[:n])
		}
		return err
	})
	return target, err
}

// Chmod sets the permission bits, 07777. A link has none: EOPNOTSUPP.
func (d *Dir) Chmod(path string, mode uint32) error {
	return d.single("chmod", path, func(dir int, name string) error { return chmodAt(dir, name, mode) })
}

// Chown sets the owner and the group, -1 leaving one as it is. The kernel clears
// set-id bits.
func (d *Dir) Chown(path string, uid, gid int) error {
	return d.single("chown", path, func(dir int, name string) error {
		return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Utimes sets the times of access and modification, nil leaving one as it is. A
// Nsec of UTIME_NOW is now.
func (d *Dir) Utimes(path string, atime, mtime *unix.Timespec) error {
	return d.single("utimes", path, func(dir int, name string) error { return utimes(dir, name, atime, mtime) })
}

// utimes is utimensat(2), nil leaving a time as it is.
func utimes(dir int, name string, atime, mtime *unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if atime != nil {
		times[0] = *atime
	}
	if mtime != nil {
		times[1] = *mtime
	}
	return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW)
}

// Getxattr returns the value of an extended attribute.
func (d *Dir) Getxattr(path, attr string) (value []byte, err error) {
	err = d.inside("getxattr", path, func(dir int, name string) error {
		value, err = grown(func(b []byte) (int, error) { return unix.Lgetxattr(procName(dir, name), attr, b) })
		return err
	})
	return value, err
}

// Setxattr sets an extended attribute, with the flags of setxattr(2).
func (d *Dir) Setxattr(path, attr string, value []byte, flags int) error {
	return d.inside("setxattr", path, func(dir int, name string) error {
		return unix.Lsetxattr(procName(dir, name), attr, value, flags)
	})
}

// Listxattr returns the names of the extended attributes.
func (d *Dir) Listxattr(path string) (attrs []string, err error) {
	err = d.single("listxattr", path, func(dir int, name string) error {
		b, err := grown(func(b []byte) (int, error) { return unix.Llistxattr(procName(dir, name), b) })
		for a := range bytes.SplitSeq(b, []byte{0}) {
			if len(a) > 0 {
				attrs = append(attrs, string(a))
			}
		}
		return err
	})
	return attrs, err
}

// Removexattr removes an extended attribute.
func (d *Dir) Removexattr(path, attr string) error {
	return d.inside("removexattr", path, func(dir int, name string) error {
		return unix.Lremovexattr(procName(dir, name), attr)
	})
}

// procName returns a path to a name in a directory that is open as a place: the
// calls for extended attributes know no other until Linux 6.13.
func procName(dir int, name string) string { return procPath(dir) + "/" + name }

// grown calls f with a buffer that is large enough for what it reads, at most the
// 64 KiB of xattr(7).
func grown(f func(b []byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size = 64 << 10 {
		b := make([]byte, size)
		n, err := f(b)
		if errors.Is(err, unix.ERANGE) && size < 64<<10 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// Statfs returns how full the file system of the directory is.
func (d *Dir) Statfs() (st unix.Statfs_t, err error) {
	err = unix.Fstatfs(d.dirs.root, &st)
	return st, pathError("statfs", d.name, err)
}

// SyncDir has what names are in a directory reach the disk.
func (d *Dir) SyncDir(path string) error {
	fd, err := d.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pathError("fsync", path, unix.Fsync(fd))
}

// Sync has all of the directory's file system reach the disk.
func (d *Dir) Sync() error {
	fd, err := d.OpenFile(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return pathError("syncfs", d.name, unix.Syncfs(fd))
}
