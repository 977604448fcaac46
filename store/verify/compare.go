package verify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// directory compares the directory at p, which was one when its parent was looked
// at, with what want says.
func (c *comparison) directory(p string, want folder) error {
	entries, err := want.entries()
	if err != nil {
		return err
	}
	fd, err := unix.Openat(c.root, p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		c.changed(p, err.Error(), "a directory that can be read")
		return nil
	}
	defer unix.Close(fd)
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
		if err := look.wanted(e); err != nil {
			return err
		}
	}
	for _, name := range names {
		look.unwanted(name, want, entries)
	}
	look.bytecode()
	c.count(look.files, look.bytes)
	return nil
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
func (l *look) wanted(e *entry) error {
	p := join(l.dir, e.name)
	var st unix.Stat_t
	err := unix.Fstatat(l.fd, e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case errors.Is(err, unix.ENOENT):
		l.missing(p)
		return nil
	case err != nil:
		l.changed(p, err.Error(), e.kind.String())
		return nil
	}
	if e.follow && kindOf(&st) == symlink {
		if err := unix.Fstatat(l.fd, e.name, &st, 0); err != nil {
			l.changed(p, "a symlink that leads nowhere", "a file")
			return nil
		}
	}
	if found := kindOf(&st); found != e.kind {
		if found == symlink && e.alias != "" {
			l.alias(p, e)
			return nil
		}
		l.changed(p, describe(&st), e.kind.String())
		return nil
	}
	if (uint32(st.Mode)^e.mode)&e.bits != 0 && e.kind != symlink {
		l.differs(&l.result.Mode, p, fmt.Sprintf("%#o", uint32(st.Mode)&allBits), fmt.Sprintf("%#o", e.mode))
	}
	switch e.kind {
	case directory:
		l.pool.push(func() error { return l.directory(p, e.below) })
	case symlink:
		l.files++
		l.link(p, e)
	default:
		l.files++
		l.bytes += st.Size
		l.file(p, e, &st, e.mtime != 0 && (int64(st.Mtim.Sec) != e.mtime || st.Mtim.Nsec != 0))
	}
	return nil
}

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
func (l *look) link(p string, e *entry) {
	if e.target == "" {
		return
	}
	target, err := readlink(l.fd, e.name)
	if err != nil {
		l.changed(p, err.Error(), fmt.Sprintf("a symlink to %q", e.target))
		return
	}
	if target != e.target {
		l.changed(p, fmt.Sprintf("a symlink to %q", target), fmt.Sprintf("one to %q", e.target))
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
func (l *look) alias(p string, e *entry) {
	l.files++
	target, err := readlink(l.fd, e.name)
	if err != nil || target != e.alias {
		l.changed(p, fmt.Sprintf("a symlink to %q", target), "a file, or a symlink to "+fmt.Sprintf("%q", e.alias))
		return
	}
	var st unix.Stat_t
	if err := unix.Fstatat(l.fd, e.name, &st, 0); err != nil {
		l.changed(p, fmt.Sprintf("a symlink to %q, which is: %v", target, err), "one to a file")
		return
	}
	l.bytes += st.Size
	l.file(p, e, &st, false) // a blob has a time of its own
}

// file compares a regular file whose attributes are st. Touched says that its time
// is reason enough to read it.
func (l *look) file(p string, e *entry, st *unix.Stat_t, touched bool) {
	if strings.HasSuffix(e.name, ".py") {
		l.sources = append(l.sources, source{e.name, int64(st.Mtim.Sec), st.Size})
	}
	if e.size >= 0 && st.Size != e.size {
		l.changed(p, fmt.Sprintf("%d bytes", st.Size), fmt.Sprintf("%d bytes", e.size))
		return
	}
	if e.content != nil && (l.Deep || touched) {
		l.pool.push(func() error { return l.read(p, e) })
	}
}

// read compares the content of the file at p.
func (c *comparison) read(p string, e *entry) error {
	want, err := e.content.sum()
	if err != nil {
		return err
	}
	flags := unix.O_RDONLY | unix.O_CLOEXEC
	if e.alias == "" && !e.follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat(c.root, p, flags, 0)
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
