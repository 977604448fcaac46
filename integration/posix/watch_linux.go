package posix

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// lock asks for a lock of an open file description.
func lock(fd int, kind int16, start, n int64) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: n})
}

var locking = []Case{
	{Name: "flock/excludes others", Try: func(c *C) {
		a, b := c.open("file", unix.O_RDONLY, 0), c.open("file", unix.O_RDONLY, 0)
		c.ok(unix.Flock(a, unix.LOCK_EX))
		c.want(unix.EWOULDBLOCK, unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		c.want(unix.EWOULDBLOCK, unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB))
		c.ok(unix.Flock(a, unix.LOCK_SH))
		c.want(0, unix.Flock(b, unix.LOCK_SH|unix.LOCK_NB))
		c.want(unix.EWOULDBLOCK, unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
		c.ok(unix.Flock(a, unix.LOCK_UN))
		c.want(0, unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
	}},
	{Name: "flock/holds while the file changes its name and content", Try: func(c *C) {
		a := c.open("file", unix.O_RDWR, 0)
		c.ok(unix.Flock(a, unix.LOCK_EX))
		c.append(a, "written under the lock")
		c.rename("file", "moved")
		c.want(unix.EWOULDBLOCK, unix.Flock(c.open("moved", unix.O_RDONLY, 0), unix.LOCK_EX|unix.LOCK_NB))
	}},
	{Name: "flock/of a folder", Try: func(c *C) {
		a, b := c.open("dir", unix.O_RDONLY, 0), c.open("dir", unix.O_RDONLY, 0)
		c.ok(unix.Flock(a, unix.LOCK_EX))
		c.want(unix.EWOULDBLOCK, unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
	}},
	{Name: "flock/is given when the other closes", Try: func(c *C) {
		a, err := unix.Open(c.path("file"), unix.O_RDONLY, 0)
		c.ok(err)
		c.ok(unix.Flock(a, unix.LOCK_EX))
		b := c.open("file", unix.O_RDONLY, 0)
		got := make(chan error)
		go func() { got <- unix.Flock(b, unix.LOCK_EX) }()
		unix.Close(a)
		c.ok(<-got)
	}},
	{Name: "fcntl/locks of ranges", Try: func(c *C) {
		a, b := c.open("file", unix.O_RDWR, 0), c.open("file", unix.O_RDWR, 0)
		c.ok(lock(a, unix.F_WRLCK, 10, 10))
		c.want(unix.EAGAIN, lock(b, unix.F_WRLCK, 15, 10))
		c.want(unix.EAGAIN, lock(b, unix.F_RDLCK, 19, 1))
		c.want(0, lock(b, unix.F_WRLCK, 20, 10))
		c.want(0, lock(b, unix.F_RDLCK, 0, 10))
		c.want(unix.EAGAIN, lock(a, unix.F_WRLCK, 0, 1))
		c.want(0, lock(a, unix.F_RDLCK, 0, 1))
		held := unix.Flock_t{Type: unix.F_WRLCK, Start: 12, Len: 1}
		c.ok(unix.FcntlFlock(uintptr(b), unix.F_OFD_GETLK, &held))
		equal(c, "the lock's kind", held.Type, unix.F_WRLCK)
		equal(c, "the lock's start", held.Start, 10)
		c.ok(lock(a, unix.F_UNLCK, 0, 0))
		c.want(0, lock(b, unix.F_WRLCK, 15, 1))
	}},
	{Name: "fcntl/a process's locks and those of a description", Try: func(c *C) {
		a, b := c.open("file", unix.O_RDWR, 0), c.open("file", unix.O_RDWR, 0)
		c.ok(unix.FcntlFlock(uintptr(a), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 5}))
		c.want(unix.EAGAIN, lock(b, unix.F_WRLCK, 0, 1))
		c.ok(unix.FcntlFlock(uintptr(a), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: 0, Len: 5}))
		c.want(0, lock(b, unix.F_WRLCK, 0, 1))
	}},
	{Name: "fcntl/errors", Try: func(c *C) {
		c.want(unix.EBADF, lock(c.open("file", unix.O_RDONLY, 0), unix.F_WRLCK, 0, 1))
		c.want(unix.EBADF, lock(c.open("file", unix.O_WRONLY, 0), unix.F_RDLCK, 0, 1))
		c.want(unix.EINVAL, lock(c.open("file", unix.O_RDWR, 0), unix.F_WRLCK, -1, 1))
	}},
	{Name: "fcntl/a lock of an unlinked file", Try: func(c *C) {
		a, b := c.open("file", unix.O_RDWR, 0), c.open("file", unix.O_RDWR, 0)
		c.remove("file")
		c.ok(lock(a, unix.F_WRLCK, 0, 0))
		c.want(unix.EAGAIN, lock(b, unix.F_WRLCK, 0, 0))
	}},
}

// watch returns a function that returns what inotify has told since: the events
// of a name in order, "create x".
func (c *C) watch(name string, mask uint32) func() []string {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	c.ok(err)
	c.cleanup(func() { unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, c.path(name), mask)
	c.ok(err)
	words := map[uint32]string{
		unix.IN_CREATE: "create", unix.IN_DELETE: "delete", unix.IN_MODIFY: "modify", unix.IN_ATTRIB: "attrib", unix.IN_MOVED_FROM: "from",
		unix.IN_MOVED_TO: "to", unix.IN_DELETE_SELF: "delete-self", unix.IN_MOVE_SELF: "move-self", unix.IN_CLOSE_WRITE: "close-write", unix.IN_OPEN: "open",
		unix.IN_IGNORED: "ignored",
	}
	return func() []string {
		var told []string
		p := make([]byte, 65536)
		n, err := unix.Read(fd, p)
		if err != nil && err != unix.EAGAIN {
			c.fatalf("reading events: %v", err)
		}
		for p = p[:max(n, 0)]; len(p) >= unix.SizeofInotifyEvent; {
			mask, size := binary.NativeEndian.Uint32(p[4:]), binary.NativeEndian.Uint32(p[12:])
			entry := strings.TrimRight(string(p[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			told = append(told, strings.TrimSpace(words[mask&^unix.IN_ISDIR]+" "+entry))
			p = p[unix.SizeofInotifyEvent+size:]
		}
		return slices.Compact(told)
	}
}

func (c *C) told(got []string, want ...string) {
	equal(c, "what inotify tells", strings.Join(got, ", "), strings.Join(want, ", "))
}

var watching = []Case{
	{Name: "inotify/of a folder", Try: func(c *C) {
		told := c.watch("dir", unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVE|unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_CLOSE_WRITE)
		c.write("dir/new", "x")
		c.told(told(), "create new", "modify new", "close-write new")
		c.mkdir("dir/d")
		c.symlink("x", "dir/l")
		c.told(told(), "create d", "create l")
		c.rename("dir/new", "dir/newer")
		c.told(told(), "from new", "to newer")
		c.rename("dir/newer", "out")
		c.rename("file", "dir/in")
		c.told(told(), "from newer", "to in")
		c.chmod("dir/in", 0o600)
		c.told(told(), "attrib in")
		c.remove("dir/inner")
		c.ok(unix.Rmdir(c.path("dir/d")))
		c.told(told(), "delete inner", "delete d")
		c.link("dir/in", "dir/linked")
		c.told(told(), "create linked")
	}},
	{Name: "inotify/of a file", Try: func(c *C) {
		told := c.watch("file", unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
		fd := c.open("file", unix.O_WRONLY, 0)
		c.append(fd, "x")
		c.told(told(), "modify")
		c.ok(unix.Ftruncate(fd, 0))
		c.told(told(), "modify")
		c.chmod("file", 0o600)
		c.told(told(), "attrib")
		c.rename("file", "moved")
		c.told(told(), "move-self")
		unix.Close(fd)
		c.undo = c.undo[:len(c.undo)-1] // it is closed
		c.remove("moved")
		c.told(told(), "attrib", "delete-self", "ignored")
	}},
	{Name: "inotify/of a folder that is renamed", Try: func(c *C) {
		told := c.watch("dir", unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVE_SELF)
		c.rename("dir", "moved")
		c.write("moved/new", "x")
		c.told(told(), "move-self", "create new", "modify new")
	}},
}

var listing = []Case{
	{Name: "readdir/types and inode numbers", Try: func(c *C) {
		c.symlink("x", "link")
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		for _, e := range c.entries(c.open("", unix.O_RDONLY, 0)) {
			st := c.lstat(e.name)
			if e.name == ".." {
				continue // at the top of a mount it is another's
			}
			equal(c, "the type of "+e.name, uint32(e.kind), st.Mode>>12)
			equal(c, "the inode number of "+e.name, e.ino, st.Ino)
		}
	}},
	{Name: "readdir/sees what was changed since it was opened", Try: func(c *C) {
		fd := c.open("dir", unix.O_RDONLY, 0)
		equal(c, "names", join(c.entries(fd)), ". .. inner sub")
		c.write("dir/new", "")
		c.remove("dir/inner")
		_, err := unix.Seek(fd, 0, 0)
		c.ok(err)
		equal(c, "names", join(c.entries(fd)), ". .. new sub")
	}},
	{Name: "readdir/removing 10,000 while they are read", New: true, Large: true, Try: func(c *C) { c.sweep(10000, 1) }},
	{Name: "readdir/removing each second of 1,000", New: true, Try: func(c *C) { c.sweep(1000, 2) }},
	{Name: "readdir/a name that stays is told once, whatever comes and goes", New: true, Try: func(c *C) {
		for i := range 500 {
			c.write(fmt.Sprintf("stays%03d", i), "")
			c.write(fmt.Sprintf("goes%03d", i), "")
		}
		fd := c.open("", unix.O_RDONLY, 0)
		seen := map[string]int{}
		for round := 0; ; round++ {
			batch := c.batch(fd, 2048)
			if len(batch) == 0 {
				break
			}
			for _, e := range batch {
				seen[e.name]++
			}
			c.write(fmt.Sprintf("comes%03d", round), "")
			_ = unix.Unlink(c.path(fmt.Sprintf("goes%03d", round)))
			c.rename(fmt.Sprintf("goes%03d", 499-round), fmt.Sprintf("moved%03d", round))
		}
		for i := range 500 {
			if name := fmt.Sprintf("stays%03d", i); seen[name] != 1 {
				c.errorf("%s is told %d times", name, seen[name])
			}
		}
		for name, n := range seen {
			if n > 1 {
				c.errorf("%s is told %d times", name, n)
			}
		}
	}},
	{Name: "readdir/seek back to an entry", New: true, Try: func(c *C) {
		for i := range 300 {
			c.write(fmt.Sprintf("f%03d", i), "")
		}
		fd := c.open("", unix.O_RDONLY, 0)
		first := c.batch(fd, 1024)
		at := first[len(first)-1].next
		rest := join(c.entries(fd))
		_, err := unix.Seek(fd, at, 0)
		c.ok(err)
		equal(c, "the rest", join(c.entries(fd)), rest)
	}},
	{Name: "readdir/after an entry that was removed", New: true, Try: func(c *C) {
		for i := range 300 {
			c.write(fmt.Sprintf("f%03d", i), "")
		}
		fd := c.open("", unix.O_RDONLY, 0)
		var told []string
		for {
			batch := c.batch(fd, 512)
			if len(batch) == 0 {
				break
			}
			for _, e := range batch {
				told = append(told, e.name)
			}
			if last := batch[len(batch)-1].name; last != ".." && last != "." {
				c.remove(last)
			}
		}
		equal(c, "entries told", len(told), 302)
	}},
	{Name: "readdir/an empty folder", New: true, Try: func(c *C) {
		equal(c, "names", join(c.entries(c.open("", unix.O_RDONLY, 0))), ". ..")
	}},
	{Name: "readdir/EINVAL for a short buffer, ENOTDIR for a file", Try: func(c *C) {
		_, err := unix.Getdents(c.open("dir", unix.O_RDONLY, 0), make([]byte, 1))
		c.want(unix.EINVAL, err)
		_, err = unix.Getdents(c.open("file", unix.O_RDONLY, 0), make([]byte, 1024))
		c.want(unix.ENOTDIR, err)
	}},
}

// An entry is what getdents(2) tells of one name.
type entry struct {
	name string
	ino  uint64
	next int64
	kind byte
}

// batch returns what one call tells.
func (c *C) batch(fd, size int) []entry {
	p := make([]byte, size)
	n, err := unix.Getdents(fd, p)
	if err != nil {
		c.fatalf("getdents: %v", err)
	}
	var told []entry
	for p = p[:n]; len(p) > 0; {
		size := binary.NativeEndian.Uint16(p[16:])
		name, _, _ := strings.Cut(string(p[19:size]), "\x00")
		told = append(told, entry{name, binary.NativeEndian.Uint64(p), int64(binary.NativeEndian.Uint64(p[8:])), p[18]})
		p = p[size:]
	}
	return told
}

// entries returns all that are left to be told.
func (c *C) entries(fd int) (all []entry) {
	for {
		batch := c.batch(fd, 32768)
		if len(batch) == 0 {
			return all
		}
		all = append(all, batch...)
	}
}

// join returns the names, sorted.
func join(entries []entry) string {
	found := make([]string, len(entries))
	for i, e := range entries {
		found[i] = e.name
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

// sweep makes n files and removes those of each step-th entry as they are told.
func (c *C) sweep(n, step int) {
	c.ok(unix.Chdir(c.dir))
	for i := range n {
		fd, err := unix.Open(fmt.Sprintf("f%05d", i), excl|unix.O_CLOEXEC, 0o644)
		c.ok(err)
		unix.Close(fd)
	}
	fd := c.open("", unix.O_RDONLY, 0)
	told := 0
	for {
		batch := c.batch(fd, 4096)
		if len(batch) == 0 {
			break
		}
		for _, e := range batch {
			if e.name[0] == '.' {
				continue
			}
			if told%step == 0 {
				c.ok(unix.Unlink(e.name))
			}
			told++
		}
	}
	equal(c, "entries told", told, n)
	equal(c, "entries left", len(c.list("")), n-(n+step-1)/step)
}

var identity = []Case{
	{Name: "ino/stays over every change of a file", Try: func(c *C) {
		ino, dev := c.lstat("file").Ino, c.lstat("file").Dev
		name := "file"
		for what, change := range map[string]func(){
			"a write":    func() { c.append(c.open(name, unix.O_WRONLY, 0), "x") },
			"a chmod":    func() { c.chmod(name, 0o600) },
			"a utimens":  func() { c.ok(c.utimes(name, at(1, 2), at(3, 4))) },
			"a truncate": func() { c.ok(unix.Truncate(c.path(name), 0)) },
			"an xattr":   func() { c.ok(unix.Lsetxattr(c.path(name), "user.a", []byte("1"), 0)) },
			"a rename":   func() { c.rename(name, name+"+"); name += "+" },
			"a link":     func() { c.link(name, name+"l"); c.remove(name); name += "l" },
		} {
			change()
			st := c.lstat(name)
			equal(c, "ino after "+what, st.Ino, ino)
			equal(c, "dev after "+what, st.Dev, dev)
		}
	}},
	{Name: "ino/stays over every change of a folder", Try: func(c *C) {
		ino := c.lstat("dir").Ino
		c.write("dir/new", "")
		c.chmod("dir", 0o700)
		c.remove("dir/inner")
		equal(c, "ino", c.lstat("dir").Ino, ino)
		c.rename("dir", "moved")
		equal(c, "ino", c.lstat("moved").Ino, ino)
		equal(c, "ino", c.lstat("moved/sub/..").Ino, ino)
	}},
	{Name: "ino/differs between files", Try: func(c *C) {
		seen := map[uint64]string{}
		for _, name := range []string{"", "file", "other", "big", "dir", "dir/inner", "dir/sub", "dir/sub/deep", "full", "full/one", "full/two"} {
			ino := c.lstat(name).Ino
			if twin, ok := seen[ino]; ok {
				c.errorf("%q and %q have one inode number", name, twin)
			}
			seen[ino] = name
		}
	}},
	{Name: "ino/a descriptor's is its name's", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		equal(c, "ino", c.fstat(fd).Ino, c.lstat("file").Ino)
		c.append(fd, "x")
		equal(c, "ino", c.fstat(fd).Ino, c.lstat("file").Ino)
	}},
	{Name: "nlink/of folders counts those in them", Try: func(c *C) {
		equal(c, "nlink", uint64(c.lstat("").Nlink), 4)
		equal(c, "nlink", uint64(c.lstat("dir").Nlink), 3)
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 2)
		c.mkdir("full/a")
		c.mkdir("full/b")
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 4)
		c.write("full/c", "")
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 4)
		c.ok(unix.Rmdir(c.path("full/a")))
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 3)
		c.rename("full/b", "dir/b")
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 2)
		equal(c, "nlink", uint64(c.lstat("dir").Nlink), 4)
	}},
	{Name: "nlink/a folder replaced by rename", Try: func(c *C) {
		c.mkdir("dir/empty")
		c.mkdir("full/moved")
		c.rename("full/moved", "dir/empty")
		equal(c, "nlink", uint64(c.lstat("dir").Nlink), 4)
		equal(c, "nlink", uint64(c.lstat("full").Nlink), 2)
	}},
	{Name: "nlink/of many links", New: true, Try: func(c *C) {
		c.write("f", "x")
		for i := range 200 {
			c.link("f", fmt.Sprint("l", i))
		}
		equal(c, "nlink", uint64(c.lstat("f").Nlink), 201)
		for i := range 200 {
			c.remove(fmt.Sprint("l", i))
		}
		equal(c, "nlink", uint64(c.lstat("f").Nlink), 1)
	}},
	{Name: "statx/agrees with stat", Try: func(c *C) {
		var x unix.Statx_t
		c.ok(unix.Statx(unix.AT_FDCWD, c.path("file"), 0, unix.STATX_BASIC_STATS, &x))
		st := c.lstat("file")
		equal(c, "size", int64(x.Size), st.Size)
		equal(c, "ino", x.Ino, st.Ino)
		equal(c, "mode", uint32(x.Mode), st.Mode)
		equal(c, "mtime", unix.Timespec{Sec: x.Mtime.Sec, Nsec: int64(x.Mtime.Nsec)}, st.Mtim)
	}},
}

var syncing = []Case{
	{Name: "fsync/of files and folders", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.ok(unix.Fsync(fd)) // nothing to do
		c.append(fd, "x")
		c.ok(unix.Fdatasync(fd))
		c.ok(unix.Fsync(fd))
		c.ok(unix.Fsync(c.open("dir", unix.O_RDONLY, 0)))
		c.write("dir/new", "x")
		c.ok(unix.Fsync(c.open("dir", unix.O_RDONLY, 0)))
		c.remove("file")
		c.ok(unix.Fsync(fd))
		c.ok(unix.Syncfs(fd))
	}},
	{Name: "fsync/through a descriptor for reading", Try: func(c *C) {
		c.append(c.open("file", unix.O_WRONLY, 0), "x")
		c.ok(unix.Fsync(c.open("file", unix.O_RDONLY, 0)))
	}},
	{Name: "fsync/sync_file_range and fadvise", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.writeAt(fd, "x", 0)
		c.ok(unix.SyncFileRange(fd, 0, 4096, unix.SYNC_FILE_RANGE_WRITE))
		c.ok(unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
		equal(c, "what is read", c.readAt(fd, 3, 0), "x"+big[1:3])
	}},
}

var addresses = []Case{
	{Name: "EFAULT/of every call with a path", Try: func(c *C) {
		const bad = 1 // no page is there
		dir := uintptr(c.open("", unix.O_DIRECTORY, 0))
		for call, args := range map[uintptr][5]uintptr{
			unix.SYS_OPENAT:     {dir, bad, unix.O_RDONLY},
			unix.SYS_MKDIRAT:    {dir, bad, 0o755},
			unix.SYS_MKNODAT:    {dir, bad, unix.S_IFIFO},
			unix.SYS_UNLINKAT:   {dir, bad, 0},
			unix.SYS_LINKAT:     {dir, bad, dir, bad, 0},
			unix.SYS_SYMLINKAT:  {bad, dir, bad},
			unix.SYS_RENAMEAT2:  {dir, bad, dir, bad, 0},
			unix.SYS_FCHMODAT:   {dir, bad, 0},
			unix.SYS_FCHOWNAT:   {dir, bad, 0, 0, 0},
			unix.SYS_READLINKAT: {dir, bad, bad, 10},
			unix.SYS_UTIMENSAT:  {dir, bad, 0, 0},
			unix.SYS_TRUNCATE:   {bad, 0},
			unix.SYS_LSETXATTR:  {bad, bad, bad, 1, 0},
			unix.SYS_STATFS:     {bad, bad},
		} {
			_, _, errno := unix.Syscall6(call, args[0], args[1], args[2], args[3], args[4], 0)
			if errno != unix.EFAULT {
				c.errorf("call %d: %v, want EFAULT", call, errno)
			}
		}
	}},
	{Name: "EBADF/of every call with a descriptor", Try: func(c *C) {
		c.want(unix.EBADF, unix.Fchmod(-1, 0))
		c.want(unix.EBADF, unix.Fsync(-1))
		c.want(unix.EBADF, unix.Ftruncate(-1, 0))
		c.want(unix.EBADF, unix.Fchown(-1, 0, 0))
		c.want(unix.EBADF, unix.Mkdirat(-1, "x", 0))
		c.want(unix.EBADF, unix.Fallocate(-1, 0, 0, 1))
		file := c.open("file", unix.O_RDONLY, 0)
		c.want(unix.ENOTDIR, unix.Mkdirat(file, "x", 0))
		c.want(unix.ENOTDIR, unix.Unlinkat(file, "x", 0))
		c.want(unix.ENOTDIR, unix.Renameat(file, "x", file, "y"))
	}},
	{Name: "ENOENT/an empty path", New: true, Try: func(c *C) {
		c.want(unix.ENOENT, unix.Mkdir("", 0))
		c.want(unix.ENOENT, unix.Unlink(""))
		c.want(unix.ENOENT, unix.Rename("", "x"))
		c.want(unix.ENOENT, unix.Chmod("", 0))
	}},
}
