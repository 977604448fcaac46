package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/tag"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/fetch"
)

// wheels returns the wheels of the pins, in the store.
func (s *Session) wheels(ctx context.Context, pins []lock.Pin, lenient Leniency) ([]manifest.Wheel, error) {
	digests, err := s.stored(ctx, pins)
	if err != nil {
		return nil, err
	}
	if len(digests) < len(pins) {
		// Fetch asks have before anything is taken.
		have := func(p lock.Pin) bool { return !digests[p.Name].IsZero() }
		took := func(p lock.Pin, d digest.Digest) { digests[p.Name] = d }
		if err := s.ingest(ctx, pins, have, lenient, took); err != nil {
			return nil, err
		}
	}
	wheels := make([]manifest.Wheel, len(pins))
	for i, p := range pins {
		wheels[i] = manifest.Wheel{
			Digest:    digests[p.Name],
			Name:      p.Name,
			Version:   p.Version,
			Requested: p.Requested,
			DirectURL: string(p.DirectURL()),
		}
	}
	return wheels, nil
}

// stored returns which of the pins the store has, by name.
func (s *Session) stored(ctx context.Context, pins []lock.Pin) (map[string]digest.Digest, error) {
	digests := make(map[string]digest.Digest, len(pins))
	for _, p := range pins {
		algorithm, sum := strongest(p.Hashes)
		d, ok, err := s.Store.WheelByHash(ctx, algorithm, sum)
		if err != nil {
			return nil, err
		}
		if ok {
			digests[p.Name] = d
		}
	}
	return digests, nil
}

// strongest returns the hash by which the store finds a wheel: sha256, which is
// the wheel's name there, else one that the catalog knows.
func strongest(hashes map[string]string) (algorithm, sum string) {
	for _, a := range digest.Strong {
		if sum, ok := hashes[a]; ok {
			return a, sum
		}
	}
	return "", ""
}

// ingest fetches the pins that have is false for and tells took, one call at a time, the digest of each
// wheel. What arrived whole before a failure stays in the store: the next try goes
// on from there.
func (s *Session) ingest(ctx context.Context, pins []lock.Pin, have func(lock.Pin) bool, lenient Leniency, took func(lock.Pin, digest.Digest)) error {
	downloads, err := s.Store.Downloads()
	if err != nil {
		return err
	}
	f, err := fetch.New(fetch.Config{Dir: downloads, Version: s.Version, Offline: s.Offline})
	if err != nil {
		return err
	}
	in := intake{store: s.Store, portion: portion}
	var mu sync.Mutex
	add := func(ctx context.Context, pin lock.Pin, r io.ReaderAt, size int64, progress func(int64)) error {
		added, err := in.add(ctx, pin, r, size, store.AddOptions{
			Want:           pin.Hashes,
			AllowBadRecord: lenient.AllowBadRecord,
			UnpackLimit:    lenient.UnpackLimit,
			Progress:       progress,
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, w := range added.Info.Warnings {
			s.Warn(pin.Filename + ": " + w)
		}
		took(pin, added.Digest)
		return nil
	}
	err = f.Fetch(ctx, pins, have, add, s.Progress)
	return errors.Join(err, in.close())
}

// Add puts wheels, and all wheels of folders, into the store, and returns their
// digests.
func (s *Session) Add(ctx context.Context, paths []string, lenient Leniency) ([]digest.Digest, error) {
	var pins []lock.Pin
	for _, path := range paths {
		found, err := wheelPins(s.absolute(path))
		if err != nil {
			return nil, err
		}
		pins = append(pins, found...)
	}
	var added []digest.Digest
	none := func(lock.Pin) bool { return false }
	err := s.ingest(ctx, pins, none, lenient, func(_ lock.Pin, d digest.Digest) { added = append(added, d) })
	return added, err
}

// wheelPins returns pins that name the wheel at path, or those in the folder.
func wheelPins(path string) ([]lock.Pin, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: there is no such wheel or folder", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		pin, err := wheelPin(path)
		return []lock.Pin{pin}, err
	}
	files, err := wheelFiles(path)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%q: the folder holds no wheel (*.whl)", path)
	}
	pins := make([]lock.Pin, len(files))
	for i, f := range files {
		if pins[i], err = wheelPin(filepath.Join(path, f.Name)); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// wheelPin returns a pin that names the wheel at path and nothing more.
func wheelPin(path string) (lock.Pin, error) {
	file := filepath.Base(path)
	name, err := tag.ParseWheelName(file)
	return lock.Pin{Name: name.Name, Version: name.RawVersion, Filename: file, Path: path}, err
}
