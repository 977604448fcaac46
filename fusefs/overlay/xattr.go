package overlay

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// capability is the attribute that gives a program privileges (capabilities(7)).
const capability = "security.capability"

// maxRecordedXattrs bounds the extended attributes of a node that a record holds, in
// bytes: what xattr(7) says a list of names or one value can have.
const maxRecordedXattrs = 64 << 10

// keepsXattr reports whether a node can have an extended attribute: those of users, and
// what gives a program privileges. ACLs are refused, as the kernel would have to know
// them to keep them, and so are trusted ones, which only the machine's root may set.
func keepsXattr(name string) bool {
	return strings.HasPrefix(name, "user.") || name == capability
}

// GetXAttr returns the size of an extended attribute, and fills dest if there is
// any.
func (f *FS) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if !keepsXattr(name) {
		return 0, fuse.Status(syscall.EOPNOTSUPP)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := f.nodes[in.NodeId]
	switch {
	case n == nil:
		return 0, fuse.ENODATA
	case n.real:
		size, err := f.upperXattr(n, name, dest)
		switch {
		case errors.Is(err, syscall.ERANGE):
			return size, fuse.ERANGE
		case err != nil:
			return 0, f.errno("reading an extended attribute", err)
		}
		return size, fuse.OK
	case n.record != nil:
		if value, ok := n.record.Xattrs[name]; ok {
			return give(dest, value)
		}
	}
	return 0, fuse.ENODATA
}

// upperXattr reads an extended attribute of what is in DIR. The kernel asks for one
// before the first write to each file, which is open then. mu is held.
func (f *FS) upperXattr(n *node, name string, dest []byte) (uint32, error) {
	if o := f.files.acquire(n.id, false); o != nil {
		defer f.files.release(o)
		size, err := unix.Fgetxattr(o.fd, name, dest)
		if err == unix.ERANGE || err == nil && size > len(dest) {
			if size, err = unix.Fgetxattr(o.fd, name, nil); err == nil {
				err = unix.ERANGE
			}
		}
		return uint32(max(size, 0)), err
	}
	value, err := f.dir.Getxattr(f.path(n), name)
	if err != nil {
		return 0, err
	}
	size, s := give(dest, value)
	if s != fuse.OK {
		return size, syscall.Errno(s)
	}
	return size, nil
}

// ListXAttr returns the size of the list of names, and fills dest if there is any.
func (f *FS) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var names []string
	switch n := f.nodes[in.NodeId]; {
	case n == nil:
	case n.real:
		var err error
		if names, err = f.dir.Listxattr(f.path(n)); err != nil {
			return 0, f.errno("listing extended attributes", err)
		}
	case n.record != nil:
		for name := range n.record.Xattrs {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	var list []byte
	for _, name := range names {
		if keepsXattr(name) {
			list = append(append(list, name...), 0)
		}
	}
	return give(dest, list)
}

// give fills dest, which a caller who asks for the size alone leaves empty.
func give(dest, value []byte) (uint32, fuse.Status) {
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.ERANGE
	}
	return uint32(copy(dest, value)), fuse.OK
}

// SetXAttr sets an extended attribute. Asked again after a death it may find its own:
// what it was to create is there then with that very value.
func (f *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	flags := int(in.Flags)
	again := in.Unique&resent != 0
	set := func(at string) error {
		err := f.dir.Setxattr(at, name, data, flags)
		if again && errors.Is(err, syscall.EEXIST) {
			if have, e := f.dir.Getxattr(at, name); e == nil && bytes.Equal(have, data) {
				return nil
			}
		}
		return err
	}
	return f.changeXattr(in.NodeId, name, set, func(r *upper.Record) error {
		have, has := r.Xattrs[name]
		switch {
		case again && has && bytes.Equal(have, data):
			return nil
		case has && flags&unix.XATTR_CREATE != 0:
			return syscall.EEXIST
		case !has && flags&unix.XATTR_REPLACE != 0:
			return syscall.ENODATA
		case r.Xattrs == nil:
			r.Xattrs = make(map[string][]byte)
		}
		r.Xattrs[name] = slices.Clone(data)
		if sizeOf(r.Xattrs) > maxRecordedXattrs {
			return syscall.ENOSPC
		}
		return nil
	})
}

// sizeOf returns how many bytes extended attributes have.
func sizeOf(xattrs map[string][]byte) (n int) {
	for name, value := range xattrs {
		n += len(name) + len(value)
	}
	return n
}

// RemoveXAttr removes an extended attribute. Asked again after a death it may have
// done so.
func (f *FS) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	remove := func(at string) error { return f.dir.Removexattr(at, name) }
	s := f.changeXattr(in.NodeId, name, remove, func(r *upper.Record) error {
		if _, has := r.Xattrs[name]; !has {
			return syscall.ENODATA
		}
		delete(r.Xattrs, name)
		return nil
	})
	if s == fuse.ENODATA && in.Unique&resent != 0 {
		return fuse.OK
	}
	return s
}

// changeXattr changes what is in DIR by change, or what is recorded by record.
func (f *FS) changeXattr(id uint64, name string, change func(at string) error, record func(*upper.Record) error) fuse.Status {
	if !keepsXattr(name) {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	n, err := f.object(id)
	if err != nil {
		return f.lowerStatus("changing an extended attribute", err)
	}
	f.mu.RLock()
	nameless := n.unlinked() && !n.isDir()
	f.mu.RUnlock()
	if nameless { // where nothing can be recorded
		if s := f.copyUp(n); s != fuse.OK {
			return s
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n.isDir() && !n.real {
		p := f.plan()
		p.real(n)
		if s := f.do(0, "changing a directory", p, nil); s != fuse.OK {
			return s
		}
	}
	if n.real {
		if err := change(f.path(n)); err != nil {
			return f.errno("changing an extended attribute", err)
		}
		if n.isDir() {
			n.ctime.changed()
		}
		return fuse.OK
	}
	if err := f.mayRecord(name); err != nil {
		return f.errno("changing an extended attribute", err)
	}
	r := copyRecord(n.record)
	if err := record(&r); err != nil {
		return f.errno("changing an extended attribute", err)
	}
	return f.setRecord(n, r)
}

// mayRecord says whether a file in DIR could have an attribute, as the file will once
// it is copied up.
func (f *FS) mayRecord(name string) error {
	if name == capability && !f.privileged() {
		return syscall.EPERM
	}
	if _, err := f.dir.Getxattr(".", name); errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	return nil
}
