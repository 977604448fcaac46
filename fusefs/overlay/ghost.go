package overlay

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/view"
)

// The view answers for bytecode that no listing has. Of a source that is the
// lower's, unchanged and in its place, the overlay passes the answer on; all other
// bytecode is in the upper, or nowhere.

// maySee reports whether bytecode is shown under a name of a directory of the lower,
// if the lower has it: it vanishes with the sources. Other names are shown. Dir is the
// directory's object, nil if it has none. mu is held.
func (f *FS) maySee(dir *node, lower uint64, name string) bool {
	if view.IsGhost(lower) {
		sources := f.nodes[f.lower.SourceDir(lower)]
		if sources == nil {
			return true // whatever the view says of the name
		}
		source, ok := f.lower.SourceName(name)
		return ok && f.keepsBytecode(sources, source)
	}
	return name != view.CacheName || dir == nil || f.hasBytecode(dir)
}

// keepsBytecode reports whether a source of dir is as the lower has it. mu is
// held.
func (f *FS) keepsBytecode(dir *node, source string) bool {
	if dir.white[source] || dir.lower == 0 {
		return false
	}
	n := dir.kids[source]
	return n == nil || !n.real && (n.record == nil || n.record.Mtime == nil)
}

// hasBytecode reports whether any source of dir is as the lower has it. It goes
// through the lower's names the first time. mu is held.
func (f *FS) hasBytecode(dir *node) bool {
	dir.counting.Lock()
	defer dir.counting.Unlock()
	if !dir.counted {
		n, err := f.countSources(dir)
		if err != nil {
			return false // a LOOKUP of the sources says what is wrong
		}
		dir.sources, dir.counted = n, true
	}
	return dir.sources > 0
}

// countSources returns how many sources of dir are as the lower has them.
func (f *FS) countSources(dir *node) (n int, err error) {
	if dir.lower == 0 {
		return 0, nil
	}
	err = f.lower.Entries(dir.lower, 0, func(_ int, name []byte, _ uint64, a *fuse.Attr) bool {
		if f.isSource(string(name), a.Mode) && f.keepsBytecode(dir, string(name)) {
			n++
		}
		return true
	})
	return n, err
}

// isSource reports whether a file of the lower may have bytecode.
func (f *FS) isSource(name string, mode uint32) bool {
	return mode&syscall.S_IFMT == syscall.S_IFREG && len(f.lower.CodeNames(name)) > 0
}

// losesSource says that a source of dir is about to be no longer as the lower
// has it. The returned function, once it is so, has the kernel forget its
// bytecode, and __pycache__ with the last. mu is held for writing.
func (f *FS) losesSource(dir *node, name string) func() {
	names := f.lower.CodeNames(name)
	id, err := f.childOfLower(dir, name)
	if len(names) == 0 || err != nil || id == 0 || !f.keepsBytecode(dir, name) || !f.hasBytecode(dir) {
		return func() {}
	}
	cache, err := f.lower.Child(dir.lower, view.CacheName)
	if err != nil || !view.IsGhost(cache) {
		return func() {}
	}
	return func() {
		if f.seen.known(cache) {
			for _, n := range names {
				f.notify.entry(cache, n)
			}
		}
		dir.counting.Lock()
		defer dir.counting.Unlock()
		if dir.sources--; dir.sources == 0 {
			f.notify.entry(dir.id, view.CacheName)
		}
	}
}

// sourceChanged says that the content or the time of a file is no longer the
// lower's. mu is held for writing, and the change not yet in memory.
func (f *FS) sourceChanged(n *node) func() {
	if n.unlinked() || !ofLower(n.id) {
		return func() {}
	}
	return f.losesSource(n.places[0].dir, n.places[0].name)
}

// tellListing has the kernel list again the directory above a __pycache__ that has
// begun to show, or no longer does: for the kernel nothing changed there. mu is held for
// writing.
func (f *FS) tellListing(dir *node) {
	if !view.IsGhost(dir.id) || dir.unlinked() {
		return
	}
	if shown := !dir.isGhost(view.CacheName); shown != dir.shown {
		dir.shown = shown
		f.notify.inode(dir.places[0].dir.id)
	}
}

// A notice is what the kernel is told to ask for again: a name in a directory, or
// with none the node itself. Or it is asked whether it knows the node.
type notice struct {
	node uint64
	name string
	ask  bool
}

// notices tells the kernel, from a goroutine of its own: it may wait for a request
// that a mutation keeps waiting.
type notices struct {
	to        Notifier          // nil: there is no kernel
	forgotten func(node uint64) // called with what it was asked for and doesn't know

	mu      sync.Mutex
	wake    sync.Cond
	queue   []notice
	stopped bool
}

// start begins to tell to.
func (q *notices) start(to Notifier) {
	q.to = to
	q.wake.L = &q.mu
	if to != nil {
		go q.run()
	}
}

func (q *notices) run() {
	for n, ok := q.next(); ok; n, ok = q.next() {
		// An error says that the kernel has nothing to forget, or is gone.
		switch {
		case n.ask:
			if known, err := q.to.Known(n.node); err == nil && !known {
				q.forgotten(n.node)
			}
		case n.name == "":
			_ = q.to.Inode(n.node)
		default:
			_ = q.to.Entry(n.node, n.name)
		}
	}
}

// next waits for a notice.
func (q *notices) next() (notice, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.stopped {
		q.wake.Wait()
	}
	if q.stopped {
		return notice{}, false
	}
	n := q.queue[0]
	q.queue = q.queue[1:]
	return n, true
}

func (q *notices) entry(dir uint64, name string) { q.put(notice{node: dir, name: name}) }
func (q *notices) inode(node uint64)             { q.put(notice{node: node}) }
func (q *notices) ask(node uint64)               { q.put(notice{node: node, ask: true}) }

func (q *notices) put(n notice) {
	if q.to == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, n)
	q.wake.Signal()
}

// stop ends the telling and doesn't wait for what is under way: the kernel may hold
// that up until a successor answers a request. What is left the successor tells,
// see FS.tellAgain.
func (q *notices) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.wake.Signal()
}

// tellAgain repeats what a process before this one may not have told.
func (f *FS) tellAgain() {
	for _, dir := range f.nodes {
		if dir.lower == 0 || !dir.isDir() || len(dir.kids)+len(dir.white) == 0 {
			continue
		}
		cache, err := f.lower.Child(dir.lower, view.CacheName)
		if err != nil || !view.IsGhost(cache) {
			continue
		}
		for name := range dir.white {
			f.tellSource(dir, cache, name)
		}
		for name := range dir.kids {
			f.tellSource(dir, cache, name)
		}
		if !f.hasBytecode(dir) {
			f.notify.entry(dir.id, view.CacheName)
		}
	}
}

// tellSource has the kernel ask again for the bytecode of a source that the lower
// no longer has as it was.
func (f *FS) tellSource(dir *node, cache uint64, name string) {
	if f.keepsBytecode(dir, name) {
		return
	}
	for _, n := range f.lower.CodeNames(name) {
		f.notify.entry(cache, n)
	}
}
