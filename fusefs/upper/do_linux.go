package upper

import (
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// resent is the bit of a FUSE request's unique that says it was sent before
// (FUSE_UNIQUE_RESEND of linux/fuse.h).
const resent = 1 << 63

// Do carries out a mutation: all its steps, or none. Unique is the FUSE request's,
// by which Done knows how it ended; 0 is nobody's. Node, if not nil, is called
// after the last step and gives the node id for the result. The error is the
// failed step's. What moves to TrashPath is removed before Do returns, directories
// soon after.
//
// Mutations are one at a time, and the caller sees to it that no path of the
// steps changes its meaning meanwhile.
func (d *Dir) Do(unique uint64, node func() uint64, steps ...Step) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readOnly {
		return pathError("change", d.name, unix.EROFS)
	}
	if d.broken != nil {
		return d.broken
	}
	unique &^= resent
	if err := d.write(unique, steps); err != nil {
		return pathError("journal", d.name, err)
	}
	err := d.at("written", 0)
	if err == nil {
		d.journal.run()
		err = d.forward(0, steps, false)
	}
	if d.broken != nil {
		return d.broken
	}
	r := Result{Errno: errno(err)}
	if err == nil && node != nil {
		r.Node = node()
	}
	d.finish(unique, r)
	if err == nil {
		d.removeTrash(steps)
	}
	return err
}

// Done returns how the mutation of a request ended, if it did in this session:
// a request that is sent again after its worker's death.
func (d *Dir) Done(unique uint64) (Result, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	unique &^= resent
	if unique == 0 || d.journal.b == nil {
		return Result{}, false
	}
	return d.journal.find(unique)
}

// write puts a mutation into the journal.
func (d *Dir) write(unique uint64, steps []Step) (err error) {
	d.encoded = d.encoded[:0]
	for i := range steps {
		d.encoded = steps[i].append(d.encoded)
	}
	if size := need(len(steps), len(d.encoded)); size > len(d.journal.b) {
		if size > maxJournal {
			return unix.ENAMETOOLONG
		}
		if err := d.mapJournal(min(2*size, maxJournal)); err != nil {
			return err
		}
	}
	// On a file system that copies what it overwrites, a store can still find the
	// disk full: nothing has happened then.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("fault at %#x: %w", fault.Addr(), unix.ENOSPC)
		default:
			panic(fault)
		}
	}()
	d.journal.write(unique, len(steps), d.encoded)
	return nil
}

// finish remembers the result of a mutation that is over.
func (d *Dir) finish(unique uint64, r Result) {
	if unique != 0 {
		d.journal.put(unique, r)
	}
	_ = d.at("result", 0) // the mutation is over: nothing can fail any more
	d.journal.end()
	_ = d.at("end", 0)
}

// forward does the steps from next on. Again says that the first of them may be
// done already. On an error all are undone.
func (d *Dir) forward(next int, steps []Step, again bool) error {
	for i := next; i < len(steps); i++ {
		err := d.at("before", i)
		if err == nil {
			err = d.step(i, &steps[i], again)
		}
		if err != nil {
			closeKept(steps[:i])
			d.journal.undo(i, errno(err))
			if e := d.back(i, steps, false); e != nil {
				d.broken = fmt.Errorf("overlay %q takes no more changes, one could not be undone: %w", d.name, errors.Join(e, err))
			}
			return pathError(steps[i].verb(), steps[i].to, err)
		}
		again = false
		_ = d.at("done", i) // a step that is done is
		d.journal.advance(i + 1)
	}
	_ = d.at("all", len(steps))
	return nil
}

// back undoes the first left steps, last first. Again says that the first to be
// undone may be already.
func (d *Dir) back(left int, steps []Step, again bool) error {
	for i := left - 1; i >= 0; i-- {
		_ = d.at("undo", i)
		if err := d.unstep(i, &steps[i], again); err != nil {
			return fmt.Errorf("undo: %w", pathError(steps[i].verb(), steps[i].to, err))
		}
		again = false
		_ = d.at("undone", i)
		d.journal.advance(i)
	}
	return nil
}

// closeKept closes what steps that are undone have left open.
func closeKept(steps []Step) {
	for i := range steps {
		if fd := steps[i].fd; fd != nil {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// recover finishes or undoes the mutation that a killed process left, and keeps
// its result for the request to be sent again.
func (d *Dir) recover() error {
	d.giveBack()
	m, err := d.journal.load()
	if err == errTorn {
		d.journal.end() // see load: nobody knows more
		return nil
	}
	switch m.state {
	case idle:
		return nil
	case running:
		err = d.forward(m.next, m.steps, true)
	case undoing:
		if e := d.back(m.next, m.steps, true); e != nil {
			return e
		}
		err = m.errno
	}
	if d.broken != nil {
		return d.broken
	}
	r := Result{Errno: errno(err)}
	if err == nil && len(m.steps) > 0 {
		r.Node = d.nodeAt(m.steps[len(m.steps)-1].to)
	}
	d.finish(m.unique, r)
	return nil
}

// nodeAt returns the node id of a new node at path.
func (d *Dir) nodeAt(path string) uint64 {
	st, err := d.Stat(path)
	if err != nil {
		return 0
	}
	return NodeID(st.Ino)
}

// step does one step, with the directories on its way lent if they must be.
func (d *Dir) step(i int, s *Step, again bool) error {
	return d.keepingTime(i, s, func() error {
		return d.permit(func() error {
			switch s.kind {
			case moveStep:
				return d.move(s.from, s.to, again)
			case exchangeStep:
				return d.exchange(i, s.from, s.to)
			case linkStep:
				return d.link(s, again)
			default:
				return d.make(s, again)
			}
		}, s.needed()...)
	})
}

// unstep undoes one step.
func (d *Dir) unstep(i int, s *Step, again bool) error {
	return d.keepingTime(i, s, func() error {
		return d.permit(func() error {
			switch s.kind {
			case moveStep:
				return d.move(s.to, s.from, again)
			case exchangeStep:
				return d.exchange(i, s.to, s.from)
			default:
				return d.unmake(s)
			}
		}, s.needed()...)
	})
}

// paths returns the paths that a step names.
func (s *Step) paths() []string {
	if s.kind == makeStep {
		return []string{s.to}
	}
	return []string{s.from, s.to}
}

// needed returns the paths of what a step must be able to write to: directories,
// and what it moves, for a directory that moves has another parent.
func (s *Step) needed() []string {
	if s.kind == moveStep || s.kind == exchangeStep {
		return s.paths()
	}
	var parents []string
	for _, p := range s.paths() {
		parent, _ := split(p)
		parents = append(parents, parent)
	}
	return parents
}

// keepingTime calls f and gives the directories of the step's paths the times they
// had, if the step says so; the first to ask puts them into the journal.
func (d *Dir) keepingTime(step int, s *Step, f func() error) error {
	if !s.keepTime {
		return f()
	}
	for which, p := range s.paths() {
		if within(p, sideDir) {
			continue
		}
		if _, ok := d.journal.remembered(step, which); ok {
			continue
		}
		parent, _ := split(p)
		st, err := d.Stat(parent)
		if err != nil {
			return errno(err)
		}
		d.journal.remember(step, which, Time{int64(st.Mtim.Sec), int64(st.Mtim.Nsec)})
	}
	if err := f(); err != nil {
		return err
	}
	_ = d.at("late", step) // the step is done
	for which, p := range s.paths() {
		if t, ok := d.journal.remembered(step, which); ok {
			d.restoreTime(p, t)
		}
	}
	return nil
}

// restoreTime sets the modification time of a path's directory. It isn't worth a
// mutation if that can't be done: the time is then that of a change.
func (d *Dir) restoreTime(path string, t Time) {
	parent, _ := split(path)
	mtime := timespec(t)
	_ = d.Utimes(parent, nil, &mtime)
}

// move renames to a name that is free.
func (d *Dir) move(from, to string, again bool) error {
	err := d.in(from, func(fromDir int, fromName string) error {
		return d.in(to, func(toDir int, toName string) error {
			if again && !exists(fromDir, fromName) && exists(toDir, toName) {
				return nil
			}
			return renameFree(fromDir, fromName, toDir, toName)
		})
	})
	if err == nil {
		d.dirs.forget(from)
	}
	return err
}

// renameFree renames to a name that is free, on file systems too that can't
// promise it: nobody else writes here.
func renameFree(fromDir int, from string, toDir int, to string) error {
	err := unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL {
		return err
	}
	if exists(toDir, to) {
		return unix.EEXIST
	}
	return unix.Renameat(fromDir, from, toDir, to)
}

func exists(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// exchange gives what was at the path from when the step began the path to, and what
// is there the other. It can be called again whatever of it is done.
func (d *Dir) exchange(step int, from, to string) error {
	atFrom, err := d.inodeAt(from)
	if err != nil {
		return err
	}
	atTo, err := d.inodeAt(to)
	if err != nil {
		return err
	}
	begun := d.journal.inode(step)
	begun.CompareAndSwap(0, atFrom)
	switch begun.Load() {
	case 0:
		return unix.ENOENT
	case atTo:
		return nil
	case atFrom:
		err := d.in(from, func(fromDir int, fromName string) error {
			return d.in(to, func(toDir int, toName string) error {
				return d.renameExchange(fromDir, fromName, toDir, toName)
			})
		})
		if err != unix.EINVAL || within(from, to) || within(to, from) {
			d.dirs.forget(from)
			d.dirs.forget(to)
			return err
		}
		if err := d.move(from, aside, false); err != nil {
			return err
		}
	}
	return d.exchangeAside(step, from, to)
}

// aside is where one of two names waits that a file system can't exchange at once.
const aside = tmpDir + "/aside"

// exchangeAside goes on with an exchange, what was at from being aside.
func (d *Dir) exchangeAside(step int, from, to string) error {
	_ = d.at("aside", step) // an error would be no file system's
	err := d.move(to, from, true)
	if err == nil {
		_ = d.at("half", step)
		if err = d.move(aside, to, false); err == nil {
			return nil
		}
		if e := d.move(from, to, false); e != nil {
			return errors.Join(err, e)
		}
	}
	if e := d.move(aside, from, false); e != nil {
		return errors.Join(err, e)
	}
	return err
}

// renameExchange is renameat2(2) that exchanges.
func renameExchange(fromDir int, from string, toDir int, to string) error {
	return unix.Renameat2(fromDir, from, toDir, to, unix.RENAME_EXCHANGE)
}

// inodeAt returns the number of the inode at a path, 0 if nothing is there.
func (d *Dir) inodeAt(path string) (ino uint64, err error) {
	err = d.in(path, func(dir int, name string) error {
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		ino = st.Ino
		return err
	})
	if err == unix.ENOENT {
		return 0, nil
	}
	return ino, err
}

// link gives a file another name.
func (d *Dir) link(s *Step, again bool) error {
	return d.in(s.from, func(fromDir int, fromName string) error {
		return d.in(s.to, func(toDir int, toName string) error {
			err := unix.Linkat(fromDir, fromName, toDir, toName, 0)
			if again && err == unix.EEXIST {
				return nil
			}
			return err
		})
	})
}

// make makes what the step says, with its attributes, or nothing.
func (d *Dir) make(s *Step, again bool) error {
	return d.in(s.to, func(dir int, name string) error {
		fd, err := create(dir, name, s)
		if again && err == unix.EEXIST {
			fd, err = -1, nil
		}
		if err != nil {
			return err
		}
		_ = d.at("made", 0) // what is made stays to be dressed
		if err := s.dress(dir, name, fd); err != nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			return errors.Join(err, remove(dir, name, s.makesDir()))
		}
		switch {
		case s.fd != nil && fd >= 0:
			*s.fd = fd
		case fd >= 0:
			unix.Close(fd)
		}
		return nil
	})
}

// create makes what a step says; of a regular file it returns the descriptor, else -1.
func create(dir int, name string, s *Step) (fd int, err error) {
	switch s.mode & sIFMT {
	case sIFREG:
		return createFile(dir, name)
	case sIFDIR:
		return -1, unix.Mkdirat(dir, name, 0o700)
	case sIFLNK:
		return -1, unix.Symlinkat(s.from, dir, name)
	case sIFIFO, sIFSOCK:
		return -1, unix.Mknodat(dir, name, s.mode&sIFMT|0o600, 0)
	}
	return -1, unix.EPERM
}

// createFile makes an empty file.
func createFile(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// dress gives what a step made its owner, mode and time, in this order: a change of
// owner clears bits of the mode.
func (s *Step) dress(dir int, name string, fd int) error {
	if s.owned {
		if err := unix.Fchownat(dir, name, int(s.uid), int(s.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	var err error
	switch {
	case s.mode&sIFMT == sIFLNK:
	case fd >= 0:
		err = unix.Fchmod(fd, s.mode&0o7777)
	default:
		err = chmodAt(dir, name, s.mode&0o7777)
	}
	if err != nil || !s.timed {
		return err
	}
	return utimes(dir, name, nil, new(timespec(s.modified)))
}

// unmake removes what the step made, if it did.
func (d *Dir) unmake(s *Step) error {
	err := d.in(s.to, func(dir int, name string) error { return remove(dir, name, s.makesDir()) })
	if err == unix.ENOENT {
		err = nil
	}
	if err == nil && s.makesDir() {
		d.dirs.forget(s.to)
	}
	return err
}

// remove removes a file or an empty directory.
func remove(dir int, name string, isDir bool) error {
	if isDir {
		return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	return unix.Unlinkat(dir, name, 0)
}

// at tells the tests that a mutation is at a moment, and which of its steps it is
// about. Where its error isn't dropped it is as if the step had failed.
func (d *Dir) at(moment string, step int) error {
	if d.hook == nil {
		return nil
	}
	return d.hook(fmt.Sprintf("%s %d", moment, step))
}

// timespec returns t as the kernel takes it.
func timespec(t Time) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: t.Nsec}
}
