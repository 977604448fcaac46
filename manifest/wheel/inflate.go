package wheel

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/sitefs/sitefs/manifest/digest"
)

const (
	// readSize is what one read of compressed bytes asks for, chunkSize what one
	// hash update and one write of produced bytes get: enough that the calls
	// vanish beside inflating, little enough to stay in a core's cache.
	readSize  = 64 << 10
	chunkSize = 128 << 10

	// maxZstdWindow is what RFC 8878 §3.1.1.1.2 asks every decoder to support.
	// It bounds the memory that one member may take.
	maxZstdWindow = 8 << 20
)

// copyMember writes the bytes of m to dst and holds them to the declared size,
// the CRC-32 and, where it is not empty, the sum that RECORD lists. The packed
// bytes must be used up. It returns the SHA-256 of what was written, also
// beside an error that says that RECORD lists another.
func (a *archive) copyMember(dst io.Writer, m *member, listed RecordSum) (digest.Digest, error) {
	u := unpackers.Get().(*unpacker)
	defer u.release()
	d, err := u.copy(dst, a.r, m, listed)
	if err != nil {
		return d, fmt.Errorf("member %q: %w", m.name, err)
	}
	return d, nil
}

// readMember returns the bytes of m, which are at most limit.
func (a *archive) readMember(m *member, limit int64) ([]byte, error) {
	if m.size > limit {
		return nil, invalidf("member %q has %d bytes, want at most %d", m.name, m.size, limit)
	}
	var b bytes.Buffer
	if _, err := a.copyMember(&b, m, RecordSum{}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// startsWith reports whether the bytes of m start with prefix. It checks no
// more of m than it reads.
func (a *archive) startsWith(m *member, prefix string) (bool, error) {
	u := unpackers.Get().(*unpacker)
	defer u.release()
	produced, err := u.open(a.r, m)
	if err != nil {
		return false, fmt.Errorf("member %q: %w", m.name, err)
	}
	b := make([]byte, len(prefix))
	n, err := fill(produced, b)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("member %q: %w", m.name, u.cause(err))
	}
	return string(b[:n]) == prefix, nil
}

// An unpacker produces the bytes of one member after another. Its buffers
// are all the memory this takes, whatever the size of a member.
type unpacker struct {
	src    source
	in     *bufio.Reader
	flate  io.ReadCloser // a flate.Resetter too
	zstd   *zstd.Decoder // made when the first such member comes
	sha256 hash.Hash
	chunk  []byte
}

var unpackers = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, readSize)
	return &unpacker{
		in:     in,
		flate:  flate.NewReader(in),
		sha256: sha256.New(),
		chunk:  make([]byte, chunkSize),
	}
}}

// release puts u back into the pool, without a hold on the file it read.
func (u *unpacker) release() {
	u.src = source{}
	unpackers.Put(u)
}

func (u *unpacker) copy(dst io.Writer, r io.ReaderAt, m *member, listed RecordSum) (digest.Digest, error) {
	produced, err := u.open(r, m)
	if err != nil {
		return digest.Digest{}, err
	}
	u.sha256.Reset()
	other := listed.newHash()
	var crc uint32
	var size int64
	for {
		n, readErr := fill(produced, u.chunk)
		b := u.chunk[:n]
		if size += int64(n); size > m.size {
			return digest.Digest{}, invalidf("holds more than the %d bytes it declares", m.size)
		}
		crc = crc32.Update(crc, crc32.IEEETable, b)
		u.sha256.Write(b)
		if other != nil {
			other.Write(b)
		}
		if n > 0 {
			if _, err := dst.Write(b); err != nil {
				return digest.Digest{}, err
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return digest.Digest{}, u.cause(readErr)
		}
	}
	switch {
	case size != m.size:
		return digest.Digest{}, invalidf("holds %d bytes, declares %d", size, m.size)
	case u.unread() != 0:
		return digest.Digest{}, invalidf("%d of its %d compressed bytes follow the end of the data", u.unread(), m.packed)
	case crc != m.crc:
		return digest.Digest{}, invalidf("CRC-32 is %#08x, want %#08x", crc, m.crc)
	}
	var d digest.Digest
	u.sha256.Sum(d[:0])
	if other != nil {
		return d, listed.check(other.Sum(nil))
	}
	return d, listed.check(d[:])
}

// open returns the produced bytes of m.
func (u *unpacker) open(r io.ReaderAt, m *member) (io.Reader, error) {
	u.src = source{r: r, at: m.data, end: m.data + m.packed}
	u.in.Reset(&u.src)
	switch m.method {
	case methodDeflate:
		return u.flate, u.flate.(flate.Resetter).Reset(u.in, nil)
	case methodZstd:
		return u.openZstd(m)
	}
	return &u.src, nil
}

// openZstd checks that the packed bytes of m are one frame (RFC 8878 §3.1):
// decoders differ in what they do with a second one, or with a stray byte.
func (u *unpacker) openZstd(m *member) (io.Reader, error) {
	if err := u.skipFrame(); err != nil {
		return nil, u.cause(err)
	}
	if n := u.unread(); n != 0 {
		return nil, invalidf("%d of its %d compressed bytes follow the end of the Zstandard frame", n, m.packed)
	}
	u.src.at = m.data
	u.in.Reset(&u.src)
	if u.zstd != nil {
		return u.zstd, u.zstd.Reset(u.in)
	}
	var err error
	u.zstd, err = zstd.NewReader(u.in,
		zstd.WithDecoderConcurrency(1), // no goroutine to leak from the pool
		zstd.WithDecoderMaxWindow(maxZstdWindow),
		zstd.WithDecoderLowmem(true))
	return u.zstd, err
}

// skipFrame reads past one Zstandard frame.
func (u *unpacker) skipFrame() error {
	head, err := u.in.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return err
	}
	if h.Skippable || h.DictionaryID != 0 {
		return invalidf("starts with a skippable Zstandard frame or needs a dictionary")
	}
	if _, err := u.in.Discard(h.HeaderSize); err != nil {
		return err
	}
	for last := false; !last; {
		b, err := u.in.Peek(3)
		if err != nil {
			return err
		}
		block := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = block&1 != 0
		size := int(block >> 3)
		if block>>1&3 == 1 { // RLE: one byte, size times
			size = 1
		}
		if _, err := u.in.Discard(3 + size); err != nil {
			return err
		}
	}
	if !h.HasCheckSum {
		return nil
	}
	_, err = u.in.Discard(4)
	return err
}

// unread returns the number of packed bytes that nothing has consumed.
func (u *unpacker) unread() int64 {
	return u.src.end - u.src.at + int64(u.in.Buffered())
}

// cause tells a file that can't be read from one that holds bad data.
func (u *unpacker) cause(err error) error {
	if u.src.err != nil {
		return fmt.Errorf("reading at offset %d: %w", u.src.at, u.src.err)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return invalidf("compressed data is cut short")
	}
	return invalidf("compressed data is corrupt: %v", err)
}

// A source reads the bytes from at to end of r. It keeps the error of r, which
// a decompressor does not pass on as it is.
type source struct {
	r       io.ReaderAt
	at, end int64
	err     error
}

func (s *source) Read(b []byte) (int, error) {
	if s.at >= s.end {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), s.end-s.at)]
	n, err := s.r.ReadAt(b, s.at)
	s.at += int64(n)
	if n == len(b) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	s.err = err
	return n, err
}

// fill reads until b is full. Unlike io.ReadFull's, its error is io.EOF
// exactly when r has ended.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}
