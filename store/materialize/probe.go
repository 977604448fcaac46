package materialize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A Finding is what can be done between a store and a directory. An errno says why
// something can't be; 0 means that it was done.
type Finding struct {
	Store, Target Place

	Clone     unix.Errno // share a file's blocks
	Hardlink  unix.Errno // share its inode
	CopyRange unix.Errno // have the kernel copy it
}

// A Place is a directory and the file system it is on.
type Place struct {
	Path   string
	Type   string // as the kernel names it: ext4, overlay, apfs
	Device string // major:minor
}

func (p Place) String() string { return fmt.Sprintf("%s, device %s", p.Type, p.Device) }

// refusals are the errors by which a file system says that it can't do something
// between these two places at all. Every other one is a failure.
var refusals = []unix.Errno{unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTSUP, unix.ENOTTY, unix.EINVAL, unix.EPERM, unix.ENOSYS}

// Probe finds out what can be done between the store in the directory store and
// the directory target. It tries each with a real file, which it makes in a new
// folder of target and removes.
func Probe(store, target string) (_ *Finding, err error) {
	dir, err := os.MkdirTemp(target, ".sitefs-probe-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := newProbe(kernel, store, dir)
	if err != nil {
		return nil, err
	}
	defer p.close()
	for _, try := range []func() error{p.clone, p.hardlink, p.copyRange} {
		if err := try(); err != nil {
			return nil, err
		}
	}
	p.found.Target.Path = target
	return &p.found, nil
}

// A probe tries things out with one file of the store, in a folder where nothing
// else happens.
type probe struct {
	sys   system
	file  *os.File // in the store
	dir   int
	found Finding
}

// probeName is the file that a probe makes, one at a time.
const probeName = "probe"

func newProbe(sys system, store, dir string) (*probe, error) {
	p := &probe{sys: sys}
	var err error
	for _, at := range []struct {
		place *Place
		path  string
	}{{&p.found.Store, store}, {&p.found.Target, dir}} {
		if *at.place, err = placeOf(at.path); err != nil {
			return nil, err
		}
	}
	// Every store has this file, on the file system of its blobs.
	if p.file, err = os.Open(filepath.Join(store, "FORMAT")); err != nil {
		return nil, err
	}
	if p.dir, err = openDir(unix.AT_FDCWD, dir); err != nil {
		p.file.Close()
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return p, nil
}

func (p *probe) close() {
	p.file.Close()
	unix.Close(p.dir)
}

func (p *probe) clone() error {
	err := p.sys.clone(int(p.file.Fd()), p.dir, probeName, fileMode)
	return p.note(&p.found.Clone, "clone", err)
}

func (p *probe) hardlink() error {
	err := p.sys.link(p.file.Name(), p.dir, probeName)
	return p.note(&p.found.Hardlink, "link", err)
}

func (p *probe) copyRange() error {
	fd, err := createFile(p.dir, probeName, fileMode)
	if err != nil {
		return p.note(&p.found.CopyRange, "create", err)
	}
	n, err := p.sys.copyRange(fd, int(p.file.Fd()), 1)
	if err == nil && n != 1 {
		err = unix.ENOSYS // some file systems of old kernels copy nothing and say nothing
	}
	return p.note(&p.found.CopyRange, "copy", closeAfter(fd, err))
}

// note removes what was made, and takes a refusal for the finding that it is.
func (p *probe) note(found *unix.Errno, op string, err error) error {
	gone := retry(func() error { return unix.Unlinkat(p.dir, probeName, 0) })
	if gone != nil && gone != unix.ENOENT {
		return p.failed("remove", gone)
	}
	var errno unix.Errno
	if errors.As(err, &errno) && slices.Contains(refusals, errno) {
		*found = errno
		return nil
	}
	if err != nil {
		return p.failed(op, err)
	}
	return nil
}

func (p *probe) failed(op string, err error) error {
	return fmt.Errorf("find out what the file systems can do: %s %q to %q: %w", op, p.file.Name(), filepath.Join(p.found.Target.Path, probeName), err)
}

// losesModes reports whether what is made here gets another mode than it is made
// with: by the umask, by an access control list or a group that is handed down.
func (p *probe) losesModes() (bool, error) {
	fd, err := createFile(p.dir, probeName, execMode)
	if err != nil {
		return false, p.failed("create", err)
	}
	var file, dir unix.Stat_t
	err = retry(func() error { return unix.Fstat(fd, &file) })
	if err == nil {
		err = retry(func() error { return unix.Fstat(p.dir, &dir) })
	}
	err = closeAfter(fd, err)
	if gone := retry(func() error { return unix.Unlinkat(p.dir, probeName, 0) }); err == nil {
		err = gone
	}
	if err != nil {
		return false, p.failed("create", err)
	}
	return file.Mode&0o7777 != execMode || dir.Mode&0o7777 != dirMode, nil
}

// choose returns the mode to use where want was asked for, and why: a sentence. It
// tries no more than it has to know.
func (p *probe) choose(want Mode) (Mode, string, error) {
	f := &p.found
	switch want {
	case Auto, Clone:
		if err := p.clone(); err != nil {
			return 0, "", err
		}
		if f.Clone == 0 {
			return Clone, fmt.Sprintf("clone: shares blocks between the store (%v) and the environment (%v)", f.Store, f.Target), nil
		}
		if want == Clone {
			return 0, "", fmt.Errorf("%w: %s", ErrMode, f.refusal(Clone))
		}
		return Copy, "copy: " + f.refusal(Clone), nil
	case Copy:
		// Where files can be cloned a copy by the kernel clones them.
		if err := p.clone(); err != nil {
			return 0, "", err
		}
		if f.Clone == 0 {
			return Copy, fmt.Sprintf("copy: as asked for; it shares blocks between the store (%v) and the environment (%v)", f.Store, f.Target), nil
		}
	case Hardlink:
		if f.Target.Type == "overlay" {
			return 0, "", fmt.Errorf("%w: hardlink: the environment is on an overlay, which copies each file that is linked: use clone, copy or auto", ErrMode)
		}
		if err := p.hardlink(); err != nil {
			return 0, "", err
		}
		if f.Hardlink != 0 {
			return 0, "", fmt.Errorf("%w: %s", ErrMode, f.refusal(Hardlink))
		}
	}
	return want, fmt.Sprintf("%v: as asked for; the store is on %v, the environment on %v", want, f.Store, f.Target), nil
}

// Refused says why Clone or Hardlink can't be used, and what would make it work. Of one
// that can be used both are "".
func (f *Finding) Refused(m Mode) (why, remedy string) {
	errno := f.Clone
	if m == Hardlink {
		errno = f.Hardlink
	}
	if errno == 0 {
		return "", ""
	}
	why = fmt.Sprintf("%v from the store (%v) to the environment (%v): %s (%s)", m, f.Store, f.Target, errnoName(errno), errno.Error())
	return why, f.remedy(m, errno)
}

// refusal says both in one sentence.
func (f *Finding) refusal(m Mode) string {
	why, remedy := f.Refused(m)
	return why + ": " + remedy
}

// errnoName returns the name that strace and the manuals use.
func errnoName(errno unix.Errno) string {
	if errno == unix.EOPNOTSUPP { // one number with ENOTSUP on Linux
		return "EOPNOTSUPP"
	}
	return unix.ErrnoName(errno)
}

// remedy is what would make a mode work.
func (f *Finding) remedy(m Mode, errno unix.Errno) string {
	switch {
	case errno == unix.EXDEV && f.Store.Device != f.Target.Device:
		return "these are two file systems: set SITEFS_STORE to a directory on that of the environment"
	case errno == unix.EXDEV:
		return "these are two mounts: set SITEFS_STORE to a directory beneath the mount point of the environment"
	case errno == unix.EPERM:
		return "the file system or a security policy forbids it: see dmesg, or use copy"
	case m == Clone:
		return "btrfs, XFS, bcachefs, ZFS and APFS can clone"
	}
	return "use clone, copy or auto"
}
