package wheel

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

const saturated = math.MaxUint32

// le joins little-endian numbers: an extra field, a descriptor.
func le(values ...any) string {
	var b bytes.Buffer
	for _, v := range values {
		put(&b, v)
	}
	return b.String()
}

// extra is an extra field.
func extra(id uint16, body string) string { return le(id, uint16(len(body))) + body }

// unicodePath is an Info-ZIP Unicode path field for the header's name.
func unicodePath(header, name string) string {
	return extra(extraUnicodePath, le(uint8(1), crcOf(header))+name)
}

// with returns a good member after f.
func with(f func(*zipMember)) zipMember {
	m := file("demo/x.py", "x = 1\n")
	f(&m)
	return m
}

// deferred is a member with a data descriptor after it. The local header
// has no sizes and no CRC-32.
func deferred(after string) zipMember {
	return with(func(m *zipMember) {
		m.flags = flagDescriptor
		m.after = after
		m.local = func(h *zipHeader) { h.CRC, h.Packed, h.Size = 0, 0, 0 }
	})
}

func crcOf(s string) uint32 { return crc32.ChecksumIEEE([]byte(s)) }

func TestZipRefused(t *testing.T) {
	crc := crcOf("x = 1\n")
	packed := uint32(len(pack(methodDeflate, "x = 1\n")))
	single := func(f func(*zipMember)) zipFile { return demoWheel(with(f)) }
	named := func(name string) zipFile {
		return single(func(m *zipMember) { m.name, m.flags = name, flagUTF8 })
	}
	whole := func(f func(*zipFile)) zipFile {
		z := demoWheel(file("demo/x.py", "x = 1\n"))
		f(&z)
		return z
	}
	local := func(f func(*zipHeader)) zipFile { return single(func(m *zipMember) { m.local = f }) }
	central := func(f func(*zipHeader)) zipFile { return single(func(m *zipMember) { m.central = f }) }
	both := func(f func(*zipHeader)) zipFile { return single(func(m *zipMember) { m.both = f }) }
	unlisted := func(f func(*zipHeader)) zipFile {
		return single(func(m *zipMember) { m.name, m.both = info+"RECORD.jws", f })
	}
	end := func(f func(*zipEnd)) zipFile { return whole(func(z *zipFile) { z.end = f }) }
	end64 := func(f func(*zipEnd64)) zipFile { return whole(func(z *zipFile) { z.wide, z.end64 = true, f }) }
	locator := func(f func(*zipLocator)) zipFile { return whole(func(z *zipFile) { z.wide, z.locator = true, f }) }

	for _, tt := range []struct {
		name string
		zip  zipFile
		want string
	}{
		// The end records.
		{"prefix", whole(func(z *zipFile) { z.prefix = "#!/bin/sh\n"; z.end = func(e *zipEnd) { e.Offset -= 10 } }), "bytes before the archive"},
		{"prefix with true offsets", whole(func(z *zipFile) { z.prefix = "#!/bin/sh\n" }), "10 bytes precede the first member"},
		{"trailing bytes", whole(func(z *zipFile) { z.suffix = "x" }), "1 bytes follow the end record"},
		{"trailing bytes after NUL", whole(func(z *zipFile) { z.suffix = "\x00\x00x" }), "3 bytes follow the end record"},
		{"NUL padding beyond a comment's length", whole(func(z *zipFile) { z.suffix = strings.Repeat("\x00", maxTail) }), "no end record"},
		{"comment shorter than declared", whole(func(z *zipFile) { z.end = func(e *zipEnd) { e.CommentLen = 3 } }), "follow the end record"},
		{"end record in the comment", whole(func(z *zipFile) { z.comment = le(uint32(sigEnd)) + strings.Repeat("\x00", lenEnd-4) }), "several end records"},
		{"disk", end(func(e *zipEnd) { e.Disk = 1 }), "several disks"},
		{"directory's disk", end(func(e *zipEnd) { e.StartDisk = 1 }), "several disks"},
		{"entries on this disk", end(func(e *zipEnd) { e.Here-- }), "several disks"},
		{"count too small", end(func(e *zipEnd) { e.Here--; e.Total-- }), "counts 3 members"},
		{"count too large", end(func(e *zipEnd) { e.Here++; e.Total++ }), "counts 5 members"},
		{"directory size", end(func(e *zipEnd) { e.Size-- }), "want it to end at"},
		{"directory offset", end(func(e *zipEnd) { e.Offset++ }), "want it to end at"},
		{"directory later", end(func(e *zipEnd) { e.Offset++; e.Size-- }), "want 0x02014b50"},
		{"no locator", end(func(e *zipEnd) { e.Offset = saturated }), "no locator precedes it"},
		{"ZIP64 record without locator", whole(func(z *zipFile) { z.wide = true; z.locator = func(l *zipLocator) { l.Sig++ } }), "want it to end at"},
		{"locator's offset", locator(func(l *zipLocator) { l.Offset-- }), "ZIP64 locator points"},
		{"locator's disk", locator(func(l *zipLocator) { l.Disk = 1 }), "ZIP64 locator points"},
		{"locator's disks", locator(func(l *zipLocator) { l.Disks = 2 }), "ZIP64 locator points"},
		{"ZIP64 record's signature", end64(func(e *zipEnd64) { e.Sig++ }), "points to signature"},
		{"extensible data", end64(func(e *zipEnd64) { e.Length++ }), "extensible data"},
		{"ZIP64 record's disk", end64(func(e *zipEnd64) { e.Disk = 1 }), "several disks"},
		{"ZIP64 record's count", end64(func(e *zipEnd64) { e.Here++; e.Total++ }), "ZIP64 end record says"},
		{"ZIP64 record's size", end64(func(e *zipEnd64) { e.Size++ }), "ZIP64 end record says"},
		{"ZIP64 record's offset", end64(func(e *zipEnd64) { e.Offset = 1 << 62 }), "beyond its own offset"},
		{"too many members", whole(func(z *zipFile) {
			z.wide = true
			z.end64 = func(e *zipEnd64) { e.Here, e.Total = maxMembers+1, maxMembers+1 }
			z.end = func(e *zipEnd) { e.Here, e.Total = math.MaxUint16, math.MaxUint16 }
		}), "want at most 1000000"},

		// Local against central.
		{"name differs", local(func(h *zipHeader) { h.Name = "demo/y.py" }), `local header has the name "demo/y.py"`},
		{"method differs", local(func(h *zipHeader) { h.Method = methodStored }), "compression method is 0 in the local header, 8"},
		{"CRC-32 differs", local(func(h *zipHeader) { h.CRC++ }), "CRC-32 is"},
		{"compressed size differs", local(func(h *zipHeader) { h.Packed++ }), "compressed size is"},
		{"size differs", local(func(h *zipHeader) { h.Size++ }), "size is 7 in the local header, 6"},
		{"flags differ", local(func(h *zipHeader) { h.Flags |= flagUTF8 }), "flags are"},
		{"local signature", local(func(h *zipHeader) { h.Sig++ }), "signature"},
		{"zero sizes without a descriptor", local(func(h *zipHeader) { h.Size = 0 }), "size is 0 in the local header"},
		{"only a local header", demoWheel(with(func(m *zipMember) { m.hidden = true })), "bytes precede the first member"},
		{"only a local header, in the middle", demoWheel(file("demo/a.py", ""), with(func(m *zipMember) { m.hidden = true })), "belong to no member"},
		{"only a local header, at the end", func() zipFile {
			z := demoWheel()
			z.members = append(z.members, with(func(m *zipMember) { m.hidden = true }))
			return z
		}(), "belong to no member"},
		{"only a central entry", central(func(h *zipHeader) { h.Offset = 1 }), "bytes precede the first member"},
		{"two entries, one header", demoWheel(file("demo/a.py", "x"), zipMember{name: "demo/a.py", data: "x", method: methodDeflate, central: func(h *zipHeader) { h.Offset = 0 }}), "overlap"},
		{"bytes between members", demoWheel(with(func(m *zipMember) { m.after = "?" })), "belong to no member"},
		{"data reaches into the next member", both(func(h *zipHeader) { h.Packed++ }), "overlap"},
		{"central disk", central(func(h *zipHeader) { h.Disk = 1 }), "starts on disk 1"},
		{"directory ends within an entry", whole(func(z *zipFile) {
			z.members[len(z.members)-1].central = func(h *zipHeader) { h.Extra = "" }
			z.comment = ""
			z.end = func(e *zipEnd) { e.Size--; e.Offset++ }
		}), "want 0x02014b50"},

		// Data descriptors.
		{"descriptor missing", demoWheel(deferred("")), "want a data descriptor"},
		{"descriptor's CRC-32", demoWheel(deferred(le(uint32(sigDescriptor), crc+1, packed, uint32(6)))), "data descriptor says"},
		{"descriptor's compressed size", demoWheel(deferred(le(crc, packed+1, uint32(6)))), "data descriptor says"},
		{"descriptor's size", demoWheel(deferred(le(crc, uint64(packed), uint64(7)))), "data descriptor says"},
		{"descriptor's signature", demoWheel(deferred(le(uint32(1), crc, uint64(packed), uint64(6)))), "data descriptor has signature"},

		// Encryption, versions and methods.
		{"encrypted", both(func(h *zipHeader) { h.Flags |= flagEncrypted }), "is encrypted"},
		{"strongly encrypted", both(func(h *zipHeader) { h.Flags |= flagStrong }), "is encrypted"},
		{"masked headers", both(func(h *zipHeader) { h.Flags |= flagMaskedHeaders }), "is encrypted"},
		{"patch", both(func(h *zipHeader) { h.Flags |= flagPatched }), "or a patch"},
		{"version", both(func(h *zipHeader) { h.Needed = 64 }), "needs version 6.4"},
		{"bzip2", both(func(h *zipHeader) { h.Method = 12 }), "compression method 12"},
		{"lzma", both(func(h *zipHeader) { h.Method = 14 }), "compression method 14"},

		// Names.
		{"not UTF-8", named("demo/\xff.py"), "is not UTF-8"},
		{"not marked as UTF-8", single(func(m *zipMember) { m.name = "demo/é.py" }), "not marked as UTF-8"},
		{"empty name", named(""), "empty name"},
		{"NUL", named("demo/x.py\x00.txt"), "control character U+0000"},
		{"newline", named("demo/x\n.py"), "control character U+000A"},
		{"DEL", named("demo/x\x7f.py"), "control character U+007F"},
		{"C1", named("demo/\u0085.py"), "control character U+0085"},
		{"line separator", named("demo/\u2028.py"), "control character U+2028"},
		{"backslash", named(`demo\x.py`), "backslash"},
		{"absolute", named("/demo/x.py"), "absolute path"},
		{"dot dot", named("demo/../../x.py"), `component ".."`},
		{"dot dot at the end", named("demo/.."), `component ".."`},
		{"long component", named("demo/" + strings.Repeat("x", 256)), "component of 256 bytes"},
		{"long name", named(strings.Repeat("x/", 2048) + "x"), "want at most 4096"},
		{"only dots", named("./."), "names no file"},
		{"directory with bytes", named("demo/x/"), "has 6 bytes, want 0"},

		// Extra fields.
		{"two ZIP64 fields", both(func(h *zipHeader) {
			h.Size = saturated
			h.Extra = extra(extraZIP64, le(uint64(6))) + extra(extraZIP64, le(uint64(6)))
		}), "two ZIP64 extra fields"},
		{"ZIP64 field too short", central(func(h *zipHeader) {
			h.Size = saturated
			h.Extra = extra(extraZIP64, le(uint32(6)))
		}), "ZIP64 extra field has 4 bytes, want 8"},
		{"ZIP64 field too long", central(func(h *zipHeader) { h.Extra = extra(extraZIP64, le(uint64(6))) }), "has 8 bytes, want 0"},
		{"ZIP64 field missing", central(func(h *zipHeader) { h.Size = saturated }), "no ZIP64 extra field"},
		{"local ZIP64 field with one size", local(func(h *zipHeader) { h.Extra = extra(extraZIP64, le(uint64(6))) }), "want both sizes"},
		{"local ZIP64 field disagrees", local(func(h *zipHeader) {
			h.Extra = extra(extraZIP64, le(uint64(6), uint64(packed+1)))
		}), "the ZIP64 extra field says"},
		{"ZIP64 size beyond int64", central(func(h *zipHeader) {
			h.Size = saturated
			h.Extra = extra(extraZIP64, le(uint64(math.MaxUint64)))
		}), "beyond"},
		{"ZIP64 offset", central(func(h *zipHeader) {
			h.Offset = saturated
			h.Extra = extra(extraZIP64, le(uint64(1)))
		}), "precede"},
		{"two Unicode paths", both(func(h *zipHeader) { h.Extra = strings.Repeat(unicodePath(h.Name, h.Name), 2) }), "two Unicode path"},
		{"Unicode path differs", both(func(h *zipHeader) { h.Extra = unicodePath(h.Name, "demo/evil.py") }), "Unicode path extra field says"},
		{"Unicode path's CRC-32", both(func(h *zipHeader) { h.Extra = unicodePath("other", h.Name) }), "Unicode path extra field says"},
		{"Unicode path too short", both(func(h *zipHeader) { h.Extra = extra(extraUnicodePath, "x") }), "want at least 5"},
		{"extra field cut short", both(func(h *zipHeader) { h.Extra = le(uint16(7), uint16(9)) }), "has 0 bytes, want 9"},
		{"stray bytes in the extra fields", both(func(h *zipHeader) { h.Extra = "abc" }), "3 stray bytes"},

		// Data.
		{"wrong CRC-32", both(func(h *zipHeader) { h.CRC++ }), "CRC-32 is"},
		{"more than declared", unlisted(func(h *zipHeader) { h.Size-- }), "holds more than the 5 bytes"},
		{"less than declared", unlisted(func(h *zipHeader) { h.Size++ }), "holds 6 bytes, declares 7"},
		{"stored sizes differ", single(func(m *zipMember) { m.method = 0; m.both = func(h *zipHeader) { h.Size++ } }), "is stored in 6 bytes"},
		{"garbage behind deflate", single(func(m *zipMember) { m.packed = append(pack(m.method, m.data), 0) }), "1 of its"},
		{"deflate cut short", single(func(m *zipMember) { p := pack(m.method, m.data); m.packed = p[:len(p)-1] }), "cut short"},
		{"deflate corrupt", single(func(m *zipMember) { m.packed = []byte{0xff, 0xff} }), "corrupt"},
		{"nothing behind deflate", single(func(m *zipMember) { m.packed = []byte{} }), "cut short"},
		{"data in a directory", demoWheel(zipMember{name: "demo/", method: methodDeflate, packed: []byte{3, 0, 1}}), "1 of its 3"},
		{"garbage behind zstd", single(func(m *zipMember) { m.method = methodZstd; m.packed = append(pack(m.method, m.data), 0, 0) }), "2 of its"},
		{"two zstd frames", single(func(m *zipMember) {
			m.method = methodZstd
			m.packed = append(pack(m.method, m.data), pack(m.method, "")...)
		}), "follow the end of the Zstandard frame"},
		{"skippable zstd frame", single(func(m *zipMember) {
			m.method = methodZstd
			m.packed = append([]byte(le(uint32(0x184D2A50), uint32(0))), pack(m.method, m.data)...)
		}), "skippable"},
		{"zstd cut short", single(func(m *zipMember) { m.method = methodZstd; p := pack(m.method, m.data); m.packed = p[:len(p)-1] }), "cut short"},
		{"zstd's window", single(func(m *zipMember) {
			m.method = methodZstd
			// One frame with a window of 16 MB, holding one raw block.
			m.packed = []byte(le(uint32(0xFD2FB528)) + "\x00" + string(rune((24-10)<<3)) + le(uint8(6<<3|1), uint16(0)) + m.data)
		}), "window"},

		// Duplicates.
		{"other bytes", demoWheel(file("demo/x.py", "1"), file("demo/x.py", "2")), "more than once, with different bytes"},
		{"other bytes, one CRC-32", demoWheel(zipMember{name: "demo/x.py", data: "plumless"}, zipMember{name: "demo/x.py", data: "buckeroo"}), "more than once, with different bytes"},
		{"other bytes after cleaning", demoWheel(file("demo/x.py", "1"), file("demo//x.py", "2")), "different bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := unpackIn(t, tt.zip)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if e := (*Error)(nil); !errors.As(err, &e) {
				t.Errorf("error %v is no *Error", err)
			}
		})
	}
}

// unpackIn unpacks z as a demo wheel.
func unpackIn(t *testing.T, z zipFile) (map[string]string, *Info, error) {
	t.Helper()
	return unpack(z.bytes(), demo, Options{})
}

func TestZipNot(t *testing.T) {
	good := demoWheel(file("demo/x.py", "x = 1\n")).bytes()
	for _, b := range [][]byte{nil, []byte("PK"), []byte("not a ZIP file at all, but longer than an end record"), good[:len(good)/2], good[:len(good)-1], good[1:]} {
		if _, _, err := unpack(b, demo, Options{}); err == nil {
			t.Errorf("%d bytes %.20q… are accepted", len(b), b)
		}
	}
}

// TestZipDamaged cuts and flips every byte of a small wheel: nothing panics,
// and what is accepted has the same files.
func TestZipDamaged(t *testing.T) {
	good := demoWheel(file("demo/x.py", "x = 1\n"), deferred16()).bytes()
	want, _, err := unpack(good, demo, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, _, err := unpack(good[:i], demo, Options{}); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			got, _, err := unpack(bad, demo, Options{})
			if err == nil && !equalFiles(got, want) {
				t.Errorf("bit %d of byte %d: files %v", bit, i, got)
			}
		}
	}
}

func deferred16() zipMember {
	m := deferred(le(uint32(sigDescriptor), crcOf("x = 1\n"), uint32(len(pack(methodDeflate, "x = 1\n"))), uint32(6)))
	m.name = "demo/y.py"
	return m
}

// equalFiles ignores modes, which nothing in an archive guards.
func equalFiles(a, b map[string]string) bool {
	return maps.EqualFunc(a, b, func(v, w string) bool { return v[len("644 "):] == w[len("644 "):] })
}

// A namedZip is an archive and what it shows.
type namedZip struct {
	name string
	zip  zipFile
}

// acceptedZips are good archives that hold demo/x.py, in all the forms the walk
// knows.
func acceptedZips() []namedZip {
	crc := crcOf("x = 1\n")
	packed := uint32(len(pack(methodDeflate, "x = 1\n")))
	single := func(f func(*zipMember)) zipFile { return demoWheel(with(f)) }
	return []namedZip{
		{"deflate", single(func(m *zipMember) {})},
		{"stored", single(func(m *zipMember) { m.method = methodStored })},
		{"zstd", single(func(m *zipMember) { m.method = methodZstd })},
		{"empty file", demoWheel(file("demo/x.py", "x = 1\n"), zipMember{name: info + "LICENSE"})},
		{"empty zstd file", demoWheel(file("demo/x.py", "x = 1\n"), zipMember{name: info + "LICENSE", method: methodZstd, packed: pack(methodZstd, "")})},
		{"NUL padding", func() zipFile { z := single(func(m *zipMember) {}); z.suffix = strings.Repeat("\x00", 512); return z }()},
		{"comment", func() zipFile { z := single(func(m *zipMember) {}); z.comment = "made by hand"; return z }()},
		{"ZIP64 end record", func() zipFile {
			z := single(func(m *zipMember) {})
			z.wide = true
			z.end = func(e *zipEnd) { e.Offset, e.Size = saturated, saturated }
			return z
		}()},
		{"ZIP64 end record beside true values", func() zipFile { z := single(func(m *zipMember) {}); z.wide = true; return z }()},
		{"ZIP64 sizes", single(func(m *zipMember) {
			m.both = func(h *zipHeader) {
				h.Size, h.Packed = saturated, saturated
				h.Extra = extra(extraZIP64, le(uint64(6), uint64(packed)))
			}
		})},
		{"ZIP64 offset", single(func(m *zipMember) {
			m.central = func(h *zipHeader) {
				h.Extra = extra(extraZIP64, le(uint64(h.Offset)))
				h.Offset = saturated
			}
		})},
		{"local ZIP64 field beside true sizes", single(func(m *zipMember) { // protobuf's wheels
			m.local = func(h *zipHeader) { h.Extra = extra(extraZIP64, le(uint64(6), uint64(packed))) }
		})},
		{"unknown extra field", single(func(m *zipMember) { m.both = func(h *zipHeader) { h.Extra = extra(0x5455, "\x01time") } })},
		{"Unicode path", single(func(m *zipMember) { m.both = func(h *zipHeader) { h.Extra = unicodePath(h.Name, h.Name) } })},
		{"descriptor", demoWheel(deferred(le(crc, packed, uint32(6))))},
		{"descriptor with signature", demoWheel(deferred(le(uint32(sigDescriptor), crc, packed, uint32(6))))},
		{"wide descriptor", demoWheel(deferred(le(crc, uint64(packed), uint64(6))))},
		{"wide descriptor with signature", demoWheel(deferred(le(uint32(sigDescriptor), crc, uint64(packed), uint64(6))))},
		{"descriptor and true sizes", demoWheel(with(func(m *zipMember) { m.flags, m.after = flagDescriptor, le(crc, packed, uint32(6)) }))},
		{"directories", demoWheel(zipMember{name: "demo/", mode: 0o40755}, file("demo/x.py", "x = 1\n"))},
		{"deflated directory", demoWheel(zipMember{name: "demo/", method: methodDeflate}, file("demo/x.py", "x = 1\n"))},
		{"twice", demoWheel(file("demo/x.py", "x = 1\n"), zipMember{name: "demo/x.py", data: "x = 1\n"})},
		{"dot and slashes", single(func(m *zipMember) { m.name = "./demo//./x.py" })},
		{"directory in another order", func() zipFile { z := single(func(m *zipMember) {}); z.reverse = true; return z }()},
	}
}

func TestZipAccepted(t *testing.T) {
	for _, tt := range acceptedZips() {
		t.Run(tt.name, func(t *testing.T) {
			tree, _, err := unpackIn(t, tt.zip)
			if err != nil {
				t.Fatal(err)
			}
			if got := tree["lib/python3.12/site-packages/demo/x.py"]; got != "644 "+sumOf("x = 1\n") {
				t.Errorf("demo/x.py is %q among %v", got, tree)
			}
		})
	}
}

func TestExpansion(t *testing.T) {
	// What is declared counts: no test has to unpack it.
	big := demoWheel(zipMember{name: info + "RECORD.jws", method: methodDeflate, both: func(h *zipHeader) { h.Size = ratioFree + 1 }}).bytes()
	for _, tt := range []struct {
		name string
		opt  Options
		want string
	}{
		{"ratio", Options{}, "times its size"},
		{"ratio raised", Options{MaxRatio: 1e6}, ""},
		{"total", Options{MaxRatio: 1e6, MaxTotal: 1 << 20}, "want at most 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(bytes.NewReader(big), int64(len(big)), demo, tt.opt)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	small := demoWheel(file("demo/zeros", strings.Repeat("\x00", 1<<20))).bytes()
	if _, _, err := unpack(small, demo, Options{}); err != nil {
		t.Errorf("a small wheel of zeros: %v", err)
	}
}

// A brokenReader fails from one offset on.
type brokenReader struct {
	io.ReaderAt
	from int64
}

var errBroken = errors.New("input/output error")

func (r brokenReader) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > r.from {
		return 0, errBroken
	}
	return r.ReaderAt.ReadAt(b, at)
}

// TestReadError: a disk that fails is not a bad wheel.
func TestReadError(t *testing.T) {
	for _, method := range []uint16{methodStored, methodDeflate, methodZstd} {
		t.Run(fmt.Sprint(method), func(t *testing.T) {
			b := demoWheel(zipMember{name: "demo/x", method: method, data: strings.Repeat("abc", 1000)}).bytes()
			r := &brokenReader{bytes.NewReader(b), int64(len(b))}
			w, err := Open(r, int64(len(b)), demo, Options{})
			if err != nil {
				t.Fatal(err)
			}
			r.from = 0
			_, err = w.Extract(len(w.Info().Files)-1, io.Discard)
			if e := (*Error)(nil); !errors.Is(err, errBroken) || errors.As(err, &e) {
				t.Errorf("Extract: error %v, want %v and no *Error", err, errBroken)
			}
			_, err = Open(r, int64(len(b)), demo, Options{})
			if e := (*Error)(nil); !errors.Is(err, errBroken) || errors.As(err, &e) {
				t.Errorf("Open: error %v, want %v and no *Error", err, errBroken)
			}
		})
	}
}

// A sparseReader is a file with a hole of zeros.
type sparseReader struct {
	head, tail []byte
	hole       int64
}

func (r *sparseReader) size() int64 { return int64(len(r.head)) + r.hole + int64(len(r.tail)) }

func (r *sparseReader) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	if at < int64(len(r.head)) {
		copy(b, r.head[at:])
	}
	if tail := at - int64(len(r.head)) - r.hole; tail >= 0 {
		copy(b, r.tail[tail:])
	} else if -tail < int64(len(b)) {
		copy(b[-tail:], r.tail)
	}
	return len(b), nil
}

// sparseWheel is a demo wheel with a stored member of 3 GB, all zeros.
func sparseWheel() *sparseReader {
	const (
		hole   = 3 << 30
		crc    = 0x480bbe37
		record = "demo/zeros,sha256=MFtmpZ0VslIJL72p0JcRIwxCnzUYl8vUMOe1WjX9O5c,3221225472\n"
	)
	members := []zipMember{{name: info + "METADATA", data: metadata}, {name: info + "WHEEL", data: wheelTxt}}
	members = append(members,
		zipMember{name: info + "RECORD", data: record + recordOf(members)},
		zipMember{name: "demo/zeros", both: func(h *zipHeader) { h.CRC, h.Packed, h.Size = crc, hole, hole }})
	var directory int
	z := zipFile{members: members, end: func(e *zipEnd) { directory = int(e.Offset); e.Offset += hole }}
	b := z.bytes()
	return &sparseReader{b[:directory], b[directory:], hole}
}

// TestMemory holds what a call allocates to the same bound for a member of
// 3 GB as for any other.
func TestMemory(t *testing.T) {
	r := sparseWheel()
	var w *Wheel
	const bound = 1 << 20 // the end of the file, one unpacker
	if n := allocated(func() (err error) { w, err = Open(r, r.size(), demo, Options{}); return err }, t); n > bound {
		t.Errorf("Open allocated %d bytes", n)
	}
	if testing.Short() {
		t.Skip("Extract reads 3 GB")
	}
	i := slices.IndexFunc(w.Info().Files, func(f File) bool { return f.Path == "demo/zeros" })
	if n := allocated(func() error { _, err := w.Extract(i, io.Discard); return err }, t); n > bound {
		t.Errorf("Extract allocated %d bytes", n)
	}
}

// allocated returns the number of bytes that f allocated.
func allocated(f func() error, t *testing.T) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := f(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func sumOf(s string) string { return digest.Of([]byte(s)).String() }
