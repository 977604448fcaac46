package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Builder makes a table or a tree. Nodes are added by slash-separated path
// relative to the root, in any order; directories above a node are made as
// needed. The same nodes give the same bytes.
type Builder struct {
	// Layout names the venv layout, Meta is kept as it is, and Relocatable has
	// the scripts find their interpreter beside themselves.
	Layout      string
	Meta        []byte
	Relocatable bool

	root   *entry
	tables []byte
	from   *Tree // whose tables can be opened; nil for none
}

// entry is a node being built.
type entry struct {
	Node
	data     []byte
	children map[string]*entry
}

// NewBuilder returns a builder that holds an empty root directory.
func NewBuilder(layout string) *Builder {
	return &Builder{Layout: layout, root: newDir()}
}

func newDir() *entry {
	return &entry{Node: Node{Kind: Dir}, children: make(map[string]*entry)}
}

// Dir adds a directory; one that is there already is left as it is.
func (b *Builder) Dir(path string) error {
	_, err := b.dir(path)
	return err
}

// File adds a file whose content is the blob d of size bytes.
func (b *Builder) File(path string, exec bool, size int64, d digest.Digest) error {
	return b.add(path, &entry{Node: Node{Kind: File, Exec: exec, Size: size, Digest: d}})
}

// Inline adds a file whose content is kept in the table.
func (b *Builder) Inline(path string, exec bool, content []byte) error {
	return b.addData(path, Inline, exec, content)
}

// Template adds a file whose content is text with its marks replaced.
func (b *Builder) Template(path string, exec bool, text []byte) error {
	if err := checkMarks(text); err != nil {
		return fmt.Errorf("template %q: %w", path, err)
	}
	return b.addData(path, Template, exec, text)
}

// Symlink adds a symbolic link.
func (b *Builder) Symlink(path, target string) error {
	return b.addData(path, Symlink, false, []byte(target))
}

func (b *Builder) addData(path string, kind Kind, exec bool, data []byte) error {
	return b.add(path, &entry{
		Node: Node{Kind: kind, Exec: exec, Size: int64(len(data)), Digest: digest.Of(data)},
		data: data,
	})
}

// Table adds a wheel's table to the tree and returns its number, from 1.
func (b *Builder) Table(wheel digest.Digest, t *Table) uint32 {
	d := t.Digest()
	b.tables = append(append(b.tables, wheel[:]...), d[:]...)
	return uint32(len(b.tables) / tableSize)
}

// Ref adds a reference to a node of the table that [Builder.Table] numbered.
// The path must be the one that the node has in its own table.
func (b *Builder) Ref(path string, table uint32, n Node) error {
	return b.add(path, refTo(table, n))
}

// refTo returns a reference to node n of a table.
func refTo(table uint32, n Node) *entry {
	n.target, n.Kind = n.Kind, ref
	n.first, n.count = table, n.Index
	return &entry{Node: n}
}

// add puts e at a path that must be free.
func (b *Builder) add(path string, e *entry) error {
	dir, name := b.root, path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		var err error
		if dir, err = b.dir(path[:i]); err != nil {
			return err
		}
		name = path[i+1:]
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("path %q: %w", path, err)
	}
	if dir.children[name] != nil {
		return fmt.Errorf("path %q: %w", path, fs.ErrExist)
	}
	dir.children[name] = e
	return nil
}

// dir returns the directory at path, making what is missing.
func (b *Builder) dir(path string) (*entry, error) {
	dir := b.root
	for name := range strings.SplitSeq(path, "/") {
		next := dir.children[name]
		if next == nil {
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("path %q: %w", path, err)
			}
			next = newDir()
			dir.children[name] = next
		}
		if err := b.open(next); err != nil {
			return nil, fmt.Errorf("path %q: %q: %w", path, name, err)
		}
		dir = next
	}
	return dir, nil
}

func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%q is no file name", name)
	case len(name) > 255:
		return fmt.Errorf("name of %d bytes, a file name has at most 255", len(name))
	}
	return nil
}

// Build returns the file. Created is in Unix seconds.
func (b *Builder) Build(created int64) ([]byte, error) {
	nodes := b.number()
	finish(nodes)

	var names, data []byte
	nameAt := make(map[string]uint32)
	out := make([]byte, headerSize, headerSize+len(nodes)*nodeSize)
	for _, n := range nodes {
		at, ok := nameAt[string(n.Name)]
		if !ok {
			at = uint32(len(names))
			nameAt[string(n.Name)] = at
			names = append(names, n.Name...)
		}
		if n.Kind == Inline || n.Kind == Template || n.Kind == Symlink {
			n.first = uint32(len(data))
			data = append(data, n.data...)
		}
		out = appendNode(out, at, &n.Node)
	}
	for _, size := range []int{len(nodes), len(names), len(data), len(b.Meta)} {
		if size > math.MaxUint32 {
			return nil, errors.New("table needs a section of 4 GiB or more")
		}
	}
	copy(out, magic)
	if b.Relocatable {
		binary.LittleEndian.PutUint32(out[offFlags:], flagRelocatable)
	}
	for off, n := range map[int]int{
		offNodes: len(nodes), offTables: len(b.tables) / tableSize, offNames: len(names),
		offData: len(data), offLayout: len(b.Layout), offMeta: len(b.Meta),
	} {
		binary.LittleEndian.PutUint32(out[off:], uint32(n))
	}
	out = slices.Concat(out, b.tables, names, data, []byte(b.Layout), b.Meta)
	d := sum(out)
	copy(out[offDigest:], d[:])
	binary.LittleEndian.PutUint64(out[offCreated:], uint64(created))
	return out, nil
}

// number lists the nodes breadth first, so that children are contiguous and
// behind their parents, and gives each its index, name and parent.
func (b *Builder) number() []*entry {
	nodes := []*entry{b.root}
	for i := 0; i < len(nodes); i++ {
		dir := nodes[i]
		if dir.Kind != Dir {
			continue
		}
		dir.first, dir.count = uint32(len(nodes)), uint32(len(dir.children))
		for _, name := range slices.Sorted(maps.Keys(dir.children)) {
			child := dir.children[name]
			child.Index, child.Name, child.parent = uint32(len(nodes)), []byte(name), uint32(i)
			nodes = append(nodes, child)
		}
	}
	return nodes
}

// finish fills in what a directory says of its children, deepest first.
func finish(nodes []*entry) {
	var buf []byte
	for _, dir := range slices.Backward(nodes) {
		if dir.Kind != Dir {
			continue
		}
		buf, dir.Size, dir.subdirs = buf[:0], 0, 0
		for _, c := range nodes[dir.first : dir.first+dir.count] {
			kind := c.Kind
			if kind == ref {
				kind = c.target
			}
			if kind == Dir {
				dir.subdirs++
			}
			dir.Size += c.Size
			buf = append(buf, byte(kind), flags(&c.Node), byte(len(c.Name)))
			buf = append(append(buf, c.Name...), c.Digest[:]...)
		}
		dir.Digest = sha256.Sum256(buf)
	}
}

func flags(n *Node) byte {
	if n.Exec {
		return flagExec
	}
	return 0
}

func appendNode(b []byte, name uint32, n *Node) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, name)
	b = append(b, byte(len(n.Name)), byte(n.Kind), flags(n), byte(n.target))
	b = le.AppendUint64(b, uint64(n.Size))
	b = le.AppendUint32(b, n.first)
	b = le.AppendUint32(b, n.count)
	b = le.AppendUint32(b, n.parent)
	b = le.AppendUint32(b, n.subdirs)
	return append(b, n.Digest[:]...)
}
