package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/store/internal/blob"
)

// Files puts files that are in no wheel into the store: any number of calls of Add,
// one after the other, then Commit. Until then none of them need be there, and
// nothing but a tree that is put afterwards refers to them.
type Files struct {
	store  *Store
	stage  *stage
	staged map[digest.Digest]blob.Placement
	reused map[digest.Digest]bool // that the store had
}

// NewFiles starts with no file. It removes what killed processes have left.
func (s *Store) NewFiles() (*Files, error) {
	if s.readOnly != nil {
		return nil, s.readOnly
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	st, err := s.newStage()
	if err != nil {
		return nil, err
	}
	return &Files{s, st, map[digest.Digest]blob.Placement{}, map[digest.Digest]bool{}}, nil
}

// Add takes in what r has, to its end, and returns its digest and how many bytes
// that were.
func (f *Files) Add(ctx context.Context, r io.Reader) (d digest.Digest, size int64, err error) {
	file, err := f.stage.Create()
	if err != nil {
		return d, 0, f.store.diskError(err)
	}
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(file, h), &cancelled{ctx, r})
	name, closeErr := file.Close()
	if err := errors.Join(err, closeErr); err != nil {
		return d, 0, errors.Join(f.store.diskError(err), f.stage.Remove(name))
	}
	h.Sum(d[:0])
	return d, size, f.keep(d, size, name)
}

// keep keeps a staged file unless there is one with its bytes.
func (f *Files) keep(d digest.Digest, size int64, staged string) error {
	found, ok, err := f.store.blobs.Size(d)
	if err != nil {
		return errors.Join(err, f.stage.Remove(staged))
	}
	if ok && found == size {
		f.reused[d] = true
		return f.stage.Remove(staged)
	}
	if _, twice := f.staged[d]; twice {
		return f.stage.Remove(staged)
	}
	f.staged[d] = blob.Placement{Staged: staged, Name: blobName(d), Replace: ok} // it was cut short
	return nil
}

// cancelled ends a reading when ctx does.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Commit makes all files that were added blobs of the store, durably, and ends the
// work.
func (f *Files) Commit() error {
	if f.stage == nil {
		return errors.New("commit: the files were committed, or given up")
	}
	var step blob.Step
	var staged []string
	for _, p := range f.staged {
		step.Place = append(step.Place, p)
		staged = append(staged, p.Staged)
	}
	for d := range f.reused {
		step.Reused = append(step.Reused, blobName(d))
	}
	err := f.stage.Sync(staged)
	if err == nil {
		err = f.stage.Place(step)
	}
	if err != nil {
		err = fmt.Errorf("commit %d files: %w", len(f.staged), f.store.diskError(err))
	}
	return errors.Join(err, f.Close())
}

// Close ends the work. What was not committed is removed.
func (f *Files) Close() error {
	if f.stage == nil {
		return nil
	}
	st := f.stage
	f.stage = nil
	return st.close()
}
