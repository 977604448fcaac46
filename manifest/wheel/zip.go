package wheel

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The ZIP walk. PKWARE's APPNOTE.TXT lets two readers see two archives in one
// file; this walk accepts only files in which every byte is accounted for once:
// local headers, member data and descriptors from offset 0 up to the central
// directory, the directory up to the end records, the end record up to the end.

const (
	sigLocal        = 0x04034b50
	sigDescriptor   = 0x08074b50
	sigCentral      = 0x02014b50
	sigEnd          = 0x06054b50
	sigEnd64        = 0x06064b50
	sigEnd64Locator = 0x07064b50

	lenLocal        = 30
	lenCentral      = 46
	lenEnd          = 22
	lenEnd64        = 56
	lenEnd64Locator = 20

	methodStored  = 0
	methodDeflate = 8
	methodZstd    = 93

	flagEncrypted     = 1 << 0
	flagDescriptor    = 1 << 3
	flagPatched       = 1 << 5
	flagStrong        = 1 << 6
	flagUTF8          = 1 << 11
	flagMaskedHeaders = 1 << 13
	flagsRefused      = flagEncrypted | flagPatched | flagStrong | flagMaskedHeaders
	flagsCompared     = flagsRefused | flagDescriptor | flagUTF8

	extraZIP64       = 0x0001
	extraUnicodePath = 0x7075

	// maxVersion is that of the APPNOTE.TXT this follows, 6.3. What a member
	// that needs a newer one holds is not known.
	maxVersion = 63

	// maxTail is how far before the end of the file an end record may start:
	// itself and the longest comment. CPython looks no further, so NUL padding
	// has to fit in it too.
	maxTail = lenEnd + math.MaxUint16

	// maxMembers bounds the memory of an open archive. The largest wheels hold
	// tens of thousands of files.
	maxMembers = 1_000_000

	// maxName is PATH_MAX: a longer name could not be opened.
	maxName = 4096

	// maxComponent is NAME_MAX of every Linux and macOS filesystem.
	maxComponent = 255
)

// A member is one entry of the archive, its headers found consistent.
type member struct {
	name   string // as in the archive
	method uint16
	flags  uint16
	attrs  uint32 // external attributes; Unix mode in the high half
	crc    uint32
	packed int64 // bytes in the archive
	size   int64 // bytes produced
	header int64 // offset of the local header
	data   int64 // offset of the packed bytes
}

func (m *member) isDir() bool { return strings.HasSuffix(m.name, "/") }

// An archive is a ZIP file whose structure holds.
type archive struct {
	r         io.ReaderAt
	members   []member // in the order of their bytes
	directory int64    // size of the central directory
}

// openArchive walks the ZIP file of size bytes behind r.
// It reads the directory and every local header, and no member's data.
func openArchive(r io.ReaderAt, size int64) (*archive, error) {
	end, err := readEnd(r, size)
	if err != nil {
		return nil, err
	}
	a := &archive{r: r, directory: end.size}
	if err := a.readDirectory(end); err != nil {
		return nil, err
	}
	slices.SortStableFunc(a.members, func(x, y member) int { return cmp.Compare(x.header, y.header) })
	if err := a.readLocals(end.offset); err != nil {
		return nil, err
	}
	return a, nil
}

// An endRecord says where the central directory is.
type endRecord struct {
	entries uint64
	size    int64
	offset  int64
}

// readEnd finds the one end record and checks that it, its ZIP64 companions
// and the directory it points to are adjacent.
func readEnd(r io.ReaderAt, size int64) (endRecord, error) {
	tail := make([]byte, min(size, maxTail))
	base := size - int64(len(tail))
	if err := readFull(r, tail, base); err != nil {
		return endRecord{}, err
	}
	at := bytes.LastIndex(tail, le32(sigEnd))
	if at < 0 || len(tail)-at < lenEnd {
		return endRecord{}, invalidf("not a ZIP file, or cut short: no end record in the last %d bytes", len(tail))
	}
	if trailing, ok := endsFile(tail[at:]); !ok {
		return endRecord{}, invalidf("%d bytes follow the end record, want none but NUL", trailing)
	}
	for rest := tail[:at]; ; {
		i := bytes.LastIndex(rest, le32(sigEnd))
		if i < 0 {
			break
		}
		if _, ok := endsFile(tail[i:]); ok {
			return endRecord{}, invalidf("several end records, at offsets %d and %d", base+int64(i), base+int64(at))
		}
		rest = rest[:i]
	}
	return parseEnd(r, tail[at:], base+int64(at))
}

// endsFile reports whether tail is one end record, its comment and NUL
// padding; if it is not, how many bytes are too many.
func endsFile(tail []byte) (trailing int, ok bool) {
	if len(tail) < lenEnd {
		return 0, false
	}
	comment := int(binary.LittleEndian.Uint16(tail[20:]))
	if len(tail) < lenEnd+comment {
		return 0, false
	}
	padding := tail[lenEnd+comment:]
	return len(padding), len(bytes.Trim(padding, "\x00")) == 0
}

// parseEnd reads the end record b found at offset at, and the ZIP64 record if
// there is one.
func parseEnd(r io.ReaderAt, b []byte, at int64) (endRecord, error) {
	f := fields(b[4:])
	disk, directoryDisk := f.uint16(), f.uint16()
	here, total := f.uint16(), f.uint16()
	size, offset := f.uint32(), f.uint32()
	end := endRecord{entries: uint64(total), size: int64(size), offset: int64(offset)}
	if here != total || disk != 0 || directoryDisk != 0 {
		return endRecord{}, invalidf("end record speaks of several disks (%d of %d entries here)", here, total)
	}
	stop := at
	wide, widened, err := readEnd64(r, at)
	if err != nil {
		return endRecord{}, err
	}
	if widened {
		if !agrees(uint64(total), wide.entries, math.MaxUint16) ||
			!agrees(uint64(size), uint64(wide.size), math.MaxUint32) ||
			!agrees(uint64(offset), uint64(wide.offset), math.MaxUint32) {
			return endRecord{}, invalidf("end record says %+v, ZIP64 end record says %+v", end, wide)
		}
		end, stop = wide, at-lenEnd64Locator-lenEnd64
	} else if offset == math.MaxUint32 || size == math.MaxUint32 || total == math.MaxUint16 {
		return endRecord{}, invalidf("end record refers to a ZIP64 end record, but no locator precedes it")
	}
	if end.offset > stop || end.size != stop-end.offset {
		return endRecord{}, invalidf("end record puts the central directory at bytes %d+%d, want it to end at %d, where the end record starts (bytes before the archive?)", end.offset, end.size, stop)
	}
	if end.entries > maxMembers {
		return endRecord{}, invalidf("%d members, want at most %d", end.entries, maxMembers)
	}
	return end, nil
}

// readEnd64 reads the ZIP64 locator and record directly before the end record
// at offset at, if the locator is there.
func readEnd64(r io.ReaderAt, at int64) (end endRecord, ok bool, err error) {
	if at < lenEnd64Locator {
		return endRecord{}, false, nil
	}
	var loc [lenEnd64Locator]byte
	if err := readFull(r, loc[:], at-lenEnd64Locator); err != nil {
		return endRecord{}, false, err
	}
	f := fields(loc[:])
	if f.uint32() != sigEnd64Locator {
		return endRecord{}, false, nil
	}
	disk, offset, disks := f.uint32(), f.uint64(), f.uint32()
	want := at - lenEnd64Locator - lenEnd64
	if disk != 0 || disks != 1 || want < 0 || offset != uint64(want) {
		return endRecord{}, false, invalidf("ZIP64 locator points to offset %d of disk %d of %d, want a record of %d bytes directly before it", offset, disk, disks, lenEnd64)
	}
	var rec [lenEnd64]byte
	if err := readFull(r, rec[:], want); err != nil {
		return endRecord{}, false, err
	}
	f = fields(rec[:])
	if sig := f.uint32(); sig != sigEnd64 {
		return endRecord{}, false, invalidf("ZIP64 locator points to signature %#08x, want %#08x", sig, sigEnd64)
	}
	if n := f.uint64(); n != lenEnd64-12 {
		return endRecord{}, false, invalidf("ZIP64 end record has %d bytes, want %d: extensible data is not accepted", n, lenEnd64-12)
	}
	f.skip(4) // the versions that made it and that it needs
	d1, d2, here, total := f.uint32(), f.uint32(), f.uint64(), f.uint64()
	size, start := f.uint64(), f.uint64()
	if d1 != 0 || d2 != 0 || here != total {
		return endRecord{}, false, invalidf("ZIP64 end record speaks of several disks (%d of %d entries here)", here, total)
	}
	if size > uint64(want) || start > uint64(want) {
		return endRecord{}, false, invalidf("ZIP64 end record puts the central directory at bytes %d+%d, beyond its own offset %d", start, size, want)
	}
	return endRecord{entries: total, size: int64(size), offset: int64(start)}, true, nil
}

// agrees reports whether a narrow field holds wide or defers to it.
func agrees(narrow, wide, saturated uint64) bool {
	return narrow == wide || narrow == saturated
}

// readDirectory reads the members from the central directory.
func (a *archive) readDirectory(end endRecord) error {
	br := bufio.NewReaderSize(io.NewSectionReader(a.r, end.offset, end.size), 64<<10)
	left := end.size
	// An entry takes lenCentral bytes at least: a false count allocates nothing.
	a.members = make([]member, 0, min(int64(end.entries), end.size/lenCentral))
	var head [lenCentral]byte
	var rest []byte
	for left > 0 {
		if left < lenCentral {
			return invalidf("central directory has %d bytes after member %d, want another entry or none", left, len(a.members))
		}
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return fmt.Errorf("reading the central directory: %w", err)
		}
		f := fields(head[28:])
		n := int(f.uint16()) + int(f.uint16()) + int(f.uint16())
		if left -= int64(lenCentral + n); left < 0 {
			return invalidf("central directory ends within entry %d", len(a.members))
		}
		rest = slices.Grow(rest[:0], n)[:n]
		if _, err := io.ReadFull(br, rest); err != nil {
			return fmt.Errorf("reading the central directory: %w", err)
		}
		m, err := parseCentral(head[:], rest)
		if err != nil {
			return fmt.Errorf("central directory entry %d: %w", len(a.members), err)
		}
		if uint64(len(a.members)) == end.entries {
			return invalidf("end record counts %d members, the central directory holds more: %q", end.entries, m.name)
		}
		a.members = append(a.members, m)
	}
	if uint64(len(a.members)) != end.entries {
		return invalidf("end record counts %d members, the central directory holds %d", end.entries, len(a.members))
	}
	return nil
}

// parseCentral reads one entry: its fixed part, then name, extra and comment.
func parseCentral(head, rest []byte) (member, error) {
	f := fields(head)
	if sig := f.uint32(); sig != sigCentral {
		return member{}, invalidf("signature %#08x, want %#08x", sig, sigCentral)
	}
	f.skip(2) // the version that made it
	version := f.uint16()
	m := member{flags: f.uint16(), method: f.uint16()}
	f.skip(4) // time
	m.crc = f.uint32()
	sizes := zip64{packed: uint64(f.uint32()), size: uint64(f.uint32())}
	nameLen, extraLen := int(f.uint16()), int(f.uint16())
	f.skip(2) // comment length
	disk := f.uint16()
	f.skip(2) // internal attributes
	m.attrs = f.uint32()
	sizes.header = uint64(f.uint32())
	name, extra := rest[:nameLen], rest[nameLen:][:extraLen]
	if err := checkName(name, m.flags); err != nil {
		return member{}, err
	}
	m.name = string(name)
	if err := sizes.widen(extra, name, true); err != nil {
		return member{}, fmt.Errorf("member %q: %w", m.name, err)
	}
	if disk != 0 {
		return member{}, invalidf("member %q starts on disk %d, want 0", m.name, disk)
	}
	if m.flags&flagsRefused != 0 {
		return member{}, invalidf("member %q is encrypted or a patch (flags %#04x)", m.name, m.flags)
	}
	if low := version & 0xff; low > maxVersion {
		return member{}, invalidf("member %q needs version %d.%d of the ZIP format, want at most %d.%d", m.name, low/10, low%10, maxVersion/10, maxVersion%10)
	}
	if m.method != methodStored && m.method != methodDeflate && m.method != methodZstd {
		return member{}, invalidf("member %q has compression method %d, want stored (0), deflate (8) or zstd (93)", m.name, m.method)
	}
	if max(sizes.packed, sizes.size, sizes.header) > math.MaxInt64 {
		return member{}, invalidf("member %q has a size or offset beyond %d", m.name, int64(math.MaxInt64))
	}
	m.packed, m.size, m.header = int64(sizes.packed), int64(sizes.size), int64(sizes.header)
	if m.method == methodStored && m.packed != m.size {
		return member{}, invalidf("member %q is stored in %d bytes, want its size %d", m.name, m.packed, m.size)
	}
	if m.isDir() && m.size != 0 {
		return member{}, invalidf("directory %q has %d bytes, want 0", m.name, m.size)
	}
	return m, nil
}

// checkName refuses the names that two readers would read differently, or
// that RECORD, whose readers split lines by Unicode's rules, could not list.
func checkName(name []byte, flags uint16) error {
	switch {
	case len(name) == 0:
		return invalidf("empty name")
	case len(name) > maxName:
		return invalidf("name of %d bytes, want at most %d: %q…", len(name), maxName, name[:64])
	case !utf8.Valid(name):
		return invalidf("name %q is not UTF-8", name)
	}
	ascii := true
	for _, c := range string(name) {
		switch {
		case unicode.IsControl(c), c == '\u2028', c == '\u2029':
			return invalidf("name %q holds the control character %U", name, c)
		case c == '\\':
			return invalidf("name %q holds a backslash, want slashes", name)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && flags&flagUTF8 == 0 {
		return invalidf("name %q is not ASCII and not marked as UTF-8 (general purpose bit 11)", name)
	}
	return nil
}

// zip64 is the part of a header that an extra field may widen.
type zip64 struct{ packed, size, header uint64 }

// widen reads the extra fields of a header of the member name. A central entry
// widens the fields that are saturated; a local header must hold both sizes.
func (z *zip64) widen(extra, name []byte, central bool) error {
	var wide, unicodePath bool
	for len(extra) > 0 {
		if len(extra) < 4 {
			return invalidf("%d stray bytes after the extra fields", len(extra))
		}
		f := fields(extra)
		id, n := f.uint16(), int(f.uint16())
		if n > len(f) {
			return invalidf("extra field %#04x has %d bytes, want %d", id, len(f), n)
		}
		body := f[:n]
		extra = f[n:]
		switch id {
		case extraZIP64:
			if wide {
				return invalidf("two ZIP64 extra fields")
			}
			wide = true
			if err := z.read(body, central); err != nil {
				return err
			}
		case extraUnicodePath:
			if unicodePath {
				return invalidf("two Unicode path extra fields")
			}
			unicodePath = true
			if err := checkUnicodePath(body, name); err != nil {
				return err
			}
		}
	}
	if !wide && (z.size == math.MaxUint32 || z.packed == math.MaxUint32 || z.header == math.MaxUint32) {
		return invalidf("a size or offset is %#x and no ZIP64 extra field says more", uint32(math.MaxUint32))
	}
	return nil
}

// read takes the wide fields of body.
func (z *zip64) read(body fields, central bool) error {
	if !central {
		return z.readLocal(body)
	}
	var saturated []*uint64
	for _, v := range []*uint64{&z.size, &z.packed, &z.header} {
		if *v == math.MaxUint32 {
			saturated = append(saturated, v)
		}
	}
	if len(body) != 8*len(saturated) {
		return invalidf("ZIP64 extra field has %d bytes, want %d for the entry's %d saturated fields", len(body), 8*len(saturated), len(saturated))
	}
	for _, v := range saturated {
		*v = body.uint64()
	}
	return nil
}

// readLocal takes both sizes, which a local header's field must hold (APPNOTE
// 4.5.3). Some builders write it beside sizes that are not saturated.
func (z *zip64) readLocal(body fields) error {
	if len(body) != 16 {
		return invalidf("ZIP64 extra field has %d bytes, want both sizes, 16", len(body))
	}
	size, packed := body.uint64(), body.uint64()
	if !agrees(z.size, size, math.MaxUint32) || !agrees(z.packed, packed, math.MaxUint32) {
		return invalidf("sizes are %d and %d, the ZIP64 extra field says %d and %d", z.packed, z.size, packed, size)
	}
	z.size, z.packed = size, packed
	return nil
}

// checkUnicodePath holds an Info-ZIP Unicode path (APPNOTE 4.6.9) to the name
// in the header: readers that know the field prefer it, others never see it.
func checkUnicodePath(body fields, name []byte) error {
	if len(body) < 5 {
		return invalidf("Unicode path extra field has %d bytes, want at least 5", len(body))
	}
	version := body[0]
	body.skip(1)
	sum := body.uint32()
	if version != 1 || sum != crc32.ChecksumIEEE(name) || !bytes.Equal(body, name) {
		return invalidf("Unicode path extra field says %q, the header %q", []byte(body), name)
	}
	return nil
}

// readLocals checks every local header against its central entry and that
// members follow one another without a gap up to the central directory.
func (a *archive) readLocals(directory int64) error {
	w := window{r: a.r, end: directory}
	next := int64(0)
	for i := range a.members {
		m := &a.members[i]
		if m.header != next {
			return a.misplaced(i, next)
		}
		stop := directory
		if i+1 < len(a.members) {
			stop = a.members[i+1].header
		}
		var err error
		if next, err = readLocal(&w, m, stop); err != nil {
			return fmt.Errorf("member %q: %w", m.name, err)
		}
	}
	if next != directory {
		return invalidf("bytes %d to %d belong to no member: the central directory should follow the last one", next, directory)
	}
	return nil
}

// misplaced says why member i, at another offset than next, is refused.
func (a *archive) misplaced(i int, next int64) error {
	m := &a.members[i]
	switch {
	case i == 0:
		return invalidf("%d bytes precede the first member %q", m.header, m.name)
	case m.header < next:
		return invalidf("member %q at offset %d overlaps %q, which ends at %d", m.name, m.header, a.members[i-1].name, next)
	}
	return invalidf("bytes %d to %d, before member %q, belong to no member of the central directory", next, m.header, m.name)
}

// readLocal checks the local header and the data descriptor of m and returns
// the offset behind it. The next header starts at stop.
func readLocal(w *window, m *member, stop int64) (int64, error) {
	head, err := w.bytes(m.header, lenLocal)
	if err != nil {
		return 0, err
	}
	f := fields(head)
	if sig := f.uint32(); sig != sigLocal {
		return 0, invalidf("signature %#08x at offset %d, want the local header's %#08x", sig, m.header, sigLocal)
	}
	f.skip(2) // the version it needs
	flags, method := f.uint16(), f.uint16()
	f.skip(4) // time
	crc, packed, size := f.uint32(), f.uint32(), f.uint32()
	nameLen, extraLen := int(f.uint16()), int(f.uint16())
	if flags&flagsCompared != m.flags&flagsCompared {
		return 0, invalidf("flags are %#04x in the local header, %#04x in the central directory", flags, m.flags)
	}
	if method != m.method {
		return 0, invalidf("compression method is %d in the local header, %d in the central directory", method, m.method)
	}
	tail, err := w.bytes(m.header+lenLocal, nameLen+extraLen)
	if err != nil {
		return 0, err
	}
	name, extra := tail[:nameLen], tail[nameLen:]
	if string(name) != m.name {
		return 0, invalidf("local header has the name %q", name)
	}
	sizes := zip64{packed: uint64(packed), size: uint64(size)}
	if err := sizes.widen(extra, name, false); err != nil {
		return 0, fmt.Errorf("local header: %w", err)
	}
	deferred := flags&flagDescriptor != 0 // then these may be left zero
	for _, v := range [...]struct {
		what           string
		local, central uint64
	}{
		{"CRC-32", uint64(crc), uint64(m.crc)},
		{"compressed size", sizes.packed, uint64(m.packed)},
		{"size", sizes.size, uint64(m.size)},
	} {
		if v.local != v.central && !(deferred && v.local == 0) {
			return 0, invalidf("%s is %d in the local header, %d in the central directory", v.what, v.local, v.central)
		}
	}
	m.data = m.header + lenLocal + int64(nameLen+extraLen)
	if m.data > stop || m.packed > stop-m.data {
		return 0, invalidf("its %d bytes from offset %d overlap what starts at %d", m.packed, m.data, stop)
	}
	next := m.data + m.packed
	if !deferred {
		return next, nil
	}
	return readDescriptor(w, m, next, stop)
}

// readDescriptor checks the data descriptor between at and stop. Its length
// tells the four forms apart: with or without a signature, 32-bit or 64-bit.
func readDescriptor(w *window, m *member, at, stop int64) (int64, error) {
	n := stop - at
	if n != 12 && n != 16 && n != 20 && n != 24 {
		return 0, invalidf("%d bytes follow its data, want a data descriptor of 12, 16, 20 or 24", n)
	}
	b, err := w.bytes(at, int(n))
	if err != nil {
		return 0, err
	}
	f := fields(b)
	if n == 16 || n == 24 {
		if sig := f.uint32(); sig != sigDescriptor {
			return 0, invalidf("data descriptor has signature %#08x, want %#08x", sig, sigDescriptor)
		}
	}
	crc := f.uint32()
	var packed, size uint64
	if len(f) == 16 {
		packed, size = f.uint64(), f.uint64()
	} else {
		packed, size = uint64(f.uint32()), uint64(f.uint32())
	}
	if crc != m.crc || packed != uint64(m.packed) || size != uint64(m.size) {
		return 0, invalidf("data descriptor says CRC-32 %d, sizes %d and %d; the central directory %d, %d and %d", crc, packed, size, m.crc, m.packed, m.size)
	}
	return stop, nil
}

// A window reads small pieces at rising offsets: headers of small members,
// which lie close together, share one read.
type window struct {
	r     io.ReaderAt
	end   int64 // no piece reaches beyond
	start int64
	buf   []byte
}

// windowSize is one page of the page cache: reading less costs the same.
const windowSize = 4096

// bytes returns n bytes at offset at, valid until the next call.
func (w *window) bytes(at int64, n int) ([]byte, error) {
	if at > w.end || int64(n) > w.end-at {
		return nil, invalidf("header at offset %d reaches into the central directory at %d", at, w.end)
	}
	if at < w.start || at+int64(n) > w.start+int64(len(w.buf)) {
		want := int(min(int64(max(n, windowSize)), w.end-at))
		w.start, w.buf = at, slices.Grow(w.buf[:0], want)[:want]
		if err := readFull(w.r, w.buf, at); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	return w.buf[at-w.start:][:n], nil
}

// fields reads little-endian numbers off the front of a header.
type fields []byte

func (f *fields) skip(n int) { *f = (*f)[n:] }

func (f *fields) uint16() uint16 {
	v := binary.LittleEndian.Uint16(*f)
	f.skip(2)
	return v
}

func (f *fields) uint32() uint32 {
	v := binary.LittleEndian.Uint32(*f)
	f.skip(4)
	return v
}

func (f *fields) uint64() uint64 {
	v := binary.LittleEndian.Uint64(*f)
	f.skip(8)
	return v
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// readFull fills b from offset at. A ReaderAt may return io.EOF beside the
// last bytes.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at offset %d: %w", len(b), at, err)
}
