package upper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// The layout of the journal; see the package comment.
const (
	journalMagic = "sitefsJ1"

	sessionAt = 8
	stateAt   = 24
	nextAt    = 28
	uniqueAt  = 32
	errnoAt   = 40
	countAt   = 44
	sizeAt    = 48
	sumAt     = 52
	writtenAt = 56
	ringAt    = 4096
	lentAt    = 32768
	stepsAt   = 98304

	results    = 1024
	resultSize = 24
	slotSize   = 40
	timeSize   = 16

	// minJournal has room for the steps of all but the deepest paths.
	minJournal = 256 << 10
	// maxJournal bounds a mutation: the parents of a path of 4,096 bytes, all
	// copied up at once, are 2,048 steps of at most 4 KiB.
	maxJournal = 16 << 20
)

// The states of a journal.
const (
	idle = iota
	running
	undoing
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// session tells one mount from the next.
type session [16]byte

// A journal is the memory that the journal file is mapped to. Stores that others
// depend on are atomic, so that they happen in the order written.
type journal struct{ b []byte }

func (j journal) u32(at int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&j.b[at])) }
func (j journal) u64(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&j.b[at])) }

// check reports whether the file is a journal, and makes one of an empty one.
func (j journal) check() error {
	switch string(j.b[:len(journalMagic)]) {
	case journalMagic:
		return nil
	case "\x00\x00\x00\x00\x00\x00\x00\x00":
		copy(j.b, journalMagic)
		return nil
	}
	return fmt.Errorf("begins %q, want %q", j.b[:len(journalMagic)], journalMagic)
}

// session returns whose results the ring has.
func (j journal) session() session { return session(j.b[sessionAt:]) }

// begin makes the journal a new session's: nobody asks for the results of the last.
func (j journal) begin(s session) {
	clear(j.b[ringAt : ringAt+results*resultSize])
	j.u64(writtenAt).Store(0)
	copy(j.b[sessionAt:], s[:])
}

// need returns how large the file must be for count steps of size bytes.
func need(count, size int) int { return stepsAt + count*slotSize + size }

// write puts a mutation's encoded steps down; it runs once run is called.
func (j journal) write(unique uint64, count int, steps []byte) {
	slots := count * slotSize
	clear(j.b[stepsAt : stepsAt+slots])
	copy(j.b[stepsAt+slots:], steps)
	j.u64(uniqueAt).Store(unique)
	j.u32(errnoAt).Store(0)
	j.u32(nextAt).Store(0)
	j.u32(countAt).Store(uint32(count))
	j.u32(sizeAt).Store(uint32(len(steps)))
	j.u32(sumAt).Store(crc32.Checksum(steps, castagnoli))
}

func (j journal) run()             { j.u32(stateAt).Store(running) }
func (j journal) advance(next int) { j.u32(nextAt).Store(uint32(next)) }

// undo turns the mutation round, with left steps to undo. A journal that was
// killed between the two stores is found running, at a step that fails again.
func (j journal) undo(left int, errno syscall.Errno) {
	j.u32(errnoAt).Store(uint32(errno))
	j.u32(nextAt).Store(uint32(left))
	j.u32(stateAt).Store(undoing)
}

// end says that the mutation is over.
func (j journal) end() { j.u32(stateAt).Store(idle) }

// put remembers how a request ended.
func (j journal) put(unique uint64, r Result) {
	n := j.u64(writtenAt).Load()
	at := ringAt + int(n%results)*resultSize
	j.u64(at).Store(0)
	j.u32(at + 8).Store(uint32(r.Errno))
	j.u64(at + 16).Store(r.Node)
	j.u64(at).Store(unique)
	j.u64(writtenAt).Store(n + 1)
}

// find returns how a request ended, the last one of that unique.
func (j journal) find(unique uint64) (Result, bool) {
	n := j.u64(writtenAt).Load()
	for i := uint64(1); i <= min(n, results); i++ {
		at := ringAt + int((n-i)%results)*resultSize
		if j.u64(at).Load() == unique {
			return Result{syscall.Errno(j.u32(at + 8).Load()), j.u64(at + 16).Load()}, true
		}
	}
	return Result{}, false
}

// A mutation is what the journal says is under way.
type mutation struct {
	state  uint32
	next   int
	unique uint64
	errno  syscall.Errno
	steps  []Step
}

var errTorn = errors.New("torn")

// load reads the mutation that was under way. A torn one can't be: steps are
// written before the state, and only a loss of power keeps one without the other.
func (j journal) load() (mutation, error) {
	m := mutation{
		state:  j.u32(stateAt).Load(),
		next:   int(j.u32(nextAt).Load()),
		unique: j.u64(uniqueAt).Load(),
		errno:  syscall.Errno(j.u32(errnoAt).Load()),
	}
	if m.state == idle {
		return m, nil
	}
	count, size := int(j.u32(countAt).Load()), int(j.u32(sizeAt).Load())
	if m.state > undoing || count > maxJournal/slotSize || size > maxJournal || need(count, size) > len(j.b) || m.next > count {
		return m, errTorn
	}
	b := j.b[stepsAt+count*slotSize:][:size]
	if crc32.Checksum(b, castagnoli) != j.u32(sumAt).Load() {
		return m, errTorn
	}
	for range count {
		s, rest, err := decodeStep(b)
		if err != nil {
			return m, errTorn
		}
		m.steps, b = append(m.steps, s), rest
	}
	return m, nil
}

// slot returns where a step's slot begins.
func slot(step int) int { return stepsAt + step*slotSize }

// remember keeps the time of a directory before a step changes it.
func (j journal) remember(step, which int, t Time) {
	at := slot(step) + which*timeSize
	binary.LittleEndian.PutUint32(j.b[at+4:], uint32(t.Nsec))
	binary.LittleEndian.PutUint64(j.b[at+8:], uint64(t.Sec))
	j.u32(at).Store(1)
}

// remembered returns the time that was kept, if one was.
func (j journal) remembered(step, which int) (Time, bool) {
	at := slot(step) + which*timeSize
	t := Time{int64(binary.LittleEndian.Uint64(j.b[at+8:])), int64(binary.LittleEndian.Uint32(j.b[at+4:]))}
	return t, j.u32(at).Load() == 1
}

// inode is where the number of the inode is that an exchange begins at its first
// path: 0 until it begins.
func (j journal) inode(step int) *atomic.Uint64 { return j.u64(slot(step) + 2*timeSize) }

// A loan is the true mode of what was made accessible for a moment.
type loan struct {
	mode uint32
	ino  uint64
	path string
}

// loanHead is how many bytes of a loan come before its path.
const loanHead = 16

// lend writes down the modes before they are changed; false: there is no room.
func (j journal) lend(loans []loan) bool {
	b := j.b[lentAt+4 : stepsAt]
	for _, l := range loans {
		if len(b) < loanHead+len(l.path)+8 {
			return false
		}
		binary.LittleEndian.PutUint32(b, l.mode)
		binary.LittleEndian.PutUint32(b[4:], uint32(len(l.path)))
		binary.LittleEndian.PutUint64(b[8:], l.ino)
		b = b[loanHead+copy(b[loanHead:], l.path):]
	}
	j.u32(lentAt).Store(uint32(len(loans)))
	return true
}

// lent returns the modes that were not given back.
func (j journal) lent() []loan {
	var loans []loan
	b := j.b[lentAt+4 : stepsAt]
	for range j.u32(lentAt).Load() {
		if len(b) < loanHead {
			return loans
		}
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if n > len(b)-loanHead {
			return loans
		}
		loans = append(loans, loan{
			binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint64(b[8:]), string(b[loanHead : loanHead+n]),
		})
		b = b[loanHead+n:]
	}
	return loans
}
