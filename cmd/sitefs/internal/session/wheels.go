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
	if err := s.ingest(ctx, pins, digests, lenient); err != nil {
		return nil, err
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

// ingest fetches the pins that digests lacks, and adds them to it. What arrived
// whole before a failure stays in the store: the next try goes on from there.
func (s *Session) ingest(ctx context.Context, pins []lock.Pin, digests map[string]digest.Digest, lenient Leniency) error {
	if len(digests) == len(pins) {
		return nil
	}
	downloads, err := s.Store.Downloads()
	if err != nil {
		return err
	}
	f, err := fetch.New(fetch.Config{Dir: downloads, Version: s.Version, Offline: s.Offline})
	if err != nil {
		return err
	}
	// Copied: have is asked while add writes.
	had := make(map[string]bool, len(digests))
	for name := range digests {
		had[name] = true
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
		digests[pin.Name] = added.Digest
		return nil
	}
	err = f.Fetch(ctx, pins, func(p lock.Pin) bool { return had[p.Name] }, add, s.Progress)
	return errors.Join(err, in.close())
}

// Add puts wheels, and all wheels of folders, into the store.
func (s *Session) Add(ctx context.Context, paths []string, lenient Leniency) error {
	var pins []lock.Pin
	for _, path := range paths {
		found, err := wheelPins(s.absolute(path))
		if err != nil {
			return err
		}
		pins = append(pins, found...)
	}
	return s.ingest(ctx, pins, map[string]digest.Digest{}, lenient)
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
