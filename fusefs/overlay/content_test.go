package overlay

import (
	"bytes"
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

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/digest"
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
		"fallocate": func(id uint64) syscall.Errno {
			in := fuse.FallocateIn{InHeader: m.header(id), Length: 1}
			in.Uid = 1000 // of root it is not known whether it may keep them
			return syscall.Errno(m.Fallocate(nil, &in))
		},
		"copy": func(id uint64) syscall.Errno {
			from := m.must1(m.create("from"))
			m.must(m.write(from, 0, "x"))
			in := fuse.CopyFileRangeIn{InHeader: m.header(from), NodeIdOut: id, Len: 1}
			in.Uid = 1000
			_, s := m.CopyFileRange(nil, &in)
			m.must(m.unlink("from"))
			return syscall.Errno(s)
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
			if path == "new" { // what is copied up by a truncation has its mode in the answer
				m.told.await(fmt.Sprintf("%x", id))
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

// Readers and writers of one file, while it is copied up, renamed and unlinked, see
// what was there and what is written. Not whole writes: ext4 doesn't keep a reader from a
// page that is being written, which is for the kernel in front to do.
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
				if rest := bytes.Trim(b, content[:1]+"AB"); len(b) != 4096 || len(rest) > 0 {
					t.Errorf("%d bytes, with %q among them", len(b), rest)
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
