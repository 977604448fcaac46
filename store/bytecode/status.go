package bytecode

import (
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Status is what a client has done and why it does less, since it was made.
type Status struct {
	// Hits are the questions that an entry answered, Compiled those for which
	// the source was compiled. Ahead are sources that were compiled before
	// anybody asked.
	Hits     int64 `json:"hits"`
	Compiled int64 `json:"compiled"`
	Ahead    int64 `json:"ahead"`

	// Failed are the questions for sources that don't compile. Declined are
	// those that got no bytecode for another reason, and may the next time.
	Failed   int64 `json:"failed"`
	Declined int64 `json:"declined"`

	// Off says why nothing is compiled; empty when something is.
	Off string `json:"off,omitempty"`

	// Failures are the last failures of either kind, the latest at the end.
	Failures []Failure `json:"failures,omitempty"`
}

// A Failure is a source without bytecode and why.
type Failure struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// maxFailures is how many failures a status remembers: enough to see what they
// have in common.
const maxFailures = 10

// counts are the numbers of a [Status]. What they mean may only change with the
// version of the memory that they lie in.
type counts struct {
	hits, compiled, ahead, failed, declined atomic.Int64
}

// counters are what a [Status] is made of.
type counters struct {
	*counts

	mu       sync.Mutex
	failures []Failure
}

// newCounters returns counters that go on from area, if there is room in it.
func newCounters(area []byte) *counters {
	if len(area) < int(unsafe.Sizeof(counts{})) {
		return &counters{counts: new(counts)}
	}
	return &counters{counts: (*counts)(unsafe.Pointer(unsafe.SliceData(area)))}
}

// note remembers a failure. One that repeats is kept once, as the latest.
func (c *counters) note(f Failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(slices.DeleteFunc(c.failures, func(old Failure) bool { return old == f }), f)
	if len(c.failures) > maxFailures {
		c.failures = slices.Delete(c.failures, 0, 1)
	}
}

func (c *counters) status(off string) Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Status{
		Hits:     c.hits.Load(),
		Compiled: c.compiled.Load(),
		Ahead:    c.ahead.Load(),
		Failed:   c.failed.Load(),
		Declined: c.declined.Load(),
		Off:      off,
		Failures: slices.Clone(c.failures),
	}
}
