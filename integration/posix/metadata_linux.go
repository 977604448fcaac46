package posix

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var modes = []Case{
	{Name: "chmod/sets every bit", Try: func(c *C) {
		for _, mode := range []uint32{0o644, 0o600, 0o755, 0o444, 0o111, 0o777} {
			c.chmod("file", mode)
			equal(c, "the mode", c.lstat("file").Mode, unix.S_IFREG|mode)
			c.chmod("dir", mode|0o700)
			equal(c, "the mode", c.lstat("dir").Mode, unix.S_IFDIR|mode|0o700)
		}
		c.chmod("file", 0)
		equal(c, "the mode", c.lstat("file").Mode, unix.S_IFREG)
		c.chmod("file", 0o644)
		c.holds("file", text)
	}},
	{Name: "chmod/special bits", Try: func(c *C) {
		c.chmod("file", 0o4755)
		equal(c, "the mode", c.mode("file"), "04755")
		c.chmod("file", 0o2755)
		equal(c, "the mode", c.mode("file"), "02755")
		c.chmod("dir", 0o1777)
		equal(c, "the mode", c.mode("dir"), "01777")
		c.chmod("dir", 0o2755)
		equal(c, "the mode", c.mode("dir"), "02755")
	}},
	{Name: "chmod/times", Try: func(c *C) {
		c.changes(func() { c.chmod("file", 0o600) }, map[string]change{"file": metadata, "": nothing})
		c.changes(func() { c.chmod("dir", 0o700) }, map[string]change{"dir": metadata, "": nothing})
	}},
	{Name: "chmod/fchmod and through a symlink", Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		c.ok(unix.Fchmod(fd, 0o640))
		equal(c, "the mode", c.mode("file"), "0640")
		c.symlink("file", "link")
		c.chmod("link", 0o604)
		equal(c, "the mode", c.mode("file"), "0604")
		equal(c, "the mode of the symlink", c.mode("link"), "0777")
	}},
	{Name: "chmod/an open file and its other name", Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		c.link("file", "second")
		c.chmod("second", 0o600)
		equal(c, "mode", c.fstat(fd).Mode, unix.S_IFREG|0o600)
		equal(c, "the mode", c.mode("file"), "0600")
		c.holds("file", text)
	}},
	{Name: "chmod/of fifo and socket", New: true, Try: func(c *C) {
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		c.chmod("fifo", 0o644)
		equal(c, "mode", c.lstat("fifo").Mode, unix.S_IFIFO|0o644)
	}},
	{Name: "chmod/errors", Try: func(c *C) {
		c.symlink("loop", "loop")
		for name, want := range map[string]syscall.Errno{
			"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR, "loop": unix.ELOOP,
		} {
			c.want(want, unix.Chmod(c.path(name), 0o644))
		}
	}},
	{Name: "chmod/EPERM and EACCES for another user", Who: Root, Try: func(c *C) {
		c.as(1234, 1234, func() {
			c.want(unix.EPERM, unix.Chmod(c.path("file"), 0o666))
			c.want(unix.EPERM, unix.Chmod(c.path("dir"), 0o777))
		})
		c.chmod("dir", 0o700)
		c.as(1234, 1234, func() { c.want(unix.EACCES, unix.Chmod(c.path("dir/inner"), 0o666)) })
		equal(c, "the mode", c.mode("file"), "0644")
	}},
	{Name: "chmod/a group that isn't the caller's loses sgid", Who: Root, Try: func(c *C) {
		c.chown("file", 1234, 77)
		c.as(1234, 1234, func() { c.ok(unix.Chmod(c.path("file"), 0o2755)) })
		equal(c, "the mode", c.mode("file"), "0755")
		c.as(1234, 77, func() { c.ok(unix.Chmod(c.path("file"), 0o2755)) })
		equal(c, "the mode", c.mode("file"), "02755")
	}},
	{Name: "suid/a write by an ordinary user clears it", Who: Ordinary, Try: func(c *C) {
		for _, mode := range []uint32{0o4755, 0o2755, 0o6755} {
			c.chmod("file", mode)
			fd := c.open("file", unix.O_WRONLY, 0)
			c.append(fd, "x")
			equal(c, "the mode", c.mode("file"), "0755")
		}
	}},
	{Name: "suid/a truncate by an ordinary user clears it", Who: Ordinary, Try: func(c *C) {
		c.chmod("file", 0o6755)
		c.ok(unix.Truncate(c.path("file"), 3))
		equal(c, "the mode", c.mode("file"), "0755")
		c.chmod("other", 0o4755)
		c.open("other", unix.O_WRONLY|unix.O_TRUNC, 0)
		equal(c, "the mode", c.mode("other"), "0755")
	}},
	{Name: "suid/a write by root keeps it", Who: Root, Try: func(c *C) {
		c.chmod("file", 0o6755)
		c.append(c.open("file", unix.O_WRONLY, 0), "x")
		equal(c, "the mode", c.mode("file"), "06755")
	}},
	{Name: "suid/a write by another user clears it", Who: Root, Try: func(c *C) {
		c.chmod("file", 0o6777)
		c.as(1234, 1234, func() { c.append(c.open("file", unix.O_WRONLY, 0), "x") })
		equal(c, "the mode", c.mode("file"), "0777")
	}},
	{Name: "suid/a chown clears it", Who: Root, Try: func(c *C) {
		c.chmod("file", 0o6755)
		c.chown("file", 1234, 1234)
		equal(c, "the mode", c.mode("file"), "0755")
	}},
	{Name: "suid/a mapped write clears it or not, and is kept", Who: Ordinary, Try: func(c *C) {
		c.chmod("file", 0o4755)
		fd := c.open("file", unix.O_RDWR, 0)
		m, err := unix.Mmap(fd, 0, len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		c.ok(err)
		m[0] = 'X'
		c.ok(unix.Msync(m, unix.MS_SYNC))
		c.ok(unix.Munmap(m))
		equal(c, "what is read", c.readAt(fd, 1, 0), "X")
	}},
	{Name: "access/by mode", Who: Ordinary, Try: func(c *C) {
		c.chmod("file", 0o500)
		c.want(0, unix.Access(c.path("file"), unix.R_OK|unix.X_OK))
		c.want(unix.EACCES, unix.Access(c.path("file"), unix.W_OK))
		c.chmod("file", 0o077)
		c.want(unix.EACCES, unix.Access(c.path("file"), unix.R_OK))
		c.want(0, unix.Access(c.path("file"), unix.F_OK))
		c.want(unix.ENOENT, unix.Access(c.path("missing"), unix.F_OK))
	}},
	{Name: "access/execution needs an x", Who: Root, Try: func(c *C) {
		c.want(unix.EACCES, unix.Access(c.path("file"), unix.X_OK))
		c.chmod("file", 0o100)
		c.want(0, unix.Access(c.path("file"), unix.R_OK|unix.W_OK|unix.X_OK))
	}},
}

var owners = []Case{
	{Name: "chown/by root", Who: Root, Try: func(c *C) {
		for _, name := range []string{"file", "dir"} {
			c.changes(func() { c.chown(name, 123, 456) }, map[string]change{name: metadata, "": nothing})
			st := c.lstat(name)
			equal(c, "the owner", st.Uid, 123)
			equal(c, "the group", st.Gid, 456)
			c.chown(name, -1, 7)
			c.chown(name, 8, -1)
			st = c.lstat(name)
			equal(c, "the owner", st.Uid, 8)
			equal(c, "the group", st.Gid, 7)
		}
		c.holds("file", text)
	}},
	{Name: "chown/of a symlink and through it", Who: Root, Try: func(c *C) {
		c.symlink("file", "link")
		c.ok(unix.Chown(c.path("link"), 5, 6))
		equal(c, "the owner of the file", c.lstat("file").Uid, 5)
		equal(c, "the owner of the symlink", c.lstat("link").Uid, 0)
		c.chown("link", 7, 8)
		equal(c, "the owner of the symlink", c.lstat("link").Uid, 7)
		equal(c, "the owner of the file", c.lstat("file").Uid, 5)
	}},
	{Name: "chown/to itself is everybody's right", Try: func(c *C) {
		c.ok(unix.Chown(c.path("file"), c.UID, c.GID))
		c.ok(unix.Chown(c.path("file"), -1, -1))
		equal(c, "the owner", int(c.lstat("file").Uid), c.UID)
	}},
	{Name: "chown/EPERM", Who: Ordinary, Try: func(c *C) {
		c.want(unix.EPERM, unix.Chown(c.path("file"), 0, -1))
		c.want(unix.EPERM, unix.Chown(c.path("file"), -1, 0))
		c.want(unix.EPERM, unix.Chown(c.path("dir"), 0, 0))
	}},
	{Name: "chown/to a group of the owner's", Who: Root, Try: func(c *C) {
		c.chown("file", 1234, 1234)
		c.as(1234, 1234, func() {
			c.want(0, unix.Chown(c.path("file"), -1, 77))
			c.want(unix.EPERM, unix.Chown(c.path("file"), -1, 78))
			c.want(unix.EPERM, unix.Chown(c.path("file"), 1235, -1))
		}, 77)
		equal(c, "the group", c.lstat("file").Gid, 77)
	}},
	{Name: "chown/errors", Try: func(c *C) {
		for name, want := range map[string]syscall.Errno{"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR} {
			c.want(want, unix.Chown(c.path(name), -1, -1))
			c.want(want, unix.Lchown(c.path(name), -1, -1))
		}
	}},
	{Name: "chown/fchown", Who: Root, Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		c.ok(unix.Fchown(fd, 1, 2))
		equal(c, "the owner", c.lstat("file").Uid, 1)
	}},
}

// step is more than the clock of files moves at once.
const step = 20 * time.Millisecond

// at is a time that no file gets by chance, with nanoseconds.
func at(sec, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }

func (c *C) utimes(name string, atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, c.path(name), []unix.Timespec{atime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

var times = []Case{
	{Name: "utimens/to the nanosecond", Try: func(c *C) {
		for _, name := range []string{"file", "dir", "dir/inner"} {
			c.changes(func() { c.ok(c.utimes(name, at(1000000001, 123456789), at(1000000002, 987654321))) }, map[string]change{name: content})
			st := c.lstat(name)
			equal(c, "atime", st.Atim, at(1000000001, 123456789))
			equal(c, "mtime", st.Mtim, at(1000000002, 987654321))
		}
		c.holds("file", text)
		equal(c, "mtime", c.lstat("file").Mtim, at(1000000002, 987654321))
	}},
	{Name: "utimens/long ago and far ahead", Try: func(c *C) {
		for _, t := range []unix.Timespec{at(0, 0), at(-1, 999999999), at(-86400*365*20, 5), at(1<<32+7, 9)} {
			c.ok(c.utimes("file", t, t))
			equal(c, "mtime", c.lstat("file").Mtim, t)
		}
	}},
	{Name: "utimens/UTIME_OMIT", Try: func(c *C) {
		old := c.stamps("file")
		c.ok(c.utimes("file", at(0, unix.UTIME_OMIT), at(77, 7)))
		equal(c, "atime", c.stamps("file").atime, old.atime)
		c.ok(c.utimes("file", at(88, 8), at(0, unix.UTIME_OMIT)))
		st := c.lstat("file")
		equal(c, "atime", st.Atim, at(88, 8))
		equal(c, "mtime", st.Mtim, at(77, 7))
		c.changes(func() { c.ok(c.utimes("file", at(0, unix.UTIME_OMIT), at(0, unix.UTIME_OMIT))) }, map[string]change{"file": nothing})
	}},
	{Name: "utimens/UTIME_NOW", Try: func(c *C) {
		c.ok(c.utimes("file", at(1, 1), at(1, 1)))
		before := time.Now().Add(-step)
		c.ok(c.utimes("file", at(0, unix.UTIME_NOW), at(0, unix.UTIME_NOW)))
		now := c.stamps("file")
		if now.mtime.Before(before) || now.atime.Before(before) || now.mtime.After(time.Now().Add(time.Second)) {
			c.errorf("the times are %v and %v, want now, %v", now.atime, now.mtime, before)
		}
		c.ok(c.utimes("file", at(1, 1), at(1, 1)))
		c.ok(unix.UtimesNanoAt(unix.AT_FDCWD, c.path("file"), nil, 0))
		if c.stamps("file").mtime.Before(before) {
			c.errorf("the mtime is %v, want now, %v", c.stamps("file").mtime, before)
		}
	}},
	{Name: "utimens/a symlink's own", Try: func(c *C) {
		c.symlink("file", "link")
		c.ok(c.utimes("file", at(1, 1), at(1, 1)))
		c.ok(c.utimes("link", at(3, 3), at(4, 4)))
		equal(c, "mtime of the symlink", c.lstat("link").Mtim, at(4, 4))
		equal(c, "mtime of the file", c.lstat("file").Mtim, at(1, 1))
	}},
	{Name: "utimens/survives a write of another file and a rename", Try: func(c *C) {
		c.ok(c.utimes("file", at(5, 5), at(6, 6)))
		c.write("other", "x")
		c.rename("file", "dir/moved")
		c.link("dir/moved", "second")
		c.chmod("second", 0o600)
		equal(c, "mtime", c.lstat("second").Mtim, at(6, 6))
	}},
	{Name: "utimens/after writes, before close", Try: func(c *C) { // as tar and cp -p do
		fd := c.open("new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		c.append(fd, text)
		c.ok(unix.UtimesNanoAt(unix.AT_FDCWD, c.path("new"), []unix.Timespec{at(9, 9), at(10, 10)}, 0))
		c.ok(unix.Fchmod(fd, 0o444))
		unix.Close(fd)
		equal(c, "mtime", c.lstat("new").Mtim, at(10, 10))
		c.holds("new", text)
		equal(c, "mtime", c.lstat("new").Mtim, at(10, 10))
	}},
	{Name: "utimens/errors", Try: func(c *C) {
		for name, want := range map[string]syscall.Errno{"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR} {
			c.want(want, c.utimes(name, at(1, 1), at(1, 1)))
		}
		c.want(unix.EINVAL, c.utimes("file", at(1, 1000000000), at(1, 1)))
	}},
	{Name: "utimens/EPERM and EACCES for another user", Who: Root, Try: func(c *C) {
		c.as(1234, 1234, func() {
			c.want(unix.EPERM, c.utimes("file", at(1, 1), at(1, 1)))
			c.want(unix.EACCES, unix.UtimesNanoAt(unix.AT_FDCWD, c.path("file"), nil, 0))
		})
		c.chmod("file", 0o666)
		c.as(1234, 1234, func() {
			c.want(unix.EPERM, c.utimes("file", at(1, 1), at(1, 1)))
			c.want(0, unix.UtimesNanoAt(unix.AT_FDCWD, c.path("file"), nil, 0))
		})
	}},
	{Name: "times/a write", Try: func(c *C) {
		fd := c.open("file", unix.O_WRONLY, 0)
		c.changes(func() { c.append(fd, "x") }, map[string]change{"file": content, "": nothing})
	}},
	{Name: "times/a read changes neither mtime nor ctime", Try: func(c *C) {
		c.changes(func() { c.read("file"); c.list("dir") }, map[string]change{"file": nothing, "dir": nothing})
	}},
	{Name: "times/a mapped write", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.changes(func() {
			m, err := unix.Mmap(fd, 0, len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			c.ok(err)
			m[0] = 'X'
			c.ok(unix.Msync(m, unix.MS_SYNC))
			c.ok(unix.Munmap(m))
		}, map[string]change{"file": content})
	}},
	{Name: "times/fstat and lstat agree after each write", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		for range 5 {
			c.tick()
			c.append(fd, "x")
			a, b := c.fstat(fd), c.lstat("file")
			equal(c, "mtime", stampsOf(a).mtime, stampsOf(b).mtime)
			equal(c, "size", a.Size, b.Size)
		}
	}},
	{Name: "times/stay the same while nothing happens", Try: func(c *C) {
		c.append(c.open("file", unix.O_WRONLY|unix.O_APPEND, 0), "x")
		old := c.stamps("file")
		c.tick()
		c.ok(unix.Fsync(c.open("file", unix.O_RDONLY, 0)))
		c.read("file")
		now := c.stamps("file")
		equal(c, "mtime", now.mtime, old.mtime)
	}},
}

var attributes = []Case{
	{Name: "xattr/user", Try: func(c *C) {
		for _, name := range []string{"file", "dir"} {
			path := c.path(name)
			_, err := unix.Lgetxattr(path, "user.a", make([]byte, 10))
			c.want(unix.ENODATA, err)
			c.ok(unix.Lsetxattr(path, "user.a", []byte("value"), 0))
			c.ok(unix.Lsetxattr(path, "user.empty", nil, 0))
			equal(c, "the value", c.xattr(name, "user.a"), "value")
			equal(c, "the value", c.xattr(name, "user.empty"), "")
			equal(c, "the names", c.xattrs(name), "user.a user.empty")
			c.ok(unix.Lsetxattr(path, "user.a", []byte("longer value"), 0))
			equal(c, "the value", c.xattr(name, "user.a"), "longer value")
			c.ok(unix.Lremovexattr(path, "user.a"))
			equal(c, "the names", c.xattrs(name), "user.empty")
			c.want(unix.ENODATA, unix.Lremovexattr(path, "user.a"))
		}
		c.holds("file", text)
	}},
	{Name: "xattr/XATTR_CREATE and XATTR_REPLACE", Try: func(c *C) {
		path := c.path("file")
		c.want(unix.ENODATA, unix.Lsetxattr(path, "user.a", []byte("1"), unix.XATTR_REPLACE))
		c.want(0, unix.Lsetxattr(path, "user.a", []byte("1"), unix.XATTR_CREATE))
		c.want(unix.EEXIST, unix.Lsetxattr(path, "user.a", []byte("2"), unix.XATTR_CREATE))
		c.want(0, unix.Lsetxattr(path, "user.a", []byte("3"), unix.XATTR_REPLACE))
		equal(c, "the value", c.xattr("file", "user.a"), "3")
	}},
	{Name: "xattr/sizes", Try: func(c *C) {
		path := c.path("file")
		c.ok(unix.Lsetxattr(path, "user.a", []byte("12345"), 0))
		n, err := unix.Lgetxattr(path, "user.a", nil)
		c.ok(err)
		equal(c, "the size", n, 5)
		_, err = unix.Lgetxattr(path, "user.a", make([]byte, 4))
		c.want(unix.ERANGE, err)
		_, err = unix.Llistxattr(path, make([]byte, 3))
		c.want(unix.ERANGE, err)
		n, err = unix.Llistxattr(path, nil)
		c.ok(err)
		equal(c, "the size of the list", n, len("user.a\x00"))
		value := bytes.Repeat([]byte{0, 1, 2, 255}, 500)
		c.ok(unix.Lsetxattr(path, "user.b", value, 0))
		equal(c, "the value", c.xattr("file", "user.b"), string(value))
		c.want(unix.E2BIG, unix.Lsetxattr(path, "user.c", make([]byte, 65537), 0))
		c.want(unix.ERANGE, unix.Lsetxattr(path, "user."+strings.Repeat("x", 251), []byte("1"), 0))
	}},
	{Name: "xattr/changes ctime alone", Try: func(c *C) {
		c.changes(func() { c.ok(unix.Lsetxattr(c.path("file"), "user.a", []byte("1"), 0)) }, map[string]change{"file": metadata})
		c.changes(func() { c.ok(unix.Lremovexattr(c.path("file"), "user.a")) }, map[string]change{"file": metadata})
	}},
	{Name: "xattr/stays with the file", Try: func(c *C) {
		c.ok(unix.Lsetxattr(c.path("file"), "user.a", []byte("kept"), 0))
		c.rename("file", "dir/moved")
		equal(c, "the value", c.xattr("dir/moved", "user.a"), "kept")
		c.append(c.open("dir/moved", unix.O_WRONLY|unix.O_APPEND, 0), "x")
		equal(c, "the value", c.xattr("dir/moved", "user.a"), "kept")
		c.chmod("dir/moved", 0o600)
		c.link("dir/moved", "second")
		equal(c, "the value", c.xattr("second", "user.a"), "kept")
		c.ok(unix.Lsetxattr(c.path("dir"), "user.d", []byte("dir"), 0))
		c.rename("dir", "folder")
		equal(c, "the value", c.xattr("folder", "user.d"), "dir")
	}},
	{Name: "xattr/by descriptor, of an unlinked file", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.remove("file")
		c.ok(unix.Fsetxattr(fd, "user.a", []byte("late"), 0))
		p := make([]byte, 10)
		n, err := unix.Fgetxattr(fd, "user.a", p)
		c.ok(err)
		equal(c, "the value", string(p[:n]), "late")
		c.ok(unix.Fremovexattr(fd, "user.a"))
	}},
	{Name: "xattr/not on a symlink or a fifo", New: true, Try: func(c *C) {
		c.symlink("x", "link")
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		c.want(unix.EPERM, unix.Lsetxattr(c.path("link"), "user.a", []byte("1"), 0))
		c.want(unix.EPERM, unix.Lsetxattr(c.path("fifo"), "user.a", []byte("1"), 0))
	}},
	{Name: "xattr/names that nobody knows", Try: func(c *C) {
		c.want(unix.EOPNOTSUPP, unix.Lsetxattr(c.path("file"), "nobody.knows", []byte("1"), 0))
		c.want(unix.EOPNOTSUPP, unix.Lsetxattr(c.path("file"), "noprefix", []byte("1"), 0))
	}},
	{Name: "xattr/EACCES and EPERM", Who: Ordinary, Try: func(c *C) {
		c.chmod("file", 0o400)
		c.want(unix.EACCES, unix.Lsetxattr(c.path("file"), "user.a", []byte("1"), 0))
		c.chmod("file", 0o200)
		_, err := unix.Lgetxattr(c.path("file"), "user.a", make([]byte, 1))
		c.want(unix.EACCES, err)
		c.chmod("file", 0o644)
		c.want(unix.EPERM, unix.Lsetxattr(c.path("file"), "trusted.a", []byte("1"), 0))
		_, err = unix.Lgetxattr(c.path("file"), "trusted.a", make([]byte, 1))
		c.want(unix.ENODATA, err)
	}},
	{Name: "xattr/trusted", Who: Root, Try: func(c *C) {
		if c.NoTrusted {
			c.want(unix.EOPNOTSUPP, unix.Lsetxattr(c.path("file"), "trusted.a", []byte("1"), 0))
			return
		}
		c.ok(unix.Lsetxattr(c.path("file"), "trusted.a", []byte("1"), 0))
		equal(c, "the value", c.xattr("file", "trusted.a"), "1")
		equal(c, "the names", c.xattrs("file"), "trusted.a")
		c.as(1234, 1234, func() { equal(c, "the names that others see", c.xattrs("file"), "") })
	}},
	{Name: "xattr/security.capability", Who: Root, Try: func(c *C) {
		capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00") // cap_net_bind_service+ep
		c.ok(unix.Lsetxattr(c.path("file"), "security.capability", capability, 0))
		equal(c, "the value", c.xattr("file", "security.capability"), string(capability))
		c.chmod("file", 0o600)
		equal(c, "the value", c.xattr("file", "security.capability"), string(capability))
		c.append(c.open("file", unix.O_WRONLY|unix.O_APPEND, 0), "x")
		_, err := unix.Lgetxattr(c.path("file"), "security.capability", make([]byte, 100))
		c.want(unix.ENODATA, err) // a write takes it away
		c.ok(unix.Lsetxattr(c.path("file"), "security.capability", capability, 0))
		c.chown("file", 12, 12)
		_, err = unix.Lgetxattr(c.path("file"), "security.capability", make([]byte, 100))
		c.want(unix.ENODATA, err)
	}},
	{Name: "xattr/access control lists", Try: func(c *C) {
		// user::rw-, user:1:r--, group::r--, mask::r--, other::r--
		acl := []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" +
			"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff")
		err := unix.Lsetxattr(c.path("file"), "system.posix_acl_access", acl, 0)
		if c.NoACL {
			c.want(unix.EOPNOTSUPP, err)
			return
		}
		c.want(0, err)
	}},
}

// xattr returns the value of an attribute, which must be there.
func (c *C) xattr(name, attribute string) string {
	p := make([]byte, 4096)
	n, err := unix.Lgetxattr(c.path(name), attribute, p)
	if err != nil {
		c.fatalf("%q of %q: %v", attribute, name, err)
	}
	return string(p[:n])
}

// xattrs returns the names of a file's attributes, sorted.
func (c *C) xattrs(name string) string {
	p := make([]byte, 4096)
	n, err := unix.Llistxattr(c.path(name), p)
	if err != nil {
		c.fatalf("the attributes of %q: %v", name, err)
	}
	found := strings.FieldsFunc(string(p[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(found)
	return strings.Join(found, " ")
}
