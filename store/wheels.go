package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

const infoSuffix = ".info"

func infoName(d digest.Digest) string { return "wheels/" + d.String() + infoSuffix }

func tableName(d digest.Digest, layout string) (string, error) {
	if layout == "" || layout == infoSuffix[1:] || strings.ContainsAny(layout, "/\x00") {
		return "", fmt.Errorf("layout %q is not a file name", layout)
	}
	return "wheels/" + d.String() + "." + layout, nil
}

// wheelRecord is the content of wheels/DIGEST.info.
type wheelRecord struct {
	Added  int64             `json:"added"` // Unix seconds: when the wheel entered this store
	Size   int64             `json:"size"`  // of the wheel file, in bytes
	Hashes map[string]string `json:"hashes,omitempty"`
	Wheel  json.RawMessage   `json:"wheel"` // wheel.Info

	replaces bool // the store's record, with more hashes
}

func (r *wheelRecord) encode() ([]byte, error) { return json.Marshal(r) }

func (s *Store) wheelRecord(d digest.Digest) (*wheelRecord, error) {
	b, err := os.ReadFile(s.path(infoName(d)))
	if err != nil {
		return nil, err
	}
	r := new(wheelRecord)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%q is damaged: %w: remove it and add the wheel again", s.path(infoName(d)), err)
	}
	return r, nil
}

// HasWheel reports whether the wheel whose file has that digest is in the
// store, whole. It costs one stat.
func (s *Store) HasWheel(d digest.Digest) bool { return s.exists(infoName(d)) }

// wheel returns the record of a wheel and the description in it.
func (s *Store) wheel(d digest.Digest) (*wheelRecord, *wheel.Info, error) {
	r, err := s.wheelRecord(d)
	if err != nil {
		return nil, nil, err
	}
	info, err := wheel.DecodeInfo(r.Wheel)
	if err != nil {
		return nil, nil, fmt.Errorf("%q is damaged: %w: remove it and add the wheel again", s.path(infoName(d)), err)
	}
	return r, info, nil
}

// Info returns what is known of a wheel. One that is not in the store is
// [fs.ErrNotExist].
func (s *Store) Info(d digest.Digest) (*wheel.Info, error) {
	_, info, err := s.wheel(d)
	return info, err
}

// WheelTime returns when a wheel entered this store.
func (s *Store) WheelTime(d digest.Digest) (time.Time, error) {
	r, err := s.wheelRecord(d)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(r.Added, 0), nil
}

// Table returns the table of a wheel for a venv layout, mapped for the life of
// the process. One that was never put is [fs.ErrNotExist].
func (s *Store) Table(d digest.Digest, layout string) ([]byte, error) {
	name, err := tableName(d, layout)
	if err != nil {
		return nil, err
	}
	return s.mapFile(name)
}

// PutTables keeps tables of wheels for a layout, by wheel digest, as one durable
// batch. A table that is there already stays.
func (s *Store) PutTables(layout string, tables map[digest.Digest][]byte) error {
	files := make(map[string][]byte, len(tables))
	for d, b := range tables {
		name, err := tableName(d, layout)
		if err != nil {
			return err
		}
		if err := tree.Verify(b); err != nil {
			return fmt.Errorf("put the table of wheel %v: %w", d, err)
		}
		files[name] = b
	}
	if err := s.put(files); err != nil {
		return fmt.Errorf("put tables of %d wheels: %w", len(tables), err)
	}
	return nil
}

// listDigests lists the files of a folder whose name is a digest and a suffix.
func (s *Store) listDigests(folder, suffix string) ([]digest.Digest, error) {
	entries, err := os.ReadDir(s.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []digest.Digest
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		if d, err := digest.Parse(name); err == nil {
			list = append(list, d)
		}
	}
	return list, nil
}
