package verify

import (
	"bytes"
	"crypto/sha256"
	"hash"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// A folder says what a directory should hold.
type folder interface {
	// entries returns it, sorted bytewise by name.
	entries() ([]entry, error)

	// free reports whether a name that no entry has may be in the directory without a
	// word: no list covers that part of an environment.
	free(name string) bool
}

// A kind is what is at a path.
type kind uint8

const (
	directory kind = iota
	regular
	symlink
)

var kinds = [...]string{directory: "a directory", regular: "a file", symlink: "a symlink"}

func (k kind) String() string { return kinds[k] }

// An entry is what should be under a name.
type entry struct {
	name string
	kind kind

	below folder // of a directory

	// Of a regular file. What isn't known isn't compared.
	size    int64 // in bytes, -1 if not known
	mtime   int64 // in Unix seconds, 0 if not known
	content content

	mode uint32 // permission bits that must be as in bits
	bits uint32 // which permission bits are compared

	target string // of a symlink; "" allows any

	// Alias is where a symlink in the file's place may point to, "" for nowhere;
	// follow allows it to point to any file, which is compared.
	alias  string
	follow bool
}

// A content is what the bytes of a file should hash to.
type content interface {
	newHash() hash.Hash
	sum() ([]byte, error)
}

// sha is a content whose digest is known.
type sha digest.Digest

func (s sha) newHash() hash.Hash   { return sha256.New() }
func (s sha) sum() ([]byte, error) { return s[:], nil }

// made is the content of a node whose bytes are in the tree.
type made struct {
	tree *tree.Tree
	id   tree.ID
}

func (m made) newHash() hash.Hash { return sha256.New() }

func (m made) sum() ([]byte, error) {
	b, err := m.tree.Bytes(m.id)
	d := digest.Of(b)
	return d[:], err
}

// wants reports whether the sorted entries have the name.
func wants(entries []entry, name string) bool {
	_, ok := slices.BinarySearchFunc(entries, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
	return ok
}

// allBits are the permission bits of a mode, set-user-ID and the like among them.
const allBits = 0o7777

// treeFolder is a directory of a tree.
type treeFolder struct {
	tree     *tree.Tree
	id       tree.ID
	blobPath func(digest.Digest) string
}

func (f *treeFolder) free(string) bool { return false }

func (f *treeFolder) entries() ([]entry, error) {
	children, err := f.tree.Children(f.id)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, children.Len())
	for i := range entries {
		name, id, a, err := children.At(i)
		if err != nil {
			return nil, err
		}
		entries[i], err = f.entry(string(name), id, a)
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func (f *treeFolder) entry(name string, id tree.ID, a tree.Attr) (entry, error) {
	e := entry{name: name, kind: regular, size: a.Size, mtime: a.Mtime, mode: 0o644, bits: allBits}
	if a.Exec {
		e.mode = 0o755
	}
	switch a.Kind {
	case tree.Dir:
		e.kind, e.mode = directory, 0o755
		e.below = &treeFolder{f.tree, id, f.blobPath}
	case tree.Symlink:
		target, err := f.tree.Link(id)
		if err != nil {
			return entry{}, err
		}
		e.kind, e.target = symlink, string(bytes.Clone(target))
	case tree.File:
		e.content = sha(a.Digest)
		if f.blobPath != nil {
			e.alias = f.blobPath(a.Digest)
		}
	default:
		e.content = made{f.tree, id}
	}
	return e, nil
}
