//go:build !linux

package overlay

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// There is no overlay but on Linux: [upper.Open] says so.

const (
	seekData = 3
	seekHole = 4
)

func clone(int, int) error                                     { return unix.ENOTSUP }
func copyFileRange(int, int64, int, int64, int64) (int, error) { return 0, unix.ENOTSUP }
func seek(int, int64, int) (int64, error)                      { return 0, unix.ENOTSUP }
func fallocate(int, uint32, int64, int64) error                { return unix.ENOTSUP }
func datasync(fd int) error                                    { return unix.Fsync(fd) }
func writeError(int) error                                     { return nil }
func statfs(*unix.Statfs_t) fuse.StatfsOut                     { return fuse.StatfsOut{} }
