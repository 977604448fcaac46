package upper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

// committedFile of the side area holds the digest of the tree that the layer was last
// made a part of.
const committedFile = "committed"

// Committed returns the digest that SetCommitted was given last, "" for none.
func (d *Dir) Committed() (tree string, err error) {
	b, err := d.readSide(committedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// SetCommitted notes, durably, that the layer over its base is now that tree. It
// changes nothing else, and may be called beside a session: [OpenReadOnly] will do.
func (d *Dir) SetCommitted(tree string) error {
	if err := d.writeSide(committedFile, []byte(tree)); err != nil {
		return err
	}
	return d.SyncDir(sideDir)
}

// Interrupted reports whether a mutation is between two of its steps. Beside a session
// it is so at times; without one a killed process has left it, and the next Open
// finishes or undoes it: until then base and the layer may not fit.
func (d *Dir) Interrupted() (bool, error) {
	side, err := d.dirs.acquire(sideDir)
	if err != nil {
		return false, err
	}
	defer d.dirs.release(side)
	f, err := openSideFile(side.fd, journalFile, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	state := make([]byte, 4)
	if _, err := f.ReadAt(state, stateAt); err != nil && err != io.EOF {
		return false, pathError("read", journalFile, err)
	}
	return binary.LittleEndian.Uint32(state) != idle, nil
}

// Reset empties the layer, as one mutation, and has base be what it was made over
// from then on.
func (d *Dir) Reset(base Base) (err error) {
	entries, err := d.readDir(".")
	if err != nil {
		return err
	}
	var steps []Step
	for _, e := range entries {
		if e.Name != SideDir {
			steps = append(steps, Move(e.Name, d.TrashPath()))
		}
	}
	at := path.Join(SideDir, baseFile)
	gone, err := d.trashed(path.Join(SideDir, committedFile), at)
	if err != nil {
		return err
	}
	staged, err := d.stageBase(base)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.Discard(staged)
		}
	}()
	steps = append(append(steps, gone...), Move(staged, at))
	if err := d.Do(0, nil, steps...); err != nil {
		return err
	}
	d.base = base
	return d.Sync()
}

// stageBase writes the file of a base.
func (d *Dir) stageBase(base Base) (staged string, err error) {
	b, err := json.Marshal(base)
	if err != nil {
		return "", err
	}
	if staged, err = d.stageBytes(append(b, '\n')); err != nil {
		return "", fmt.Errorf("overlay %q: %w", d.name, err)
	}
	return staged, nil
}

// Revert takes away, as one mutation, what the upper says of some paths, so that the
// lower shows through there again. Of a path that it says nothing of the error is
// [fs.ErrNotExist], and nothing is taken away.
func (d *Dir) Revert(paths ...string) error {
	var steps []Step
	for _, p := range paths {
		dir, name := split(p)
		if Reserved(name) {
			return pathError("revert", p, unix.EPERM)
		}
		whiteout, long := WhiteoutPath(dir, name)
		at := []string{p, RecordPath(dir, name)}
		if !long {
			at = append(at, whiteout)
		}
		gone, err := d.trashed(at...)
		if err != nil {
			return err
		}
		if len(gone) == 0 {
			return pathError("revert", p, unix.ENOENT)
		}
		steps = append(steps, gone...)
	}
	return d.Do(0, nil, steps...)
}

// trashed returns the steps that delete those of some paths that are there.
func (d *Dir) trashed(paths ...string) (steps []Step, err error) {
	for _, p := range paths {
		switch _, err := d.Stat(p); {
		case err == nil:
			steps = append(steps, Move(p, d.TrashPath()))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return steps, nil
}
