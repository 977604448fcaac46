// Package doctor finds out what on a machine helps sitefs and what is in its way.
//
// It makes checks of what the rooms below find: whether a mount, a clone or a
// namespace works is tried where that is done, and a check says of it what was
// found, what is wanted and the line that mends it. Whatever can be tried is
// tried, with a real file or a real mount, since what a machine says of itself is
// the smaller half of what forbids things.
//
// The package changes nothing. What it tries is gone when it returns: a mount on a
// folder of its own, and a few files in one beside the user's.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Status is how grave a finding is.
type Status string

const (
	OK      Status = "ok"
	Note    Status = "note"    // worth to know, and nothing to mend for most
	Warning Status = "warning" // sitefs works, but not all of it, or not for long
	Failure Status = "failure" // sitefs doesn't work here
)

// A Check is one thing that was looked at. In JSON it is a line of its own.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Wanted string `json:"wanted"`

	// Fix is what to do where Found is not what is wanted: a command line where
	// there is one.
	Fix string `json:"fix,omitempty"`
}

// Examine looks at everything, and returns the checks in the order in which to read
// them. It looks side by side: programs that are asked for their version take most
// of the time.
func (m *Machine) Examine(ctx context.Context) []Check {
	looks := []func(context.Context) []Check{
		m.mounting,
		m.allowOther,
		m.confinement,
		m.deadMounts,
		m.store,
		m.links,
		m.space,
		m.names,
		m.syncing,
		m.descriptors,
		m.clock,
		m.python,
		m.resolver,
		m.path,
	}
	found := make([][]Check, len(looks))
	var wg sync.WaitGroup
	for i, look := range looks {
		wg.Go(func() { found[i] = look(ctx) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

// A FailedError names the checks that failed.
type FailedError struct{ Names []string }

func (e *FailedError) Error() string {
	return fmt.Sprintf("sitefs doesn't work here: see %s above", strings.Join(e.Names, ", "))
}

// Verdict returns a [FailedError] if a check failed.
func Verdict(checks []Check) error {
	var names []string
	for _, c := range checks {
		if c.Status == Failure {
			names = append(names, c.Name)
		}
	}
	if names == nil {
		return nil
	}
	return &FailedError{names}
}
