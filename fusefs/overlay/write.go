package overlay

import (
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// writable returns a file that is about to be written to, copied up, with its
// content read-held.
func (f *FS) writable(id uint64) (*node, fuse.Status) {
	n, err := f.object(id)
	if err != nil {
		return nil, f.lowerStatus("writing", err)
	}
	switch n.kind {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		return nil, fuse.Status(syscall.EISDIR)
	default:
		return nil, fuse.EINVAL
	}
	for {
		n.content.RLock()
		if n.real {
			return n, fuse.OK
		}
		n.content.RUnlock()
		if s := f.copyUp(n); s != fuse.OK {
			return nil, s
		}
	}
}

// Write writes at the offset that the kernel says, which for O_APPEND is the end.
func (f *FS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return f.Writev(cancel, in, [][]byte{data})
}

// Writev is Write of data in pieces. It writes as much as there is room for.
func (f *FS) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	n, s := f.writable(in.NodeId)
	if s != fuse.OK {
		return 0, s
	}
	defer n.content.RUnlock()
	o, err := f.file(n, true)
	if err != nil {
		return 0, f.errno("opening a file to write", err)
	}
	defer f.files.release(o)
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := f.killPrivileges(n, o.fd); err != nil {
			return 0, f.errno("clearing set-id bits", err)
		}
	}
	written := 0
	for _, b := range data {
		m, err := f.files.pwriteFull(o.fd, b, int64(in.Offset)+int64(written))
		written += m
		if err != nil && written == 0 {
			return 0, f.errno("writing", err)
		}
		if err != nil {
			break // the caller's next write meets it again
		}
	}
	return uint32(written), fuse.OK
}

// privileged reports whether this process may give files away and set what gives
// programs privileges: a worker of root keeps what it takes.
func (f *FS) privileged() bool { return f.self.Uid == 0 }

// killPrivileges clears the set-user-ID bit of a file, and the set-group-ID bit
// where the group may execute it (FUSE_HANDLE_KILLPRIV_V2). DIR's file system does it
// for an ordinary user who writes, but not for root, who writes for others here.
func (f *FS) killPrivileges(n *node, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	mode := uint32(st.Mode) & 0o7777
	killed := withoutPrivileges(mode)
	if killed == mode {
		return nil
	}
	if err := unix.Fchmod(fd, killed); err != nil && f.privileged() {
		return err
	}
	f.notify.inode(n.id) // writing leaves the mode that the kernel keeps as it was
	return nil
}

// withoutPrivileges returns a file's mode as writing leaves it.
func withoutPrivileges(mode uint32) uint32 {
	mode &^= syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 {
		mode &^= syscall.S_ISGID
	}
	return mode
}

// truncate gives a file another size. One of the lower is copied up no further
// than that.
func (f *FS) truncate(n *node, size uint64, kill bool) fuse.Status {
	switch {
	case n.isDir():
		return fuse.Status(syscall.EISDIR)
	case n.kind != syscall.S_IFREG || size > math.MaxInt64:
		return fuse.EINVAL
	}
	n.content.Lock()
	defer n.content.Unlock()
	if !n.real {
		return f.bringUp(n, &cut{int64(size), kill})
	}
	o, err := f.file(n, true)
	if err != nil {
		return f.errno("opening a file to truncate", err)
	}
	defer f.files.release(o)
	if kill {
		if err := f.killPrivileges(n, o.fd); err != nil {
			return f.errno("clearing set-id bits", err)
		}
	}
	defer f.waiting()()
	if err := f.ftruncate(o.fd, int64(size)); err != nil {
		return f.errno("truncating", err)
	}
	return fuse.OK
}

func (f *FS) ftruncate(fd int, size int64) error {
	return f.files.call("ftruncate", func() error { return unix.Ftruncate(fd, size) })
}
