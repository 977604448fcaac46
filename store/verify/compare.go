package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// directory compares what is at p with e, which wants a directory there.
func (c *comparison) directory(p string, e *entry) error {
	want := e.below
	entries, err := want.entries()
	if err != nil {
		return err
	}
	fd, err := open(c.root, p, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		c.unopened(p, e, err)
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		c.changed(p, err.Error(), e.kind.String())
		return nil
	}
	if !e.hasMode(&st) {
		c.wrongMode(p, e, &st)
	}
	names, err := list(fd)
	if err != nil {
		c.changed(p, err.Error(), "a directory that can be listed")
		return nil
	}
	look := &look{comparison: c, dir: p, fd: fd, names: names}
	for i := range entries {
		e := &entries[i]
		for len(names) > 0 && names[0] < e.name {
			look.unwanted(names[0], want, entries)
			names = names[1:]
		}
		if len(names) == 0 || names[0] != e.name {
			c.missing(join(p, e.name))
			continue
		}
		names = names[1:]
		look.wanted(e)
	}
	for _, name := range names {
		look.unwanted(name, want, entries)
	}
	look.bytecode()
	c.count(look.files, look.bytes)
	return nil
}

// open opens what is at a path relative to the directory dir for reading. The time of
// last access stays: to write 8,000 of them took a third of listing as many
// directories, and then as much again from the sync that [Tree] may run beside.
func open(dir int, path string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, path, flags|noAtime, 0)
	if err == unix.EPERM { // it is another user's
		fd, err = unix.Openat(dir, path, flags, 0)
	}
	return fd, err
}

// unopened says why the directory at p couldn't be opened.
func (c *comparison) unopened(p string, e *entry, reason error) {
	var st unix.Stat_t
	err := unix.Fstatat(c.root, p, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		c.missing(p)
	case err == nil && kindOf(&st) != directory:
		c.changed(p, describe(&st), e.kind.String())
	default:
		if err == nil && !e.hasMode(&st) {
			c.wrongMode(p, e, &st)
		}
		c.changed(p, reason.Error(), "a directory that can be read")
	}
}

// hasMode reports whether permission bits are as the entry wants them.
func (e *entry) hasMode(st *unix.Stat_t) bool { return (uint32(st.Mode)^e.mode)&e.bits == 0 }

// wrongMode notes the permission bits of what is at p.
func (c *comparison) wrongMode(p string, e *entry, st *unix.Stat_t) {
	c.differs(&c.result.Mode, p, fmt.Sprintf("%#o", uint32(st.Mode)&allBits), fmt.Sprintf("%#o", e.mode))
}

// direntBuffers are for reading directories: 32 KiB list a thousand names at once.
var direntBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// list returns the names in the directory fd, sorted.
func list(fd int) ([]string, error) {
	buf := direntBuffers.Get().(*[32 << 10]byte)
	defer direntBuffers.Put(buf)
	var names []string
	for {
		n, err := unix.ReadDirent(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// A look is the comparison of one directory.
type look struct {
	*comparison
	dir     string
	fd      int
	files   int
	bytes   int64
	names   []string // all that are there, sorted
	sources []source // seen so far, sorted
	cached  bool     // there is a __pycache__
}

// A source is a Python file, as the .pyc made from it knows it.
type source struct {
	name        string
	mtime, size int64
}

// unwanted looks at a name that is in the directory and not in entries.
func (l *look) unwanted(name string, want folder, entries []entry) {
	if name == pycache {
		l.cached = true
		return
	}
	list, p := &l.result.Extra, join(l.dir, name)
	if original, ok := conflictOf(name, l.host); ok && (l.has(original) || wants(entries, original)) {
		list = &l.result.Conflict
	} else if want.free(name) {
		return
	}
	var st unix.Stat_t
	if unix.Fstatat(l.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return // it is gone: nothing is there that nobody wants
	}
	if l.Ignore != nil && l.Ignore(p) {
		return
	}
	if kindOf(&st) == directory {
		p += "/"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, p)
}

// has reports whether the name is in the directory.
func (l *look) has(name string) bool {
	_, ok := slices.BinarySearch(l.names, name)
	return ok
}

// wanted compares what is there under the entry's name.
func (l *look) wanted(e *entry) {
	if e.kind == directory {
		// To open it, and look at what was opened, takes less than a look by name.
		c, dir := l.comparison, l.dir
		c.pool.push(func() error { return c.directory(join(dir, e.name), e) })
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(l.fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		l.missing(l.path(e))
		return
	case err != nil:
		l.changed(l.path(e), err.Error(), e.kind.String())
		return
	}
	if e.follow && kindOf(&st) == symlink {
		if err := unix.Fstatat(l.fd, e.name, &st, 0); err != nil {
			l.changed(l.path(e), "a symlink that leads nowhere", "a file")
			return
		}
	}
	if found := kindOf(&st); found != e.kind {
		if found == symlink && e.alias != "" {
			l.alias(e)
			return
		}
		l.changed(l.path(e), describe(&st), e.kind.String())
		return
	}
	l.files++
	if e.kind == symlink {
		l.link(e)
		return
	}
	if !e.hasMode(&st) {
		l.wrongMode(l.path(e), e, &st)
	}
	l.bytes += st.Size
	touched := e.mtime != 0 && (int64(st.Mtim.Sec) != e.mtime || st.Mtim.Nsec != 0)
	if touched && l.Times {
		l.changed(l.path(e), "modified "+timeText(st.Mtim.Unix()), timeText(e.mtime, 0))
		return
	}
	l.file(e, &st, touched)
}

func timeText(sec, nsec int64) string { return time.Unix(sec, nsec).UTC().Format(time.RFC3339Nano) }

// path returns the path of an entry. Nearly none is ever told.
func (l *look) path(e *entry) string { return join(l.dir, e.name) }

// describe says what is there.
func describe(st *unix.Stat_t) string {
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK:
		return kindOf(st).String()
	}
	return fmt.Sprintf("a special file of mode %#o", uint32(st.Mode))
}

// other is the kind of what no entry wants: a device, a socket, a pipe.
const other kind = symlink + 1

func kindOf(st *unix.Stat_t) kind {
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFDIR:
		return directory
	case unix.S_IFREG:
		return regular
	case unix.S_IFLNK:
		return symlink
	}
	return other
}

// link compares where a symlink points to.
func (l *look) link(e *entry) {
	if e.target == "" {
		return
	}
	target, err := readlink(l.fd, e.name)
	if err != nil {
		l.changed(l.path(e), err.Error(), fmt.Sprintf("a symlink to %q", e.target))
		return
	}
	if target != e.target {
		l.changed(l.path(e), fmt.Sprintf("a symlink to %q", target), fmt.Sprintf("one to %q", e.target))
	}
}

func readlink(fd int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, name, buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// alias compares a symlink to the file's content with the file.
func (l *look) alias(e *entry) {
	l.files++
	target, err := readlink(l.fd, e.name)
	if err != nil || target != e.alias {
		l.changed(l.path(e), fmt.Sprintf("a symlink to %q", target), "a file, or a symlink to "+fmt.Sprintf("%q", e.alias))
		return
	}
	var st unix.Stat_t
	if err := unix.Fstatat(l.fd, e.name, &st, 0); err != nil {
		l.changed(l.path(e), fmt.Sprintf("a symlink to %q, which is: %v", target, err), "one to a file")
		return
	}
	l.bytes += st.Size
	l.file(e, &st, false) // a blob has a time of its own
}

// file compares a regular file whose attributes are st. Touched says that its time
// is reason enough to read it.
func (l *look) file(e *entry, st *unix.Stat_t, touched bool) {
	if strings.HasSuffix(e.name, ".py") {
		l.sources = append(l.sources, source{e.name, int64(st.Mtim.Sec), st.Size})
	}
	if e.size >= 0 && st.Size != e.size {
		l.changed(l.path(e), fmt.Sprintf("%d bytes", st.Size), fmt.Sprintf("%d bytes", e.size))
		return
	}
	if e.content != nil && (l.Deep || touched) {
		c, dir := l.comparison, l.dir
		c.pool.push(func() error { return c.read(join(dir, e.name), e) })
	}
}

// read compares the content of the file at p.
func (c *comparison) read(p string, e *entry) error {
	want, err := e.content.sum()
	if err != nil {
		return err
	}
	flags := 0
	if e.alias == "" && !e.follow {
		flags = unix.O_NOFOLLOW
	}
	fd, err := openRegular(c.root, p, flags)
	if err != nil {
		c.changed(p, err.Error(), "a file that can be read")
		return nil
	}
	defer unix.Close(fd)
	h := e.content.newHash()
	if err := copyAll(h, fd); err != nil {
		c.changed(p, err.Error(), "a file that can be read")
		return nil
	}
	if found := h.Sum(nil); !bytes.Equal(found, want) {
		c.changed(p, fmt.Sprintf("hash %x", found), fmt.Sprintf("%x", want))
	}
	return nil
}

// errSpecial is returned for what is no regular file.
var errSpecial = errors.New("not a regular file")

// openRegular opens the regular file at a path relative to the directory fd dir. It
// waits for nobody to write into a pipe in its place.
func openRegular(dir int, path string, flags int) (int, error) {
	fd, err := open(dir, path, flags|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && kindOf(&st) != regular {
		err = errSpecial
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readBuffers are for hashing: 256 KiB at a time keep a core busy.
var readBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// copyAll writes the bytes of fd to w.
func copyAll(w io.Writer, fd int) error {
	buf := readBuffers.Get().(*[256 << 10]byte)
	defer readBuffers.Put(buf)
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
}
