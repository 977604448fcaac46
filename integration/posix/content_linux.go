package posix

import (
	"fmt"
	"io"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var truncating = []Case{
	{Name: "truncate/shorter, longer and to nothing", Try: func(c *C) {
		for _, size := range []int64{5000, 4096, 4095, 20000, 1, 0, 4097} {
			want := []byte(c.read("big"))
			c.ok(unix.Truncate(c.path("big"), size))
			if int64(len(want)) > size {
				want = want[:size]
			}
			c.holds("big", string(want)+strings.Repeat("\x00", int(size)-len(want)))
			equal(c, "size", c.lstat("big").Size, size)
		}
	}},
	{Name: "truncate/what was cut off doesn't come back", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.ok(unix.Ftruncate(fd, 100))
		c.ok(unix.Ftruncate(fd, int64(len(big))))
		c.holds("big", big[:100]+strings.Repeat("\x00", len(big)-100))
	}},
	{Name: "truncate/times", Try: func(c *C) {
		c.changes(func() { c.ok(unix.Truncate(c.path("file"), 3)) }, map[string]change{"file": content, "": nothing})
		fd := c.open("other", unix.O_RDWR, 0)
		c.changes(func() { c.ok(unix.Ftruncate(fd, 3)) }, map[string]change{"other": content})
		c.changes(func() { c.ok(unix.Ftruncate(fd, 3)) }, map[string]change{"other": content}) // to the same size
	}},
	{Name: "truncate/an open file is seen by all who have it open", Try: func(c *C) {
		a, b := c.open("big", unix.O_RDONLY, 0), c.open("big", unix.O_RDWR, 0)
		c.readAt(a, len(big), 0)
		c.ok(unix.Ftruncate(b, 10))
		equal(c, "what is read", c.readAt(a, 100, 0), big[:10])
		equal(c, "size", c.fstat(a).Size, 10)
	}},
	{Name: "truncate/sparse and large", New: true, Try: func(c *C) {
		c.write("f", "start")
		c.ok(unix.Truncate(c.path("f"), 1<<40))
		st := c.lstat("f")
		equal(c, "size", st.Size, 1<<40)
		if st.Blocks > 64 {
			c.errorf("%d blocks, want a sparse file", st.Blocks)
		}
		fd := c.open("f", unix.O_RDWR, 0)
		c.writeAt(fd, "far", 1<<40-3)
		equal(c, "what is read", c.readAt(fd, 10, 1<<40-5), "\x00\x00far")
		equal(c, "what is read", c.readAt(fd, 3, 1<<33), "\x00\x00\x00")
	}},
	{Name: "truncate/errors", Try: func(c *C) {
		c.symlink("loop", "loop")
		for name, want := range map[string]syscall.Errno{
			"missing": unix.ENOENT, "missing/x": unix.ENOENT, "file/x": unix.ENOTDIR, "dir": unix.EISDIR, "loop": unix.ELOOP,
		} {
			c.want(want, unix.Truncate(c.path(name), 0))
		}
		c.want(unix.EINVAL, unix.Truncate(c.path("file"), -1))
		c.want(unix.EINVAL, unix.Ftruncate(c.open("file", unix.O_RDONLY, 0), 0))
		c.want(unix.EINVAL, unix.Ftruncate(c.open("file", unix.O_RDWR, 0), -1))
		c.holds("file", text)
	}},
	{Name: "truncate/EFBIG", New: true, Try: func(c *C) {
		c.write("f", "")
		err := unix.Truncate(c.path("f"), 1<<63-1)
		if err == nil {
			c.ok(unix.Truncate(c.path("f"), 0)) // a file system that has such files
			return
		}
		c.want(unix.EFBIG, err)
	}},
	{Name: "truncate/EACCES", Who: Ordinary, Try: func(c *C) {
		c.chmod("file", 0o444)
		c.want(unix.EACCES, unix.Truncate(c.path("file"), 0))
		c.holds("file", text)
		fd := c.open("other", unix.O_RDWR, 0)
		c.chmod("other", 0)
		c.want(0, unix.Ftruncate(fd, 1)) // the descriptor counts
	}},
	{Name: "truncate/a fifo", New: true, Try: func(c *C) {
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		c.want(unix.EINVAL, unix.Truncate(c.path("fifo"), 0))
	}},
}

var allocating = []Case{
	{Name: "fallocate/plain", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.changes(func() { c.ok(unix.Fallocate(fd, 0, 0, 10000)) }, map[string]change{"file": content})
		equal(c, "size", c.lstat("file").Size, 10000)
		c.holds("file", text+strings.Repeat("\x00", 10000-len(text)))
		if got := c.lstat("file").Blocks * 512; got < 10000 {
			c.errorf("%d bytes of blocks, want all 10000 allocated", got)
		}
	}},
	{Name: "fallocate/KEEP_SIZE", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, 100000))
		equal(c, "size", c.lstat("file").Size, int64(len(text)))
		c.holds("file", text)
	}},
	{Name: "fallocate/PUNCH_HOLE", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.readAt(fd, len(big), 0) // into the cache
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1000, 8000))
		c.holds("big", big[:1000]+strings.Repeat("\x00", 8000)+big[9000:])
		equal(c, "size", c.lstat("big").Size, int64(len(big)))
	}},
	{Name: "fallocate/ZERO_RANGE", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.readAt(fd, len(big), 0)
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 1000, 8000))
		c.holds("big", big[:1000]+strings.Repeat("\x00", 8000)+big[9000:])
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 9000, 10000))
		equal(c, "size", c.lstat("big").Size, 19000)
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 18000, 10000))
		equal(c, "size", c.lstat("big").Size, 19000)
	}},
	{Name: "fallocate/COLLAPSE_RANGE and INSERT_RANGE work or are refused", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, 4096, 4096)
		if err != nil {
			c.want(unix.EOPNOTSUPP, err)
			c.want(unix.EOPNOTSUPP, unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 4096, 4096))
			c.holds("big", big)
			return
		}
		c.holds("big", big[:4096]+big[8192:])
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_INSERT_RANGE, 4096, 4096))
		c.holds("big", big[:4096]+strings.Repeat("\x00", 4096)+big[8192:])
	}},
	{Name: "fallocate/errors", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.want(unix.EINVAL, unix.Fallocate(fd, 0, -1, 10))
		c.want(unix.EINVAL, unix.Fallocate(fd, 0, 0, 0))
		c.want(unix.EBADF, unix.Fallocate(c.open("file", unix.O_RDONLY, 0), 0, 0, 10))
		c.want(unix.EOPNOTSUPP, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, 0, 10)) // without KEEP_SIZE
		c.want(unix.EOPNOTSUPP, unix.Fallocate(fd, 1<<20, 0, 10))
		c.ok(unix.Mkfifo(c.path("fifo"), 0o600))
		c.want(unix.ESPIPE, unix.Fallocate(c.open("fifo", unix.O_RDWR, 0), 0, 0, 10))
		c.holds("file", text)
	}},
	{Name: "fallocate/more than a file can have", New: true, Try: func(c *C) {
		// Only so much more: what ext4 could have in a file, it would first fill
		// the disk for.
		c.write("f", text)
		fd := c.open("f", unix.O_RDWR, 0)
		switch err := unix.Fallocate(fd, 0, 0, 1<<50); err {
		case unix.ENOSPC, unix.EFBIG, unix.EDQUOT:
		default:
			c.errorf("allocating 1 PiB: %v, want ENOSPC or EFBIG", err)
		}
		c.ok(unix.Ftruncate(fd, int64(len(text))))
		c.holds("f", text)
	}},
	{Name: "fallocate/an unlinked file", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.remove("file")
		c.ok(unix.Fallocate(fd, 0, 0, 5000))
		equal(c, "size", c.fstat(fd).Size, 5000)
	}},
}

// copyRange copies all of a range, however many calls that takes.
func (c *C) copyRange(from int, off int64, to int, at int64, n int) {
	for n > 0 {
		k, err := unix.CopyFileRange(from, &off, to, &at, n, 0)
		if err != nil {
			c.fatalf("copy_file_range: %v", err)
		}
		if k == 0 {
			return
		}
		n -= k
	}
}

var copying = []Case{
	{Name: "copy_file_range/between files", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDONLY, 0), c.open("file", unix.O_RDWR, 0)
		c.changes(func() { c.copyRange(from, 100, to, 10, 5000) }, map[string]change{"file": content, "big": nothing})
		c.holds("file", text[:10]+big[100:5100])
		c.holds("big", big)
	}},
	{Name: "copy_file_range/to a new file, whole", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDONLY, 0), c.open("new", unix.O_CREAT|unix.O_RDWR, 0o644)
		c.copyRange(from, 0, to, 0, 1<<20)
		c.holds("new", big)
	}},
	{Name: "copy_file_range/after a cached write", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDWR, 0), c.open("new", unix.O_CREAT|unix.O_RDWR, 0o644)
		c.writeAt(from, "WRITTEN", 4090)
		c.copyRange(from, 0, to, 0, len(big))
		want := big[:4090] + "WRITTEN" + big[4097:]
		c.holds("new", want)
		c.readAt(to, len(big), 0)
		c.copyRange(from, 4090, to, 0, 7)
		equal(c, "what is read", c.readAt(to, 7, 0), "WRITTEN")
	}},
	{Name: "copy_file_range/within a file", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.copyRange(fd, 0, fd, 5000, 4000)
		c.holds("big", big[:5000]+big[:4000]+big[9000:])
		off, at := int64(0), int64(10)
		_, err := unix.CopyFileRange(fd, &off, fd, &at, 100, 0)
		c.want(unix.EINVAL, err) // the ranges overlap
	}},
	{Name: "copy_file_range/beyond the end", Try: func(c *C) {
		from, to := c.open("file", unix.O_RDONLY, 0), c.open("other", unix.O_RDWR, 0)
		off, at := int64(1000), int64(0)
		n, err := unix.CopyFileRange(from, &off, to, &at, 10, 0)
		c.ok(err)
		equal(c, "bytes copied", n, 0)
		at = 8000
		c.copyRange(from, 0, to, at, 3)
		equal(c, "size", c.lstat("other").Size, 8003)
	}},
	{Name: "copy_file_range/errors", Try: func(c *C) {
		r, w := c.open("file", unix.O_RDONLY, 0), c.open("other", unix.O_WRONLY, 0)
		off, at := int64(0), int64(0)
		_, err := unix.CopyFileRange(w, &off, w, &at, 1, 0)
		c.want(unix.EBADF, err)
		_, err = unix.CopyFileRange(r, &off, r, &at, 1, 0)
		c.want(unix.EBADF, err)
		_, err = unix.CopyFileRange(r, &off, w, &at, 1, 1)
		c.want(unix.EINVAL, err)
		_, err = unix.CopyFileRange(r, &off, c.open("other", unix.O_WRONLY|unix.O_APPEND, 0), &at, 1, 0)
		c.want(unix.EBADF, err)
		_, err = unix.CopyFileRange(c.open("dir", unix.O_RDONLY, 0), &off, w, &at, 1, 0)
		c.want(unix.EISDIR, err)
		c.holds("other", "other "+text)
	}},
	{Name: "copy_file_range/from and to an unlinked file", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDONLY, 0), c.open("file", unix.O_RDWR, 0)
		c.remove("big")
		c.remove("file")
		c.copyRange(from, 0, to, 0, len(big))
		equal(c, "what is read", c.readAt(to, len(big), 0), big)
	}},
	{Name: "clone/works or is refused", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDONLY, 0), c.open("new", unix.O_CREAT|unix.O_RDWR, 0o644)
		switch err := unix.IoctlFileClone(to, from); err {
		case nil:
			c.holds("new", big)
		case unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOTTY:
			c.holds("new", "")
		default:
			c.errorf("FICLONE: %v", err)
		}
	}},
	{Name: "sendfile and splice/from a file and to one", Try: func(c *C) {
		from, to := c.open("big", unix.O_RDONLY, 0), c.open("file", unix.O_RDWR, 0)
		off := int64(10)
		n, err := unix.Sendfile(to, from, &off, 1000)
		c.ok(err)
		equal(c, "bytes sent", n, 1000)
		c.holds("file", big[10:1010])
		var p [2]int
		c.ok(unix.Pipe2(p[:], unix.O_CLOEXEC))
		defer unix.Close(p[0])
		defer unix.Close(p[1])
		off = 20
		m, err := unix.Splice(from, &off, p[1], nil, 500, 0)
		c.ok(err)
		at := int64(0)
		_, err = unix.Splice(p[0], nil, to, &at, int(m), 0)
		c.ok(err)
		equal(c, "what is read", c.readAt(to, int(m), 0), big[20:20+m])
	}},
}

var seeking = []Case{
	{Name: "lseek/from start, current and end", Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		for _, k := range []struct {
			off    int64
			whence int
			want   int64
		}{{5, io.SeekStart, 5}, {3, io.SeekCurrent, 8}, {-2, io.SeekEnd, int64(len(text)) - 2}, {100, io.SeekEnd, int64(len(text)) + 100}} {
			got, err := unix.Seek(fd, k.off, k.whence)
			c.ok(err)
			equal(c, "the offset", got, k.want)
		}
		_, err := unix.Seek(fd, -1, io.SeekStart)
		c.want(unix.EINVAL, err)
		_, err = unix.Seek(fd, 0, 99)
		c.want(unix.EINVAL, err)
	}},
	{Name: "lseek/the end after another's append", Try: func(c *C) {
		a, b := c.open("file", unix.O_RDONLY, 0), c.open("file", unix.O_WRONLY|unix.O_APPEND, 0)
		c.append(b, "12345")
		end, err := unix.Seek(a, 0, io.SeekEnd)
		c.ok(err)
		equal(c, "the end", end, int64(len(text)+5))
	}},
	{Name: "SEEK_HOLE and SEEK_DATA/a file without holes", Try: func(c *C) {
		fd := c.open("big", unix.O_RDONLY, 0)
		c.seeks(fd, unix.SEEK_DATA, 0, 0)
		c.seeks(fd, unix.SEEK_DATA, 100, 100)
		c.seeks(fd, unix.SEEK_HOLE, 0, int64(len(big)))
		_, err := unix.Seek(fd, int64(len(big)), unix.SEEK_DATA)
		c.want(unix.ENXIO, err)
		_, err = unix.Seek(fd, int64(len(big))+1, unix.SEEK_HOLE)
		c.want(unix.ENXIO, err)
	}},
	{Name: "SEEK_HOLE and SEEK_DATA/a sparse file", New: true, Try: func(c *C) {
		const step = 1 << 20
		fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		c.ok(unix.Ftruncate(fd, 4*step))
		c.writeAt(fd, strings.Repeat("x", 4096), step)
		c.ok(unix.Fsync(fd))
		c.seeks(fd, unix.SEEK_HOLE, 0, 0)
		c.seeks(fd, unix.SEEK_DATA, 0, step)
		c.seeks(fd, unix.SEEK_HOLE, step, step+4096)
		_, err := unix.Seek(fd, 2*step, unix.SEEK_DATA)
		c.want(unix.ENXIO, err)
	}},
	{Name: "SEEK_HOLE and SEEK_DATA/a hole that was punched", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		c.ok(unix.Fsync(fd))
		c.ok(unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096))
		c.seeks(fd, unix.SEEK_HOLE, 0, 4096)
		c.seeks(fd, unix.SEEK_DATA, 4096, 8192)
	}},
}

func (c *C) seeks(fd, whence int, off, want int64) {
	got, err := unix.Seek(fd, off, whence)
	if err != nil || got != want {
		c.errorf("seeking from %d: %d, %v, want %d", off, got, err, want)
	}
}

var contents = []Case{
	{Name: "read/at the end and beyond", Try: func(c *C) {
		fd := c.open("file", unix.O_RDONLY, 0)
		equal(c, "what is read", c.readAt(fd, 100, int64(len(text))-4), text[len(text)-4:])
		equal(c, "what is read", c.readAt(fd, 100, int64(len(text))), "")
		equal(c, "what is read", c.readAt(fd, 100, 1<<40), "")
		_, err := unix.Pread(fd, make([]byte, 1), -1)
		c.want(unix.EINVAL, err)
	}},
	{Name: "read/a folder", Try: func(c *C) {
		_, err := unix.Read(c.open("dir", unix.O_RDONLY, 0), make([]byte, 1))
		c.want(unix.EISDIR, err)
	}},
	{Name: "read and write/the wrong way", Try: func(c *C) {
		_, err := unix.Read(c.open("file", unix.O_WRONLY, 0), make([]byte, 1))
		c.want(unix.EBADF, err)
		_, err = unix.Write(c.open("file", unix.O_RDONLY, 0), make([]byte, 1))
		c.want(unix.EBADF, err)
	}},
	{Name: "write/in the middle, over pages and past the end", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		want := []byte(big)
		for _, off := range []int{0, 1, 4095, 4096, 8190, 100, len(big) - 1, len(big) + 7000} {
			c.writeAt(fd, "written here", int64(off))
			if n := off + 12; n > len(want) {
				want = append(want, make([]byte, n-len(want))...)
			}
			copy(want[off:], "written here")
			c.holds("big", string(want))
		}
	}},
	{Name: "write/of nothing", Try: func(c *C) {
		fd := c.open("file", unix.O_WRONLY, 0)
		c.changes(func() { c.append(fd, "") }, map[string]change{"file": nothing})
		c.holds("file", text)
	}},
	{Name: "write/vectors", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR|unix.O_TRUNC, 0)
		n, err := unix.Writev(fd, [][]byte{[]byte("one"), nil, []byte("two"), []byte(big)})
		c.ok(err)
		equal(c, "bytes written", n, 6+len(big))
		c.holds("file", "onetwo"+big)
		a, b := make([]byte, 4), make([]byte, 4)
		_, err = unix.Preadv(fd, [][]byte{a, b}, 1)
		c.ok(err)
		equal(c, "what is read", string(a)+string(b), ("onetwo" + big)[1:9])
	}},
	{Name: "write/large", New: true, Try: func(c *C) {
		chunk := strings.Repeat(big, 400) // 5 MB: many requests
		fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		c.append(fd, chunk)
		c.append(fd, chunk)
		if c.read("f") != chunk+chunk {
			c.errorf("what is read isn't what was written")
		}
	}},
	{Name: "write/EFBIG", New: true, Try: func(c *C) {
		fd := c.open("f", unix.O_CREAT|unix.O_RDWR, 0o644)
		_, err := unix.Pwrite(fd, []byte("x"), 1<<63-1)
		if err != unix.EFBIG && err != unix.EINVAL {
			c.errorf("a write beyond every end: %v, want EFBIG", err)
		}
	}},
	{Name: "write/EFAULT", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(fd), 1, 10)
		c.want(unix.EFAULT, errno)
		_, _, errno = unix.Syscall(unix.SYS_READ, uintptr(fd), 1, 10)
		c.want(unix.EFAULT, errno)
		c.holds("file", text)
	}},
	{Name: "coherence/who has a file open sees what others write", Try: func(c *C) {
		r := c.open("big", unix.O_RDONLY, 0)
		equal(c, "what is read", c.readAt(r, len(big), 0), big)
		w := c.open("big", unix.O_WRONLY, 0)
		for i, off := range []int64{0, 5000, int64(len(big)) - 3} {
			word := fmt.Sprintf("%03d", i)
			c.writeAt(w, word, off)
			equal(c, "what is read", c.readAt(r, 3, off), word)
		}
		c.append(c.open("big", unix.O_WRONLY|unix.O_APPEND, 0), "end")
		equal(c, "what is read", c.readAt(r, 10, int64(len(big))), "end")
		equal(c, "size", c.fstat(r).Size, int64(len(big)+3))
	}},
	{Name: "coherence/by all names", Try: func(c *C) {
		r := c.open("file", unix.O_RDONLY, 0)
		c.link("file", "second")
		c.rename("file", "moved")
		c.write("second", "written by another name")
		equal(c, "what is read", c.readAt(r, 100, 0), "written by another name")
		c.holds("moved", "written by another name")
	}},
	{Name: "space/du and statfs", New: true, Try: func(c *C) {
		var before, after unix.Statfs_t
		c.ok(unix.Statfs(c.dir, &before))
		c.write("f", strings.Repeat("x", 1<<20))
		c.ok(unix.Fsync(c.open("f", unix.O_RDONLY, 0)))
		c.ok(unix.Statfs(c.dir, &after))
		if got := c.lstat("f").Blocks * 512; got < 1<<20 || got > 1<<21 {
			c.errorf("a file of 1 MiB has %d bytes of blocks", got)
		}
		if before.Blocks == 0 || before.Bavail == 0 || before.Files == 0 || before.Namelen != 255 {
			c.errorf("statfs: %+v, want a file system with room", before)
		}
		equal(c, "blocks", after.Blocks, before.Blocks)
	}},
}

// mmap maps a file of the case's until it ends.
func (c *C) mmap(fd, n, prot, flags int) []byte {
	m, err := unix.Mmap(fd, 0, n, prot, flags)
	if err != nil {
		c.fatalf("mmap: %v", err)
	}
	c.cleanup(func() { unix.Munmap(m) })
	return m
}

const readWrite = unix.PROT_READ | unix.PROT_WRITE

var mapping = []Case{
	{Name: "mmap/shared and writable", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		m := c.mmap(fd, len(big), readWrite, unix.MAP_SHARED)
		equal(c, "what is mapped", string(m), big)
		copy(m[5000:], "through memory")
		equal(c, "what is read", c.readAt(fd, 14, 5000), "through memory")
		c.writeAt(fd, "through write", 100)
		equal(c, "what is mapped", string(m[100:113]), "through write")
		c.ok(unix.Msync(m, unix.MS_SYNC))
		want := big[:100] + "through write" + big[113:5000] + "through memory" + big[5014:]
		c.holds("big", want)
	}},
	{Name: "mmap/kept after close", Try: func(c *C) {
		fd, err := unix.Open(c.path("big"), unix.O_RDWR, 0)
		c.ok(err)
		m := c.mmap(fd, len(big), readWrite, unix.MAP_SHARED)
		unix.Close(fd)
		copy(m, "after close")
		c.holds("big", "after close"+big[11:])
		c.ok(unix.Msync(m, unix.MS_SYNC))
		c.holds("big", "after close"+big[11:])
	}},
	{Name: "mmap/private changes nothing", Try: func(c *C) {
		m := c.mmap(c.open("big", unix.O_RDONLY, 0), len(big), readWrite, unix.MAP_PRIVATE)
		copy(m, "mine alone")
		c.holds("big", big)
	}},
	{Name: "mmap/read only sees later writes", Try: func(c *C) {
		m := c.mmap(c.open("big", unix.O_RDONLY, 0), len(big), unix.PROT_READ, unix.MAP_SHARED)
		equal(c, "what is mapped", string(m[:10]), big[:10])
		c.writeAt(c.open("big", unix.O_WRONLY, 0), "later", 3)
		equal(c, "what is mapped", string(m[3:8]), "later")
	}},
	{Name: "mmap/two maps of one file by two names", Try: func(c *C) {
		c.link("big", "second")
		a := c.mmap(c.open("big", unix.O_RDWR, 0), len(big), readWrite, unix.MAP_SHARED)
		b := c.mmap(c.open("second", unix.O_RDWR, 0), len(big), readWrite, unix.MAP_SHARED)
		copy(a, "aaa")
		copy(b[3:], "bbb")
		equal(c, "what is mapped", string(b[:6]), "aaabbb")
		equal(c, "what is mapped", string(a[:6]), "aaabbb")
	}},
	{Name: "mmap/an unlinked file", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		m := c.mmap(fd, len(big), readWrite, unix.MAP_SHARED)
		c.remove("big")
		copy(m, "unlinked")
		c.ok(unix.Msync(m, unix.MS_SYNC))
		equal(c, "what is read", c.readAt(fd, 8, 0), "unlinked")
	}},
	{Name: "mmap/of a file that grew", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.ok(unix.Ftruncate(fd, 10000))
		m := c.mmap(fd, 10000, readWrite, unix.MAP_SHARED)
		copy(m[9990:], "end of map")
		c.ok(unix.Msync(m, unix.MS_SYNC))
		equal(c, "what is read", c.readAt(fd, 100, 9985), "\x00\x00\x00\x00\x00end of map")
		equal(c, "size", c.fstat(fd).Size, 10000)
	}},
	{Name: "mmap/bytes past the end aren't kept", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		m := c.mmap(fd, 4096, readWrite, unix.MAP_SHARED)
		copy(m[len(text):], "past the end")
		c.ok(unix.Msync(m, unix.MS_SYNC))
		c.ok(unix.Ftruncate(fd, 4096))
		c.holds("file", text+strings.Repeat("\x00", 4096-len(text)))
	}},
	{Name: "mmap/renamed meanwhile", Try: func(c *C) {
		fd := c.open("big", unix.O_RDWR, 0)
		m := c.mmap(fd, len(big), readWrite, unix.MAP_SHARED)
		copy(m, "before")
		c.rename("big", "dir/moved")
		copy(m[6:], "after")
		c.ok(unix.Msync(m, unix.MS_SYNC))
		c.holds("dir/moved", "beforeafter"+big[11:])
	}},
	{Name: "mmap/errors", Try: func(c *C) {
		_, err := unix.Mmap(c.open("file", unix.O_RDONLY, 0), 0, 4096, readWrite, unix.MAP_SHARED)
		c.want(unix.EACCES, err)
		_, err = unix.Mmap(c.open("file", unix.O_WRONLY, 0), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		c.want(unix.EACCES, err)
		_, err = unix.Mmap(c.open("dir", unix.O_RDONLY, 0), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		c.want(unix.ENODEV, err)
	}},
}
