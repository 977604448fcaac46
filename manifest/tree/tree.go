// Package tree is the compiled environment: its file format, its reader and its
// builder.
//
// A tree is a list of wheel tables and a small table of its own. A wheel table
// holds every node that one wheel puts into a venv of one layout; it is made
// once and shared by all trees. The tree's own table holds what several wheels
// share or what no wheel ships: the root, bin, site-packages, namespace
// packages, pyvenv.cfg. Where a directory or file belongs to one wheel alone
// the own table refers to it and copies nothing, so a tree costs kilobytes and
// opening it costs the same for ten files as for a hundred thousand.
//
// The package keeps these promises. A node has the same [ID] in every process
// that opens the same tree. A path has one ID and no two paths share one. A
// modification time depends on the content where Python looks at it (see
// [Attr]). Whatever bytes a reader is given, it returns an error wrapping
// [ErrCorrupt] and never panics. It reads no file, asks for tables through the
// [Tables] interface, and knows nothing of how a node is served.
//
// # Format
//
// Wheel tables and trees share one format. Integers are little-endian; the
// sections follow each other without a gap and fill the file to its end.
//
//	header    128 bytes
//	nodes     64 bytes each; node 0 is the root directory
//	tables    64 bytes each: a wheel's digest, its table's digest (trees only)
//	names     the bytes of the nodes' names
//	data      inline content, template texts, symlink targets
//	layout    the venv layout the nodes are laid out for, a name such as lib-python3.12
//	meta      bytes that mean something to the package that built the table
//
// The header:
//
//	 0  magic    8 bytes: "sitefs", 0, format version
//	 8  flags    u32: 1 = relocatable
//	12  nodes    u32, number of nodes
//	16  tables   u32, number of tables
//	20  names    u32, bytes
//	24  data     u32, bytes
//	28  layout   u32, bytes
//	32  meta     u32, bytes
//	36  zero     u32
//	40  created  i64, Unix seconds: when the wheel entered this store, or the tree was compiled
//	48  digest   32 bytes: SHA-256 of the file with created and digest zero
//	80  zero     48 bytes
//
// Created is thus no part of the name: two machines give the same table the
// same digest.
//
// A node:
//
//	 0  name     u32, offset in names
//	 4  nameLen  u8
//	 5  kind     u8: 1 directory, 2 file, 3 inline, 4 template, 5 symlink, 6 reference
//	 6  flags    u8: 1 = executable
//	 7  target   u8: the kind a reference resolves to, else 0
//	 8  size     u64, bytes; of a directory the sum of what is below it
//	16  first    u32: directory: node of its first child; inline, template,
//	             symlink: offset in data; reference: table number, from 1
//	20  count    u32: directory: number of children; reference: node in that table
//	24  parent   u32: node of the directory that holds it
//	28  subdirs  u32: directory: how many of the children are directories
//	32  digest   32 bytes: of a file its content, of inline content, a template or
//	             a symlink the bytes in data, of a directory its children
//
// The children of a directory are contiguous, behind their parent, and sorted
// bytewise by name. The digest of a directory is SHA-256 over its children in
// that order, each given as kind (u8), executable (u8), nameLen (u8), name,
// digest. A reference repeats kind, size, subdirs and digest of its target, so
// that directories can be listed without opening another table.
package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"

	"github.com/sitefs/sitefs/manifest/digest"
)

// An ID names a node of a tree: table number << 32 + node index + 1. The tree's
// own table is number 0, the wheel tables are numbered from 1.
type ID uint64

// Root is the ID of a tree's root directory.
const Root ID = 1

func newID(table, index uint32) ID { return ID(table)<<32 + ID(index) + 1 }

// split returns the table number and the node index of id.
func (id ID) split() (table, index uint32) {
	id--
	return uint32(id >> 32), uint32(id)
}

// A Kind says what a node is and where its bytes are.
type Kind uint8

const (
	Dir      Kind = iota + 1
	File          // a regular file whose content is the blob of that digest
	Inline        // a regular file whose bytes are in the table
	Template      // a regular file whose bytes depend on the venv's prefix
	Symlink
	ref // resolved before a node is given out
)

// Errors of a tree's methods. A name that a directory does not have is
// [fs.ErrNotExist].
var (
	ErrNotDir  = errors.New("not a directory")
	ErrStale   = errors.New("no such node")
	ErrKind    = errors.New("node has no such content")
	ErrCorrupt = errors.New("corrupt tree")
)

// Attr is what a tree says about a node.
type Attr struct {
	Kind Kind
	Exec bool

	// Size is in bytes: of a template as rendered for the tree's prefix, of a
	// symlink its target's length, of a directory the sum of the files below it
	// (templates by the length of their text).
	Size int64

	// Mtime is in Unix seconds. Of a file whose name ends in ".py" it is 1980-01-02
	// plus 28 bits of its digest, so that a timestamp .pyc is valid exactly
	// when its source is the same; of a directory the same from its digest, so
	// that importlib lists it again exactly when it changed. Every other node
	// carries the time at which its wheel entered the store, so that an upgrade
	// is newer.
	Mtime int64

	// Subdirs is the number of directories in a directory.
	Subdirs uint32

	// Digest is of the content; of a template, of its text.
	Digest digest.Digest
}

// Tables gives a tree the wheel tables it refers to.
type Tables interface {
	// Table returns the table of a wheel for a layout. The bytes must stay
	// valid and unchanged for as long as the tree is used.
	Table(wheel digest.Digest, layout string) ([]byte, error)
}

// A Tree is an open tree. Its methods may be called concurrently.
type Tree struct {
	own    *Table
	from   Tables
	loaded []atomic.Pointer[Table] // by table number - 1; nil until first touched
	marks  marks
}

// Open returns the tree in own, rendered for a venv at the absolute path
// prefix. It reads the header only; a wheel table is asked for when a node of
// it is first touched.
func Open(own []byte, prefix string, from Tables) (*Tree, error) {
	t, err := OpenTable(own)
	if err != nil {
		return nil, err
	}
	return &Tree{
		own:    t,
		from:   from,
		loaded: make([]atomic.Pointer[Table], t.tables()),
		marks:  newMarks(prefix, t.Relocatable()),
	}, nil
}

// Digest returns the digest that names the tree.
func (t *Tree) Digest() digest.Digest { return t.own.Digest() }

// Meta returns the bytes that the tree was built with: the manifest. They alias
// the tree.
func (t *Tree) Meta() []byte { return t.own.Meta() }

// Layout returns the name of the venv layout that the wheel tables are made for.
func (t *Tree) Layout() string { return t.own.Layout() }

// Created returns when the tree was compiled, in Unix seconds.
func (t *Tree) Created() int64 { return t.own.Created() }

// Prefix returns the path the tree's templates are rendered for.
func (t *Tree) Prefix() string { return t.marks.prefix }

// Wheels returns the digests of the tree's wheels in the order of the tables.
func (t *Tree) Wheels() []digest.Digest {
	wheels := make([]digest.Digest, t.own.tables())
	for i := range wheels {
		wheels[i], _ = t.own.tableDigests(uint32(i))
	}
	return wheels
}

// Lookup returns the node that the directory dir has under name.
func (t *Tree) Lookup(dir ID, name string) (ID, Attr, error) {
	number, tab, n, err := t.dir(dir)
	if err != nil {
		return 0, Attr{}, err
	}
	i, err := tab.search(n, name)
	if err != nil {
		return 0, Attr{}, err
	}
	_, id, a, err := t.resolve(number, tab, i)
	return id, a, err
}

// Stat returns the attributes of a node.
func (t *Tree) Stat(id ID) (Attr, error) {
	tab, n, err := t.node(id)
	if err != nil {
		return Attr{}, err
	}
	return t.attr(tab, n), nil
}

// Children is the content of one directory, sorted bytewise by name.
type Children struct {
	tree         *Tree
	table        *Table
	number       uint32
	first, count uint32
}

// Children returns the content of the directory dir.
func (t *Tree) Children(dir ID) (Children, error) {
	number, tab, n, err := t.dir(dir)
	if err != nil {
		return Children{}, err
	}
	return Children{t, tab, number, n.first, n.count}, nil
}

// Len returns the number of children.
func (c Children) Len() int { return int(c.count) }

// At returns child i, 0 <= i < Len(). The name aliases the table.
func (c Children) At(i int) (name []byte, id ID, a Attr, err error) {
	if i < 0 || i >= c.Len() {
		return nil, 0, Attr{}, fmt.Errorf("%w: child %d of %d", ErrStale, i, c.Len())
	}
	return c.tree.resolve(c.number, c.table, c.first+uint32(i))
}

// Link returns the target of a symlink. It aliases the table.
func (t *Tree) Link(id ID) ([]byte, error) {
	tab, n, err := t.node(id)
	if err != nil {
		return nil, err
	}
	if n.Kind != Symlink {
		return nil, fmt.Errorf("link of node %d: %w", id, ErrKind)
	}
	return tab.Data(n)
}

// Bytes returns the content of an inline node, which aliases the table, or of a
// template rendered for the tree's prefix.
func (t *Tree) Bytes(id ID) ([]byte, error) {
	tab, n, err := t.node(id)
	if err != nil {
		return nil, err
	}
	if n.Kind != Inline && n.Kind != Template {
		return nil, fmt.Errorf("bytes of node %d: %w", id, ErrKind)
	}
	b, err := tab.Data(n)
	if err != nil || n.Kind == Inline {
		return b, err
	}
	return t.marks.render(b), nil
}

// Path returns the slash-separated path of a node, relative to the root, which
// is ".". A wheel table is rooted where the tree is, so no other table is read.
func (t *Tree) Path(id ID) (string, error) {
	tab, n, err := t.node(id)
	if err != nil {
		return "", err
	}
	return tab.path(n)
}

// Find returns the node at a slash-separated path relative to the root. It
// follows no symlink.
func (t *Tree) Find(path string) (ID, Attr, error) {
	id := Root
	a, err := t.Stat(id)
	if err != nil || path == "." {
		return id, a, err
	}
	for name := range strings.SplitSeq(path, "/") {
		if id, a, err = t.Lookup(id, name); err != nil {
			return 0, Attr{}, &fs.PathError{Op: "find", Path: path, Err: err}
		}
	}
	return id, a, nil
}

// Walk calls fn for every node but the root, parents first, siblings in order,
// with the path relative to the root. An error of fn ends the walk;
// [fs.SkipDir], returned for a directory, leaves it out.
func (t *Tree) Walk(fn func(path string, id ID, a Attr) error) error {
	return t.walk(Root, "", fn)
}

func (t *Tree) walk(dir ID, prefix string, fn func(string, ID, Attr) error) error {
	children, err := t.Children(dir)
	if err != nil {
		return err
	}
	for i := range children.Len() {
		name, id, a, err := children.At(i)
		if err != nil {
			return err
		}
		path := prefix + string(name)
		err = fn(path, id, a)
		if err == nil && a.Kind == Dir {
			err = t.walk(id, path+"/", fn)
		} else if err == fs.SkipDir && a.Kind == Dir {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// node returns the node that id names and the table it is in.
func (t *Tree) node(id ID) (*Table, Node, error) {
	number, index := id.split()
	if number > t.own.tables() {
		return nil, Node{}, ErrStale
	}
	tab, err := t.table(number)
	if err != nil {
		return nil, Node{}, err
	}
	n, err := tab.Node(index)
	if err == nil && n.Kind == ref {
		err = ErrStale // the target's ID is the only one given out
	}
	return tab, n, err
}

// dir is node for an ID that must be a directory.
func (t *Tree) dir(id ID) (number uint32, tab *Table, n Node, err error) {
	number, _ = id.split()
	tab, n, err = t.node(id)
	if err == nil && n.Kind != Dir {
		err = ErrNotDir
	}
	return number, tab, n, err
}

// resolve returns node index of table number as it is given out: under the name
// it has here, with the ID and the attributes of what it refers to.
func (t *Tree) resolve(number uint32, tab *Table, index uint32) (name []byte, id ID, a Attr, err error) {
	n, err := tab.Node(index)
	if err != nil {
		return nil, 0, Attr{}, err
	}
	if n.Kind != ref {
		return n.Name, newID(number, index), t.attr(tab, n), nil
	}
	if number != 0 || n.first == 0 || n.first > t.own.tables() || n.count == ^uint32(0) {
		return nil, 0, Attr{}, fmt.Errorf("%w: node %d refers to node %d of table %d of %d", ErrCorrupt, index, n.count, n.first, t.own.tables())
	}
	id = newID(n.first, n.count)
	if n.target == Dir || n.target == File && isPython(n.Name) {
		// The reference says it all; the table stays untouched.
		n.Kind = n.target
		return n.Name, id, t.attr(tab, n), nil
	}
	a, err = t.Stat(id)
	return n.Name, id, a, err
}

// attr returns the attributes of a node of tab.
func (t *Tree) attr(tab *Table, n Node) Attr {
	a := Attr{Kind: n.Kind, Exec: n.Exec, Size: n.Size, Subdirs: n.subdirs, Digest: n.Digest}
	switch {
	case n.Kind == Template:
		a.Mtime = tab.Created()
		if isPython(n.Name) {
			a.Mtime = mtimeOf(t.marks.seed ^ bitsOf(n.Digest))
		}
		if text, err := tab.Data(n); err == nil {
			a.Size = t.marks.size(text)
		}
	case n.Kind == Dir || isPython(n.Name) && n.Kind != Symlink:
		a.Mtime = mtimeOf(bitsOf(n.Digest))
	default:
		a.Mtime = tab.Created()
	}
	return a
}

// table returns a table by number, opening it when it is first touched. Two
// goroutines may both open it; the first one stays.
func (t *Tree) table(number uint32) (*Table, error) {
	if number == 0 {
		return t.own, nil
	}
	slot := &t.loaded[number-1]
	if tab := slot.Load(); tab != nil {
		return tab, nil
	}
	wheel, want := t.own.tableDigests(number - 1)
	b, err := t.from.Table(wheel, t.own.Layout())
	if err != nil {
		return nil, fmt.Errorf("table of wheel %s: %w", wheel, err)
	}
	tab, err := OpenTable(b)
	if err != nil {
		return nil, fmt.Errorf("table of wheel %s: %w", wheel, err)
	}
	if tab.Digest() != want {
		return nil, fmt.Errorf("%w: table of wheel %s is %s, the tree was compiled with %s; compile it again", ErrCorrupt, wheel, tab.Digest(), want)
	}
	slot.CompareAndSwap(nil, tab)
	return slot.Load(), nil
}

// epoch is 1980-01-02T00:00:00Z: ZIP files hold no earlier year, and a day later
// no time zone makes it 1979.
const epoch = 315619200

// mtimeBits is how much of a digest a modification time carries: 8.5 years of
// seconds, which stays below the 32 bits that a .pyc has.
const mtimeBits = 28

func bitsOf(d digest.Digest) uint32 { return binary.LittleEndian.Uint32(d[:]) }

// SourceTime returns the modification time, in Unix seconds, of a "*.py" file
// with that content, in every tree. See [Attr].
func SourceTime(content digest.Digest) int64 { return mtimeOf(bitsOf(content)) }

func mtimeOf(bits uint32) int64 { return epoch + int64(bits&(1<<mtimeBits-1)) }

// isPython reports whether importlib would take the name for a source file.
func isPython(name []byte) bool {
	return len(name) > 3 && string(name[len(name)-3:]) == ".py"
}
