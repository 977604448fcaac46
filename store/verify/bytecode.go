package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pycache is the folder beside sources that Python keeps bytecode in (PEP 3147).
const pycache = "__pycache__"

// bytecode compares the .pyc files beside the sources that were seen with them.
func (l *look) bytecode() {
	if !l.cached {
		return
	}
	p := join(l.dir, pycache)
	fd, err := unix.Openat(l.fd, pycache, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		l.stale(p, err.Error(), "a directory that can be read")
		return
	}
	defer unix.Close(fd)
	names, err := list(fd)
	if err != nil {
		l.stale(p, err.Error(), "a directory that can be listed")
		return
	}
	for _, name := range names {
		stem, tag, ok := parsePyc(name)
		if !ok {
			continue // another tool's cache
		}
		if found, wanted := l.pyc(fd, name, stem+".py", tag); found != "" {
			l.stale(join(p, name), found, wanted)
		}
	}
}

func (l *look) stale(p, found, wanted string) {
	l.differs(&l.result.Bytecode, p, found, wanted)
}

// parsePyc splits the name of a .pyc file: x.cpython-312.pyc, or with its
// optimisation x.cpython-312.opt-1.pyc (PEP 488).
func parsePyc(name string) (stem, tag string, ok bool) {
	name, ok = strings.CutSuffix(name, ".pyc")
	if !ok || strings.Contains(name, "-pytest-") { // pytest keeps tests that it rewrote under such a tag
		return "", "", false
	}
	if i := strings.LastIndex(name, ".opt-"); i >= 0 {
		name = name[:i]
	}
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// The header of a .pyc file (PEP 552): a magic number of four bytes that ends in
// CR LF, four of flags, and eight of time and size or of a hash. Python 3.6 had no
// flags.
const (
	headerSize    = 16
	oldHeaderSize = 12

	flagHash    = 1 << 0
	flagChecked = 1 << 1
)

// pyc compares the header of a .pyc file in the directory fd with the source, and
// says what differs; found is empty if nothing does.
func (l *look) pyc(fd int, name, sourceName, tag string) (found, wanted string) {
	src, err := l.source(sourceName)
	if err != nil {
		return "no " + sourceName + " to go with it", "its source"
	}
	h, err := readHeader(fd, name)
	if err != nil {
		return err.Error(), "a .pyc file that can be read"
	}
	if tag == "cpython-36" && len(h) >= oldHeaderSize {
		return compareStamp(h[4:oldHeaderSize], src)
	}
	if len(h) < headerSize || h[2] != '\r' || h[3] != '\n' {
		return "no header of a .pyc file", fmt.Sprintf("one of %d bytes", headerSize)
	}
	switch flags := binary.LittleEndian.Uint32(h[4:]); flags {
	case 0:
		return compareStamp(h[8:], src)
	case flagHash, flagHash | flagChecked:
		return l.compareHash(h, sourceName)
	default:
		return fmt.Sprintf("flags %#x", flags), "0, 1 or 3"
	}
}

// source returns the time and size of a source in the directory.
func (l *look) source(name string) (source, error) {
	i, ok := slices.BinarySearchFunc(l.sources, name, func(s source, name string) int { return strings.Compare(s.name, name) })
	if ok {
		return l.sources[i], nil
	}
	var st unix.Stat_t
	err := unix.Fstatat(l.fd, name, &st, 0)
	return source{name, int64(st.Mtim.Sec), st.Size}, err
}

// readHeader returns the first bytes of a file.
func readHeader(dir int, name string) ([]byte, error) {
	fd, err := openRegular(dir, name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	h := make([]byte, headerSize)
	for {
		n, err := unix.Read(fd, h)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return h[:max(n, 0)], err
	}
}

// compareStamp compares the lower 32 bits of time and size.
func compareStamp(h []byte, src source) (found, wanted string) {
	mtime, size := binary.LittleEndian.Uint32(h), binary.LittleEndian.Uint32(h[4:])
	if mtime == uint32(src.mtime) && size == uint32(src.size) {
		return "", ""
	}
	return fmt.Sprintf("for a source of %d bytes and time %d", size, mtime), fmt.Sprintf("%d bytes and time %d", uint32(src.size), uint32(src.mtime))
}

// compareHash compares the hash of the source: SipHash with the magic number for
// its key, of 1 and 3 rounds since Python 3.11 and of 2 and 4 before.
func (l *look) compareHash(h []byte, name string) (found, wanted string) {
	text, err := readAll(l.fd, name)
	if err != nil {
		return err.Error(), "a source that can be read"
	}
	key := uint64(binary.LittleEndian.Uint32(h))
	hash := binary.LittleEndian.Uint64(h[8:])
	now := sipHash(1, 3, key, text)
	if hash == now || hash == sipHash(2, 4, key, text) {
		return "", ""
	}
	return fmt.Sprintf("for a source with hash %016x", hash), fmt.Sprintf("%016x", now)
}

// readAll returns the content of a file.
func readAll(dir int, name string) ([]byte, error) {
	fd, err := openRegular(dir, name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var b bytes.Buffer
	err = copyAll(&b, fd)
	return b.Bytes(), err
}
