package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

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

func TestUnlinkedStaysSoAfterTakeover(t *testing.T) {
	m := newMachine(t)
	file, below, kept := m.node("bin/tool"), m.node("lib/site/pkg/sub/b.py"), m.node(module)
	m.must(m.unlink("bin/tool"))
	m.must(m.unlink("lib/site/pkg/sub/b.py"))
	m.must(m.unlink(data))
	m.must(m.rmdir("lib/site/pkg/sub"))
	m.must(m.rename("lib/site/pkg", "lib/moved", 0))
	m.takeover()
	for _, id := range []uint64{file, below} {
		if a := m.stat(id); a.Nlink != 0 || a.Ino != id {
			t.Errorf("node %x has %d links", a.Ino, a.Nlink)
		}
		m.must(m.chmod(id, 0o604))
		m.takeover()
		if a := m.stat(id); a.Nlink != 0 || a.Mode != syscall.S_IFREG|0o604 {
			t.Errorf("node %x has %d links and mode %o once it was changed", a.Ino, a.Nlink, a.Mode)
		}
		m.must(m.write(id, 0, "x"))
		if a := m.stat(id); a.Nlink != 0 {
			t.Errorf("node %x has %d links once it is written to", a.Ino, a.Nlink)
		}
	}
	if a := m.stat(kept); a.Nlink != 1 {
		t.Errorf("what is there has %d links", a.Nlink)
	}
	if m.node("bin/tool") != 0 {
		t.Error("writing has brought the name back")
	}
}
