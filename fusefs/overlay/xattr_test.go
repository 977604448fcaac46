package overlay

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

func TestExtendedAttributes(t *testing.T) {
	for _, up := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied up %t", up), func(t *testing.T) {
			m := newMachine(t)
			id := m.node(data)
			if up {
				m.must(m.write(id, 0, "d"))
			}
			if _, e := m.getxattr(id, "user.a"); e != syscall.ENODATA {
				t.Errorf("absent: %v", e)
			}
			if e := m.setxattr(id, "user.a", "1", unix.XATTR_REPLACE); e != syscall.ENODATA {
				t.Errorf("replacing what is absent: %v", e)
			}
			m.must(m.setxattr(id, "user.a", "1", unix.XATTR_CREATE))
			if e := m.setxattr(id, "user.a", "2", unix.XATTR_CREATE); e != syscall.EEXIST {
				t.Errorf("creating what is there: %v", e)
			}
			in := fuse.SetXAttrIn{InHeader: m.header(id), Flags: unix.XATTR_CREATE}
			in.Unique |= resent
			if s := m.SetXAttr(nil, &in, "user.a", []byte("1")); s != fuse.OK {
				t.Errorf("asked again: %v", s)
			}
			if s := m.SetXAttr(nil, &in, "user.a", []byte("2")); syscall.Errno(s) != syscall.EEXIST {
				t.Errorf("asked again to create what another has: %v", s)
			}
			in.Flags = unix.XATTR_REPLACE
			if s := m.SetXAttr(nil, &in, "user.c", []byte("1")); s != fuse.ENODATA {
				t.Errorf("asked again to replace what is absent: %v", s)
			}
			m.must(m.setxattr(id, "user.b", "", 0))
			h := m.header(id)
			buf := make([]byte, 64)
			n, s := m.ListXAttr(nil, &h, buf)
			list := strings.SplitAfter(string(buf[:n]), "\x00")
			slices.Sort(list) // a file system has them in any order
			if s != fuse.OK || !slices.Equal(list, []string{"", "user.a\x00", "user.b\x00"}) {
				t.Errorf("list %q, %v", list, s)
			}
			if n, s := m.ListXAttr(nil, &h, nil); s != fuse.ERANGE || n != 14 {
				t.Errorf("size of the list: %d, %v", n, s)
			}
			if n, s := m.GetXAttr(nil, &h, "user.a", nil); s != fuse.ERANGE || n != 1 {
				t.Errorf("size: %d, %v", n, s)
			}
			if s := m.RemoveXAttr(nil, &h, "user.a"); s != fuse.OK {
				t.Errorf("removing: %v", s)
			}
			if s := m.RemoveXAttr(nil, &h, "user.a"); s != fuse.ENODATA {
				t.Errorf("removing what is absent: %v", s)
			}
			h.Unique |= resent
			if s := m.RemoveXAttr(nil, &h, "user.a"); s != fuse.OK {
				t.Errorf("removing, asked again: %v", s)
			}
			for _, name := range []string{"system.posix_acl_access", "trusted.x", "security.selinux"} {
				if e := m.setxattr(id, name, "x", 0); e != syscall.EOPNOTSUPP {
					t.Errorf("%s: %v", name, e)
				}
			}
			m.remount()
			if _, e := m.getxattr(id, "user.b"); e != 0 {
				t.Errorf("after a remount: %v", e)
			}
			m.must(m.write(id, 0, "d"))
			if _, e := m.getxattr(id, "user.b"); e != 0 {
				t.Errorf("copied up: %v", e)
			}
		})
	}
}

func TestWritingTakesCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a program capabilities")
	}
	// CAP_NET_RAW permitted, by struct vfs_cap_data of capabilities(7).
	value := string([]byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for name, change := range map[string]func(m *machine, id uint64) syscall.Errno{
		"write":    func(m *machine, id uint64) syscall.Errno { return m.write(id, 0, "x") },
		"truncate": func(m *machine, id uint64) syscall.Errno { return m.truncate(id, 1) },
		"chown": func(m *machine, id uint64) syscall.Errno {
			_, e := m.set(id, fuse.FATTR_UID, func(*fuse.SetAttrIn) {})
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			id := m.node("bin/tool")
			for range 2 { // of the lower, then of the upper
				m.must(m.setxattr(id, capability, value, 0))
				if got, e := m.getxattr(id, capability); e != 0 || got != value {
					t.Fatalf("%q, %v", got, e)
				}
				m.must(change(m, id))
				if _, e := m.getxattr(id, capability); e != syscall.ENODATA {
					t.Errorf("still there: %v", e)
				}
				m.must(m.write(id, 0, ""))
			}
		})
	}
}
