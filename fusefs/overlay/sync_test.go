package overlay

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

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
