package bytecode

import (
	"encoding/binary"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// locks keep two hosts from compiling one source at the same time. A lock is on
// one byte of a file, whose offset follows from the key: a file for each would
// have to be removed, and two keys that meet at an offset only wait.
//
// They are locks of the open file (fcntl(2), "Open file description locks"), so
// they end with their process and hold between hosts of one process too. A file
// system without them costs a source that is compiled twice, and no more.
type locks struct {
	f *os.File
}

// openLocks opens the lock file of a cache, making both if need be.
func openLocks(c *Cache) (*locks, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &locks{f}, nil
}

func (l *locks) close() error { return l.f.Close() }

// try locks a key unless another host has it.
func (l *locks) try(k key) (unlock func(), ok bool) {
	offset := int64(binary.LittleEndian.Uint64(k.source[:])&(1<<60-1))<<2 | int64(k.opt)
	span := unix.Flock_t{Type: unix.F_WRLCK, Start: offset, Len: 1}
	if err := l.set(span); err == unix.EAGAIN || err == unix.EACCES {
		return nil, false
	}
	span.Type = unix.F_UNLCK
	return func() { l.set(span) }, true
}

func (l *locks) set(span unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(l.f.Fd(), unix.F_OFD_SETLK, &span)
		if err != unix.EINTR {
			return err
		}
	}
}
