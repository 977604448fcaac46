package mount

import (
	"sync"
	"sync/atomic"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// cases are the requests that earlier workers died with.
type cases struct {
	// careful is set where one of them is to be handled alone.
	careful bool
	gate    sync.RWMutex // held for writing by the one that is alone

	left atomic.Int32 // len(verdicts)

	mu       sync.Mutex
	verdicts map[uint64]shared.Verdict // by the request's number
}

// open begins with what the shared memory tells.
func (c *cases) open(list []shared.Case) {
	c.verdicts = make(map[uint64]shared.Verdict)
	for _, one := range list {
		c.verdicts[one.Unique] = one.Verdict
		c.careful = c.careful || one.Verdict == shared.Suspect
	}
	c.left.Store(int32(len(c.verdicts)))
}

// of returns the verdict on a request, if there is one.
func (c *cases) of(unique uint64) (v shared.Verdict, known bool) {
	if c.left.Load() == 0 {
		return shared.Noted, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, known = c.verdicts[unique]
	return v, known
}

// close forgets a request, which was answered.
func (c *cases) close(unique uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.verdicts, unique)
	c.left.Store(int32(len(c.verdicts)))
}

func nothing() {}

// enter waits until the request may be handled, sets its phase and returns what
// to call afterwards. While a suspect is handled nothing else is, so that a death
// then has one cause.
func (c *cases) enter(q *shared.Request, v shared.Verdict) (leave func()) {
	switch {
	case v == shared.Suspect:
		c.gate.Lock()
		q.Phase = shared.Alone
		return c.gate.Unlock
	case c.careful && !immediate(q.Opcode):
		c.gate.RLock()
		q.Phase = shared.Handling
		return c.gate.RUnlock
	}
	q.Phase = shared.Handling
	return nothing
}

// immediate reports whether a request must not wait for others: they may wait
// for it.
func immediate(opcode uint32) bool {
	return opcode == opForget || opcode == opBatchForget || opcode == opInterrupt
}
