package store

import (
	"errors"
	"fmt"
	"os"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Lease says that a tree is in use. It ends with Close or with the process,
// whatever ends that.
type Lease struct {
	f *os.File // locked; nil for a store that nobody can collect
}

// Lease takes a lease on a tree: a locked file in the store that names the
// tree. A store that is read-only for this process gives a lease that holds
// nothing.
func (s *Store) Lease(d digest.Digest) (*Lease, error) {
	if s.readOnly != nil {
		return &Lease{}, nil
	}
	f, err := s.claim(func() (*os.File, error) { return os.CreateTemp(s.path("leases"), d.String()+"-") })
	if err != nil {
		return nil, fmt.Errorf("lease tree %v: %w", d, err)
	}
	return &Lease{f}, nil
}

// Close ends the lease.
func (l *Lease) Close() error {
	if l.f == nil {
		return nil
	}
	return errors.Join(os.Remove(l.f.Name()), l.f.Close())
}
