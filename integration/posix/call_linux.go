package posix

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// own makes this thread's user, groups and umask its own. The kernel keeps them by
// thread; it is the C library that has all threads agree.
func own(uid, gid int, groups ...uint32) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	unix.Umask(0o022)
	if uid == os.Getuid() {
		return nil
	}
	if err := setgroups(groups); err != nil {
		return err
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return errno
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return errno
	}
	return nil
}

// setgroups gives this thread other supplementary groups.
func setgroups(groups []uint32) error {
	var first *uint32
	if len(groups) > 0 {
		first = &groups[0]
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(first)), 0); errno != 0 {
		return errno
	}
	return nil
}

// as calls f as another user, in a group and in further ones.
func (c *C) as(uid, gid int, f func(), groups ...uint32) {
	done := make(chan bool)
	go func() {
		ok := false
		defer func() { done <- ok }()
		runtime.LockOSThread()
		if err := own(uid, gid, groups...); err != nil {
			c.errorf("becoming user %d: %v", uid, err)
			return
		}
		f()
		ok = true
	}()
	if !<-done {
		runtime.Goexit() // as f did
	}
}

// ok ends the case if a call failed.
func (c *C) ok(err error) {
	if err != nil {
		c.fatalf("%v", err)
	}
}

// want complains if a call ended otherwise than with an error number.
func (c *C) want(want syscall.Errno, err error) {
	var got syscall.Errno
	if err != nil && !errors.As(err, &got) {
		c.errorf("%v, want %s", err, errnoName(want))
		return
	}
	if got != want {
		c.errorf("%s, want %s", errnoName(got), errnoName(want))
	}
}

func errnoName(e syscall.Errno) string {
	if e == 0 {
		return "success"
	}
	return unix.ErrnoName(e)
}

// equal complains if a value is another than wanted.
func equal[T comparable](c *C, what string, got, want T) {
	if got != want {
		c.errorf("%s is %v, want %v", what, brief(got), brief(want))
	}
}

// brief shortens long text for a message.
func brief(v any) string {
	const most = 80
	s, ok := v.(string)
	if !ok {
		return fmt.Sprint(v)
	}
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// open opens a file of the case's until the case ends.
func (c *C) open(name string, flags int, mode uint32) int {
	fd, err := unix.Open(c.path(name), flags|unix.O_CLOEXEC, mode)
	if err != nil {
		c.fatalf("opening %q: %v", name, err)
	}
	c.cleanup(func() { unix.Close(fd) })
	return fd
}

// tryOpen opens a file, closes it, and returns the error.
func (c *C) tryOpen(name string, flags int, mode uint32) error {
	fd, err := unix.Open(c.path(name), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, mode)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// lstat returns what a name is, which must be there.
func (c *C) lstat(name string) unix.Stat_t {
	var st unix.Stat_t
	if err := unix.Lstat(c.path(name), &st); err != nil {
		c.fatalf("lstat of %q: %v", name, err)
	}
	return st
}

func (c *C) fstat(fd int) unix.Stat_t {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		c.fatalf("fstat: %v", err)
	}
	return st
}

// gone complains if a name is there.
func (c *C) gone(name string) {
	var st unix.Stat_t
	c.want(unix.ENOENT, unix.Lstat(c.path(name), &st))
}

// mode returns the permissions of a name, with suid, sgid and sticky bits.
func (c *C) mode(name string) string { return fmt.Sprintf("%#o", c.lstat(name).Mode&0o7777) }

// write makes a file, or gives it a new content.
func (c *C) write(name, content string) {
	if err := os.WriteFile(c.path(name), []byte(content), 0o644); err != nil {
		c.fatalf("%v", err)
	}
}

// read returns the content of a file.
func (c *C) read(name string) string {
	b, err := os.ReadFile(c.path(name))
	if err != nil {
		c.fatalf("%v", err)
	}
	return string(b)
}

// holds complains if a file holds something else.
func (c *C) holds(name, want string) {
	equal(c, fmt.Sprintf("the content of %q", name), c.read(name), want)
}

// readAt returns what a descriptor reads, all of n bytes or up to the end.
func (c *C) readAt(fd int, n int, off int64) string {
	p := make([]byte, n)
	got := 0
	for got < n {
		k, err := unix.Pread(fd, p[got:], off+int64(got))
		if err != nil {
			c.fatalf("pread: %v", err)
		}
		if k == 0 {
			break
		}
		got += k
	}
	return string(p[:got])
}

// writeAt writes all of a text.
func (c *C) writeAt(fd int, text string, off int64) {
	n, err := unix.Pwrite(fd, []byte(text), off)
	if err != nil || n != len(text) {
		c.fatalf("pwrite of %d bytes: %d, %v", len(text), n, err)
	}
}

// append writes all of a text where the descriptor stands.
func (c *C) append(fd int, text string) {
	n, err := unix.Write(fd, []byte(text))
	if err != nil || n != len(text) {
		c.fatalf("write of %d bytes: %d, %v", len(text), n, err)
	}
}

func (c *C) mkdir(name string) {
	if err := unix.Mkdir(c.path(name), 0o755); err != nil {
		c.fatalf("mkdir of %q: %v", name, err)
	}
}

func (c *C) symlink(target, name string) {
	if err := unix.Symlink(target, c.path(name)); err != nil {
		c.fatalf("symlink %q: %v", name, err)
	}
}

func (c *C) link(from, to string) {
	if err := unix.Link(c.path(from), c.path(to)); err != nil {
		c.fatalf("link of %q to %q: %v", from, to, err)
	}
}

func (c *C) chmod(name string, mode uint32) {
	if err := unix.Chmod(c.path(name), mode); err != nil {
		c.fatalf("chmod of %q: %v", name, err)
	}
}

func (c *C) chown(name string, uid, gid int) {
	if err := unix.Lchown(c.path(name), uid, gid); err != nil {
		c.fatalf("chown of %q: %v", name, err)
	}
}

func (c *C) rename(from, to string) {
	if err := c.tryRename(from, to, 0); err != nil {
		c.fatalf("rename of %q to %q: %v", from, to, err)
	}
}

func (c *C) tryRename(from, to string, flags uint) error {
	return unix.Renameat2(unix.AT_FDCWD, c.path(from), unix.AT_FDCWD, c.path(to), flags)
}

func (c *C) remove(name string) {
	if err := unix.Unlink(c.path(name)); err != nil {
		c.fatalf("unlink of %q: %v", name, err)
	}
}

// tick waits until the clock that files get their times from has moved: it has
// steps of some milliseconds.
func (c *C) tick() {
	var start, now unix.Timespec
	c.ok(unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &start))
	for now = start; now == start; {
		runtime.Gosched()
		c.ok(unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now))
	}
}

// stamps are the times of a file.
type stamps struct {
	atime, mtime, ctime time.Time
	folder              bool
}

func (c *C) stamps(name string) stamps { st := c.lstat(name); return stampsOf(st) }

func stampsOf(st unix.Stat_t) stamps {
	return stamps{time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix()), time.Unix(st.Ctim.Unix()), st.Mode&unix.S_IFMT == unix.S_IFDIR}
}

// A change says which of a file's times a call has to set to now.
type change struct{ mtime, ctime bool }

var (
	nothing  = change{}
	metadata = change{ctime: true}
	content  = change{mtime: true, ctime: true}
)

// changes complains if f sets other times of names than wanted.
func (c *C) changes(f func(), want map[string]change) {
	old := make(map[string]stamps)
	for name := range want {
		old[name] = c.stamps(name)
	}
	c.tick()
	f()
	for name, w := range want {
		now := c.stamps(name)
		equal(c, fmt.Sprintf("a new mtime of %q", name), !now.mtime.Equal(old[name].mtime), w.mtime)
		if c.Origin != Made && now.folder && w == nothing {
			continue // copying a file up changes its folder's ctime, which nobody can set back
		}
		equal(c, fmt.Sprintf("a new ctime of %q", name), !now.ctime.Equal(old[name].ctime), w.ctime)
	}
}

// As calls f on a thread whose user and group are those.
func As(uid, gid int, f func()) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = own(uid, gid); err == nil {
			f()
		}
	}()
	<-done
	return err
}
