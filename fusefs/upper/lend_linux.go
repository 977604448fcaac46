package upper

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel has decided who may do what by the modes that the mount shows, and a
// file that is open stays so when they change. The modes in the upper are the
// same, and bind the worker where it is an ordinary user: what it must reach is
// lent, that is made accessible and set back, the true mode being in the journal
// meanwhile.

// permit calls f, and if it may not do what it does, once more with paths and all
// on the way to them lent.
func (d *Dir) permit(f func() error, paths ...string) error {
	err := f()
	if err != unix.EACCES || d.readOnly {
		return err
	}
	d.lending.Lock()
	defer d.lending.Unlock()
	var l lender
	defer l.close()
	for _, p := range paths {
		l.lend(d, p)
	}
	if len(l.loans) > 0 {
		_ = d.at("lent", len(l.loans)) // what is lent is given back below
		err = f()
		_ = d.at("used", len(l.loans))
	}
	if e := l.giveBack(d); e != nil {
		return errors.Join(err, e)
	}
	return err
}

// A lender has lent modes.
type lender struct {
	loans []loan
	fds   []int // of the same, as places: a move may be what they are lent for
}

// lend lends all from the top to path that belongs to us and we can't use. What
// it can't lend the caller's second attempt shows.
func (l *lender) lend(d *Dir, path string) {
	for i := 0; ; i++ {
		n := strings.IndexByte(path[i:], '/')
		if i == 0 {
			l.lendOne(d, ".")
		}
		if n < 0 {
			l.lendOne(d, path)
			return
		}
		i += n
		l.lendOne(d, path[:i])
	}
}

// lendOne lends one directory or file.
func (l *lender) lendOne(d *Dir, path string) {
	fd, err := d.place(path)
	if err != nil {
		return
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	want := wanted(st.Mode)
	if err != nil || int(st.Uid) != os.Geteuid() || st.Mode&want == want {
		unix.Close(fd)
		return
	}
	loans := append(l.loans, loan{st.Mode & 0o7777, st.Ino, path})
	if !d.loans.lend(loans) {
		unix.Close(fd)
		return
	}
	l.loans, l.fds = loans, append(l.fds, fd)
	_ = chmodPlace(fd, st.Mode&0o7777|want) // the second attempt shows it
}

// wanted returns the permissions that the worker needs of what has that mode.
func wanted(mode uint32) uint32 {
	switch mode & sIFMT {
	case sIFDIR:
		return 0o700
	case sIFREG:
		return 0o600
	}
	return 0
}

// giveBack sets the true modes again, deepest first.
func (l *lender) giveBack(d *Dir) error {
	var errs []error
	for i := len(l.fds) - 1; i >= 0; i-- {
		if err := chmodPlace(l.fds[i], l.loans[i].mode); err != nil {
			errs = append(errs, fmt.Errorf("%q keeps a mode it was lent: %w", l.loans[i].path, err))
		}
	}
	if len(l.fds) > 0 {
		d.loans.lend(nil)
	}
	return errors.Join(errs...)
}

func (l *lender) close() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
}

// giveBack sets the modes again that a killed process had lent. What it lent may
// have moved by the step that it was lent for.
func (d *Dir) giveBack() {
	loans := d.loans.lent()
	m, _ := d.journal.load() // a torn one moved nothing that is known
	for i := len(loans) - 1; i >= 0; i-- {
		l := loans[i]
		if d.setMode(l.path, l) {
			continue
		}
		for _, s := range m.steps {
			if p, ok := s.moves(l.path); ok && d.setMode(p, l) {
				break
			}
		}
	}
	d.loans.lend(nil)
}

// moves returns where a step has moved what was at a path, or its undoing.
func (s *Step) moves(path string) (to string, ok bool) {
	switch {
	case s.kind != moveStep && s.kind != exchangeStep:
		return "", false
	case within(path, s.from):
		return s.to + path[len(s.from):], true
	case within(path, s.to):
		return s.from + path[len(s.to):], true
	}
	return "", false
}

// setMode sets the mode of what was lent, if path leads to it.
func (d *Dir) setMode(path string, l loan) bool {
	fd, err := d.place(path)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Ino == l.ino && chmodPlace(fd, l.mode&0o7777) == nil
}

// place opens what path leads to as a place.
func (d *Dir) place(path string) (fd int, err error) {
	err = d.in(path, func(dir int, name string) error {
		fd, err = openPlace(dir, name, 0)
		return err
	})
	return fd, err
}

// chmodPlace sets the mode of what is open as a place.
func chmodPlace(fd int, mode uint32) error {
	err := unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP || err == unix.EPERM { // before Linux 6.6, or forbidden by a container's seccomp
		err = unix.Fchmodat(unix.AT_FDCWD, procPath(fd), mode, 0)
	}
	return err
}

// chmodAt sets the mode of a name, which is not a link.
func chmodAt(dir int, name string, mode uint32) error {
	err := unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	fd, err := openPlace(dir, name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return chmodPlace(fd, mode)
}

// procPath returns a path to what fd has open.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
