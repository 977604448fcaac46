package overlay

import (
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
)

// A cut is a truncation that a file is copied up with.
type cut struct {
	size int64
	kill bool // the set-id bits go too
}

// copyUp puts the content of a node that isn't a directory into DIR: beside its
// names if it has any, among the orphans if not. The caller holds no locks.
func (f *FS) copyUp(n *node) fuse.Status {
	n.content.Lock()
	defer n.content.Unlock()
	return f.bringUp(n, nil)
}

// bringUp does so, with content held for writing. What is copied is complete in
// the staging area, and on the disk, before one step puts it in place: a
// process that is killed at any point has copied up nothing, or all.
func (f *FS) bringUp(n *node, c *cut) fuse.Status {
	if n.real {
		return fuse.OK
	}
	defer f.waiting()()
	var err error
	fd, staged := -1, ""
	switch n.kind {
	case syscall.S_IFDIR:
		return fuse.Status(syscall.EISDIR)
	case syscall.S_IFLNK:
		staged, err = f.stageLink(n)
	default:
		fd, staged, err = f.stageContent(n, c)
	}
	if err != nil {
		return f.lowerStatus("copying up", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.plan()
	p.stage(staged)
	p.raise(n, c, staged)
	p.then(func() {
		n.real = true
		n.named.changed()
		if fd >= 0 {
			f.files.add(n.id, fd)
		}
	})
	s := f.do(0, "copying up", p, nil)
	if s != fuse.OK && fd >= 0 {
		_ = unix.Close(fd) // of a file that is no more
	}
	return s
}

// raise adds the steps that put what was staged for a node into its place. Its
// attributes are those it has now: they may have changed during the copying.
func (p *plan) raise(n *node, c *cut, staged string) {
	var a fuse.Attr
	if s := p.f.attr(n, &a); s != fuse.OK {
		p.fail(syscall.Errno(s))
		return
	}
	if c != nil {
		now := time.Now()
		a.Mtime, a.Mtimensec = uint64(now.Unix()), uint32(now.Nanosecond())
		if c.kill {
			a.Mode = withoutPrivileges(a.Mode)
		}
	}
	if n.kind != syscall.S_IFLNK {
		if err := p.f.dir.Chmod(staged, a.Mode&0o7777); err != nil {
			p.fail(err)
			return
		}
	}
	if err := p.f.dress(staged, n, &a); err != nil {
		p.fail(err)
		return
	}
	if c != nil && n.record != nil && n.record.Xattrs[capability] != nil {
		p.fail(p.f.dir.Removexattr(staged, capability)) // as a truncation does
	}
	to := upper.OrphanPath(n.id)
	if !n.unlinked() {
		at := n.places[0]
		if upper.Reserved(at.name) {
			p.fail(syscall.EPERM)
			return
		}
		p.real(at.dir)
		if n.record == nil && view.IsGhost(n.id) {
			p.record(n, at, upper.Record{}, false) // who reads DIR may find the lower without it
		}
		to = p.f.pathAt(at)
	}
	p.then(p.f.sourceChanged(n))
	p.add(upper.Move(staged, to).KeepTime())
}

// stageLink makes a symbolic link like the lower's.
func (f *FS) stageLink(n *node) (string, error) {
	target, s := f.lower.Readlink(nil, &fuse.InHeader{NodeId: n.lower})
	if s != fuse.OK {
		return "", syscall.Errno(s)
	}
	return f.dir.StageSymlink(string(target))
}

// stageContent makes a file with the content of the lower's, as far as it is kept.
// Like that, it survives a loss of power: only what is new may be lost.
func (f *FS) stageContent(n *node, c *cut) (fd int, staged string, err error) {
	from, data, size, err := f.lower.Content(n.lower)
	if err != nil {
		return -1, "", err
	}
	if from >= 0 {
		defer unix.Close(from)
	}
	err = f.files.call("stage", func() error {
		fd, staged, err = f.dir.StageFile(0o600)
		return err
	})
	if err != nil {
		return -1, "", err
	}
	keep := size
	if c != nil {
		keep, size = min(size, c.size), c.size
	}
	switch {
	case keep == 0:
	case from < 0:
		_, err = f.files.pwriteFull(fd, data[:keep], 0)
	default:
		err = f.files.copyContent(fd, from, keep)
	}
	if err == nil {
		err = f.ftruncate(fd, size)
	}
	if err == nil && keep > 0 {
		err = f.files.datasync(fd)
	}
	if err != nil {
		_ = unix.Close(fd) // what is in it goes
		f.dir.Discard(staged)
		return -1, "", err
	}
	return fd, staged, nil
}

// datasync has what was written to a file reach the disk.
func (s *files) datasync(fd int) error {
	return s.call("fdatasync", func() error { return datasync(fd) })
}

// copyContent gives to, which is empty, at least the first size bytes of from: as a clone where
// the pair of file systems can, or else what isn't a hole.
func (s *files) copyContent(to, from int, size int64) error {
	if err := s.call("clone", func() error { return clone(to, from) }); !unable(err) {
		return err
	}
	for off := int64(0); off < size; {
		start, end, err := nextData(from, off, size)
		if err != nil {
			return err
		}
		if err := s.copyRange(to, from, start, end); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// unable reports whether a system call says that it can't be used for these files,
// where another one can. Other errors are of the disk, and final.
func unable(err error) bool {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return false
	}
	switch e {
	case syscall.EXDEV, syscall.EOPNOTSUPP, syscall.ENOTTY, syscall.EINVAL, syscall.EPERM, syscall.ENOSYS, syscall.ETXTBSY:
		return true
	}
	return false
}

// nextData returns the first stretch of a file at or after off and before size
// that isn't a hole. An empty one at size says that there is none.
func nextData(fd int, off, size int64) (start, end int64, err error) {
	start, err = seek(fd, off, seekData)
	switch {
	case err == syscall.ENXIO:
		return size, size, nil
	case err == syscall.EINVAL: // a file system without holes
		return off, size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = seek(fd, start, seekHole)
	if err != nil {
		return 0, 0, err
	}
	return min(start, size), min(end, size), nil
}

// copyRange copies the bytes from start to end, in the kernel where it can.
func (s *files) copyRange(to, from int, start, end int64) error {
	for start < end {
		n, err := s.copySome(to, start, from, start, end-start)
		switch {
		case unable(err):
			return s.copyBytes(to, from, start, end)
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		start += int64(n)
	}
	return nil
}

// copySome is copy_file_range(2).
func (s *files) copySome(to int, toOff int64, from int, fromOff, size int64) (n int, err error) {
	err = s.call("copy_file_range", func() error {
		n, err = copyFileRange(to, toOff, from, fromOff, size)
		return err
	})
	return n, err
}

// copyBuffer is how much is read at once where the kernel doesn't copy: large files
// go at the speed of the disk from about here.
const copyBuffer = 256 << 10

// copyBytes copies the bytes from start to end by reading and writing.
func (s *files) copyBytes(to, from int, start, end int64) error {
	buf := make([]byte, min(copyBuffer, end-start))
	for start < end {
		n, err := s.pread(from, buf[:min(int64(len(buf)), end-start)], start)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			_, err = s.pwriteFull(to, buf[:n], start)
		}
		if err != nil {
			return err
		}
		start += int64(n)
	}
	return nil
}
