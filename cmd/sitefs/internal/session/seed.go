package session

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
)

// seed adds pip to pins that have none: the one that the interpreter brings along, as
// `python -m venv` does it. No network is asked.
func (s *Session) seed(ctx context.Context, finder *interp.Finder, py *interp.Python, pins []lock.Pin) ([]lock.Pin, error) {
	if slices.ContainsFunc(pins, func(p lock.Pin) bool { return p.Name == "pip" }) {
		return pins, nil
	}
	path, err := finder.BundledPip(ctx, py)
	if err != nil {
		return nil, err
	}
	pin, err := wheelPin(path)
	if err != nil {
		return nil, fmt.Errorf("the pip of %s: %w", py, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the pip of %s: %w", py, err)
	}
	pin.Hashes = map[string]string{"sha256": digest.Of(data).String()}
	pin.Requested = true
	s.Note(fmt.Sprintf("seed: pip %s, from %s", pin.Version, path))
	return append(pins, pin), nil
}
