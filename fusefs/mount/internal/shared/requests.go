package shared

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"
)

// A Phase is how far a worker is with a request.
type Phase uint32

const (
	Waiting  Phase = iota // it was read and waits for its turn
	Handling              // it is being handled
	Alone                 // it is being handled while nothing else is
)

// A Request is one in flight: a worker has read it and not answered yet.
type Request struct {
	Unique  uint64 // its number, which no other request of the mount has
	Opcode  uint32
	PID     uint32 // of the process that asked
	Node    uint64
	Name    string // of a LOOKUP, the first 64 bytes
	Started int64  // when it was read: CLOCK_MONOTONIC, in nanoseconds
	Phase   Phase
}

// Begin says that the request r with that name is in flight. The slot is the
// caller's alone.
func (m *Memory) Begin(i int, r *Request, name []byte) {
	s := &m.slots[i]
	s.unique.Store(0)
	s.started.Store(r.Started)
	s.node.Store(r.Node)
	s.opcode.Store(r.Opcode)
	s.pid.Store(r.PID)
	s.phase.Store(uint32(r.Phase))
	name = name[:min(len(name), maxName)]
	s.length.Store(uint32(len(name)))
	var word [8]byte
	for w := 0; w*8 < len(name); w++ {
		clear(word[copy(word[:], name[w*8:]):])
		s.name[w].Store(binary.NativeEndian.Uint64(word[:]))
	}
	s.unique.Store(r.Unique)
}

// Enter says how far the request in slot i is.
func (m *Memory) Enter(i int, p Phase) { m.slots[i].phase.Store(uint32(p)) }

// End says that slot i is free again.
func (m *Memory) End(i int) { m.slots[i].unique.Store(0) }

// InFlight returns the requests in flight.
func (m *Memory) InFlight() []Request {
	var list []Request
	for i := range m.slots {
		if r, ok := m.slots[i].load(); ok {
			list = append(list, r)
		}
	}
	return list
}

// load returns the request in the slot. One that is replaced meanwhile counts as
// answered.
func (s *slot) load() (r Request, ok bool) {
	unique := s.unique.Load()
	if unique == 0 {
		return r, false
	}
	r = Request{
		Unique:  unique,
		Opcode:  s.opcode.Load(),
		PID:     s.pid.Load(),
		Node:    s.node.Load(),
		Started: s.started.Load(),
		Phase:   Phase(s.phase.Load()),
	}
	var name []byte
	for w := range s.name {
		name = binary.NativeEndian.AppendUint64(name, s.name[w].Load())
	}
	r.Name = string(name[:min(int(s.length.Load()), len(name))])
	return r, s.unique.Load() == unique
}

// ClearInFlight frees every slot, when nobody uses one.
func (m *Memory) ClearInFlight() {
	for i := range m.slots {
		m.slots[i].unique.Store(0)
	}
}

// counted returns the number that an opcode counts as.
func counted(opcode uint32) uint32 {
	if opcode >= Opcodes {
		return 0
	}
	return opcode
}

// CountRequest counts a request that was read.
func (m *Memory) CountRequest(opcode uint32) { m.requests[counted(opcode)].Add(1) }

// CountReply counts a request that was answered after d. Read is how many bytes of
// a file the reply carries, failed that it is an EIO.
func (m *Memory) CountReply(opcode uint32, d time.Duration, read int, failed bool) {
	m.latencies[counted(opcode)][bucket(d)].Add(1)
	if read > 0 {
		m.bytesRead.Add(int64(read))
	}
	if failed {
		m.faults.Add(1)
	}
	m.answered.Add(1)
}

// bucket returns the range of a latency: 0 is less than a microsecond, n is from
// 2^(n-1) to 2^n.
func bucket(d time.Duration) int {
	return min(bits.Len64(uint64(max(d, 0)/time.Microsecond)), Buckets-1)
}

// Answered returns how many requests were answered.
func (m *Memory) Answered() int64 { return m.answered.Load() }

// NoteProgress says that a request which takes long gets on.
func (m *Memory) NoteProgress() { m.progress.Add(1) }

// Moved returns a number that is another when a request was answered or got on.
func (m *Memory) Moved() int64 { return m.answered.Load() + m.progress.Load() }

// Faults returns how many replies were EIO.
func (m *Memory) Faults() int64 { return m.faults.Load() }

// BytesRead returns how many bytes of files were read.
func (m *Memory) BytesRead() int64 { return m.bytesRead.Load() }

// Requests returns how many requests of an opcode there were.
func (m *Memory) Requests(opcode uint32) int64 { return m.requests[counted(opcode)].Load() }

// Latency returns how many requests of an opcode were answered, and the time that
// the given share of them, between 0 and 1, was answered within: it is off by less
// than a factor of two.
func (m *Memory) Latency(opcode uint32, share float64) (n int64, within time.Duration) {
	hist := &m.latencies[counted(opcode)]
	for i := range hist {
		n += hist[i].Load()
	}
	return n, quantile(hist, n, share)
}

func quantile(hist *[Buckets]atomic.Int64, n int64, share float64) time.Duration {
	rest := share * float64(n)
	for i := range hist {
		in := float64(hist[i].Load())
		if in == 0 || rest > in {
			rest -= in
			continue
		}
		low, high := 0.0, 1.0
		if i > 0 {
			low, high = float64(uint64(1)<<(i-1)), float64(uint64(1)<<i)
		}
		return time.Duration((low + (high-low)*rest/in) * float64(time.Microsecond))
	}
	return 0
}
