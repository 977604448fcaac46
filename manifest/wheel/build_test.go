package wheel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A zipFile is an archive whose every byte a test can choose. Without edits it
// is a good one.
type zipFile struct {
	prefix  string
	members []zipMember
	reverse bool // the central directory lists them in reverse
	wide    bool // with ZIP64 end record and locator
	end64   func(*zipEnd64)
	locator func(*zipLocator)
	end     func(*zipEnd)
	comment string
	suffix  string
}

// A zipMember is a member and what is wrong with it.
type zipMember struct {
	name, data string
	method     uint16
	flags      uint16
	mode       uint32 // Unix mode, the high half of the attributes
	packed     []byte // in place of the compressed data
	after      string // follows the packed bytes
	both       func(*zipHeader)
	local      func(*zipHeader)
	central    func(*zipHeader)
	hidden     bool // not in the central directory
}

// A zipHeader is a local header or a central entry. Offset, Attrs and Disk are
// of the latter only.
type zipHeader struct {
	Sig               uint32
	Flags, Method     uint16
	CRC, Packed, Size uint32
	Name, Extra       string
	Needed            uint16
	Disk              uint16
	Attrs, Offset     uint32
}

type zipEnd struct {
	Sig             uint32
	Disk, StartDisk uint16
	Here, Total     uint16
	Size, Offset    uint32
	CommentLen      uint16
}

type zipLocator struct {
	Sig, Disk uint32
	Offset    uint64
	Disks     uint32
}

type zipEnd64 struct {
	Sig             uint32
	Length          uint64
	Made, Needed    uint16
	Disk, StartDisk uint32
	Here, Total     uint64
	Size, Offset    uint64
}

func put(b *bytes.Buffer, v any) {
	if err := binary.Write(b, binary.LittleEndian, v); err != nil {
		panic(err)
	}
}

func (h *zipHeader) putLocal(b *bytes.Buffer) {
	put(b, h.Sig)
	put(b, [5]uint16{h.Needed, h.Flags, h.Method, 0, 33})
	put(b, [3]uint32{h.CRC, h.Packed, h.Size})
	put(b, [2]uint16{uint16(len(h.Name)), uint16(len(h.Extra))})
	b.WriteString(h.Name + h.Extra)
}

func (h *zipHeader) putCentral(b *bytes.Buffer) {
	put(b, h.Sig)
	put(b, [6]uint16{3<<8 | 20, h.Needed, h.Flags, h.Method, 0, 33})
	put(b, [3]uint32{h.CRC, h.Packed, h.Size})
	put(b, [5]uint16{uint16(len(h.Name)), uint16(len(h.Extra)), 0, h.Disk, 0})
	put(b, [2]uint32{h.Attrs, h.Offset})
	b.WriteString(h.Name + h.Extra)
}

// pack returns data as method packs it.
func pack(method uint16, data string) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	switch method {
	case methodDeflate:
		w, _ = flate.NewWriter(&b, 6)
	case methodZstd:
		w, _ = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	default:
		return []byte(data)
	}
	io.WriteString(w, data)
	w.Close()
	return b.Bytes()
}

func edit[T any](v *T, f func(*T)) {
	if f != nil {
		f(v)
	}
}

// bytes returns the archive.
func (z zipFile) bytes() []byte {
	b := bytes.NewBufferString(z.prefix)
	var entries [][]byte
	for _, m := range z.members {
		packed := m.packed
		if packed == nil {
			packed = pack(m.method, m.data)
		}
		h := zipHeader{
			Sig: sigLocal, Needed: 20, Flags: m.flags, Method: m.method,
			CRC: crc32.ChecksumIEEE([]byte(m.data)), Packed: uint32(len(packed)), Size: uint32(len(m.data)),
			Name: m.name, Attrs: m.mode << 16, Offset: uint32(b.Len()),
		}
		edit(&h, m.both)
		local := h
		edit(&local, m.local)
		local.putLocal(b)
		b.Write(packed)
		b.WriteString(m.after)
		if m.hidden {
			continue
		}
		h.Sig = sigCentral
		edit(&h, m.central)
		var entry bytes.Buffer
		h.putCentral(&entry)
		entries = append(entries, entry.Bytes())
	}
	if z.reverse {
		slices.Reverse(entries)
	}
	directory := bytes.Join(entries, nil)
	n, offset, size := uint16(len(entries)), b.Len(), len(directory)
	b.Write(directory)
	if z.wide {
		at := b.Len()
		end := zipEnd64{Sig: sigEnd64, Length: lenEnd64 - 12, Made: 45, Needed: 45, Here: uint64(n), Total: uint64(n), Size: uint64(size), Offset: uint64(offset)}
		edit(&end, z.end64)
		put(b, end)
		loc := zipLocator{Sig: sigEnd64Locator, Offset: uint64(at), Disks: 1}
		edit(&loc, z.locator)
		put(b, loc)
	}
	end := zipEnd{Sig: sigEnd, Here: n, Total: n, Size: uint32(size), Offset: uint32(offset), CommentLen: uint16(len(z.comment))}
	edit(&end, z.end)
	put(b, end)
	b.WriteString(z.comment + z.suffix)
	return b.Bytes()
}

const (
	metadata = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
	wheelTxt = "Wheel-Version: 1.0\nGenerator: gen\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
	info     = "demo-1.0.dist-info/"
)

// demoWheel is the archive of demo-1.0-py3-none-any.whl with these members and
// whichever of METADATA, WHEEL and RECORD they lack. RECORD lists everything
// truly.
func demoWheel(members ...zipMember) zipFile {
	z := zipFile{members: slices.Clip(members)}
	has := func(name string) bool {
		for _, m := range z.members {
			if m.name == name {
				return true
			}
		}
		return false
	}
	for _, m := range []zipMember{{name: info + "METADATA", data: metadata}, {name: info + "WHEEL", data: wheelTxt}} {
		if !has(m.name) {
			z.members = append(z.members, m)
		}
	}
	if !has(info + "RECORD") {
		z.members = append(z.members, zipMember{name: info + "RECORD", data: recordOf(z.members)})
	}
	return z
}

func recordOf(members []zipMember) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, m := range members {
		if !strings.HasSuffix(m.name, "/") && !seen[m.name] {
			name := m.name
			if strings.ContainsAny(name, `",`) {
				name = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
			}
			fmt.Fprintf(&b, "%s,sha256=%s,%d\n", name, digest.Of([]byte(m.data)).Record(), len(m.data))
		}
		seen[m.name] = true
	}
	return b.String() + info + "RECORD,,\n"
}

// file is a good member.
func file(name, data string) zipMember {
	return zipMember{name: name, data: data, method: methodDeflate}
}
