package wheelhouse

import (
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// The part of pylock.toml (PEP 751) that pins wheels.
type (
	pylock struct {
		LockVersion string          `toml:"lock-version"`
		CreatedBy   string          `toml:"created-by"`
		Packages    []pylockPackage `toml:"packages"`
	}
	pylockPackage struct {
		Name    string        `toml:"name"`
		Version string        `toml:"version"`
		Wheels  []pylockWheel `toml:"wheels"`
	}
	pylockWheel struct {
		Name   string            `toml:"name"`
		URL    string            `toml:"url,omitempty"`
		Path   string            `toml:"path,omitempty"`
		Size   int64             `toml:"size"`
		Hashes map[string]string `toml:"hashes,inline"`
	}
)

// PylockURL writes a pylock.toml that pins wheels where a [Server] of that URL
// offers them.
func PylockURL(wheels []Wheel, base string) ([]byte, error) {
	return writePylock(wheels, func(w Wheel) pylockWheel {
		return pylockWheel{URL: base + "/files/" + w.Filename}
	})
}

// PylockPath writes a pylock.toml that pins wheels as files of a directory. The
// directory is written as given: if relative, it is so to the lock file.
func PylockPath(wheels []Wheel, dir string) ([]byte, error) {
	return writePylock(wheels, func(w Wheel) pylockWheel {
		return pylockWheel{Path: filepath.ToSlash(filepath.Join(dir, w.Filename))}
	})
}

func writePylock(wheels []Wheel, source func(Wheel) pylockWheel) ([]byte, error) {
	lock := pylock{LockVersion: "1.0", CreatedBy: "sitefs-wheelhouse"}
	for _, w := range slices.SortedFunc(slices.Values(wheels), byName) {
		pin := source(w)
		pin.Name = w.Filename
		pin.Size = w.Size
		pin.Hashes = map[string]string{"sha256": w.Digest.String()}
		name := canonical(w.Name())
		if n := len(lock.Packages); n > 0 && lock.Packages[n-1].Name == name && lock.Packages[n-1].Version == w.Version() {
			lock.Packages[n-1].Wheels = append(lock.Packages[n-1].Wheels, pin)
			continue
		}
		lock.Packages = append(lock.Packages, pylockPackage{Name: name, Version: w.Version(), Wheels: []pylockWheel{pin}})
	}
	return toml.Marshal(lock)
}
