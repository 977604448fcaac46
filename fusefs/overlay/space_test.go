package overlay

import (
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestSeekAndSpace(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	m.must(m.write(id, 1<<20, "x"))
	for _, c := range []struct {
		node, off uint64
		whence    uint32
		want      uint64
		errno     syscall.Errno
	}{
		{id, 0, seekData, 1 << 20, 0},
		{id, 0, seekHole, 0, 0},
		{id, 1 << 20, seekHole, 1<<20 + 1, 0},
		{id, 2 << 20, seekData, 0, syscall.ENXIO},
		{m.node(data), 1, seekData, 1, 0},
		{m.node(data), 1, seekHole, 4, 0},
		{m.node(data), 4, seekHole, 0, syscall.ENXIO},
		{m.node(data), 0, 0, 0, syscall.EINVAL},
	} {
		if got, e := m.seek(c.node, c.off, c.whence); got != c.want || e != c.errno {
			t.Errorf("whence %d at %d: %d, %v, want %d, %v", c.whence, c.off, got, e, c.want, c.errno)
		}
	}
	for _, c := range []struct {
		mode uint32
		want syscall.Errno
		size uint64
	}{
		{0, 0, 2 << 20},
		{keepSize, 0, 2 << 20},
		{keepSize | punchHole, 0, 2 << 20},
		{zeroRange, 0, 2 << 20},
		{0x08, syscall.EOPNOTSUPP, 2 << 20}, // FALLOC_FL_COLLAPSE_RANGE
	} {
		in := fuse.FallocateIn{InHeader: m.header(id), Length: 2 << 20, Mode: c.mode}
		s := m.Fallocate(nil, &in)
		if c.mode == zeroRange && syscall.Errno(s) == syscall.EOPNOTSUPP {
			continue // tmpfs has no such thing
		}
		if syscall.Errno(s) != c.want {
			t.Errorf("fallocate %#x: %v, want %v", c.mode, s, c.want)
		}
		if a := m.stat(id); a.Size != c.size {
			t.Errorf("fallocate %#x: size %d", c.mode, a.Size)
		}
	}
	var st fuse.StatfsOut
	h := m.header(1)
	if s := m.StatFs(nil, &h, &st); s != fuse.OK || st.Blocks == 0 || st.NameLen != 255 {
		t.Errorf("%+v, %v", st, s)
	}
}

func TestCopyFileRange(t *testing.T) {
	m := newMachine(t)
	own := m.must1(m.create("own"))
	m.must(m.write(own, 0, "0123456789"))
	for _, c := range []struct {
		name     string
		from, to string
		off, len uint64
		want     string
	}{
		{"lower to new", data, "to", 1, 100, "\x00\x00ata"},
		{"own to new", "own", "to", 8, 100, "\x00\x0089"},
		{"own to lower", "own", "lib/site/other/c.txt", 0, 3, "c\x00012"},
		{"lower to lower", data, "bin/tool", 0, 4, "#!data/sh\n"},
		{"beyond the end", data, "to", 4, 100, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if m.node(c.to) == 0 {
				m.must1(m.create(c.to))
				defer func() { m.must(m.unlink(c.to)) }()
			}
			in := fuse.CopyFileRangeIn{InHeader: m.header(m.node(c.from)), OffIn: c.off, NodeIdOut: m.node(c.to), OffOut: 2, Len: c.len}
			if _, s := m.CopyFileRange(nil, &in); s != fuse.OK {
				t.Fatal(s)
			}
			m.holds(m.node(c.to), c.want)
		})
	}
}
