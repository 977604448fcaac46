package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

const (
	magic = "sitefs\x00\x01" // the last byte is the version of the format

	headerSize = 128
	nodeSize   = 64
	tableSize  = 2 * digest.Size

	offFlags   = 8
	offNodes   = 12
	offTables  = 16
	offNames   = 20
	offData    = 24
	offLayout  = 28
	offMeta    = 32
	offCreated = 40
	offDigest  = 48
	endDigest  = offDigest + digest.Size

	flagRelocatable = 1 // in the header
	flagExec        = 1 // in a node
)

// A Table is one file of the format: a wheel's table, or the own table of a
// tree. It aliases the bytes it was opened from.
type Table struct {
	header []byte
	nodes  []byte
	refs   []byte
	names  []byte
	data   []byte
	layout string
	meta   []byte
}

// A Node is one record of a table.
type Node struct {
	Index  uint32
	Name   []byte // aliases the table
	Kind   Kind
	Exec   bool
	Size   int64 // in bytes; of a template its text's
	Digest digest.Digest

	target       Kind
	first, count uint32
	parent       uint32
	subdirs      uint32
}

// OpenTable returns the table in b. It reads the header and checks that the
// sections fill b; nodes are checked when they are read.
func OpenTable(b []byte) (*Table, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes, want a header of %d", ErrCorrupt, len(b), headerSize)
	}
	header := b[:headerSize]
	if string(header[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it starts with %q, want %q", ErrCorrupt, header[:len(magic)], magic)
	}
	rest, short := b[headerSize:], false
	section := func(off int, unit uint64) []byte {
		n := unit * uint64(binary.LittleEndian.Uint32(header[off:]))
		if n > uint64(len(rest)) {
			short = true
			return nil
		}
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	t := &Table{header: header}
	t.nodes = section(offNodes, nodeSize)
	t.refs = section(offTables, tableSize)
	t.names = section(offNames, 1)
	t.data = section(offData, 1)
	t.layout = string(section(offLayout, 1))
	t.meta = section(offMeta, 1)
	if short || len(rest) != 0 {
		return nil, fmt.Errorf("%w: its sections do not fill its %d bytes", ErrCorrupt, len(b))
	}
	if root, err := t.Node(0); err != nil || root.Kind != Dir {
		return nil, fmt.Errorf("%w: no root directory", ErrCorrupt)
	}
	return t, nil
}

// Verify reports whether the table or tree in b hashes to the digest it
// carries. [Open] and [OpenTable] do not.
func Verify(b []byte) error {
	t, err := OpenTable(b)
	if err != nil {
		return err
	}
	if got := sum(b); got != t.Digest() {
		return fmt.Errorf("%w: it hashes to %s, its header says %s", ErrCorrupt, got, t.Digest())
	}
	return nil
}

// sum returns the digest of a file with created and digest taken as zero.
func sum(b []byte) digest.Digest {
	var zero [endDigest - offCreated]byte
	h := sha256.New()
	h.Write(b[:offCreated])
	h.Write(zero[:])
	h.Write(b[endDigest:])
	return digest.Digest(h.Sum(nil))
}

// Digest returns the digest in the header.
func (t *Table) Digest() digest.Digest { return digest.Digest(t.header[offDigest:endDigest]) }

// Created returns the time in the header, in Unix seconds.
func (t *Table) Created() int64 {
	return int64(binary.LittleEndian.Uint64(t.header[offCreated:]))
}

// Layout returns the name of the venv layout that the table is made for.
func (t *Table) Layout() string { return t.layout }

// Meta returns the bytes that the table was built with. They alias the table.
func (t *Table) Meta() []byte { return t.meta }

// Relocatable reports whether the scripts of a tree find their interpreter
// beside themselves instead of at the prefix.
func (t *Table) Relocatable() bool {
	return binary.LittleEndian.Uint32(t.header[offFlags:])&flagRelocatable != 0
}

// Len returns the number of nodes.
func (t *Table) Len() int { return len(t.nodes) / nodeSize }

// tables returns the number of wheel tables referred to.
func (t *Table) tables() uint32 { return uint32(len(t.refs) / tableSize) }

// tableDigests returns the digests of a wheel and of its table, i < t.tables().
func (t *Table) tableDigests(i uint32) (wheel, table digest.Digest) {
	r := t.refs[int(i)*tableSize:][:tableSize]
	return digest.Digest(r[:digest.Size]), digest.Digest(r[digest.Size:])
}

// Root returns the root directory.
func (t *Table) Root() (Node, error) { return t.Node(0) }

// Node returns node i. An index that the table does not have is [ErrStale].
func (t *Table) Node(i uint32) (Node, error) {
	if uint64(i) >= uint64(t.Len()) {
		return Node{}, ErrStale
	}
	r := t.nodes[int(i)*nodeSize:][:nodeSize]
	n := Node{
		Index:   i,
		Kind:    Kind(r[5]),
		Exec:    r[6]&flagExec != 0,
		target:  Kind(r[7]),
		Size:    int64(binary.LittleEndian.Uint64(r[8:])),
		first:   binary.LittleEndian.Uint32(r[16:]),
		count:   binary.LittleEndian.Uint32(r[20:]),
		parent:  binary.LittleEndian.Uint32(r[24:]),
		subdirs: binary.LittleEndian.Uint32(r[28:]),
		Digest:  digest.Digest(r[32:]),
	}
	var ok bool
	if n.Name, ok = t.name(i); !ok || n.Size < 0 || !t.sound(&n) {
		return Node{}, fmt.Errorf("%w: node %d is not one", ErrCorrupt, i)
	}
	return n, nil
}

// sound reports whether what a node points at is inside the table. Children and
// parents are in the order of the records, so no walk can run in a circle.
func (t *Table) sound(n *Node) bool {
	if n.Index > 0 && n.parent >= n.Index {
		return false
	}
	switch n.Kind {
	case Dir:
		return n.count == 0 || n.first > n.Index && uint64(n.first)+uint64(n.count) <= uint64(t.Len())
	case Inline, Template, Symlink:
		return uint64(n.first)+uint64(n.Size) <= uint64(len(t.data))
	case ref:
		return n.target >= Dir && n.target < ref
	}
	return n.Kind == File
}

// name returns the name of node i, i < t.Len(). Only the root's is empty.
func (t *Table) name(i uint32) ([]byte, bool) {
	r := t.nodes[int(i)*nodeSize:][:nodeSize]
	off, n := uint64(binary.LittleEndian.Uint32(r)), uint64(r[4])
	if off+n > uint64(len(t.names)) || (n == 0) != (i == 0) {
		return nil, false
	}
	return t.names[off : off+n : off+n], true
}

// search returns the index of the child of dir that has the name.
func (t *Table) search(dir Node, name string) (uint32, error) {
	lo, hi := dir.first, dir.first+dir.count
	for lo < hi {
		mid := lo + (hi-lo)/2
		b, ok := t.name(mid)
		switch {
		case !ok:
			return 0, fmt.Errorf("%w: node %d has no name", ErrCorrupt, mid)
		case string(b) < name:
			lo = mid + 1
		case string(b) > name:
			hi = mid
		default:
			return mid, nil
		}
	}
	return 0, fs.ErrNotExist
}

// Children returns how many children a directory of the table has.
func (t *Table) Children(dir Node) int {
	if dir.Kind != Dir {
		return 0
	}
	return int(dir.count)
}

// Child returns child i of a directory of the table, 0 <= i < Children(dir).
func (t *Table) Child(dir Node, i int) (Node, error) {
	if i < 0 || i >= t.Children(dir) {
		return Node{}, ErrStale
	}
	return t.Node(dir.first + uint32(i))
}

// Find returns the node at a slash-separated path relative to the root.
func (t *Table) Find(path string) (Node, error) {
	n, err := t.Root()
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			return Node{}, err
		}
		if n.Kind != Dir {
			return Node{}, ErrNotDir
		}
		var i uint32
		if i, err = t.search(n, name); err == nil {
			n, err = t.Node(i)
		}
	}
	return n, err
}

// Data returns the bytes of an inline node, the text of a template or the
// target of a symlink. They alias the table.
func (t *Table) Data(n Node) ([]byte, error) {
	switch n.Kind {
	case Inline, Template, Symlink:
		end := uint64(n.first) + uint64(n.Size)
		return t.data[n.first:end:end], nil
	}
	return nil, ErrKind
}

// path returns the path of n relative to the root, which is ".".
func (t *Table) path(n Node) (string, error) {
	if n.Index == 0 {
		return ".", nil
	}
	var names []string
	for n.Index != 0 {
		names = append(names, string(n.Name))
		var err error
		if n, err = t.Node(n.parent); err != nil {
			return "", err
		}
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), nil
}
