// Package shared is the memory that the processes of one mount share: what must
// not be lost when the worker, which answers the kernel, dies.
//
// It is a sealed memfd of [Size] bytes that the supervisor makes and every worker
// maps. All of it is written by atomic operations, so that whoever reads sees each
// field as somebody wrote it, however that process ended. A slot or a suspect is
// there when its first field, the request's number, is not zero; that is written
// last and cleared first. The INIT is there when its valid field is set.
//
// It holds numbers and copies, no pointers, and whoever reads believes no length:
// a worker that went wrong may have written anything. The package starts no
// process, talks to no kernel and decides nothing.
//
// The layout, version 1, little more than the types below say: all integers are
// the machine's own (both processes run on it), offsets are in bytes.
//
//	0       magic "sitefsmm", version u32, size u32
//	64      INIT: valid u32, request length u32, reply length u32, request [256], reply [256]
//	640     counters: answered, faults, bytes read, restarts, progress, all u64
//	704     requests by opcode: 64 of u64
//	1216    latencies by opcode: 64 of 32 of u64; of the power of two of microseconds
//	17600   last restarts: 5 of time (Unix ns) u64, length u32, reason [116]
//	18240   slots: 1024 of 112 bytes, see slot
//	132928  suspects: 1024 of 16 bytes, see suspect
//	149312  padding to a page
//	151552  the area of the file system: 4096 bytes
package shared

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

const (
	// version changes when the meaning of any byte does. A worker that finds another
	// one refuses to serve, and its supervisor keeps the one that it has.
	version = 1

	// Slots is how many requests can be in flight. The kernel keeps 12 of its own
	// (max_background) beside those that processes wait for, of which a worker
	// answers 512 at once.
	Slots = 1024

	// AreaSize is how many bytes a file system has for itself.
	AreaSize = 4096

	// Opcodes is one more than the largest opcode that is counted apart; FUSE has
	// 53 so far. The rest counts as 0.
	Opcodes = 64

	// Buckets is the number of ranges of a latency: the last holds what took more
	// than 2^30 µs.
	Buckets = 32

	// LastRestarts is how many restarts are remembered.
	LastRestarts = 5

	maxInit   = 256 // FUSE's is 104 bytes, its reply 80
	maxReason = 116
	maxName   = 64
)

var magic = [8]byte([]byte("sitefsmm"))

// ErrVersion is memory of another version of sitefs, or none at all.
var ErrVersion = errors.New("the shared memory is of another version of sitefs")

type layout struct {
	magic   [8]byte
	version uint32
	size    uint32
	_       [48]byte

	init struct {
		valid, request, reply atomic.Uint32
		bytes                 [2 * maxInit / 4]atomic.Uint32
	}
	_ [52]byte

	answered, faults, bytesRead, restarts, progress atomic.Int64
	_                                               [24]byte

	requests  [Opcodes]atomic.Int64
	latencies [Opcodes][Buckets]atomic.Int64

	last [LastRestarts]struct {
		time   atomic.Int64
		length atomic.Uint32
		reason [maxReason / 4]atomic.Uint32
	}

	slots    [Slots]slot
	suspects [Slots]suspect
	_        [2240]byte
	area     [AreaSize]byte
}

// slot is a request that a worker has read and not answered yet.
type slot struct {
	unique  atomic.Uint64
	started atomic.Int64 // CLOCK_MONOTONIC, ns
	node    atomic.Uint64
	opcode  atomic.Uint32
	pid     atomic.Uint32
	phase   atomic.Uint32
	length  atomic.Uint32
	name    [maxName / 8]atomic.Uint64
	_       [8]byte
}

// suspect is a request that was being answered when a worker died.
type suspect struct {
	unique  atomic.Uint64
	deaths  atomic.Uint32
	verdict atomic.Uint32
}

// Size is the size of the memory in bytes, a multiple of the page's.
const Size = int(unsafe.Sizeof(layout{}))

// Memory is the mapped memory. Its methods may be called concurrently, here and
// in the other processes.
type Memory struct {
	*layout
	mapped []byte
}

// over returns the memory in b, which begins a page.
func over(b []byte) (*Memory, error) {
	if len(b) != Size {
		return nil, fmt.Errorf("%w: it has %d bytes, want %d", ErrVersion, len(b), Size)
	}
	return &Memory{layout: (*layout)(unsafe.Pointer(unsafe.SliceData(b))), mapped: b}, nil
}

// format writes the header of new memory.
func (m *Memory) format() {
	m.layout.magic, m.layout.version, m.layout.size = magic, version, uint32(Size)
}

// check reads the header.
func (m *Memory) check() error {
	if m.layout.magic != magic || m.layout.version != version || m.layout.size != uint32(Size) {
		return fmt.Errorf("%w: %q version %d, want %q version %d", ErrVersion, m.layout.magic[:], m.layout.version, magic[:], version)
	}
	return nil
}

// Area returns the memory of the file system's own. It begins a page.
func (m *Memory) Area() []byte { return m.area[:] }

// SaveInit keeps the kernel's INIT request and the reply to it, for every worker
// to come.
func (m *Memory) SaveInit(request, reply []byte) error {
	if len(request) > maxInit || len(reply) > maxInit {
		return fmt.Errorf("an INIT of %d bytes with a reply of %d, want at most %d", len(request), len(reply), maxInit)
	}
	m.init.valid.Store(0)
	m.init.request.Store(uint32(len(request)))
	m.init.reply.Store(uint32(len(reply)))
	store(m.init.bytes[:maxInit/4], request)
	store(m.init.bytes[maxInit/4:], reply)
	m.init.valid.Store(1)
	return nil
}

// Init returns what SaveInit was given, if it was.
func (m *Memory) Init() (request, reply []byte, ok bool) {
	if m.init.valid.Load() == 0 {
		return nil, nil, false
	}
	request = load(m.init.bytes[:maxInit/4], m.init.request.Load())
	reply = load(m.init.bytes[maxInit/4:], m.init.reply.Load())
	return request, reply, true
}

// store writes text, which fits, to words.
func store(words []atomic.Uint32, text []byte) {
	var word [4]byte
	for i := 0; i*4 < len(text); i++ {
		clear(word[copy(word[:], text[i*4:]):])
		words[i].Store(binary.NativeEndian.Uint32(word[:]))
	}
}

// load returns length bytes of words, or as many as there are.
func load(words []atomic.Uint32, length uint32) []byte {
	b := make([]byte, 0, len(words)*4)
	for i := range words {
		b = binary.NativeEndian.AppendUint32(b, words[i].Load())
	}
	return b[:min(int(length), len(b))]
}
