package bytecode

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

// An AllConfig says how [CompileAll] compiles.
type AllConfig struct {
	Cache     *Cache
	Scratch   string // a folder of the caller's own, on the cache's file system
	Python    string // absolute path of the interpreter
	Compilers int    // how many interpreters run at once
	Nice      int    // added to their niceness
	Optimize  int    // the level of optimisation: 0, 1 or 2
}

// A Summary says what became of sources.
type Summary struct {
	Compiled int // now
	Cached   int // before
	Failed   int // those without bytecode, whenever that was found

	Failures []Failure // of Failed, in no order
}

// Missing returns those of sources that have no entry, each content once. It looks
// at names alone, since an entry that turns out to be damaged is made anew when it
// is first asked for.
func (c *Cache) Missing(sources []Source, opt int) []Source {
	var missing []Source
	seen := make(map[digest.Digest]bool, len(sources))
	for _, s := range sources {
		if seen[s.Digest] {
			continue
		}
		seen[s.Digest] = true
		if unix.Access(c.path(key{s.Digest, opt}), unix.F_OK) != nil {
			missing = append(missing, s)
		}
	}
	return missing
}

// CompileAll makes the bytecode of sources that isn't there yet. Progress, which
// may be nil, is called after each source with the number that are done.
//
// A source that doesn't compile is no error, but a full disk is, or an interpreter
// that can't be used. When ctx ends, the error is ctx's. The summary is of what was
// done in any case, and what was done is kept.
func CompileAll(ctx context.Context, c AllConfig, sources []Source, progress func(done int)) (sum Summary, err error) {
	w, err := newWorks(c.Cache, c.Scratch, compiler.Config{Python: c.Python, Nice: c.Nice})
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	return compileAll(ctx, w, c.Compilers, c.Optimize, sources, progress)
}

func compileAll(ctx context.Context, w *works, compilers, opt int, sources []Source, progress func(done int)) (Summary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := batch{opt: opt, progress: progress}
	todo := make(chan *Source)
	var workers sync.WaitGroup
	for range compilers {
		workers.Go(func() {
			m := &maker{works: w}
			for s := range todo {
				if err := b.do(ctx, m, s); err != nil {
					cancel(err)
				}
			}
			if err := m.rest(); err != nil {
				cancel(err)
			}
		})
	}
	for i := range sources {
		select {
		case todo <- &sources[i]:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(todo)
	workers.Wait()
	if ctx.Err() != nil {
		return b.sum, context.Cause(ctx)
	}
	return b.sum, nil
}

// A batch adds up what the makers of a [CompileAll] do.
type batch struct {
	opt      int
	progress func(int)

	mu   sync.Mutex
	sum  Summary
	done int
}

// do makes one entry. Its error ends the batch.
func (b *batch) do(ctx context.Context, m *maker, s *Source) error {
	e, r, err := m.make(ctx, s, b.opt, true)
	if ctx.Err() != nil {
		return nil // an unfinished source is none
	}
	if bad := (setback{}); errors.As(err, &bad) {
		return fmt.Errorf("compile %q: %w", s.Path, bad.error)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.fail(s.Path, err.Error())
	case e.kind == kindFailure:
		b.fail(s.Path, e.reason)
	case r == made:
		b.sum.Compiled++
	default:
		b.sum.Cached++
	}
	b.done++
	if b.progress != nil {
		b.progress(b.done)
	}
	return nil
}

func (b *batch) fail(path, reason string) {
	b.sum.Failed++
	b.sum.Failures = append(b.sum.Failures, Failure{path, reason})
}
