package bytecode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/store/bytecode/internal/compiler"
)

const (
	// lockTime is how long a source waits for another host that compiles it: most
	// take milliseconds. A host that was stopped holds its locks, so then the
	// source is compiled here too, which does no harm.
	lockTime = 5 * time.Second

	// lockTick is how often a lock is tried. There is no waiting for one with a
	// bound (fcntl(2)).
	lockTick = 2 * time.Millisecond
)

// An interpreter compiles; it is a [compiler.Compiler].
type interpreter interface {
	Compile(ctx context.Context, source []byte, name string, opt int) ([]byte, error)
	Dead() bool
	Close() error
}

// A setback is a failure that other sources will meet as well: no interpreter, no
// place on the disk.
type setback struct{ error }

func (s setback) Unwrap() error { return s.error }

// A works is what the makers of one process share.
type works struct {
	cache *Cache
	locks *locks
	dir   string // to write in
	start func(context.Context) (interpreter, error)

	files atomic.Uint64 // written so far
}

// newWorks opens the cache for writing. Scratch is a folder of the caller's own on
// the cache's file system.
func newWorks(c *Cache, scratch string, conf compiler.Config) (*works, error) {
	l, err := openLocks(c)
	if err != nil {
		return nil, fmt.Errorf("open the cache of bytecode for writing: %w", err)
	}
	conf.Tag, conf.Magic = c.version.Tag, c.version.Magic
	return &works{
		cache: c,
		locks: l,
		dir:   scratch,
		start: func(ctx context.Context) (interpreter, error) { return compiler.Start(ctx, conf) },
	}, nil
}

func (w *works) close() error { return w.locks.close() }

// A maker makes entries, one at a time, with one interpreter that it starts when it
// needs it.
type maker struct {
	*works
	python interpreter // nil: not started
	text   []byte      // the source that make has read; nil if it had no need to
}

// make returns the entry of a source, and how it came about: made, or found. If
// another host is making it, make waits for it or, without wait, returns notNow.
// An error is a [setback] or one of this source; neither is remembered.
func (m *maker) make(ctx context.Context, s *Source, opt int, wait bool) (entry, result, error) {
	m.text = nil
	k := key{s.Digest, opt}
	unlock, ok := m.lock(ctx, k, wait)
	if !ok {
		return entry{}, notNow, nil
	}
	defer unlock()
	if e, ok := m.cache.find(s, opt); ok {
		return e, found, nil
	}
	text, err := m.source(s.Digest)
	if err != nil {
		return entry{}, notNow, err
	}
	m.text = text
	bytes, err := m.compile(ctx, text, s.Path, opt)
	if bad := (*compiler.SourceError)(nil); errors.As(err, &bad) {
		return entry{kind: kindFailure, path: s.Path, reason: bad.Reason}, made, m.put(k, kindFailure, failurePayload(s.Path, bad.Reason))
	}
	if err != nil {
		return entry{}, notNow, err
	}
	h := header(m.cache.magic, s)
	return entry{kind: kindCode, size: int64(len(h) + len(bytes))}, made, m.put(k, kindCode, append(h[:], bytes...))
}

// lock locks a key. It reports false if another host has it and wait is not set.
func (m *maker) lock(ctx context.Context, k key, wait bool) (unlock func(), ok bool) {
	unlock, ok = m.locks.try(k)
	if ok || !wait {
		return unlock, ok
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	tick := time.NewTicker(lockTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return func() {}, true
		case <-tick.C:
			if unlock, ok := m.locks.try(k); ok {
				return unlock, true
			}
		}
	}
}

// source returns the bytes of a source. They are hashed: the store promises that a
// blob is right, but an entry made from a damaged one would outlive the repair.
func (m *maker) source(d digest.Digest) ([]byte, error) {
	text, err := m.cache.blobs.ReadBlob(d)
	if err != nil {
		return nil, fmt.Errorf("read the source: %w", err)
	}
	if got := digest.Of(text); got != d {
		return nil, fmt.Errorf("the source is damaged: blob %s has the content of %s", d, got)
	}
	return text, nil
}

// compile compiles a source. An interpreter that something else than the source
// and what it needs ended gets one successor.
func (m *maker) compile(ctx context.Context, text []byte, name string, opt int) (code []byte, err error) {
	for range 2 {
		if m.python == nil {
			if m.python, err = m.start(ctx); err != nil {
				m.python = nil // the interface would hold a nil pointer
				return nil, setback{err}
			}
		}
		code, err = m.python.Compile(ctx, text, name, opt)
		if m.python.Dead() {
			err = errors.Join(err, m.rest())
		}
		bad := (*compiler.SourceError)(nil)
		if err == nil || errors.As(err, &bad) || errors.Is(err, compiler.ErrMemory) || ctx.Err() != nil {
			break
		}
	}
	return code, err
}

// rest ends the interpreter; the next source starts another.
func (m *maker) rest() error {
	if m.python == nil {
		return nil
	}
	err := m.python.Close()
	m.python = nil
	return err
}

func (m *maker) put(k key, kind kind, payload []byte) error {
	aside := filepath.Join(m.dir, strconv.FormatUint(m.files.Add(1), 10)+".pyc")
	if err := m.cache.put(aside, k, kind, payload); err != nil {
		return setback{fmt.Errorf("keep bytecode: %w", err)}
	}
	return nil
}
