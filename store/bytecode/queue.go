package bytecode

import (
	"slices"
	"sync"

	"github.com/sitefs/sitefs/manifest/tree"
)

// maxAhead bounds the stack of what may be compiled ahead. What an environment
// imports at a time is some thousand sources; below them lie those that nobody
// will ask for.
const maxAhead = 1 << 14

// A job is one entry to be made. The sequence numbers are of those who wait for
// it; without any it is done ahead of need.
type job struct {
	key
	source  Source
	node    tree.ID // the first that it was asked for
	waiting []uint64
	ahead   bool // nobody had asked when it was begun
}

// A guess is a node that may be asked for next.
type guess struct {
	node tree.ID
	opt  int
}

// A queue holds what a host has to do: first what somebody waits for, in the order
// of asking, then guesses, the latest first, so that their order is the one in
// which Python imports, depth first. Its methods may be called concurrently.
type queue struct {
	layout *layout
	wake   chan struct{} // has a token for each worker that may find something

	mu      sync.Mutex
	jobs    map[key]*job // asked for or being made
	asked   []*job
	guesses []guess
	past    map[guess]bool // guesses that were taken, once and for all
}

func newQueue(l *layout, workers int) *queue {
	return &queue{layout: l, wake: make(chan struct{}, workers), jobs: map[key]*job{}, past: map[guess]bool{}}
}

// ask has seq wait for the bytecode of a node. It reports false if the node is no
// source.
func (q *queue) ask(seq uint64, node tree.ID, opt int) bool {
	s, ok := q.layout.source(node)
	if !ok {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	k := key{s.Digest, opt}
	j := q.jobs[k]
	if j == nil {
		j = &job{key: k, source: s, node: node}
		q.jobs[k] = j
		q.asked = append(q.asked, j)
		q.signal()
	}
	j.waiting = append(j.waiting, seq)
	return true
}

// guess puts nodes before all other guesses, the first of them foremost.
func (q *queue) guess(nodes []tree.ID, opt int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range slices.Backward(nodes) {
		g := guess{id, opt}
		if !q.past[g] && len(q.guesses) < maxAhead {
			q.guesses = append(q.guesses, g)
			q.signal()
		}
	}
}

// signal wakes a worker. A full channel wakes all of them.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the next job, or nil if there is none. The caller gives it back to
// done.
func (q *queue) take() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.asked) > 0 {
		j := q.asked[0]
		q.asked = q.asked[1:]
		return j
	}
	for len(q.guesses) > 0 {
		g := q.guesses[len(q.guesses)-1]
		q.guesses = q.guesses[:len(q.guesses)-1]
		if j := q.begin(g); j != nil {
			return j
		}
	}
	return nil
}

// begin makes a job of a guess, or nil if it was one before, or is one.
func (q *queue) begin(g guess) *job {
	if q.past[g] {
		return nil
	}
	q.past[g] = true
	s, ok := q.layout.source(g.node)
	k := key{s.Digest, g.opt}
	if !ok || q.jobs[k] != nil {
		return nil
	}
	j := &job{key: k, source: s, node: g.node, ahead: true}
	q.jobs[k] = j
	return j
}

// yield ends a job that another host is at. If somebody came to wait for it, it is
// asked for like any other.
func (q *queue) yield(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(j.waiting) == 0 {
		delete(q.jobs, j.key)
		return
	}
	j.ahead = false
	q.asked = append(q.asked, j)
	q.signal()
}

// done ends a job and returns who waits for it.
func (q *queue) done(j *job) []uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.jobs, j.key)
	return j.waiting
}

// drop ends all waiting and forgets all guesses. Jobs that are being made go on,
// for nobody.
func (q *queue) drop() (waiting []uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		waiting = append(waiting, j.waiting...)
		j.waiting = nil
	}
	for _, j := range q.asked {
		delete(q.jobs, j.key)
	}
	q.asked, q.guesses = nil, nil
	return waiting
}

// empty reports whether there is nothing to do and nothing being done.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs) == 0 && len(q.guesses) == 0
}
