package materialize

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A site is a directory that an environment is put at, locked against others who
// put one there.
//
// All that a run needs beside it has names that begin alike and that nobody else
// uses: the lock, the journal and the directories that are being written or
// removed. The lock is beside the directory, not in the user's state, so that it
// holds between users and between containers that share the directory.
type site struct {
	dest   string
	parent string // the directory that dest is in
	begin  string // how the names of ours in parent begin
	lock   *os.File
	sys    system
	warn   func(string)
}

const (
	lockSuffix    = "lock"
	journalSuffix = "journal"
	randomBytes   = 5 // in the name of a directory, as hexadecimal

	newJournalSuffix = journalSuffix + "-new" // that is being written
)

// full are the errors of a disk, or a user's part of it, that has no more room.
var full = []unix.Errno{unix.ENOSPC, unix.EDQUOT}

// openSite returns the site of the directory dest, whose parents it makes. It
// waits for another one of the same directory to be closed.
func openSite(ctx context.Context, sys system, dest string, warn func(string)) (*site, error) {
	parent, name := filepath.Split(dest)
	if name == "" {
		return nil, fmt.Errorf("%w: %q is no place for an environment: choose another directory", ErrDest, dest)
	}
	if err := os.MkdirAll(parent, dirMode); err != nil {
		return nil, err
	}
	s := &site{dest: dest, parent: filepath.Clean(parent), begin: "." + name + ".sitefs-", sys: sys, warn: warn}
	if len(s.begin)+max(len(newJournalSuffix), hex.EncodedLen(randomBytes)) > unix.NAME_MAX {
		sum := digest.Of([]byte(name))
		s.begin = "." + hex.EncodeToString(sum[:16]) + ".sitefs-"
	}
	var err error
	if s.lock, err = s.takeLock(ctx); err != nil {
		if unix.Access(s.parent, unix.W_OK) != nil {
			err = fmt.Errorf("%w: an environment is made beside its place, for which you have to be allowed to write to %q", err, s.parent)
		}
		return nil, fmt.Errorf("lock %q: %w", s.dest, err)
	}
	// On a full disk what a dead run left has to go first. Who waits is told no number.
	if err := writePID(s.lock); err != nil && !isOf(err, full) {
		s.close()
		return nil, fmt.Errorf("lock %q: %w", s.dest, err)
	}
	return s, nil
}

// path returns the path of a name of ours.
func (s *site) path(suffix string) string { return filepath.Join(s.parent, s.begin+suffix) }

// newName returns a path for a new directory.
func (s *site) newName() string {
	b := make([]byte, randomBytes)
	rand.Read(b)
	return s.path(hex.EncodeToString(b))
}

// takeLock returns the lock file, locked. Who lets go of it removes it, so one
// that was removed while we waited is not the lock any more.
func (s *site) takeLock(ctx context.Context) (*os.File, error) {
	for {
		f, err := s.openLock()
		if err != nil {
			return nil, err
		}
		if err := s.wait(ctx, f); err != nil {
			return nil, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
		}
		if st.Nlink > 0 {
			return f, nil
		}
		f.Close()
	}
}

// openLock opens the lock file, which it makes if it isn't there. One that is there
// is not opened by O_CREATE: in a folder like /tmp that is denied to everybody but
// its owner, root included (fs.protected_regular).
func (s *site) openLock() (*os.File, error) {
	path := s.path(lockSuffix)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666) // whoever may write here may wait
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// wait locks f, or closes it. It says whom it waits for.
func (s *site) wait(ctx context.Context, f *os.File) error {
	err := retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return nil
	}
	if err != unix.EWOULDBLOCK {
		return errors.Join(err, f.Close())
	}
	s.warn(fmt.Sprintf("%s is at work on %s: waiting for it", holder(f), s.dest))
	locked := make(chan error)
	go func() {
		err := retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) })
		select {
		case locked <- err:
		case <-ctx.Done(): // nobody waits any more
			f.Close()
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// holder names who has locked f.
func holder(f *os.File) string {
	var text [20]byte
	n, err := f.ReadAt(text[:], 0)
	pid, perr := strconv.ParseUint(string(bytes.TrimSpace(text[:n])), 10, 32)
	if err != nil && err != io.EOF || perr != nil {
		return "another process" // that has just begun, or another user's file
	}
	return fmt.Sprintf("process %d", pid)
}

// writePID has the lock file name its holder.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(append(strconv.AppendInt(nil, int64(os.Getpid()), 10), '\n'), 0)
	return err
}

// close lets go of the site. A lock file that stays is in nobody's way.
func (s *site) close() {
	if err := errors.Join(os.Remove(s.lock.Name()), s.lock.Close()); err != nil {
		s.warn(fmt.Sprintf("the lock of %s stays behind: %v", s.dest, err))
	}
}

// recover completes what a dead run had begun and removes what it has left.
func (s *site) recover() error {
	if err := s.complete(); err != nil {
		return fmt.Errorf("complete what an interrupted run began at %q: %w", s.dest, err)
	}
	s.sweepOrSay()
	return nil
}

// sweepOrSay is sweep for when nothing depends on it.
func (s *site) sweepOrSay() {
	if err := s.sweep(); err != nil {
		s.warn(fmt.Sprintf("what isn't needed any more can't be removed, the next run tries again: %v", err))
	}
}

// sweep removes what is of ours. None of it is in use: the lock is ours. What a
// journal speaks of stays until that is completed.
func (s *site) sweep() error {
	if _, err := os.Lstat(s.path(journalSuffix)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(s.parent)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() || !s.isNew(e.Name()) })
	if len(entries) > 0 {
		// One of them may be what a power loss would bring back to the site.
		if err := syncDir(s.parent); err != nil {
			return err
		}
	}
	var errs []error
	if err := os.Remove(s.path(newJournalSuffix)); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		errs = append(errs, removeAll(filepath.Join(s.parent, e.Name())))
	}
	return errors.Join(errs...)
}

// isNew reports whether newName makes names like this one.
func (s *site) isNew(name string) bool {
	random, ok := strings.CutPrefix(name, s.begin)
	b, err := hex.DecodeString(random)
	return ok && err == nil && len(b) == randomBytes
}

// removeAll removes a directory, whose folders need not be writable.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			// WalkDir calls before it reads the folder.
			err = os.Chmod(path, 0o700)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
