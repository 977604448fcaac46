package posix

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	creat = unix.O_CREAT | unix.O_WRONLY
	excl  = creat | unix.O_EXCL
)

var opening = []Case{
	{Name: "open/creates with the umask", New: true, Try: func(c *C) {
		for mode, want := range map[uint32]string{0o666: "0644", 0o777: "0755", 0o600: "0600", 0o444: "0444", 0: "0"} {
			name := fmt.Sprintf("new%o", mode)
			c.open(name, excl, mode)
			equal(c, "the mode", c.mode(name), want)
		}
	}},
	{Name: "open/a stricter umask counts", New: true, Try: func(c *C) {
		unix.Umask(0o077)
		c.open("new", excl, 0o666)
		equal(c, "the mode", c.mode("new"), "0600")
	}},
	{Name: "open/gives a new file to the caller", New: true, Try: func(c *C) {
		c.open("new", excl, 0o644)
		st := c.lstat("new")
		equal(c, "the owner", int(st.Uid), c.UID)
		equal(c, "the group", int(st.Gid), c.GID)
		equal(c, "nlink", uint64(st.Nlink), 1)
		equal(c, "size", st.Size, 0)
	}},
	{Name: "open/gives a new file to another caller", Who: Root, New: true, Try: func(c *C) {
		c.chmod("", 0o777)
		c.as(1234, 2345, func() { c.open("new", excl, 0o644) })
		st := c.lstat("new")
		equal(c, "the owner", st.Uid, 1234)
		equal(c, "the group", st.Gid, 2345)
	}},
	{Name: "open/a setgid folder gives its group", Who: Root, New: true, Try: func(c *C) {
		c.mkdir("d")
		c.chown("d", 1, 77)
		c.chmod("d", 0o2777)
		c.open("d/new", excl, 0o644)
		equal(c, "the group", c.lstat("d/new").Gid, 77)
		c.mkdir("d/sub")
		equal(c, "the group of a folder", c.lstat("d/sub").Gid, 77)
		equal(c, "the mode of a folder", c.mode("d/sub"), "02755")
	}},
	{Name: "open/a new file changes its folder's times", Try: func(c *C) {
		c.changes(func() { c.open("dir/new", excl, 0o644) }, map[string]change{"dir": content})
	}},
	{Name: "open/O_CREAT of an old file changes no time", Try: func(c *C) {
		c.changes(func() { c.open("file", creat, 0o644) }, map[string]change{"": nothing, "file": nothing})
	}},
	{Name: "open/O_EXCL", Try: func(c *C) {
		c.want(unix.EEXIST, c.tryOpen("file", excl, 0o644))
		c.want(unix.EEXIST, c.tryOpen("dir", excl, 0o644))
		c.symlink("nowhere", "dangling")
		c.want(unix.EEXIST, c.tryOpen("dangling", excl, 0o644))
		c.holds("file", text)
	}},
	{Name: "open/O_CREAT through a dangling symlink", Try: func(c *C) {
		c.symlink("dir/new", "dangling")
		c.ok(c.tryOpen("dangling", creat, 0o644))
		equal(c, "type", c.lstat("dir/new").Mode&unix.S_IFMT, unix.S_IFREG)
	}},
	{Name: "open/a folder for writing", Try: func(c *C) {
		for _, flags := range []int{unix.O_WRONLY, unix.O_RDWR, creat, unix.O_CREAT, unix.O_RDONLY | unix.O_TRUNC, unix.O_WRONLY | unix.O_APPEND} {
			c.want(unix.EISDIR, c.tryOpen("dir", flags, 0o644))
		}
	}},
	{Name: "open/O_DIRECTORY", Try: func(c *C) {
		c.want(unix.ENOTDIR, c.tryOpen("file", unix.O_DIRECTORY, 0))
		c.want(0, c.tryOpen("dir", unix.O_DIRECTORY, 0))
	}},
	{Name: "open/O_NOFOLLOW", Try: func(c *C) {
		c.symlink("file", "link")
		c.want(unix.ELOOP, c.tryOpen("link", unix.O_NOFOLLOW, 0))
		c.want(0, c.tryOpen("file", unix.O_NOFOLLOW, 0))
	}},
	{Name: "open/O_PATH", Try: func(c *C) {
		fd := c.open("file", unix.O_PATH, 0)
		equal(c, "size", c.fstat(fd).Size, int64(len(text)))
		_, err := unix.Read(fd, make([]byte, 1))
		c.want(unix.EBADF, err)
	}},
	{Name: "open/ENOENT", Try: func(c *C) {
		c.want(unix.ENOENT, c.tryOpen("missing", unix.O_RDONLY, 0))
		c.want(unix.ENOENT, c.tryOpen("missing", unix.O_RDWR, 0))
		c.want(unix.ENOENT, c.tryOpen("missing/new", creat, 0o644))
		c.symlink("missing/x", "dangling")
		c.want(unix.ENOENT, c.tryOpen("dangling", creat, 0o644))
	}},
	{Name: "open/ENOTDIR", Try: func(c *C) {
		c.want(unix.ENOTDIR, c.tryOpen("file/x", unix.O_RDONLY, 0))
		c.want(unix.ENOTDIR, c.tryOpen("file/x", creat, 0o644))
		c.want(unix.ENOTDIR, c.tryOpen("file/", unix.O_RDONLY, 0))
	}},
	{Name: "open/a new name with a trailing slash", Try: func(c *C) {
		c.want(unix.EISDIR, c.tryOpen("new/", creat, 0o644))
		c.gone("new")
	}},
	{Name: "open/ELOOP", Try: func(c *C) {
		c.symlink("b", "a")
		c.symlink("a", "b")
		c.want(unix.ELOOP, c.tryOpen("a", unix.O_RDONLY, 0))
		c.want(unix.ELOOP, c.tryOpen("a", creat, 0o644))
		c.want(unix.ELOOP, c.tryOpen("a/x", unix.O_RDONLY, 0))
	}},
	{Name: "open/EACCES by the file's mode", Who: Ordinary, Try: func(c *C) {
		for mode, errnos := range map[uint32][3]unix.Errno{ // O_RDONLY, O_WRONLY, O_RDWR
			0:     {unix.EACCES, unix.EACCES, unix.EACCES},
			0o400: {0, unix.EACCES, unix.EACCES},
			0o200: {unix.EACCES, 0, unix.EACCES},
			0o600: {0, 0, 0},
			0o066: {unix.EACCES, unix.EACCES, unix.EACCES},
		} {
			c.chmod("file", mode)
			for flags, want := range errnos {
				c.want(want, c.tryOpen("file", flags, 0))
			}
		}
		c.chmod("file", 0o400)
		c.want(unix.EACCES, c.tryOpen("file", unix.O_RDONLY|unix.O_TRUNC, 0))
		c.holds("file", text)
	}},
	{Name: "open/EACCES by the folder's mode", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, c.tryOpen("dir/new", creat, 0o644))
		c.want(0, c.tryOpen("dir/inner", unix.O_RDWR, 0))
		c.chmod("dir", 0o644)
		c.want(unix.EACCES, c.tryOpen("dir/inner", unix.O_RDONLY, 0))
		c.want(unix.EACCES, c.tryOpen("dir/new", creat, 0o644))
		c.chmod("dir", 0o333)
		c.want(unix.EACCES, c.tryOpen("dir", unix.O_RDONLY, 0))
		c.want(0, c.tryOpen("dir/inner", unix.O_RDONLY, 0))
	}},
	{Name: "open/EACCES for another user", Who: Root, Try: func(c *C) {
		c.chmod("file", 0o640)
		c.as(1234, 1234, func() {
			c.want(unix.EACCES, c.tryOpen("file", unix.O_RDONLY, 0))
			c.want(unix.EACCES, c.tryOpen("dir/new", creat, 0o644))
			c.want(unix.EACCES, c.tryOpen("other", unix.O_WRONLY, 0))
			c.want(0, c.tryOpen("other", unix.O_RDONLY, 0))
		})
		c.chown("file", 0, 77)
		c.as(1234, 77, func() {
			c.want(0, c.tryOpen("file", unix.O_RDONLY, 0))
			c.want(unix.EACCES, c.tryOpen("file", unix.O_RDWR, 0))
		})
		c.as(1234, 1234, func() { c.want(0, c.tryOpen("file", unix.O_RDONLY, 0)) }, 77)
	}},
	{Name: "open/EPERM for another user's O_NOATIME", Who: Root, Try: func(c *C) {
		c.as(1234, 1234, func() { c.want(unix.EPERM, c.tryOpen("file", unix.O_RDONLY|unix.O_NOATIME, 0)) })
		c.want(0, c.tryOpen("file", unix.O_RDONLY|unix.O_NOATIME, 0))
	}},
	{Name: "open/ETXTBSY", New: true, Try: func(c *C) {
		program, err := os.ReadFile("/bin/cat")
		c.ok(err)
		c.write("cat", string(program))
		c.chmod("cat", 0o755)
		cmd := exec.Command(c.path("cat"))
		stdin, err := cmd.StdinPipe()
		c.ok(err)
		stdout, err := cmd.StdoutPipe()
		c.ok(err)
		c.ok(cmd.Start())
		_, err = stdin.Write([]byte("x")) // what it echoes tells that it runs
		c.ok(err)
		_, err = io.ReadFull(stdout, make([]byte, 1))
		c.ok(err)
		c.want(unix.ETXTBSY, c.tryOpen("cat", unix.O_WRONLY, 0))
		c.want(unix.ETXTBSY, unix.Truncate(c.path("cat"), 0))
		stdin.Close()
		c.ok(cmd.Wait())
		c.want(0, c.tryOpen("cat", unix.O_WRONLY, 0))
		fd := c.open("cat", unix.O_WRONLY, 0)
		c.want(unix.ETXTBSY, exec.Command(c.path("cat"), "/dev/null").Run())
		unix.Close(fd)
	}},
	{Name: "open/a file without write permission that was just made", Try: func(c *C) {
		fd := c.open("new", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o444) // as git does
		c.append(fd, "content")
		c.ok(unix.Fsync(fd))
		c.append(fd, " and more")
		c.ok(unix.Ftruncate(fd, 7))
		equal(c, "what is read", c.readAt(fd, 100, 0), "content")
		equal(c, "the mode", c.mode("new"), "0444")
		c.rename("new", "dir/kept")
		c.append(fd, "!")
		equal(c, "what is read", c.readAt(fd, 7, 0), "content")
	}},
	{Name: "open/a descriptor outlives its permission", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.chmod("file", 0)
		c.writeAt(fd, "XYZ", 0)
		equal(c, "what is read", c.readAt(fd, 5, 0), "XYZ q")
		equal(c, "the mode", c.mode("file"), "0")
		c.chmod("file", 0o644)
		c.holds("file", "XYZ"+text[3:])
	}},
	{Name: "open/O_TRUNC", Try: func(c *C) {
		c.changes(func() { c.open("file", unix.O_WRONLY|unix.O_TRUNC, 0) }, map[string]change{"file": content, "": nothing})
		c.holds("file", "")
		c.open("other", unix.O_RDONLY|unix.O_TRUNC, 0)
		c.holds("other", "")
	}},
	{Name: "open/O_TRUNC with O_CREAT and a write", Try: func(c *C) {
		c.write("big", "short")
		c.holds("big", "short")
		equal(c, "size", c.lstat("big").Size, 5)
	}},
	{Name: "open/O_TRUNC is seen by who has it open", Try: func(c *C) {
		fd := c.open("big", unix.O_RDONLY, 0)
		equal(c, "what is read", c.readAt(fd, len(big), 0), big)
		c.open("big", unix.O_WRONLY|unix.O_TRUNC, 0)
		equal(c, "what is read", c.readAt(fd, len(big), 0), "")
		equal(c, "size", c.fstat(fd).Size, 0)
	}},
	{Name: "open/O_APPEND", Try: func(c *C) {
		a, b := c.open("file", unix.O_WRONLY|unix.O_APPEND, 0), c.open("file", unix.O_WRONLY|unix.O_APPEND, 0)
		c.append(a, "one\n")
		c.append(b, "two\n")
		_, err := unix.Seek(a, 0, io.SeekStart)
		c.ok(err)
		c.append(a, "three\n")
		c.holds("file", text+"one\ntwo\nthree\n")
	}},
	{Name: "open/O_APPEND set later", Try: func(c *C) {
		fd := c.open("file", unix.O_WRONLY, 0)
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND)
		c.ok(err)
		c.append(fd, "end\n")
		c.holds("file", text+"end\n")
	}},
	{Name: "open/O_APPEND of many at once", New: true, Try: func(c *C) {
		const writers, lines = 4, 200
		c.write("log", "")
		done := make(chan error)
		for w := range writers {
			fd := c.open("log", unix.O_WRONLY|unix.O_APPEND, 0)
			go func() {
				for i := range lines {
					if _, err := unix.Write(fd, fmt.Appendf(nil, "%d %3d\n", w, i)); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range writers {
			c.ok(<-done)
		}
		next := [writers]int{}
		for line := range strings.Lines(c.read("log")) {
			var w, i int
			if n, err := fmt.Sscanf(line, "%d %3d\n", &w, &i); n != 2 || err != nil || w >= writers || i != next[w] {
				c.fatalf("%q is no line that follows", line)
			}
			next[w]++
		}
		equal(c, "the number of lines", next, [writers]int{lines, lines, lines, lines})
	}},
	{Name: "open/O_DIRECT", Try: func(c *C) {
		const page = 4096
		buf, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		c.ok(err)
		defer unix.Munmap(buf)
		for i := range buf {
			buf[i] = byte('a' + i%7)
		}
		fd := c.open("big", unix.O_RDWR|unix.O_DIRECT, 0)
		n, err := unix.Pwrite(fd, buf[:page], page)
		c.ok(err)
		equal(c, "bytes written", n, page)
		c.holds("big", big[:page]+string(buf[:page])+big[2*page:])
		n, err = unix.Pread(fd, buf, 0)
		c.ok(err)
		equal(c, "bytes read", n, 2*page)
		equal(c, "what is read", string(buf[:page]), big[:page])
		// And with the page cache of others.
		other := c.open("big", unix.O_RDWR, 0)
		c.writeAt(other, "cached", 0)
		_, err = unix.Pread(fd, buf, 0)
		c.ok(err)
		equal(c, "what is read", string(buf[:6]), "cached")
	}},
	{Name: "open/O_SYNC and O_DSYNC", Try: func(c *C) {
		for _, flag := range []int{unix.O_SYNC, unix.O_DSYNC} {
			fd := c.open("file", unix.O_WRONLY|unix.O_APPEND|flag, 0)
			c.append(fd, "x")
		}
		c.holds("file", text+"xx")
	}},
	{Name: "open/through a symlink to a folder", Try: func(c *C) {
		c.symlink("dir/sub", "link")
		c.holds("link/deep", "deep "+text)
		c.write("link/new", "made")
		c.holds("dir/sub/new", "made")
	}},
	{Name: "open/openat2 RESOLVE_BENEATH", Try: func(c *C) {
		fd := c.open("dir", unix.O_DIRECTORY, 0)
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}
		_, err := unix.Openat2(fd, "../file", &how)
		c.want(unix.EXDEV, err)
		in, err := unix.Openat2(fd, "sub/deep", &how)
		c.ok(err)
		unix.Close(in)
	}},
	{Name: "open/a file again by /proc/self/fd", Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		again, err := unix.Open(fmt.Sprintf("/proc/thread-self/fd/%d", fd), unix.O_WRONLY|unix.O_APPEND, 0)
		c.ok(err)
		defer unix.Close(again)
		c.append(again, "more")
		c.holds("file", text+"more")
	}},
	{Name: "open/by handle is refused or the same file", Who: Root, Try: func(c *C) {
		handle, mount, err := unix.NameToHandleAt(unix.AT_FDCWD, c.path("file"), 0)
		if err != nil {
			c.want(unix.EOPNOTSUPP, err)
			return
		}
		_ = mount
		top := c.open("", unix.O_DIRECTORY, 0)
		fd, err := unix.OpenByHandleAt(top, handle, unix.O_RDONLY)
		c.ok(err)
		defer unix.Close(fd)
		equal(c, "ino", c.fstat(fd).Ino, c.lstat("file").Ino)
	}},
}

var temporary = []Case{
	{Name: "O_TMPFILE/is in no folder", Try: func(c *C) {
		fd := c.open("dir", unix.O_TMPFILE|unix.O_RDWR, 0o600)
		st := c.fstat(fd)
		equal(c, "nlink", uint64(st.Nlink), 0)
		equal(c, "type and mode", st.Mode, unix.S_IFREG|0o600)
		c.append(fd, text)
		equal(c, "what is read", c.readAt(fd, 1000, 0), text)
		equal(c, "names in the folder", strings.Join(c.list("dir"), " "), "inner sub")
	}},
	{Name: "O_TMPFILE/gets a name", Try: func(c *C) {
		fd := c.open("dir", unix.O_TMPFILE|unix.O_RDWR, 0o640)
		c.append(fd, text)
		ino := c.fstat(fd).Ino
		from := fmt.Sprintf("/proc/thread-self/fd/%d", fd)
		c.ok(unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, c.path("named"), unix.AT_SYMLINK_FOLLOW))
		st := c.lstat("named")
		equal(c, "nlink", uint64(st.Nlink), 1)
		equal(c, "ino", st.Ino, ino)
		equal(c, "the mode", c.mode("named"), "0640")
		c.holds("named", text)
		c.append(fd, "more")
		c.holds("named", text+"more")
		c.want(unix.EEXIST, unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, c.path("file"), unix.AT_SYMLINK_FOLLOW))
		c.ok(unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, c.path("dir/second"), unix.AT_SYMLINK_FOLLOW))
		equal(c, "nlink", uint64(c.fstat(fd).Nlink), 2)
	}},
	{Name: "O_TMPFILE/O_EXCL gets none", Try: func(c *C) {
		fd := c.open("", unix.O_TMPFILE|unix.O_EXCL|unix.O_RDWR, 0o600)
		from := fmt.Sprintf("/proc/thread-self/fd/%d", fd)
		c.want(unix.ENOENT, unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, c.path("named"), unix.AT_SYMLINK_FOLLOW))
	}},
	{Name: "O_TMPFILE/errors", Try: func(c *C) {
		c.want(unix.ENOTDIR, c.tryOpen("file", unix.O_TMPFILE|unix.O_RDWR, 0o600))
		c.want(unix.EINVAL, c.tryOpen("dir", unix.O_TMPFILE|unix.O_RDONLY, 0o600))
		c.want(unix.ENOENT, c.tryOpen("missing", unix.O_TMPFILE|unix.O_RDWR, 0o600))
	}},
	{Name: "O_TMPFILE/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, c.tryOpen("dir", unix.O_TMPFILE|unix.O_RDWR, 0o600))
	}},
	{Name: "O_TMPFILE/its folder can be removed", New: true, Try: func(c *C) {
		c.mkdir("d")
		fd := c.open("d", unix.O_TMPFILE|unix.O_RDWR, 0o600)
		c.append(fd, "kept")
		c.ok(unix.Rmdir(c.path("d")))
		equal(c, "what is read", c.readAt(fd, 10, 0), "kept")
	}},
}
