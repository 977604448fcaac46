package bytecode

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

const (
	entryMagic  = "sfpyc\x01"
	headSize    = 8 // of a trailer before its sum
	trailerSize = headSize + sha256.Size
	headerSize  = 16 // of a .pyc file
)

// A kind says what the payload of an entry is.
type kind uint8

const (
	kindCode    kind = 1
	kindFailure kind = 2
)

// maxReason bounds the payload of a failure, in bytes. Python's own messages are
// shorter; the text also has to fit into a message of the host.
const maxReason = 1 << 10

// An entry is what is known of a source and an optimisation.
type entry struct {
	kind   kind
	size   int64  // of the .pyc file, in bytes
	stamp  uint16 // tells the .pyc file from another of the same source
	path   string // of a failure: under which name the source was compiled
	reason string // of a failure
}

// header returns the first bytes of a .pyc file. Python keeps the lower 32 bits of
// time and size (PEP 552).
func header(magic [4]byte, s *Source) (h [headerSize]byte) {
	copy(h[:], magic[:])
	binary.LittleEndian.PutUint32(h[8:], uint32(s.Mtime))
	binary.LittleEndian.PutUint32(h[12:], uint32(s.Size))
	return h
}

// failurePayload returns the payload that says why the source at path doesn't
// compile.
func failurePayload(path, reason string) []byte {
	path = path[:min(len(path), maxReason/2)]
	reason = reason[:min(len(reason), maxReason/2-1)]
	return []byte(path + "\x00" + strings.ToValidUTF8(reason, "?"))
}

// trailer returns what stands behind the payload of an entry.
func trailer(version []byte, k key, kind kind, payload []byte) []byte {
	head := append([]byte(entryMagic), byte(kind), byte(k.opt))
	h := sha256.New()
	h.Write(payload)
	h.Write(head)
	h.Write(k.source[:])
	h.Write(version)
	return h.Sum(head)
}

// A checker reads entries. It is reused, so that a hit allocates no buffer.
type checker struct {
	hash    hash.Hash
	trailer [trailerSize]byte
	sum     [sha256.Size]byte
	source  digest.Digest
	buf     [64 << 10]byte // holds nine in ten entries whole
}

var checkers = sync.Pool{New: func() any { return &checker{hash: sha256.New()} }}

// check reads the entry in fd from its first byte to its last and returns it if it
// is whole, and that of s, opt and version.
func (c *checker) check(fd int, version []byte, magic [4]byte, s *Source, opt int) (entry, bool) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Size < trailerSize {
		return entry{}, false
	}
	e := entry{size: st.Size - trailerSize}
	if !readFull(fd, c.trailer[:], e.size) {
		return entry{}, false
	}
	e.kind = kind(c.trailer[len(entryMagic)])
	if e.kind == kindFailure && e.size > maxReason || e.kind == kindCode && e.size < headerSize {
		return entry{}, false
	}
	c.hash.Reset()
	want := header(magic, s)
	for off := int64(0); off < e.size; {
		b := c.buf[:min(int64(len(c.buf)), e.size-off)]
		if !readFull(fd, b, off) {
			return entry{}, false
		}
		if off == 0 && e.kind == kindCode && !bytes.Equal(b[:headerSize], want[:]) {
			return entry{}, false
		}
		c.hash.Write(b)
		off += int64(len(b))
	}
	if !c.sealed(version, s, opt) {
		return entry{}, false
	}
	e.stamp = stamp(c.trailer[:])
	if e.kind == kindFailure {
		path, reason, _ := strings.Cut(string(c.buf[:e.size]), "\x00")
		e.path, e.reason = path, reason
	}
	return e, true
}

// sealed reports whether the trailer is the one that belongs to the payload that
// was hashed.
func (c *checker) sealed(version []byte, s *Source, opt int) bool {
	head := c.trailer[:headSize]
	k := kind(head[len(entryMagic)])
	if string(head[:len(entryMagic)]) != entryMagic || k != kindCode && k != kindFailure || int(head[headSize-1]) != opt {
		return false
	}
	c.source = s.Digest // hashed from here: a slice of s would move s to the heap
	c.hash.Write(head)
	c.hash.Write(c.source[:])
	c.hash.Write(version)
	return bytes.Equal(c.hash.Sum(c.sum[:0]), c.trailer[headSize:])
}

// stampBits is what there is room for beside the number of a file (package view).
const stampBits = 12

// stamp returns the first bits of a trailer's sum.
func stamp(trailer []byte) uint16 {
	return binary.LittleEndian.Uint16(trailer[headSize:]) & (1<<stampBits - 1)
}

// readFull fills b from offset off. An entry that can't be read is as good as
// absent, so no error is kept.
func readFull(fd int, b []byte, off int64) bool {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		b, off = b[n:], off+int64(n)
	}
	return true
}
