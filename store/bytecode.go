package store

import (
	"errors"
	"fmt"
	"os"
)

// bytecodeFolder holds what sources compile to; package bytecode fills it.
const bytecodeFolder = "bytecode"

// Bytecode returns the path of the folder for compiled sources, which is there
// once something was compiled.
func (s *Store) Bytecode() string { return s.path(bytecodeFolder) }

// Writable returns nil, or an [ErrReadOnly] that says why nothing can be written.
func (s *Store) Writable() error { return s.readOnly }

// A Scratch is a folder on the store's file system for what one process is
// writing. It is removed by Close, or behind a process that died by the next one
// and by the next ingest.
type Scratch struct {
	dir *os.File // locked
}

// NewScratch makes a folder to write in.
func (s *Store) NewScratch() (*Scratch, error) {
	if s.readOnly != nil {
		return nil, s.readOnly
	}
	// A host that is killed with its mount leaves its folder, and a machine that
	// only runs what it has does no ingest.
	if err := s.sweep(); err != nil {
		return nil, err
	}
	dir, err := s.claimFolder()
	if err != nil {
		return nil, fmt.Errorf("make a folder to write in: %w", err)
	}
	return &Scratch{dir}, nil
}

// Path returns the folder's absolute path.
func (c *Scratch) Path() string { return c.dir.Name() }

// Close removes the folder with all that is in it.
func (c *Scratch) Close() error { return errors.Join(os.RemoveAll(c.dir.Name()), c.dir.Close()) }
