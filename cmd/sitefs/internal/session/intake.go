package session

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store"
)

// portion is how many downloaded bytes are committed together. A commit waits
// for the disk, so there shall be few; what isn't committed is lost to a
// kill -9 and downloaded again.
const portion = 64 << 20

// An intake puts wheels into the store as they arrive. Local wheels are
// committed together at the end; downloads in portions, since a download is
// deleted when it has been taken in.
type intake struct {
	store   *store.Store
	portion int64

	mu      sync.Mutex
	current *batch // nil until the first wheel, and behind a full one
}

// A batch is what is committed together.
type batch struct {
	*store.Ingest
	users      int // Adds under way
	downloaded int64
	accepted   bool
	full       bool // takes no more; the last user commits it
}

// add takes in one wheel.
func (t *intake) add(ctx context.Context, pin lock.Pin, r io.ReaderAt, size int64, o store.AddOptions) (store.Added, error) {
	b, err := t.enter(ctx)
	if err != nil {
		return store.Added{}, err
	}
	added, err := b.Add(ctx, r, size, pin.Filename, o)
	return added, errors.Join(err, t.leave(b, err == nil, pin, size))
}

func (t *intake) enter(ctx context.Context) (*batch, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		in, err := t.store.NewIngest(ctx)
		if err != nil {
			return nil, err
		}
		t.current = &batch{Ingest: in}
	}
	t.current.users++
	return t.current, nil
}

// leave ends one use of a batch, and commits it if it is full and this was the last.
func (t *intake) leave(b *batch, accepted bool, pin lock.Pin, size int64) error {
	t.mu.Lock()
	b.users--
	if accepted {
		b.accepted = true
		if pin.Path == "" {
			b.downloaded += size
		}
	}
	if b.downloaded >= t.portion && !b.full {
		b.full = true
		t.current = nil
	}
	last := b.full && b.users == 0
	t.mu.Unlock()
	if !last {
		return nil
	}
	return b.end()
}

// close commits what was accepted since the last portion. No add is under way.
func (t *intake) close() error {
	if t.current == nil {
		return nil
	}
	return t.current.end()
}

// end commits the batch if there is anything in it.
func (b *batch) end() (err error) {
	defer func() { err = errors.Join(err, b.Close()) }()
	if !b.accepted {
		return nil
	}
	return b.Commit()
}
