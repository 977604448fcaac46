package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store/internal/blob"
)

// An unpacking reads all members of one wheel, checks them, and stages the
// files that the store doesn't have.
type unpacking struct {
	ingest   *Ingest
	wheel    *wheel.Wheel
	progress func(n int64)
	files    []unpacked // by index of Info().Files
	order    []int
	need     need

	mu     sync.Mutex // guards staged while workers run
	staged map[digest.Digest]blob.Placement
	reused map[digest.Digest]bool // blobs of the store that the wheel relies on
}

// unpacked is what becomes of one file of the wheel.
type unpacked struct {
	sum digest.Digest // what was read

	// stored and twin say that a blob of the digest in RECORD is in the store or
	// comes from an earlier file of this wheel. The file is read and checked all
	// the same, but not written.
	stored, twin bool
	damaged      bool // the store has a blob of that name and another size
}

// plan finds out which files the store has and what the others need.
func (i *Ingest) plan(w *wheel.Wheel, progress func(int64)) (*unpacking, error) {
	info := w.Info()
	u := &unpacking{
		ingest: i, wheel: w, progress: progress,
		files:  make([]unpacked, len(info.Files)),
		order:  bySize(info),
		staged: map[digest.Digest]blob.Placement{},
		reused: map[digest.Digest]bool{},
	}
	if u.progress == nil {
		u.progress = func(int64) {}
	}
	seen := make(map[digest.Digest]bool, len(info.Files))
	for _, n := range u.order {
		f, to := &info.Files[n], &u.files[n]
		if f.Digest.IsZero() {
			u.need.add(f.Size)
			continue
		}
		size, ok, err := i.store.blobs.Size(f.Digest)
		if err != nil {
			return nil, err
		}
		to.damaged = ok && size != f.Size
		to.stored = ok && !to.damaged
		to.twin = seen[f.Digest]
		seen[f.Digest] = true
		if !to.stored && !to.twin {
			u.need.add(f.Size)
		}
	}
	return u, nil
}

// run reads every member.
func (u *unpacking) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(cap(u.ingest.workers), len(u.order)) {
		g.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(u.order) {
					return nil
				}
				if err := u.ingest.work(ctx, func() error { return u.extract(u.order[n]) }); err != nil {
					return err
				}
			}
		})
	}
	g.Go(func() error { return u.ingest.work(ctx, u.wheel.CheckRest) })
	if err := g.Wait(); err != nil {
		return err
	}
	return u.settle()
}

// extract reads file n, and stages it unless its bytes are known.
func (u *unpacking) extract(n int) error {
	to := &u.files[n]
	if !to.stored && !to.twin {
		return u.stage(n, u.progress)
	}
	var err error
	to.sum, err = u.wheel.Extract(n, counter{io.Discard, u.progress})
	return err
}

// settle stages the files whose bytes are not what the plan expected. There are
// some only where RECORD is wrong and that was allowed.
func (u *unpacking) settle() error {
	for n := range u.files {
		to := &u.files[n]
		if _, ok := u.staged[to.sum]; ok {
			continue
		}
		if to.stored && to.sum == u.wheel.Info().Files[n].Digest {
			u.reused[to.sum] = true
			continue
		}
		if err := u.stage(n, func(int64) {}); err != nil {
			return err
		}
	}
	return nil
}

// stage reads file n and writes it.
func (u *unpacking) stage(n int, progress func(int64)) error {
	f, to := &u.wheel.Info().Files[n], &u.files[n]
	file, err := u.ingest.stage.Create()
	if err != nil {
		return err
	}
	sum, err := u.wheel.Extract(n, counter{file, progress})
	name, closeErr := file.Close()
	if err == nil && sum.IsZero() {
		err = fmt.Errorf("wheel %q: file %q has no digest", u.wheel.Info().Filename, f.Path)
	}
	if err := errors.Join(err, closeErr); err != nil {
		return errors.Join(err, u.ingest.stage.Remove(name))
	}
	to.sum = sum
	return u.keep(sum, blob.Placement{Staged: name, Name: blobName(sum), Replace: to.damaged && sum == f.Digest})
}

// keep adds a staged file, unless an equal one is there.
func (u *unpacking) keep(sum digest.Digest, p blob.Placement) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, twice := u.staged[sum]; twice {
		return u.ingest.stage.Remove(p.Staged)
	}
	u.staged[sum] = p
	return nil
}

// info returns the wheel's description with the digests that were read.
func (u *unpacking) info() *wheel.Info {
	info := *u.wheel.Info()
	info.Files = slices.Clone(info.Files)
	for n := range info.Files {
		info.Files[n].Digest = u.files[n].sum
	}
	return &info
}

// discard removes the staged files that the ingest has not taken over. A stage
// that can't be removed from goes as a whole when the ingest ends.
func (u *unpacking) discard() error {
	var err error
	for _, p := range u.staged {
		err = errors.Join(err, u.ingest.stage.Remove(p.Staged))
	}
	return err
}

// A counter tells progress of what is written through it.
type counter struct {
	w        io.Writer
	progress func(n int64)
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.progress(int64(n))
	return n, err
}
