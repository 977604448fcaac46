package overlay

import (
	"fmt"
	"syscall"
	"testing"
)

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
	for _, i := range []int{38, 39} {
		m.Forget(ids[i], 1000)
		if m.files.open[ids[i]] != nil {
			t.Errorf("the descriptor of f%d, which was forgotten, is kept", i)
		}
	}
	m.holds(ids[38], "x8")
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
