package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// read returns what a READ of a whole file gives.
func (m *machine) read(node uint64) (string, syscall.Errno) {
	buf := make([]byte, 1<<20)
	r, s := m.Read(nil, &fuse.ReadIn{InHeader: m.header(node), Size: uint32(len(buf))}, buf)
	if s != fuse.OK {
		return "", syscall.Errno(s)
	}
	defer r.Done()
	b, s := r.Bytes(buf)
	return string(b), syscall.Errno(s)
}

// holds fails the test unless a node has that content.
func (m *machine) holds(node uint64, want string) {
	m.t.Helper()
	got, e := m.read(node)
	if e != 0 || got != want {
		if len(got) > 40 {
			got = got[:40] + "…"
		}
		m.t.Errorf("node %x holds %q, %v, want %.40q", node, got, e, want)
	}
}

func (m *machine) write(node uint64, off int64, data string) syscall.Errno {
	in := fuse.WriteIn{InHeader: m.header(node), Offset: uint64(off), Size: uint32(len(data))}
	n, s := m.Write(nil, &in, []byte(data))
	if s == fuse.OK && int(n) != len(data) {
		m.t.Errorf("wrote %d bytes of %d", n, len(data))
	}
	return syscall.Errno(s)
}

// set sends a SETATTR of what change fills in.
func (m *machine) set(node uint64, valid uint32, change func(*fuse.SetAttrIn)) (fuse.Attr, syscall.Errno) {
	var in fuse.SetAttrIn
	in.InHeader, in.Valid = m.header(node), valid
	change(&in)
	var out fuse.AttrOut
	s := m.SetAttr(nil, &in, &out)
	return out.Attr, syscall.Errno(s)
}

func (m *machine) truncate(node uint64, size uint64) syscall.Errno {
	_, e := m.set(node, fuse.FATTR_SIZE, func(in *fuse.SetAttrIn) { in.Size = size })
	return e
}

func (m *machine) chmod(node uint64, mode uint32) syscall.Errno {
	_, e := m.set(node, fuse.FATTR_MODE, func(in *fuse.SetAttrIn) { in.Mode = mode })
	return e
}

func (m *machine) setxattr(node uint64, name, value string, flags uint32) syscall.Errno {
	in := fuse.SetXAttrIn{InHeader: m.header(node), Size: uint32(len(value)), Flags: flags}
	return syscall.Errno(m.SetXAttr(nil, &in, name, []byte(value)))
}

func (m *machine) getxattr(node uint64, name string) (string, syscall.Errno) {
	h := m.header(node)
	buf := make([]byte, 1<<10)
	n, s := m.GetXAttr(nil, &h, name, buf)
	return string(buf[:n]), syscall.Errno(s)
}

func (m *machine) fsync(node uint64) syscall.Errno {
	return syscall.Errno(m.Fsync(nil, &fuse.FsyncIn{InHeader: m.header(node)}))
}

// seek looks for data or a hole.
func (m *machine) seek(node, off uint64, whence uint32) (uint64, syscall.Errno) {
	var out fuse.LseekOut
	s := m.Lseek(nil, &fuse.LseekIn{InHeader: m.header(node), Offset: off, Whence: whence}, &out)
	return out.Offset, syscall.Errno(s)
}

// upperHas reports whether DIR has an entry of its own for a path.
func (m *machine) upperHas(path string) bool {
	_, err := os.Lstat(filepath.Join(m.upper, path))
	return err == nil
}

const (
	module = "lib/site/pkg/a.py"
	data   = "lib/site/pkg/sub/data"
)

func TestWriteCopiesUp(t *testing.T) {
	m := newMachine(t)
	id := m.node(module)
	before, above := m.stat(id), m.stat(m.node("lib/site/pkg"))
	m.must(m.write(id, 4, "2"))
	m.holds(id, "a = 2\n")
	if got := m.node(module); got != id {
		t.Errorf("node %x has become %x", id, got)
	}
	if a := m.stat(id); a.Mode != before.Mode || a.Owner != before.Owner || a.Mtime <= before.Mtime || a.Ino != id || a.Nlink != 1 {
		t.Errorf("%+v, was %+v", a, before)
	}
	if a := m.stat(m.node("lib/site/pkg")); a.Mtime != above.Mtime || a.Mtimensec != above.Mtimensec {
		t.Error("copying up has changed the directory's time")
	}
	for name, again := range map[string]func(){"takeover": m.takeover, "remount": m.remount} {
		again()
		if got := m.node(module); got != id {
			t.Errorf("after %s node %x has become %x", name, id, got)
		}
		m.holds(id, "a = 2\n")
	}
	m.must(m.write(id, 6, "b = 3\n"))
	m.holds(id, "a = 2\nb = 3\n")
}

func TestWriteInPieces(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	in := fuse.WriteIn{InHeader: m.header(id), Offset: 1, Size: 6}
	n, s := m.Writev(nil, &in, [][]byte{[]byte("abc"), nil, []byte("def")})
	if s != fuse.OK || n != 6 {
		t.Fatalf("wrote %d, %v", n, s)
	}
	m.holds(id, "\x00abcdef")
}

func TestContentOutlivesNames(t *testing.T) {
	for name, then := range map[string]func(m *machine, path string){
		"rename": func(m *machine, path string) { m.must(m.rename(path, "elsewhere", 0)) },
		"unlink": func(m *machine, path string) { m.must(m.unlink(path)) },
	} {
		for _, path := range []string{data, "new"} {
			t.Run(name+" "+filepath.Base(path), func(t *testing.T) {
				m := newMachine(t)
				if path == "new" {
					m.must(m.write(m.must1(m.create(path)), 0, "data"))
				}
				id := m.node(path)
				then(m, path)
				m.holds(id, "data")
				m.must(m.write(id, 4, "!"))
				m.holds(id, "data!")
				m.must(m.truncate(id, 2))
				m.must(m.chmod(id, 0o600))
				m.takeover()
				m.holds(id, "da")
				m.must(m.write(id, 2, "y"))
				m.holds(id, "day")
				if a := m.stat(id); a.Size != 3 || a.Mode != syscall.S_IFREG|0o600 {
					t.Errorf("size %d, mode %o", a.Size, a.Mode)
				}
			})
		}
	}
}

func TestReadOfTheUnchangedMakesNothing(t *testing.T) {
	m := newMachine(t)
	id := m.node(data)
	buf := make([]byte, 4096)
	in := fuse.ReadIn{InHeader: m.header(id), Size: 4096}
	read := func() {
		r, s := m.Read(nil, &in, buf)
		if s != fuse.OK || r.Size() != 4 {
			t.Fatalf("status %v", s)
		}
		r.Done()
	}
	view := testing.AllocsPerRun(100, func() {
		r, _ := m.lower.Read(nil, &in, buf)
		r.Done()
	})
	if n := testing.AllocsPerRun(100, read); n != view {
		t.Errorf("%v allocations for a READ of the lower, the view has %v", n, view)
	}
	m.must(m.write(id, 0, "D"))
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations for a READ of the upper", n)
	}
}

func TestTruncate(t *testing.T) {
	for _, size := range []uint64{0, 2, 4, 9} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			m := newMachine(t)
			id := m.node(data)
			copied := false
			m.files.fault = func(call string) error {
				copied = copied || call == "clone"
				return nil
			}
			m.must(m.truncate(id, size))
			m.holds(id, ("data" + strings.Repeat("\x00", 9))[:size])
			if want := size > 0; copied != want {
				t.Errorf("copied: %t, want %t", copied, want)
			}
			if a := m.stat(id); a.Size != size || a.Mtime < 1_700_000_001 {
				t.Errorf("size %d, time %d", a.Size, a.Mtime)
			}
			m.must(m.truncate(id, 1))
			m.must(m.truncate(id, 3))
			m.remount()
			if got, e := m.read(id); e != 0 || len(got) != 3 || got[1:] != "\x00\x00" {
				t.Errorf("%q, %v", got, e)
			}
		})
	}
	m := newMachine(t)
	if e := m.truncate(m.node("lib"), 0); e != syscall.EISDIR {
		t.Errorf("of a directory: %v", e)
	}
	if e := m.truncate(m.node(data), 1<<63); e != syscall.EINVAL {
		t.Errorf("to 8 EiB: %v", e)
	}
}

func TestMetadataCopiesNothing(t *testing.T) {
	m := newMachine(t)
	m.files.fault = func(call string) error {
		t.Errorf("%s for a change of attributes", call)
		return nil
	}
	check := func() {
		t.Helper()
		id := m.node(data)
		a := m.stat(id)
		if a.Mode != syscall.S_IFREG|0o4711 || a.Mtime != 1000 || a.Mtimensec != 5 || a.Atime != 2000 || a.Atimensec != 6 || a.Size != 4 || a.Ctime < 1_700_000_001 {
			t.Errorf("%+v", a)
		}
		if v, e := m.getxattr(id, "user.k"); e != 0 || v != "value" {
			t.Errorf("attribute %q, %v", v, e)
		}
	}
	id := m.node(data)
	m.must(m.chmod(id, 0o4711))
	_, e := m.set(id, fuse.FATTR_MTIME|fuse.FATTR_ATIME, func(in *fuse.SetAttrIn) {
		in.Mtime, in.Mtimensec, in.Atime, in.Atimensec = 1000, 5, 2000, 6
	})
	m.must(e)
	m.must(m.setxattr(id, "user.k", "value", 0))
	check()
	if m.upperHas(data) {
		t.Error("the file is in DIR")
	}
	m.remount()
	check()
	m.files.fault = nil
	m.must(m.rename(data, "lib/moved", 0))
	m.must(m.rename("lib/moved", data, 0))
	check()
	m.must(m.write(id, 0, ""))
	if a := m.stat(id); a.Mode != syscall.S_IFREG|0o4711 && os.Geteuid() == 0 {
		t.Errorf("copied up: %+v", a)
	}
	check()
	m.remount()
	check()
}

func TestTimesOfNow(t *testing.T) {
	m := newMachine(t)
	for _, path := range []string{data, "new", "lib/site"} {
		if path == "new" {
			m.must1(m.create(path))
		}
		a, e := m.set(m.node(path), fuse.FATTR_MTIME|fuse.FATTR_MTIME_NOW|fuse.FATTR_ATIME, func(in *fuse.SetAttrIn) { in.Atime = 77 })
		if e != 0 || a.Mtime < 1_700_000_001 || a.Mtime > 1<<40 || a.Atime != 77 {
			t.Errorf("%s: %+v, %v", path, a, e)
		}
	}
}

func TestDirectoryAttributes(t *testing.T) {
	m := newMachine(t)
	id := m.node("lib/site/pkg")
	m.must(m.chmod(id, 0o2750))
	m.must(m.setxattr(id, "user.k", "v", unix.XATTR_CREATE))
	m.remount()
	if a := m.stat(id); a.Mode != syscall.S_IFDIR|0o2750 {
		t.Errorf("mode %o", a.Mode)
	}
	if v, e := m.getxattr(id, "user.k"); e != 0 || v != "v" {
		t.Errorf("%q, %v", v, e)
	}
}

func TestChownAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	for _, up := range []bool{false, true} {
		t.Run(fmt.Sprintf("copied up %t", up), func(t *testing.T) {
			m := newMachine(t)
			id := m.node(data)
			m.must(m.chmod(id, 0o6755))
			if up {
				m.must(m.write(id, 0, "d"))
			}
			a, e := m.set(id, fuse.FATTR_UID|fuse.FATTR_GID, func(in *fuse.SetAttrIn) { in.Uid, in.Gid = 12, 34 })
			m.must(e)
			if a.Uid != 12 || a.Gid != 34 || a.Mode != syscall.S_IFREG|0o755 {
				t.Errorf("%+v", a)
			}
			m.remount()
			m.must(m.write(id, 0, "d"))
			if a := m.stat(id); a.Uid != 12 || a.Gid != 34 || a.Mode != syscall.S_IFREG|0o755 {
				t.Errorf("copied up: %+v", a)
			}
		})
	}
}

func TestWritingClearsSetID(t *testing.T) {
	m := newMachine(t)
	for name, kill := range map[string]func(id uint64) syscall.Errno{
		"write": func(id uint64) syscall.Errno {
			in := fuse.WriteIn{InHeader: m.header(id), WriteFlags: fuse.WRITE_KILL_SUIDGID, Size: 1}
			_, s := m.Write(nil, &in, []byte("x"))
			return syscall.Errno(s)
		},
		"truncate": func(id uint64) syscall.Errno {
			_, e := m.set(id, fuse.FATTR_SIZE|fuse.FATTR_KILL_SUIDGID, func(*fuse.SetAttrIn) {})
			return e
		},
	} {
		for _, path := range []string{"lib/site/other/c.txt", "new"} {
			if path == "new" {
				m.must1(m.create(path))
			}
			id := m.node(path)
			m.must(m.chmod(id, 0o6755))
			m.must(kill(id))
			if a := m.stat(id); a.Mode != syscall.S_IFREG|0o755 {
				t.Errorf("%s of %s: mode %o", name, path, a.Mode)
			}
			m.must(m.chmod(id, 0o2644)) // no group that executes: a mandatory lock's
			m.must(kill(id))
			if a := m.stat(id); os.Geteuid() == 0 && a.Mode != syscall.S_IFREG|0o2644 {
				t.Errorf("%s of %s: mode %o", name, path, a.Mode)
			}
			if path == "new" {
				m.must(m.unlink(path))
			}
		}
		m.remount()
	}
}

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

func TestChangedSourceLosesItsBytecode(t *testing.T) {
	for name, change := range map[string]func(m *machine, id uint64) syscall.Errno{
		"write":    func(m *machine, id uint64) syscall.Errno { return m.write(id, 0, "b") },
		"truncate": func(m *machine, id uint64) syscall.Errno { return m.truncate(id, 0) },
		"utimes": func(m *machine, id uint64) syscall.Errno {
			_, e := m.set(id, fuse.FATTR_MTIME, func(*fuse.SetAttrIn) {})
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			const code = "lib/site/pkg/__pycache__/a.cpython-312.pyc"
			cache := m.node("lib/site/pkg/__pycache__")
			if m.node(code) == 0 {
				t.Fatal("no bytecode at first")
			}
			m.must(m.chmod(m.node(module), 0o600))
			if m.node(code) == 0 {
				t.Error("chmod takes the bytecode away")
			}
			m.must(change(m, m.node(module)))
			if m.node(code) != 0 {
				t.Error("the bytecode stays")
			}
			m.told.await(fmt.Sprintf("%x/a.cpython-312.pyc", cache))
		})
	}
}

// sparse is a file with a hole in the middle, and its blob.
func sparse(t *testing.T) (*machine, uint64, string) {
	t.Helper()
	content := strings.Repeat("a", 100_000) + strings.Repeat("\x00", 800_000) + strings.Repeat("b", 100_001)
	store := blobs(t.TempDir())
	b := tree.NewBuilder("test")
	d := store.put(t, content)
	if err := b.File("sparse", false, int64(len(content)), d); err != nil {
		t.Fatal(err)
	}
	hole, err := os.OpenFile(store.path(d), os.O_RDWR, 0)
	if err != nil {
		if err = os.Chmod(store.path(d), 0o600); err == nil {
			hole, err = os.OpenFile(store.path(d), os.O_RDWR, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	if err := fallocate(int(hole.Fd()), keepSize|punchHole, 102_400, 700_000); err != nil {
		t.Skipf("no holes in %s: %v", store, err)
	}
	m := serve(t, b, store)
	return m, m.node("sparse"), content
}

func TestCopyUpKeepsHoles(t *testing.T) {
	for _, refused := range []string{"", "clone", "copy_file_range"} {
		t.Run("without "+refused, func(t *testing.T) {
			m, id, content := sparse(t)
			m.files.fault = func(call string) error {
				if call == refused {
					return syscall.EXDEV
				}
				return nil
			}
			m.must(m.write(id, 100_000, "x"))
			m.holds(id, content[:100_000]+"x"+content[100_001:])
			if hole, e := m.seek(id, 0, seekHole); e != 0 || hole > 200_000 {
				t.Errorf("the first hole is at %d, %v", hole, e)
			}
		})
	}
}

// Whatever fails while a file is copied up, the caller is told, the old content
// stays, and nothing is left over.
func TestFailedCopyUp(t *testing.T) {
	for _, call := range []string{"stage", "clone", "copy_file_range", "ftruncate", "fdatasync"} {
		for _, want := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
			t.Run(fmt.Sprintf("%s %v", call, want), func(t *testing.T) {
				m, id, content := sparse(t)
				failing := true
				m.files.fault = func(c string) error {
					switch {
					case c == call && failing:
						return want
					case c == "clone":
						return syscall.EXDEV
					}
					return nil
				}
				if e := m.write(id, 0, "x"); e != want {
					t.Errorf("write: %v, want %v", e, want)
				}
				if call != "clone" && call != "copy_file_range" {
					if e := m.truncate(id, 10); e != want {
						t.Errorf("truncate: %v, want %v", e, want)
					}
				}
				m.holds(id, content)
				staged, err := os.ReadDir(filepath.Join(m.upper, upper.SideDir, "tmp"))
				if err != nil || len(staged) != 0 || m.upperHas("sparse") {
					t.Errorf("left over: %v, %v", staged, err)
				}
				failing = false
				m.must(m.write(id, 0, "x"))
				m.holds(id, "x"+content[1:])
				m.log.Reset() // EIO is said there
			})
		}
	}
}

func TestFailedWriteKeepsContent(t *testing.T) {
	m := newMachine(t)
	id := m.node(data)
	m.must(m.write(id, 0, "D"))
	for _, call := range []string{"pwrite", "pread", "ftruncate", "fallocate", "fsync", "fdatasync"} {
		m.files.fault = func(c string) error {
			if c == call {
				return syscall.ENOSPC
			}
			return nil
		}
		var e syscall.Errno
		switch call {
		case "pwrite":
			e = m.write(id, 0, "x")
		case "pread":
			_, e = m.read(id)
		case "ftruncate":
			e = m.truncate(id, 0)
		case "fallocate":
			e = syscall.Errno(m.Fallocate(nil, &fuse.FallocateIn{InHeader: m.header(id), Length: 100}))
		case "fsync":
			e = m.fsync(id)
		case "fdatasync":
			e = syscall.Errno(m.Fsync(nil, &fuse.FsyncIn{InHeader: m.header(id), FsyncFlags: syncData}))
		}
		if e != syscall.ENOSPC {
			t.Errorf("%s: %v", call, e)
		}
		m.files.fault = nil
		m.holds(id, "Data")
	}
}

// A disk that is full takes what there is room for, and says so at the next write.
func TestPartialWrite(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	calls := 0
	m.files.fault = func(call string) error {
		if calls++; calls == 2 {
			return syscall.ENOSPC
		}
		return nil
	}
	in := fuse.WriteIn{InHeader: m.header(id), Size: 6}
	n, s := m.Writev(nil, &in, [][]byte{[]byte("abc"), []byte("def")})
	if s != fuse.OK || n != 3 {
		t.Errorf("wrote %d, %v", n, s)
	}
	m.files.fault = nil
	m.holds(id, "abc")
}

func TestKilledCopyUp(t *testing.T) {
	var moments []string
	{
		m := newMachine(t)
		m.at = func(moment string) { moments = append(moments, moment) }
		m.must(m.write(m.node(data), 0, "D"))
	}
	if len(moments) == 0 {
		t.Fatal("no moments")
	}
	for i, moment := range moments {
		t.Run(fmt.Sprintf("%d %s", i, moment), func(t *testing.T) {
			m := newMachine(t)
			id := m.node(data)
			left := i
			m.at = func(string) {
				if left--; left < 0 {
					panic(errKilled)
				}
			}
			func() {
				defer func() {
					if r := recover(); r != errKilled {
						t.Errorf("recovered %v", r)
					}
				}()
				_ = m.write(id, 0, "D")
			}()
			m.die()
			if got := m.node(data); got != id {
				t.Errorf("node %x has become %x", id, got)
			}
			m.holds(id, "data")
			m.must(m.write(id, 0, "D"))
			m.holds(id, "Data")
		})
	}
}

var errKilled = errors.New("killed")

func TestDescriptors(t *testing.T) {
	m := newMachine(t)
	ids := make([]uint64, 40)
	for i := range ids {
		ids[i] = m.must1(m.create(fmt.Sprint("f", i)))
		if i == 0 {
			m.files.limit = 8
		}
		m.must(m.write(ids[i], 0, fmt.Sprint(i)))
	}
	if n := len(m.files.open); n != 8 {
		t.Errorf("%d descriptors are open, want 8", n)
	}
	for i, id := range ids {
		m.holds(id, fmt.Sprint(i))
		m.must(m.write(id, 0, "x"))
	}
	if n := m.files.order.Len(); n != 8 || len(m.files.open) != 8 {
		t.Errorf("%d descriptors are open, %d in order, want 8", len(m.files.open), n)
	}
	m.must(m.unlink("f39"))
	m.Forget(ids[39], 1000)
	if m.files.open[ids[39]] != nil {
		t.Error("the descriptor of what was forgotten is kept")
	}
}

// What a mode forbids the owner it doesn't forbid who has the file open.
func TestModeBindsNoOpenFile(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	m.must(m.chmod(id, 0))
	m.must(m.write(id, 0, "a"))
	m.files.drop(id)
	m.must(m.write(id, 1, "b"))
	m.files.drop(id)
	m.holds(id, "ab")
	if a := m.stat(id); a.Mode != syscall.S_IFREG {
		t.Errorf("mode %o", a.Mode)
	}
}

func TestWriteErrorIsKeptForTheNextSync(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	m.must(m.write(id, 0, "x"))
	m.files.mu.Lock()
	m.files.closed(id, syscall.EIO) // as closing it finds
	m.files.evict(0)
	m.files.mu.Unlock()
	m.holds(id, "x") // opens it again
	if e := m.fsync(id); e != syscall.EIO {
		t.Errorf("first fsync: %v, want EIO", e)
	}
	if e := m.fsync(id); e != 0 {
		t.Errorf("second fsync: %v", e)
	}
	m.log.Reset()
}

// An fsync reaches the names too, once.
func TestSyncReachesNames(t *testing.T) {
	m := newMachine(t)
	m.must1(m.mkdir("d"))
	m.must1(m.mkdir("d/e"))
	id := m.must1(m.create("d/e/f"))
	count := 0
	counting := func(call string) error {
		if call == "fsync" {
			count++
		}
		return nil
	}
	m.files.fault = counting
	syncs := func(want int, sync func() syscall.Errno) {
		t.Helper()
		count = 0
		m.must(sync())
		if count != want {
			t.Errorf("%d calls of fsync, want %d", count, want)
		}
	}
	file := func() syscall.Errno { return m.fsync(id) }
	dir := func() syscall.Errno {
		return syscall.Errno(m.FsyncDir(nil, &fuse.FsyncIn{InHeader: m.header(m.node("d"))}))
	}
	syncs(4, file) // itself, e, d and the top
	syncs(1, file)
	m.must1(m.create("d/g"))
	syncs(1, file) // whose own name is synced
	syncs(1, dir)
	syncs(0, dir)
	m.must(m.rename("d", "h", 0))
	syncs(2, file) // the top
	m.must(m.rename("lib/site/other/c.txt", "h/c", 0))
	syncs(2, func() syscall.Errno { return m.fsync(m.node("h/c")) }) // the record and h
	syncs(0, func() syscall.Errno { return m.fsync(m.node(data)) })
	m.takeover()
	m.files.fault = counting
	syncs(4, file) // nobody knows what the one before has synced
	m.files.fault = func(call string) error {
		if call == "fsync" && count > 0 {
			return syscall.EIO
		}
		count++
		return nil
	}
	m.must(m.rename("h/e/f", "h/k", 0))
	count = 0
	if e := file(); e != syscall.EIO {
		t.Errorf("a directory that fails: %v", e)
	}
	m.files.fault = nil
	m.log.Reset()
}

func TestSeekAndSpace(t *testing.T) {
	m := newMachine(t)
	id := m.must1(m.create("new"))
	m.must(m.write(id, 1<<20, "x"))
	for _, c := range []struct {
		node, off uint64
		whence    uint32
		want      uint64
		errno     syscall.Errno
	}{
		{id, 0, seekData, 1 << 20, 0},
		{id, 0, seekHole, 0, 0},
		{id, 1 << 20, seekHole, 1<<20 + 1, 0},
		{id, 2 << 20, seekData, 0, syscall.ENXIO},
		{m.node(data), 1, seekData, 1, 0},
		{m.node(data), 1, seekHole, 4, 0},
		{m.node(data), 4, seekHole, 0, syscall.ENXIO},
		{m.node(data), 0, 0, 0, syscall.EINVAL},
	} {
		if got, e := m.seek(c.node, c.off, c.whence); got != c.want || e != c.errno {
			t.Errorf("whence %d at %d: %d, %v, want %d, %v", c.whence, c.off, got, e, c.want, c.errno)
		}
	}
	for _, c := range []struct {
		mode uint32
		want syscall.Errno
		size uint64
	}{
		{0, 0, 2 << 20},
		{keepSize, 0, 2 << 20},
		{keepSize | punchHole, 0, 2 << 20},
		{zeroRange, 0, 2 << 20},
		{0x08, syscall.EOPNOTSUPP, 2 << 20}, // FALLOC_FL_COLLAPSE_RANGE
	} {
		in := fuse.FallocateIn{InHeader: m.header(id), Length: 2 << 20, Mode: c.mode}
		s := m.Fallocate(nil, &in)
		if c.mode == zeroRange && syscall.Errno(s) == syscall.EOPNOTSUPP {
			continue // tmpfs has no such thing
		}
		if syscall.Errno(s) != c.want {
			t.Errorf("fallocate %#x: %v, want %v", c.mode, s, c.want)
		}
		if a := m.stat(id); a.Size != c.size {
			t.Errorf("fallocate %#x: size %d", c.mode, a.Size)
		}
	}
	var st fuse.StatfsOut
	h := m.header(1)
	if s := m.StatFs(nil, &h, &st); s != fuse.OK || st.Blocks == 0 || st.NameLen != 255 {
		t.Errorf("%+v, %v", st, s)
	}
}

func TestCopyFileRange(t *testing.T) {
	m := newMachine(t)
	own := m.must1(m.create("own"))
	m.must(m.write(own, 0, "0123456789"))
	for _, c := range []struct {
		name     string
		from, to string
		off, len uint64
		want     string
	}{
		{"lower to new", data, "to", 1, 100, "\x00\x00ata"},
		{"own to new", "own", "to", 8, 100, "\x00\x0089"},
		{"own to lower", "own", "lib/site/other/c.txt", 0, 3, "c\x00012"},
		{"lower to lower", data, "bin/tool", 0, 4, "#!data/sh\n"},
		{"beyond the end", data, "to", 4, 100, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if m.node(c.to) == 0 {
				m.must1(m.create(c.to))
				defer func() { m.must(m.unlink(c.to)) }()
			}
			in := fuse.CopyFileRangeIn{InHeader: m.header(m.node(c.from)), OffIn: c.off, NodeIdOut: m.node(c.to), OffOut: 2, Len: c.len}
			if _, s := m.CopyFileRange(nil, &in); s != fuse.OK {
				t.Fatal(s)
			}
			m.holds(m.node(c.to), c.want)
		})
	}
}

// Readers and writers of one file, while it is copied up, renamed and unlinked, see whole
// writes.
func TestContentWhileNamesChange(t *testing.T) {
	m, id, content := sparse(t)
	m.unique = 1 << 20
	h := fuse.InHeader{NodeId: id}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for range 200 {
				r, s := m.Read(nil, &fuse.ReadIn{InHeader: h}, buf)
				if s != fuse.OK {
					t.Errorf("reading: %v", s)
					return
				}
				b, _ := r.Bytes(buf)
				if !bytes.Equal(b, bytes.Repeat(b[:1], 4096)) {
					t.Error("a write was seen in part")
				}
				r.Done()
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			for range 100 {
				in := fuse.WriteIn{InHeader: h, Size: 4096}
				if n, s := m.Write(nil, &in, bytes.Repeat([]byte{'A' + byte(i)}, 4096)); s != fuse.OK || n != 4096 {
					t.Errorf("writing: %d, %v", n, s)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			m.must(m.rename([]string{"sparse", "moved"}[i%2], []string{"moved", "sparse"}[i%2], 0))
		}
		m.must(m.unlink("sparse"))
	})
	wg.Wait()
	got, e := m.read(id)
	if e != 0 || len(got) != len(content) || got[4096:] != content[4096:] {
		t.Errorf("%d bytes, %v", len(got), e)
	}
}

// Whatever is done at the same time to the same few files, nothing fails, and the
// next mount shows what this one does.
func TestEverythingAtOnce(t *testing.T) {
	m := newMachine(t)
	m.must1(m.create("new"))
	ids := []uint64{m.node(data), m.node(module), m.node("lib/site/other/c.txt"), m.node("bin/tool"), m.node("new")}
	dirs := []uint64{m.node("lib/site/pkg"), m.node("lib/site/pkg/sub"), m.node("bin")}
	ops := map[string]func(id uint64, r *rand.Rand) fuse.Status{
		"READ": func(id uint64, _ *rand.Rand) fuse.Status {
			buf := make([]byte, 100)
			res, s := m.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}}, buf)
			if s == fuse.OK {
				res.Done()
			}
			return s
		},
		"WRITE": func(id uint64, r *rand.Rand) fuse.Status {
			in := fuse.WriteIn{InHeader: fuse.InHeader{NodeId: id}, Offset: r.Uint64N(5000)}
			_, s := m.Write(nil, &in, make([]byte, 100))
			return s
		},
		"SETATTR of the size": func(id uint64, r *rand.Rand) fuse.Status {
			in := fuse.SetAttrIn{}
			in.NodeId, in.Valid, in.Size = id, fuse.FATTR_SIZE, r.Uint64N(5000)
			return m.SetAttr(nil, &in, &fuse.AttrOut{})
		},
		"SETATTR": func(id uint64, r *rand.Rand) fuse.Status {
			in := fuse.SetAttrIn{}
			in.NodeId, in.Valid, in.Mode = id, fuse.FATTR_MODE|fuse.FATTR_MTIME, 0o600|r.Uint32N(0o100)
			return m.SetAttr(nil, &in, &fuse.AttrOut{})
		},
		"GETATTR": func(id uint64, _ *rand.Rand) fuse.Status {
			return m.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: id}}, &fuse.AttrOut{})
		},
		"SETXATTR": func(id uint64, r *rand.Rand) fuse.Status {
			in := fuse.SetXAttrIn{InHeader: fuse.InHeader{NodeId: id}}
			return m.SetXAttr(nil, &in, "user.k", []byte{byte(r.Uint32N(256))})
		},
		"LISTXATTR": func(id uint64, _ *rand.Rand) fuse.Status {
			_, s := m.ListXAttr(nil, &fuse.InHeader{NodeId: id}, make([]byte, 100))
			return s
		},
		"FSYNC": func(id uint64, _ *rand.Rand) fuse.Status {
			return m.Fsync(nil, &fuse.FsyncIn{InHeader: fuse.InHeader{NodeId: id}})
		},
		"FSYNCDIR": func(_ uint64, r *rand.Rand) fuse.Status {
			return m.FsyncDir(nil, &fuse.FsyncIn{InHeader: fuse.InHeader{NodeId: dirs[r.IntN(len(dirs))]}})
		},
		"COPY_FILE_RANGE": func(id uint64, r *rand.Rand) fuse.Status {
			in := fuse.CopyFileRangeIn{InHeader: fuse.InHeader{NodeId: id}, NodeIdOut: ids[r.IntN(len(ids))], OffOut: 10_000, Len: 100}
			_, s := m.CopyFileRange(nil, &in)
			return s
		},
		"FALLOCATE": func(id uint64, r *rand.Rand) fuse.Status {
			return m.Fallocate(nil, &fuse.FallocateIn{InHeader: fuse.InHeader{NodeId: id}, Offset: r.Uint64N(5000), Length: 100})
		},
		"LSEEK": func(id uint64, _ *rand.Rand) fuse.Status {
			s := m.Lseek(nil, &fuse.LseekIn{InHeader: fuse.InHeader{NodeId: id}, Whence: seekHole}, &fuse.LseekOut{})
			if s == fuse.Status(syscall.ENXIO) {
				s = fuse.OK // it is empty at the moment
			}
			return s
		},
	}
	kinds := slices.Sorted(maps.Keys(ops))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for range 300 {
				kind := kinds[r.IntN(len(kinds))]
				if s := ops[kind](ids[r.IntN(len(ids))], r); s != fuse.OK {
					t.Errorf("%s: %v", kind, s)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 60 {
			from, to := data, "moved"
			if i%2 == 1 {
				from, to = to, from
			}
			m.must(m.rename(from, to, 0))
			m.must1(m.link("new", "lib/other"))
			m.must(m.unlink("new"))
			m.must(m.rename("lib/other", "new", 0))
			if i == 30 {
				m.must(m.unlink("bin/tool")) // which goes on being used
			}
		}
	})
	wg.Wait()
	before := m.everything()
	m.remount()
	if after := m.everything(); !maps.Equal(before, after) {
		t.Errorf("after a remount:\n%v\nwas:\n%v", after, before)
	}
}

// everything returns what the files of TestEverythingAtOnce are like.
func (m *machine) everything() map[string]string {
	all := make(map[string]string)
	for _, path := range []string{data, module, "lib/site/other/c.txt", "new"} {
		id := m.node(path)
		content, _ := m.read(id)
		value, _ := m.getxattr(id, "user.k")
		a := m.stat(id)
		all[path] = fmt.Sprintf("%x %o %d.%09d %q %d bytes %x", id, a.Mode, a.Mtime, a.Mtimensec, value, a.Size, digest.Of([]byte(content)))
	}
	return all
}

func BenchmarkWrite(b *testing.B) {
	m := newMachine(b)
	id := m.must1(m.create("new"))
	in := fuse.WriteIn{InHeader: fuse.InHeader{NodeId: id}, Size: 100}
	data := [][]byte{make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		if _, s := m.Writev(nil, &in, data); s != fuse.OK {
			b.Fatal(s)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	m := newMachine(b)
	id := m.node(data)
	m.must(m.write(id, 0, "D"))
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}}
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r, s := m.Read(nil, &in, buf)
		if s != fuse.OK {
			b.Fatal(s)
		}
		r.Done()
	}
}

func TestWaitingForTheDiskIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := 0
		f := &FS{progress: func() { said++ }}
		done := f.waiting()
		time.Sleep(4*progressEvery + 1) // of the bubble's clock
		synctest.Wait()
		done()
		time.Sleep(10 * progressEvery)
		synctest.Wait()
		if said != 4 {
			t.Errorf("said %d times, want 4", said)
		}
	})
	(&FS{}).waiting()()
}

// A directory's time of change is its own, and not that of what DIR keeps in it.
func TestRecordsChangeNoDirectory(t *testing.T) {
	m := newMachine(t)
	dir := m.node("lib/site/pkg/sub")
	host := func() (sec, nsec int64) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(m.upper, "lib/site/pkg/sub"), &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Ctim.Sec), int64(st.Ctim.Nsec)
	}
	before := m.stat(dir)
	same := func(what string) {
		t.Helper()
		if a := m.stat(dir); a.Ctime != before.Ctime || a.Ctimensec != before.Ctimensec {
			t.Errorf("%s: %d.%09d, was %d.%09d", what, a.Ctime, a.Ctimensec, before.Ctime, before.Ctimensec)
		}
	}
	new := func(what string) {
		t.Helper()
		before = m.stat(dir)
		if sec, nsec := host(); int64(before.Ctime) != sec || int64(before.Ctimensec) != nsec {
			t.Errorf("%s: %d.%09d, want %d.%09d", what, before.Ctime, before.Ctimensec, sec, nsec)
		}
	}
	m.must(m.chmod(m.node(data), 0o600))
	same("a record in it, and it comes into DIR")
	m.must1(m.create("lib/site/pkg/sub/new"))
	new("a new name")
	for sec, nsec := host(); sec == int64(before.Ctime) && nsec == int64(before.Ctimensec); sec, nsec = host() {
		m.must(m.chmod(m.node(data), 0o600)) // until the clock has moved on
	}
	same("a record in it")
	m.must(m.write(m.node(data), 0, "D"))
	same("a copy-up in it")
	m.must(m.chmod(dir, 0o700))
	new("its mode")
	m.must(m.setxattr(dir, "user.k", "v", 0))
	new("an extended attribute")
	m.must(m.rename("lib/site/pkg/sub", "lib/site/pkg/sub2", 0))
	m.must(m.rename("lib/site/pkg/sub2", "lib/site/pkg/sub", 0))
	new("its name")
}
