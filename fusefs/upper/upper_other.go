//go:build !linux

package upper

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errUnsupported is what everything returns: openat2(2) and renameat2(2) are Linux's.
var errUnsupported = fmt.Errorf("overlays on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// A Dir is an upper directory that is open: none can be on this system.
type Dir struct{}

// Lock returns an error.
func Lock(dir string) (*os.File, error) { return nil, errUnsupported }

// Open returns an error.
func Open(dir string, o Options) (*Dir, error) { return nil, errUnsupported }

// OpenReadOnly returns an error.
func OpenReadOnly(dir string) (*Dir, error) { return nil, errUnsupported }

// There is no Dir to call these of.

func (d *Dir) Close() error                                              { return errUnsupported }
func (d *Dir) Resumed() bool                                             { return false }
func (d *Dir) Base() Base                                                { return Base{} }
func (d *Dir) Do(unique uint64, node func() uint64, steps ...Step) error { return errUnsupported }
func (d *Dir) Done(unique uint64) (Result, bool)                         { return Result{}, false }
func (d *Dir) OpenFile(path string, flags int) (fd int, err error)       { return -1, errUnsupported }
func (d *Dir) Stat(path string) (st unix.Stat_t, err error)              { return st, errUnsupported }
func (d *Dir) Readlink(path string) (target string, err error)           { return "", errUnsupported }
func (d *Dir) Chmod(path string, mode uint32) error                      { return errUnsupported }
func (d *Dir) Chown(path string, uid, gid int) error                     { return errUnsupported }
func (d *Dir) Utimes(path string, atime, mtime *unix.Timespec) error     { return errUnsupported }
func (d *Dir) Getxattr(path, attr string) (value []byte, err error)      { return nil, errUnsupported }
func (d *Dir) Setxattr(path, attr string, value []byte, flags int) error { return errUnsupported }
func (d *Dir) Listxattr(path string) (attrs []string, err error)         { return nil, errUnsupported }
func (d *Dir) Removexattr(path, attr string) error                       { return errUnsupported }
func (d *Dir) Statfs() (st unix.Statfs_t, err error)                     { return st, errUnsupported }
func (d *Dir) SyncDir(path string) error                                 { return errUnsupported }
func (d *Dir) Sync() error                                               { return errUnsupported }
func (d *Dir) Scan(visit func(path string, l *Listing) error) error      { return errUnsupported }
func (d *Dir) List(dir string) (*Listing, error)                         { return nil, errUnsupported }
func (d *Dir) Changed() (changed, hidden []string, err error)            { return nil, nil, errUnsupported }
func (d *Dir) StageFile(mode uint32) (fd int, path string, err error)    { return -1, "", errUnsupported }
func (d *Dir) StageDir(mode uint32) (path string, err error)             { return "", errUnsupported }
func (d *Dir) StageSymlink(target string) (path string, err error)       { return "", errUnsupported }
func (d *Dir) StageNode(mode uint32) (path string, err error)            { return "", errUnsupported }
func (d *Dir) StageWhiteout() (path string, err error)                   { return "", errUnsupported }
func (d *Dir) StageRecord(r Record) (path string, err error)             { return "", errUnsupported }
func (d *Dir) Whiteout(dir, name string) (Step, error)                   { return Step{}, errUnsupported }
func (d *Dir) Discard(staged string)                                     {}
func (d *Dir) TrashPath() string                                         { return "" }
func (d *Dir) Committed() (tree string, err error)                       { return "", errUnsupported }
func (d *Dir) Interrupted() (bool, error)                                { return false, errUnsupported }
func (d *Dir) SetCommitted(tree string) error                            { return errUnsupported }
func (d *Dir) Reset(base Base) error                                     { return errUnsupported }
func (d *Dir) Revert(paths ...string) error                              { return errUnsupported }
func (d *Dir) Orphans() ([]Orphan, error)                                { return nil, errUnsupported }
func (d *Dir) RemoveOrphan(id uint64) error                              { return errUnsupported }
