package bytecode

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/tree"
)

// Client and host speak over a socket that keeps messages whole (SOCK_SEQPACKET).
// Integers are little-endian. To the host:
//
//	0  type  u8: 1 compile, 2 used
//	1  opt   u8
//	2  zero  6 bytes
//	8  seq   u64: returned in the reply; 0 for used, which has none
//	16 node  u64: the source, by its ID in the tree
//
// From the host:
//
//	0  type   u8: 3 reply, 4 progress
//	1  result u8: of a reply
//	2  zero   2 bytes
//	4  ahead  u32: how many sources were compiled ahead since the last message
//	8  seq    u64: of the request; 0 for progress
//	16 text   of a reply without an entry: the source's path, a NUL, the reason
//
// And from who runs the host, one byte:
//
//	0  type   u8: 0 lost: the host has died, and what was asked of it is lost
const (
	msgLost     = 0
	msgCompile  = 1
	msgUsed     = 2
	msgReply    = 3
	msgProgress = 4

	requestSize = 24
	replySize   = 16 // without text
	maxMessage  = replySize + maxReason
)

// A result says what became of a request.
type result uint8

const (
	made   result = 1 // compiled for this request: the entry is there, of whichever kind
	found  result = 2 // the entry is there
	notNow result = 3 // no entry, for a reason that belongs to this request
	unable result = 4 // no entry, and there will be none for others either
)

// A request is a message to the host.
type request struct {
	kind uint8
	opt  int
	seq  uint64
	node tree.ID
}

func (r request) encode() []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = r.kind, byte(r.opt)
	binary.LittleEndian.PutUint64(b[8:], r.seq)
	binary.LittleEndian.PutUint64(b[16:], uint64(r.node))
	return b
}

func decodeRequest(b []byte) (request, error) {
	if len(b) != requestSize || b[0] != msgCompile && b[0] != msgUsed || b[1] > maxOpt {
		return request{}, fmt.Errorf("message of %d bytes (% x): want a request", len(b), b[:min(len(b), 2)])
	}
	return request{
		kind: b[0],
		opt:  int(b[1]),
		seq:  binary.LittleEndian.Uint64(b[8:]),
		node: tree.ID(binary.LittleEndian.Uint64(b[16:])),
	}, nil
}

// A reply is a message from the host.
type reply struct {
	kind         uint8
	result       result
	ahead        uint32
	seq          uint64
	path, reason string
}

func (r reply) encode() []byte {
	b := make([]byte, replySize, maxMessage)
	b[0], b[1] = r.kind, byte(r.result)
	binary.LittleEndian.PutUint32(b[4:], r.ahead)
	binary.LittleEndian.PutUint64(b[8:], r.seq)
	if r.reason != "" {
		b = append(b, failurePayload(r.path, r.reason)...)
	}
	return b
}

func decodeReply(b []byte) (reply, error) {
	if len(b) == 1 && b[0] == msgLost {
		return reply{kind: msgLost}, nil
	}
	if len(b) < replySize || b[0] != msgReply && b[0] != msgProgress {
		return reply{}, fmt.Errorf("message of %d bytes (% x): want a reply", len(b), b[:min(len(b), 2)])
	}
	r := reply{
		kind:   b[0],
		result: result(b[1]),
		ahead:  binary.LittleEndian.Uint32(b[4:]),
		seq:    binary.LittleEndian.Uint64(b[8:]),
	}
	r.path, r.reason, _ = strings.Cut(string(b[replySize:]), "\x00")
	return r, nil
}

// checkConn refuses a socket that closing and deadlines could not end a read of.
func checkConn(conn *os.File) error {
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%s between client and host: %w: want a non-blocking socket", conn.Name(), err)
	}
	return nil
}
