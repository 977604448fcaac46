package store

import (
	"fmt"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

func treeName(d digest.Digest) string { return "trees/" + d.String() }

// PutTree keeps a compiled tree, durably, and returns the digest that names it.
func (s *Store) PutTree(data []byte) (digest.Digest, error) {
	if err := tree.Verify(data); err != nil {
		return digest.Digest{}, fmt.Errorf("put tree: %w", err)
	}
	t, err := tree.OpenTable(data)
	if err != nil {
		return digest.Digest{}, fmt.Errorf("put tree: %w", err)
	}
	d := t.Digest()
	if s.HasTree(d) {
		return d, nil
	}
	if err := s.put(map[string][]byte{treeName(d): data}); err != nil {
		return digest.Digest{}, fmt.Errorf("put tree %v: %w", d, err)
	}
	return d, nil
}

// HasTree reports whether a tree is in the store. It costs one stat.
func (s *Store) HasTree(d digest.Digest) bool { return s.exists(treeName(d)) }

// OpenTree opens a tree for a venv at the absolute path prefix. Its bytes are
// mapped for the life of the process. One that was never put is
// [fs.ErrNotExist].
func (s *Store) OpenTree(d digest.Digest, prefix string) (*tree.Tree, error) {
	name := treeName(d)
	b, err := s.mapFile(name)
	if err != nil {
		return nil, err
	}
	t, err := tree.Open(b, prefix, s)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", s.path(name), err)
	}
	if t.Digest() != d {
		return nil, fmt.Errorf("%q holds tree %v: %w: remove it and try again", s.path(name), t.Digest(), tree.ErrCorrupt)
	}
	return t, nil
}
