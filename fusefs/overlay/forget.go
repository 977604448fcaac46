package overlay

import (
	"errors"
	"io/fs"
	"sync"
)

// lookups counts how often the kernel was given a node and has not forgotten it:
// the FORGET that takes the count to 0 is when an unlinked file goes.
//
// Of what a process before this one gave out, the counts died with it. Only nodes
// that were made since are counted then; of the others the kernel is asked, whenever
// it has forgotten them once, whether it knows them still.
type lookups struct {
	all    bool // every node is counted
	shards [lookupShards]struct {
		mu     sync.Mutex
		counts map[uint64]uint64
	}
}

// lookupShards lets requests that go on at the same time count without waiting.
const lookupShards = 64

func (l *lookups) init(all bool) {
	l.all = all
	for i := range l.shards {
		l.shards[i].counts = make(map[uint64]uint64)
	}
}

// add counts one more, if the node is counted at all.
func (l *lookups) add(id uint64) {
	s := &l.shards[id%lookupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.counts[id]; ok || l.all {
		s.counts[id]++
	}
}

// begin has a node that is new counted.
func (l *lookups) begin(id uint64) {
	s := &l.shards[id%lookupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[id] += 0
}

// forget takes n off, and reports whether nothing is left, and whether the node is
// counted at all. Where not every node is, the 0 stays: to be without a count means not
// to be known there.
func (l *lookups) forget(id, n uint64) (gone, counted bool) {
	s := &l.shards[id%lookupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.counts[id]
	if !ok {
		return false, l.all
	}
	if c > n {
		s.counts[id] = c - n
		return false, true
	}
	s.counts[id] = 0
	if l.all {
		delete(s.counts, id)
	}
	return true, true
}

// end has a node that is no more counted no longer.
func (l *lookups) end(id uint64) {
	s := &l.shards[id%lookupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.counts, id)
}

// known reports whether the kernel may know a node.
func (l *lookups) known(id uint64) bool {
	s := &l.shards[id%lookupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.counts[id]
	return c > 0 || !ok && !l.all
}

// Forget takes RELEASE's place: what has no name goes with the last use.
func (f *FS) Forget(id, count uint64) {
	gone, counted := f.seen.forget(id, count)
	if counted && !gone {
		return
	}
	f.mu.RLock()
	n := f.nodes[id]
	unlinked := n != nil && n.unlinked()
	f.mu.RUnlock()
	switch {
	case !counted:
		if unlinked {
			f.notify.ask(id)
		}
	case !unlinked:
		f.files.forget(id)
	default:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reap(n)
	}
}

// askForOrphans asks which of the nodes that were unlinked before this process began
// the kernel has forgotten: nobody may have heard of it.
func (f *FS) askForOrphans() {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for id, n := range f.nodes {
		if n.unlinked() && n.real {
			f.notify.ask(id)
		}
	}
}

// forgotten removes an unlinked node that the kernel says it doesn't know. Without a
// name it will never hear of it again.
func (f *FS) forgotten(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[id]; n != nil && n.unlinked() {
		f.seen.begin(id)
		f.reap(n)
	}
}

// reap removes an unlinked node that the kernel doesn't know. mu is held for
// writing.
func (f *FS) reap(n *node) {
	if !n.unlinked() || f.nodes[n.id] != n || f.seen.known(n.id) {
		return
	}
	delete(f.nodes, n.id)
	f.seen.end(n.id)
	f.files.drop(n.id)
	if !n.real {
		return
	}
	if err := f.dir.RemoveOrphan(n.id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Printf("overlay: removing what was unlinked: %v", err)
	}
}
