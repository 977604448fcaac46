package store

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A KnownEntry is the outcome of inputs that were read once.
type KnownEntry struct {
	Tree  digest.Digest `json:"tree"`
	Added time.Time     `json:"added"`
	// Note is the caller's, kept as it is.
	Note string `json:"note,omitempty"`
}

// Known returns what the inputs named by key gave. It reads one small file. The
// tree is in the store, or there is no entry.
func (s *Store) Known(key digest.Digest) (KnownEntry, bool) {
	var e KnownEntry
	b, ok := s.getChecked("known/" + key.String())
	if !ok || json.Unmarshal(b, &e) != nil || !s.HasTree(e.Tree) {
		return KnownEntry{}, false
	}
	return e, true
}

// PutKnown remembers what the inputs named by key gave, in the place of what
// they gave before.
func (s *Store) PutKnown(key digest.Digest, e KnownEntry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := s.putChecked("known/"+key.String(), b); err != nil {
		return fmt.Errorf("remember the environment: %w", err)
	}
	return nil
}

// A Cache keeps answers by what was asked. It is lossy: an answer may be gone at
// any time, but is never another one.
type Cache struct {
	store  *Store
	folder string
}

// Cache returns the cache of that name, a folder of the store.
func (s *Store) Cache(name string) Cache { return Cache{s, name} }

// name returns the file of a key. Keys are paths and longer things; their
// digests are file names.
func (c Cache) name(key string) string { return c.folder + "/" + digest.Of([]byte(key)).String() }

// Get returns the answer to key.
func (c Cache) Get(key string) ([]byte, bool) { return c.store.getChecked(c.name(key)) }

// Put keeps the answer to key in the place of an earlier one.
func (c Cache) Put(key string, value []byte) error {
	err := c.store.putChecked(c.name(key), value)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(c.store.path(c.folder), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return c.store.diskError(err)
		}
		err = c.store.putChecked(c.name(key), value)
	}
	return err
}

// putChecked writes a file that needs no sync: its first line is the digest of
// the rest.
func (s *Store) putChecked(name string, value []byte) error {
	b := append([]byte(digest.Of(value).String()), '\n')
	return s.putPlain(name, append(b, value...))
}

// getChecked returns what putChecked wrote, if it is there and whole.
func (s *Store) getChecked(name string) ([]byte, bool) {
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, false
	}
	line, value, _ := bytes.Cut(b, []byte{'\n'})
	sum := digest.Of(value)
	return value, string(line) == hex.EncodeToString(sum[:])
}
