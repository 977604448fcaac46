package session

import (
	"path/filepath"

	"github.com/sitefs/sitefs/store/confine"
)

// rules are what is left to a worker: to read the store, to hold its lease there,
// and to write the time of day into its log.
func (v Worker) rules() confine.Rules {
	return confine.Rules{
		Read:   []string{v.Store, "/etc/localtime", "/usr/share/zoneinfo"},
		Write:  []string{filepath.Join(v.Store, "leases"), filepath.Join(v.Store, "lock")},
		Search: confine.NeedsSearch(v.Store),
	}
}
