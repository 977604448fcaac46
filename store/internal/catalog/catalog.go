// Package catalog is an index over the wheels and trees of a store: what they
// are called and by which hashes they are known.
//
// It holds nothing that the store's files don't say, so it may be removed at any
// time and is filled again from them. One process at a time has it open. It must
// be opened briefly, and never on the way to a served file.
//
// Keys are typed by their first bytes; values are JSON.
//
//	w/ DIGEST         wheel digest, 32 bytes   -> Wheel
//	t/ DIGEST         tree digest, 32 bytes    -> Tree
//	h/ ALG : HEX      a stronger hash of a wheel file -> its digest, 32 bytes
package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Wheel is a wheel in the store.
type Wheel struct {
	Digest   digest.Digest     `json:"digest"` // of the wheel file
	Name     string            `json:"name"`   // canonical
	Version  string            `json:"version"`
	Filename string            `json:"filename"`
	Size     int64             `json:"size"`     // of the wheel file, in bytes
	Unpacked int64             `json:"unpacked"` // of the files it installs, in bytes
	Files    int               `json:"files"`
	Added    time.Time         `json:"added"`
	Hashes   map[string]string `json:"hashes,omitempty"` // stronger ones, by algorithm, in hexadecimal
}

// A Tree is a compiled environment in the store.
type Tree struct {
	Digest  digest.Digest `json:"digest"`
	Layout  string        `json:"layout"` // "lib-python3.12"
	Created time.Time     `json:"created"`
	Wheels  int           `json:"wheels"`
	Size    int64         `json:"size"` // of the tree file, in bytes
}

const (
	wheelPrefix = "w/"
	treePrefix  = "t/"
	hashPrefix  = "h/"
)

// A Catalog is an open catalog.
type Catalog struct {
	dir  string
	db   *badger.DB
	lock *lockFile
}

// Wheels returns all wheels, ordered by digest.
func (c *Catalog) Wheels() ([]Wheel, error) { return all[Wheel](c, wheelPrefix) }

// Trees returns all trees, ordered by digest.
func (c *Catalog) Trees() ([]Tree, error) { return all[Tree](c, treePrefix) }

func all[T any](c *Catalog, prefix string) ([]T, error) {
	var list []T
	err := c.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 100, Prefix: []byte(prefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			var v T
			if err := it.Item().Value(func(b []byte) error { return json.Unmarshal(b, &v) }); err != nil {
				return fmt.Errorf("entry %q: %w", it.Item().Key(), err)
			}
			list = append(list, v)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return list, nil
}

// WheelByHash returns the digest of the wheel whose file has a hash.
func (c *Catalog) WheelByHash(alg, hex string) (d digest.Digest, ok bool, err error) {
	err = c.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(hashKey(alg, hex))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			if len(b) != digest.Size {
				return fmt.Errorf("hash %s:%s has %d bytes, want %d", alg, hex, len(b), digest.Size)
			}
			d, ok = digest.Digest(b), true
			return nil
		})
	})
	if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
		return digest.Digest{}, false, fmt.Errorf("catalog: %w", err)
	}
	return d, ok, nil
}

// A Change is what to write in one go.
type Change struct {
	PutWheels  []Wheel
	DropWheels []Wheel
	PutTrees   []Tree
	DropTrees  []Tree
}

// Apply writes a change. It is on stable storage afterwards.
func (c *Catalog) Apply(ch Change) error {
	b := c.db.NewWriteBatch()
	defer b.Cancel()
	if err := errors.Join(ch.write(b), b.Flush()); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

func (ch *Change) write(b *badger.WriteBatch) error {
	var err error
	do := func(e error) { err = errors.Join(err, e) }
	for _, w := range ch.DropWheels {
		for alg, hex := range w.Hashes {
			do(b.Delete(hashKey(alg, hex)))
		}
		do(b.Delete(key(wheelPrefix, w.Digest)))
	}
	for _, w := range ch.PutWheels {
		for alg, hex := range w.Hashes {
			do(b.Set(hashKey(alg, hex), bytes.Clone(w.Digest[:])))
		}
		do(set(b, key(wheelPrefix, w.Digest), w))
	}
	for _, t := range ch.DropTrees {
		do(b.Delete(key(treePrefix, t.Digest)))
	}
	for _, t := range ch.PutTrees {
		do(set(b, key(treePrefix, t.Digest), t))
	}
	return err
}

func set(b *badger.WriteBatch, key []byte, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Set(key, value)
}

func key(prefix string, d digest.Digest) []byte { return append([]byte(prefix), d[:]...) }

func hashKey(alg, hex string) []byte { return []byte(hashPrefix + alg + ":" + hex) }
