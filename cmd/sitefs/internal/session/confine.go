package session

import (
	"path/filepath"

	"github.com/sitefs/sitefs/store/confine"
)

// rules are what is left to a worker: to read the store, to hold its lease there,
// to write the time of day into its log, and to do as it likes in the overlay.
func (v Worker) rules() confine.Rules {
	r := confine.Rules{
		Read:   []string{v.Store, "/etc/localtime", "/usr/share/zoneinfo"},
		Write:  []string{filepath.Join(v.Store, "leases"), filepath.Join(v.Store, "lock")},
		Search: confine.NeedsSearch(v.Store),
	}
	if v.Overlay != "" {
		r.Own = []string{v.Overlay}
	}
	return r
}
