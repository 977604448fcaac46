package store

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A budget keeps the wheels of one ingest from starting what the disk has no
// room for.
type budget struct {
	store *Store

	mu       sync.Mutex
	promised need // to wheels that are being written
}

// A need is what files take on disk.
type need struct {
	bytes int64 // in whole blocks
	files int64
}

// blockSize is what the last, partial block of a file is rounded up to: that of
// ext4, XFS, btrfs and tmpfs alike.
const blockSize = 4096

// add counts a file of size bytes.
func (n *need) add(size int64) {
	n.bytes += (size + blockSize - 1) / blockSize * blockSize
	n.files++
}

// promise sets n aside, or fails when the disk hasn't got that much beside what
// is promised already. What a promise has been used for is counted twice while
// it lasts: near a full disk it errs on the side of the refusal.
func (b *budget) promise(what string, n need) (release func(), err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.store.dir, &st); err != nil {
		return nil, fmt.Errorf("statfs %q: %w", b.store.dir, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.store.checkSpace(what, need{n.bytes + b.promised.bytes, n.files + b.promised.files}, &st); err != nil {
		return nil, err
	}
	b.promised.bytes += n.bytes
	b.promised.files += n.files
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.promised.bytes -= n.bytes
		b.promised.files -= n.files
	}, nil
}

// checkSpace compares n with what the file system has free for this user.
func (s *Store) checkSpace(what string, n need, st *unix.Statfs_t) error {
	free := int64(st.Bavail) * int64(st.Bsize)
	if n.bytes > free {
		return fmt.Errorf("%w: %s needs %s, the file system at %q has %s free: free some space there, or set SITEFS_STORE to another place",
			ErrNoSpace, what, sizeText(n.bytes), mountPoint(s.dir), sizeText(free))
	}
	// A file system that makes inodes as it goes (btrfs) reports none at all.
	if st.Files > 0 && n.files > int64(st.Ffree) {
		return fmt.Errorf("%w: %s needs %d inodes, the file system at %q has %d free: remove some files there, or set SITEFS_STORE to another place",
			ErrNoSpace, what, n.files, mountPoint(s.dir), st.Ffree)
	}
	return nil
}
