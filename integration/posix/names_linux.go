package posix

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// list returns the names in a folder, sorted.
func (c *C) list(name string) []string {
	entries, err := os.ReadDir(c.path(name))
	if err != nil {
		c.fatalf("%v", err)
	}
	found := make([]string, len(entries))
	for i, e := range entries {
		found[i] = e.Name()
	}
	slices.Sort(found)
	return found
}

// lists complains if a folder has other names in it.
func (c *C) lists(name string, want ...string) {
	equal(c, fmt.Sprintf("the names in %q", name), strings.Join(c.list(name), " "), strings.Join(want, " "))
}

var directories = []Case{
	{Name: "mkdir/makes a folder", Try: func(c *C) {
		c.changes(func() { c.ok(unix.Mkdir(c.path("dir/new"), 0o777)) }, map[string]change{"dir": content, "": nothing})
		st := c.lstat("dir/new")
		equal(c, "type and mode", st.Mode, unix.S_IFDIR|0o755)
		equal(c, "the owner", int(st.Uid), c.UID)
		equal(c, "nlink", uint64(st.Nlink), 2)
		c.lists("dir/new")
	}},
	{Name: "mkdir/mode bits", New: true, Try: func(c *C) {
		for mode, want := range map[uint32]string{0o700: "0700", 0o1777: "01755", 0o111: "0111"} {
			name := fmt.Sprintf("d%o", mode)
			c.ok(unix.Mkdir(c.path(name), mode))
			equal(c, "the mode", c.mode(name), want)
		}
	}},
	{Name: "mkdir/errors", Try: func(c *C) {
		c.symlink("nowhere", "dangling")
		c.symlink("loop", "loop")
		for name, want := range map[string]syscall.Errno{
			"dir": unix.EEXIST, "file": unix.EEXIST, "dangling": unix.EEXIST, "dir/": unix.EEXIST,
			"missing/new": unix.ENOENT, "file/new": unix.ENOTDIR, "loop/new": unix.ELOOP,
			"dir/.": unix.EEXIST, "dir/..": unix.EEXIST,
		} {
			c.want(want, unix.Mkdir(c.path(name), 0o755))
		}
	}},
	{Name: "mkdir/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, unix.Mkdir(c.path("dir/new"), 0o755))
		c.chmod("dir", 0o666)
		c.want(unix.EACCES, unix.Mkdir(c.path("dir/new"), 0o755))
	}},
	{Name: "rmdir/removes a folder", Try: func(c *C) {
		c.mkdir("dir/new")
		c.changes(func() { c.ok(unix.Rmdir(c.path("dir/new"))) }, map[string]change{"dir": content})
		c.gone("dir/new")
		c.lists("dir", "inner", "sub")
	}},
	{Name: "rmdir/after everything in it", Try: func(c *C) {
		c.remove("full/one")
		c.want(unix.ENOTEMPTY, unix.Rmdir(c.path("full")))
		c.remove("full/two")
		c.ok(unix.Rmdir(c.path("full")))
		c.gone("full")
		c.want(unix.ENOENT, unix.Rmdir(c.path("full")))
		c.mkdir("full")
		c.lists("full")
		c.gone("full/one")
		c.ok(unix.Rmdir(c.path("full")))
	}},
	{Name: "rmdir/ENOTEMPTY", Try: func(c *C) {
		c.want(unix.ENOTEMPTY, unix.Rmdir(c.path("dir")))
		c.want(unix.ENOTEMPTY, unix.Rmdir(c.path("full")))
		c.want(unix.ENOTEMPTY, unix.Rmdir(c.path("dir/sub/..")))
		c.lists("full", "one", "two")
	}},
	{Name: "rmdir/errors", Try: func(c *C) {
		c.mkdir("empty")
		c.symlink("empty", "link")
		c.symlink("loop", "loop")
		for name, want := range map[string]syscall.Errno{
			"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file": unix.ENOTDIR, "file/x": unix.ENOTDIR,
			"link": unix.ENOTDIR, "empty/.": unix.EINVAL, "loop/x": unix.ELOOP,
		} {
			c.want(want, unix.Rmdir(c.path(name)))
		}
	}},
	{Name: "rmdir/EACCES", Who: Ordinary, New: true, Try: func(c *C) {
		c.mkdir("d")
		c.mkdir("d/empty")
		defer c.chmod("d", 0o755)
		c.chmod("d", 0o555)
		c.want(unix.EACCES, unix.Rmdir(c.path("d/empty")))
	}},
	{Name: "rmdir/a sticky folder", Who: Root, New: true, Try: func(c *C) {
		c.chmod("", 0o755)
		c.mkdir("sticky")
		c.chmod("sticky", 0o1777)
		c.mkdir("sticky/mine")
		c.as(1234, 1234, func() { c.want(unix.EPERM, unix.Rmdir(c.path("sticky/mine"))) })
		c.chown("sticky/mine", 1234, 1234)
		c.as(1234, 1234, func() { c.want(0, unix.Rmdir(c.path("sticky/mine"))) })
	}},
	{Name: "rmdir/of an open folder", New: true, Try: func(c *C) {
		c.mkdir("d")
		fd := c.open("d", unix.O_DIRECTORY, 0)
		c.ok(unix.Rmdir(c.path("d")))
		c.want(unix.ENOENT, unix.Mkdirat(fd, "new", 0o755))
		_, err := unix.Openat(fd, "new", excl, 0o644)
		c.want(unix.ENOENT, err)
		equal(c, "nlink", uint64(c.fstat(fd).Nlink), 0)
		n, err := unix.Getdents(fd, make([]byte, 1024))
		if err != unix.ENOENT && (err != nil || n != 0) {
			c.errorf("reading a removed folder: %d bytes, %v", n, err)
		}
	}},
}

var unlinking = []Case{
	{Name: "unlink/removes a name", Try: func(c *C) {
		c.changes(func() { c.remove("dir/inner") }, map[string]change{"dir": content, "": nothing})
		c.gone("dir/inner")
		c.lists("dir", "sub")
		c.want(unix.ENOENT, unix.Unlink(c.path("dir/inner")))
	}},
	{Name: "unlink/and a new file by that name", Try: func(c *C) {
		ino := c.lstat("file").Ino
		fd := c.open("file", unix.O_RDONLY, 0)
		c.remove("file")
		c.open("file", excl, 0o600)
		c.holds("file", "")
		if c.lstat("file").Ino == ino {
			c.errorf("the new file has the inode number of the old, which is open")
		}
		equal(c, "what is read from the old", c.readAt(fd, 100, 0), text)
	}},
	{Name: "unlink/and a folder by that name", Try: func(c *C) {
		c.remove("file")
		c.mkdir("file")
		c.write("file/in", "x")
		c.lists("file", "in")
	}},
	{Name: "unlink/a name of several", Try: func(c *C) {
		c.link("file", "second")
		c.changes(func() { c.remove("file") }, map[string]change{"second": metadata})
		equal(c, "nlink", uint64(c.lstat("second").Nlink), 1)
		c.holds("second", text)
	}},
	{Name: "unlink/a symlink, not its target", Try: func(c *C) {
		c.symlink("file", "link")
		c.remove("link")
		c.gone("link")
		c.holds("file", text)
	}},
	{Name: "unlink/errors", Try: func(c *C) {
		c.symlink("loop", "loop")
		for name, want := range map[string]syscall.Errno{
			"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR,
			"dir": unix.EISDIR, "loop/x": unix.ELOOP, "file/": unix.ENOTDIR,
		} {
			c.want(want, unix.Unlink(c.path(name)))
		}
		c.holds("file", text)
	}},
	{Name: "unlink/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, unix.Unlink(c.path("dir/inner")))
		c.chmod("dir", 0o666)
		c.want(unix.EACCES, unix.Unlink(c.path("dir/inner")))
		c.chmod("dir", 0o755)
		c.chmod("dir/inner", 0) // whose own mode has no say
		c.want(0, unix.Unlink(c.path("dir/inner")))
	}},
	{Name: "unlink/a sticky folder", Who: Root, Try: func(c *C) {
		c.chmod("dir", 0o1777)
		c.write("dir/theirs", "")
		c.chown("dir/theirs", 1234, 1234)
		c.as(1234, 1234, func() {
			c.want(unix.EPERM, unix.Unlink(c.path("dir/inner")))
			c.want(unix.EPERM, c.tryRename("dir/inner", "dir/moved", 0))
			c.want(0, unix.Unlink(c.path("dir/theirs")))
		})
	}},
	{Name: "unlinked/is read and written", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.remove("big")
		st := c.fstat(fd)
		equal(c, "nlink", uint64(st.Nlink), 0)
		equal(c, "size", st.Size, int64(len(big)))
		equal(c, "what is read", c.readAt(fd, len(big), 0), big)
		c.writeAt(fd, "written", 5000)
		c.writeAt(fd, "end", int64(len(big)))
		want := big[:5000] + "written" + big[5007:] + "end"
		equal(c, "what is read", c.readAt(fd, len(want)+10, 0), want)
		c.ok(unix.Ftruncate(fd, 5003))
		equal(c, "what is read", c.readAt(fd, len(big), 0), want[:5003])
		c.ok(unix.Fsync(fd))
		equal(c, "size", c.fstat(fd).Size, 5003)
	}},
	{Name: "unlinked/keeps its inode number and takes a mode", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		ino := c.fstat(fd).Ino
		c.remove("file")
		c.ok(unix.Fchmod(fd, 0o600))
		c.ok(unix.Futimes(fd, []unix.Timeval{{Sec: 1}, {Sec: 2}}))
		st := c.fstat(fd)
		equal(c, "mode", st.Mode, unix.S_IFREG|0o600)
		equal(c, "mtime", st.Mtim.Sec, 2)
		equal(c, "ino", st.Ino, ino)
		c.append(fd, "after")
		equal(c, "ino", c.fstat(fd).Ino, ino)
	}},
	{Name: "unlinked/by a rename over it", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.rename("other", "file")
		equal(c, "nlink", uint64(c.fstat(fd).Nlink), 0)
		c.writeAt(fd, "THE", 0)
		equal(c, "what is read", c.readAt(fd, 100, 0), "THE"+text[3:])
		c.holds("file", "other "+text)
	}},
	{Name: "unlinked/several at once", New: true, Try: func(c *C) {
		var fds []int
		for i := range 50 {
			fd := c.open("f", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
			c.append(fd, fmt.Sprint("file ", i))
			c.remove("f")
			fds = append(fds, fd)
		}
		for i, fd := range fds {
			equal(c, "what is read", c.readAt(fd, 100, 0), fmt.Sprint("file ", i))
		}
	}},
	{Name: "unlinked/can't get a name again", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.remove("file")
		from := fmt.Sprintf("/proc/thread-self/fd/%d", fd)
		c.want(unix.ENOENT, unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, c.path("back"), unix.AT_SYMLINK_FOLLOW))
	}},
	{Name: "unlinked/its folder is removed too", Try: func(c *C) {
		fd := c.open("full/one", unix.O_RDWR, 0)
		c.remove("full/one")
		c.remove("full/two")
		c.ok(unix.Rmdir(c.path("full")))
		c.writeAt(fd, "still", 1)
		equal(c, "what is read", c.readAt(fd, 100, 0), "1still")
	}},
}

var linking = []Case{
	{Name: "link/one file, two names", Try: func(c *C) {
		c.changes(func() { c.link("file", "dir/second") }, map[string]change{"dir": content, "file": metadata, "": nothing})
		a, b := c.lstat("file"), c.lstat("dir/second")
		equal(c, "ino", a.Ino, b.Ino)
		equal(c, "nlink", uint64(a.Nlink), 2)
		equal(c, "nlink", uint64(b.Nlink), 2)
		c.write("dir/second", "changed")
		c.holds("file", "changed")
		c.chmod("file", 0o600)
		equal(c, "the mode", c.mode("dir/second"), "0600")
		c.remove("file")
		equal(c, "nlink", uint64(c.lstat("dir/second").Nlink), 1)
	}},
	{Name: "link/an open file", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.link("file", "second")
		equal(c, "nlink", uint64(c.fstat(fd).Nlink), 2)
		c.append(fd, "NEW")
		c.holds("second", "NEW"+text[3:])
		c.holds("file", "NEW"+text[3:])
	}},
	{Name: "link/three names, renamed and removed", Try: func(c *C) {
		c.link("file", "b")
		c.link("b", "dir/c")
		equal(c, "nlink", uint64(c.lstat("file").Nlink), 3)
		c.rename("file", "dir/sub/a")
		c.rename("b", "dir/sub/b")
		c.write("dir/c", "one")
		c.holds("dir/sub/a", "one")
		c.holds("dir/sub/b", "one")
		c.remove("dir/c")
		c.remove("dir/sub/b")
		equal(c, "nlink", uint64(c.lstat("dir/sub/a").Nlink), 1)
		c.holds("dir/sub/a", "one")
	}},
	{Name: "link/a symlink itself", New: true, Try: func(c *C) {
		c.symlink("target", "link")
		c.link("link", "second")
		equal(c, "ino", c.lstat("second").Ino, c.lstat("link").Ino)
		equal(c, "type", c.lstat("second").Mode&unix.S_IFMT, unix.S_IFLNK)
	}},
	{Name: "link/a fifo", New: true, Try: func(c *C) {
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		c.link("fifo", "second")
		equal(c, "nlink", uint64(c.lstat("fifo").Nlink), 2)
	}},
	{Name: "link/errors", Try: func(c *C) {
		c.symlink("nowhere", "dangling")
		c.symlink("loop", "loop")
		for _, k := range []struct {
			from, to string
			want     syscall.Errno
		}{
			{"file", "other", unix.EEXIST}, {"file", "file", unix.EEXIST}, {"file", "dir", unix.EEXIST}, {"file", "dangling", unix.EEXIST},
			{"missing", "new", unix.ENOENT}, {"file", "missing/new", unix.ENOENT}, {"missing/x", "new", unix.ENOENT},
			{"file/x", "new", unix.ENOTDIR}, {"file", "other/new", unix.ENOTDIR}, {"file", "new/", unix.ENOENT},
			{"dir", "new", unix.EPERM}, {"loop/x", "new", unix.ELOOP}, {"file", "loop/x", unix.ELOOP},
		} {
			if err := unix.Link(c.path(k.from), c.path(k.to)); err != k.want {
				c.errorf("link of %q to %q: %v, want %s", k.from, k.to, err, errnoName(k.want))
			}
		}
		equal(c, "nlink", uint64(c.lstat("file").Nlink), 1)
	}},
	{Name: "link/EXDEV", Try: func(c *C) {
		if c.Outside == "" {
			return
		}
		c.want(unix.EXDEV, unix.Link(c.path("file"), c.Outside+"/new"))
	}},
	{Name: "link/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, unix.Link(c.path("file"), c.path("dir/new")))
		c.chmod("dir", 0o666)
		c.want(unix.EACCES, unix.Link(c.path("dir/inner"), c.path("new")))
	}},
}

var symlinking = []Case{
	{Name: "symlink/keeps its target", Try: func(c *C) {
		for i, target := range []string{"x", "../up/and/away", "/absolute", strings.Repeat("long/", 800), "with space\n"} {
			name := fmt.Sprintf("dir/link%d", i)
			c.symlink(target, name)
			got, err := os.Readlink(c.path(name))
			c.ok(err)
			equal(c, "the target", got, target)
			st := c.lstat(name)
			equal(c, "size", st.Size, int64(len(target)))
			equal(c, "type and mode", st.Mode, unix.S_IFLNK|0o777)
			equal(c, "the owner", int(st.Uid), c.UID)
		}
	}},
	{Name: "symlink/changes its folder's times", Try: func(c *C) {
		c.changes(func() { c.symlink("x", "dir/link") }, map[string]change{"dir": content, "": nothing})
	}},
	{Name: "symlink/errors", Try: func(c *C) {
		for _, k := range []struct {
			target, name string
			want         syscall.Errno
		}{
			{"x", "file", unix.EEXIST}, {"x", "dir", unix.EEXIST}, {"x", "missing/new", unix.ENOENT}, {"x", "file/new", unix.ENOTDIR},
			{"", "new", unix.ENOENT}, {strings.Repeat("x", 4096), "new", unix.ENAMETOOLONG}, {"x", "new/", unix.ENOENT},
		} {
			if err := unix.Symlink(k.target, c.path(k.name)); err != k.want {
				c.errorf("symlink %q: %v, want %s", k.name, err, errnoName(k.want))
			}
		}
		_, err := unix.Readlink(c.path("file"), make([]byte, 10))
		c.want(unix.EINVAL, err)
		_, err = unix.Readlink(c.path("missing"), make([]byte, 10))
		c.want(unix.ENOENT, err)
	}},
	{Name: "symlink/of 4095 bytes", New: true, Try: func(c *C) {
		target := strings.Repeat("a", 4095)
		c.symlink(target, "link")
		got, err := os.Readlink(c.path("link"))
		c.ok(err)
		equal(c, "the target", got, target)
	}},
	{Name: "symlink/its own owner and times", Who: Root, New: true, Try: func(c *C) {
		c.symlink("missing", "link")
		c.ok(unix.Lchown(c.path("link"), 12, 34))
		c.ok(unix.UtimesNanoAt(unix.AT_FDCWD, c.path("link"), []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 7, Nsec: 8}}, unix.AT_SYMLINK_NOFOLLOW))
		st := c.lstat("link")
		equal(c, "the owner", st.Uid, 12)
		equal(c, "the group", st.Gid, 34)
		equal(c, "mtime", st.Mtim, unix.Timespec{Sec: 7, Nsec: 8})
	}},
	{Name: "symlink/renamed and replaced", New: true, Try: func(c *C) {
		c.symlink("one", "a")
		c.symlink("two", "b")
		c.rename("a", "b")
		got, err := os.Readlink(c.path("b"))
		c.ok(err)
		equal(c, "the target", got, "one")
	}},
}

var nodes = []Case{
	{Name: "mknod/a fifo", Try: func(c *C) {
		c.ok(unix.Mknod(c.path("dir/fifo"), unix.S_IFIFO|0o644, 0))
		equal(c, "type and mode", c.lstat("dir/fifo").Mode, unix.S_IFIFO|0o644)
		c.want(unix.ENXIO, c.tryOpen("dir/fifo", unix.O_WRONLY, 0))
		r := c.open("dir/fifo", unix.O_RDONLY|unix.O_NONBLOCK, 0)
		w := c.open("dir/fifo", unix.O_WRONLY, 0)
		c.append(w, "through")
		p := make([]byte, 10)
		n, err := unix.Read(r, p)
		c.ok(err)
		equal(c, "what is read", string(p[:n]), "through")
	}},
	{Name: "mknod/a fifo is renamed and linked", New: true, Try: func(c *C) {
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		ino := c.lstat("fifo").Ino
		c.rename("fifo", "moved")
		equal(c, "ino", c.lstat("moved").Ino, ino)
		c.remove("moved")
		c.gone("moved")
	}},
	{Name: "mknod/a socket", New: true, Try: func(c *C) {
		c.ok(unix.Mknod(c.path("s"), unix.S_IFSOCK|0o600, 0))
		equal(c, "type and mode", c.lstat("s").Mode, unix.S_IFSOCK|0o600)
		c.want(unix.ENXIO, c.tryOpen("s", unix.O_RDWR, 0))
	}},
	{Name: "mknod/a socket that is listened at", New: true, Try: func(c *C) {
		// Its address is short enough for sun_path only from the folder itself.
		c.ok(unix.Chdir(c.dir)) // the thread's own
		s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		c.ok(err)
		defer unix.Close(s)
		c.ok(unix.Bind(s, &unix.SockaddrUnix{Name: "sock"}))
		c.ok(unix.Listen(s, 1))
		p, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		c.ok(err)
		defer unix.Close(p)
		c.ok(unix.Connect(p, &unix.SockaddrUnix{Name: "sock"}))
		equal(c, "type", c.lstat("sock").Mode&unix.S_IFMT, unix.S_IFSOCK)
		c.remove("sock")
		c.want(unix.ENOENT, unix.Connect(p, &unix.SockaddrUnix{Name: "sock"}))
	}},
	{Name: "mknod/a regular file", New: true, Try: func(c *C) {
		c.ok(unix.Mknod(c.path("f"), unix.S_IFREG|0o640, 0))
		c.holds("f", "")
		equal(c, "type and mode", c.lstat("f").Mode, unix.S_IFREG|0o640)
	}},
	{Name: "mknod/devices", Who: Root, New: true, Try: func(c *C) {
		want := unix.Errno(0)
		if c.NoDevices {
			want = unix.EPERM
		}
		c.want(want, unix.Mknod(c.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		c.want(want, unix.Mknod(c.path("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
	}},
	{Name: "mknod/devices as nobody", Who: Ordinary, New: true, Try: func(c *C) {
		c.want(unix.EPERM, unix.Mknod(c.path("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		c.want(unix.EPERM, unix.Mknod(c.path("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
	}},
	{Name: "mknod/errors", Try: func(c *C) {
		for name, want := range map[string]syscall.Errno{
			"file": unix.EEXIST, "dir": unix.EEXIST, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR,
		} {
			c.want(want, unix.Mkfifo(c.path(name), 0o600))
			c.want(want, unix.Mknod(c.path(name), unix.S_IFSOCK|0o600, 0))
		}
	}},
	{Name: "mknod/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, unix.Mkfifo(c.path("dir/new"), 0o600))
	}},
}

var names = []Case{
	{Name: "names/of 255 bytes", Try: func(c *C) {
		long := strings.Repeat("n", 255)
		c.write(long, "a")
		c.holds(long, "a")
		c.rename(long, "dir/"+long)
		c.gone(long)
		c.lists("dir", "inner", long, "sub")
		c.link("dir/"+long, long)
		c.remove("dir/" + long)
		c.remove(long)
		c.mkdir(long)
		c.write(long+"/"+long, "deep")
		c.rename(long, "dir/"+long[:254]+"m")
		c.holds("dir/"+long[:254]+"m/"+long, "deep")
		c.symlink("x", long)
		c.remove(long)
		c.ok(unix.Mkfifo(c.path(long), 0o600))
	}},
	{Name: "names/of 252 to 255 bytes come and go", Try: func(c *C) {
		for n := 252; n <= 255; n++ {
			long := strings.Repeat("n", n)
			for range 2 {
				c.write(long, "a")
				c.rename("file", long)
				c.rename(long, "file")
				c.gone(long)
				c.write(long, "b")
				c.remove(long)
				c.gone(long)
			}
		}
	}},
	{Name: "names/of 256 bytes", Try: func(c *C) {
		long := strings.Repeat("n", 256)
		path := c.path(long)
		c.want(unix.ENAMETOOLONG, c.tryOpen(long, creat, 0o644))
		c.want(unix.ENAMETOOLONG, c.tryOpen(long, unix.O_RDONLY, 0))
		c.want(unix.ENAMETOOLONG, unix.Mkdir(path, 0o755))
		c.want(unix.ENAMETOOLONG, unix.Rmdir(path))
		c.want(unix.ENAMETOOLONG, unix.Unlink(path))
		c.want(unix.ENAMETOOLONG, unix.Mkfifo(path, 0o600))
		c.want(unix.ENAMETOOLONG, unix.Symlink("x", path))
		c.want(unix.ENAMETOOLONG, unix.Link(c.path("file"), path))
		c.want(unix.ENAMETOOLONG, unix.Link(path, c.path("new")))
		c.want(unix.ENAMETOOLONG, c.tryRename("file", long, 0))
		c.want(unix.ENAMETOOLONG, c.tryRename(long, "new", 0))
		c.want(unix.ENAMETOOLONG, unix.Chmod(path, 0o644))
		c.want(unix.ENAMETOOLONG, unix.Chown(path, -1, -1))
		c.want(unix.ENAMETOOLONG, unix.Truncate(path, 0))
		c.want(unix.ENAMETOOLONG, unix.UtimesNanoAt(unix.AT_FDCWD, path, nil, 0))
		c.want(unix.ENAMETOOLONG, unix.Lstat(path, new(unix.Stat_t)))
		_, err := unix.Readlink(path, make([]byte, 1))
		c.want(unix.ENAMETOOLONG, err)
		c.want(unix.ENAMETOOLONG, unix.Access(path, unix.F_OK))
	}},
	{Name: "names/a path of 4095 bytes", New: true, Try: func(c *C) {
		// Made from the inside, used from the top.
		long := "/" + strings.Repeat("d", 200)
		dir := ""
		for len(c.dir)+len(dir)+len(long) < 4095-2 {
			dir += long
			c.mkdir(dir[1:])
		}
		name := dir[1:] + "/" + strings.Repeat("f", 4095-len(c.dir)-len(dir)-1)
		c.holdsPath(name, 4095)
		c.write(name, "far down")
		c.holds(name, "far down")
		c.want(unix.ENAMETOOLONG, c.tryOpen(name+"f", creat, 0o644))
		c.want(unix.ENAMETOOLONG, unix.Mkdir(c.path(name+"f"), 0o755))
		c.rename(name, "near")
		c.holds("near", "far down")
	}},
	{Name: "names/deeper than a path can be", New: true, Try: func(c *C) {
		const levels, name = 30, 250
		dir := strings.Repeat("d", name)
		c.ok(unix.Chdir(c.dir))
		for range levels {
			c.ok(unix.Mkdir(dir, 0o755))
			c.ok(unix.Chdir(dir))
		}
		fd, err := unix.Open("bottom", excl, 0o644)
		c.ok(err)
		c.append(fd, "deep")
		unix.Close(fd)
		var st unix.Stat_t
		c.ok(unix.Stat("bottom", &st))
		equal(c, "size", st.Size, 4)
		c.ok(unix.Rename("bottom", "renamed"))
		c.ok(unix.Unlink("renamed"))
		for range levels {
			c.ok(unix.Chdir(".."))
			c.ok(unix.Rmdir(dir))
		}
		equal(c, "names left", len(c.list("")), 0)
	}},
	{Name: "names/any bytes but two", New: true, Try: func(c *C) {
		for _, name := range []string{"\n", "\xff\xfe", " ", "-rf", "*", "'\"", "a\\b", "\u00e9", "e\u0301", "..x", ".x", "wh.x", "x.wh.", "~", ":", "%00"} {
			c.write(name, name)
		}
		for _, name := range c.list("") {
			c.holds(name, name)
			c.rename(name, name+"+")
			c.remove(name + "+")
		}
		c.lists("")
	}},
	{Name: "names/case matters", New: true, Try: func(c *C) {
		c.write("name", "a")
		c.write("NAME", "b")
		c.lists("", "NAME", "name")
		c.holds("name", "a")
	}},
	{Name: "names/dots", Try: func(c *C) {
		c.want(unix.EBUSY, c.tryRename("dir/.", "new", 0))
		c.want(unix.EBUSY, c.tryRename("file", "dir/..", 0))
		c.holds("dir/../file", text)
		c.holds("dir/./inner", "inner "+text)
		equal(c, "ino", c.lstat("dir/.").Ino, c.lstat("dir").Ino)
		equal(c, "ino", c.lstat("dir/sub/..").Ino, c.lstat("dir").Ino)
	}},
}

// holdsPath complains if the path of a name isn't that long.
func (c *C) holdsPath(name string, want int) {
	equal(c, "the length of the path", len(c.path(name)), want)
}
