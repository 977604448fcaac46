package power

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// blockSize is what a disk writes whole or not at all, and what the content is kept
// by. Devices promise it for their logical block alone, 512 bytes on a loop device,
// but file systems count on 4,096: their superblocks are written in place, and
// neither ext4 nor btrfs can be mounted with half of one.
const blockSize = 4096

// A block is never written again once an image holds it: images share them.
type block = [blockSize]byte

var zeros block

// An Image is the content of a disk. What was never written is zero.
type Image struct {
	size   int64 // bytes
	blocks map[int64]*block
}

// NewImage returns the content of an empty disk of a size in bytes, a multiple of
// 4,096.
func NewImage(size int64) *Image {
	return &Image{size, make(map[int64]*block)}
}

// Clone returns a copy of the image.
func (m *Image) Clone() *Image { return &Image{m.size, maps.Clone(m.blocks)} }

// read fills p from an offset. Beyond the end it reads zero.
func (m *Image) read(p []byte, off int64) {
	for len(p) > 0 {
		at := off % blockSize
		b := m.blocks[off/blockSize]
		if b == nil {
			b = &zeros
		}
		n := copy(p, b[at:])
		p, off = p[n:], off+int64(n)
	}
}

// write puts p at an offset.
func (m *Image) write(p []byte, off int64) {
	for len(p) > 0 {
		i, at := off/blockSize, off%blockSize
		b := new(block)
		if old := m.blocks[i]; old != nil && (at > 0 || len(p) < blockSize) {
			*b = *old
		}
		n := copy(b[at:], p)
		if *b == zeros {
			delete(m.blocks, i)
		} else {
			m.blocks[i] = b
		}
		p, off = p[n:], off+int64(n)
	}
}

// A Log is what a disk was told: what it held first, and all that came then.
type Log struct {
	base   *Image
	events []event
}

// An event is a write, or a barrier if there is no data.
type event struct {
	offset int64
	data   []byte
}

func (e event) barrier() bool { return e.data == nil }

// Len returns the number of events.
func (l *Log) Len() int { return len(l.events) }

// Barriers returns the moments, as numbers of events that came before, right after
// each barrier.
func (l *Log) Barriers() []int {
	var moments []int
	for i, e := range l.events {
		if e.barrier() {
			moments = append(moments, i+1)
		}
	}
	return moments
}

// Bytes returns how much was written.
func (l *Log) Bytes() int64 {
	var sum int64
	for _, e := range l.events {
		sum += int64(len(e.data))
	}
	return sum
}

// Deaf returns the log of a disk that was told the same and heard no barrier. In
// place of each stands a write of nothing, so that moments keep their numbers.
func (l *Log) Deaf() *Log {
	deaf := &Log{l.base, slices.Clone(l.events)}
	for i, e := range deaf.events {
		if e.barrier() {
			deaf.events[i].data = []byte{}
		}
	}
	return deaf
}

// Before returns what the disk holds after the first n events, all of them done in
// their order.
func (l *Log) Before(n int) *Image {
	m := l.base.Clone()
	for _, e := range l.events[:n] {
		m.write(e.data, e.offset)
	}
	return m
}

// Torn returns what the disk may hold if the power goes after the first n events:
// the writes that a barrier covers, and of the later ones what chance has it,
// which may keep or lose a write, or a block of it. A later version of a block
// may be there without an earlier one, and without any other write of its time.
func (l *Log) Torn(n int, random *rand.Rand) *Image {
	covered := n
	for covered > 0 && !l.events[covered-1].barrier() {
		covered--
	}
	m := l.Before(covered)
	kept := random.Float64() // of the writes; each time otherwise, so that few and most are tried
	for _, e := range l.events[covered:n] {
		switch {
		case random.Float64() < kept:
			m.write(e.data, e.offset)
		case random.IntN(tearEvery) == 0:
			tear(m, e, random)
		}
	}
	return m
}

// tearEvery is how rare a write is of which some blocks are lost. File systems
// know torn writes by their checksums and throw them away whole, so that most
// tear like a write that is lost.
const tearEvery = 4

// tear does a write in some of the blocks that it reaches.
func tear(m *Image, e event, random *rand.Rand) {
	for p, off := e.data, e.offset; len(p) > 0; {
		n := min(len(p), int(blockSize-off%blockSize))
		if random.IntN(2) == 0 {
			m.write(p[:n], off)
		}
		p, off = p[n:], off+int64(n)
	}
}
