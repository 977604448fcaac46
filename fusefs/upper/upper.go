// Package upper keeps the upper directory of an overlay: everything that was
// changed over a tree, in an ordinary directory that any tool can read.
//
// The room keeps this invariant: whatever kills the process, the next Open finds
// the directory as it was before or after each mutation, never between. It never
// looks at the lower tree, never follows a symbolic link and never leaves the
// directory. What the names mean to who reads the mount is fusefs/overlay's.
//
// While a session has the directory open nobody else may change it. What somebody
// changes nevertheless is seen by the next session; until then a mutation whose
// names don't fit fails and is undone.
//
// # Format 1
//
// The directory is a layer of an OCI image (image-spec, "Layer Filesystem
// Changeset") for what a layer can say: files, directories, symbolic links, fifos
// and sockets lie under their names, with their true modes, owners and times. An
// empty file ".wh.NAME" is a whiteout: the lower's NAME is gone.
// ".wh..wh..opq" in a directory hides all the lower has there; it is honoured,
// never written. An entry beats a whiteout of its own name: NAME beside
// ".wh.NAME" is new and has nothing to do with the lower's. Other names that
// begin ".wh..wh." are not for this format to read.
//
// What a layer can't say lies in a record beside the entry that it is about, the
// regular file ".wh..wh.sitefs.HEX", where HEX is the first 32 hexadecimal digits
// of the SHA-256 of NAME. It holds one JSON object, a [Record]:
//
//	name      NAME
//	lower     this name is that node of the lower, a path relative to its top;
//	          with no entry NAME, content and children come from there
//	whiteout  true: the whiteout of a name that ".wh." can't be put before, being
//	          longer than 251 bytes or beginning ".wh." itself; lower may be there too
//	mode, uid, gid, mtime, atime, xattrs
//	          what of the lower's attributes has changed, while there is no
//	          entry NAME; mtime and atime are {"sec":, "nsec":}, xattrs are
//	          base64
//
// A name or path that is not UTF-8 is written {"base64": "…"} instead of a string.
//
// The directory ".wh..wh.sitefs" at the top, mode 0700, is the side area:
//
//	FORMAT        "1\n"
//	base          JSON, a [Base]: the tree that the layer was made over
//	committed     the digest of a tree that the layer over its base was made, if it was
//	lock          flock(2)ed by the session that has the directory open; the
//	              process id of who took it, in decimal
//	journal       see below
//	tmp/          files being made, and deleted ones until they are removed; emptied at open
//	orphans/HEX   what is unlinked but may be open, by its node id in 16
//	              hexadecimal digits; emptied when a new session opens the directory
//
// # Journal
//
// The journal is a file that is mapped into memory, so that what is written there
// outlives the process without a system call. It isn't synced: after a loss of
// power nothing is promised but what fsync promises. Integers are little-endian;
// its parts are at these offsets:
//
//	0      "sitefsJ1"
//	8      the session, 16 random bytes
//	24     u32 state: 0 idle, 1 running, 2 undoing
//	28     u32 next: the first step not known to be done; undoing: how many are left to undo
//	32     u64 the FUSE request's unique, 0: none
//	40     u32 undoing: the errno that the request will be answered with
//	44     u32 number of steps
//	48     u32 bytes of the encoded steps
//	52     u32 their CRC-32C
//	56     u64 number of results ever written
//	4096   1,024 results: u64 unique, u32 errno, u32 0, u64 node; the n-th is at n mod 1,024
//	32768  lent modes: u32 count, then of each u32 mode, u32 length of path, u64 inode, path
//	98304  a slot of 40 bytes for each step, then the encoded steps
//
// A slot holds, twice, u32 1 if set, u32 nanoseconds, i64 seconds: the
// modification times that the directories of the step's two paths get back; then
// u64 the inode that an exchange found at its first path. An encoded step is u8 kind
// (1 move, 2 link, 3 making, 4 exchange), u8 flags (1 has an owner, 2 has a time,
// 4 keeps times), u16 0, u32 mode with its file type, u32 uid, u32 gid, i64 seconds,
// i64 nanoseconds, and twice u32 length and as many bytes: the first path, or the
// target of a symbolic link, and the second.
//
// A mutation is a list of steps, each one system call that is done or not: a move
// to a name that is free, the exchange of two names, a hard link, or the making of
// an empty file, directory, link, fifo or socket (with its owner and mode, which can
// be set again). Nothing is ever deleted by a step: what must go moves to tmp/ and is
// removed when the mutation is over. The steps are written, then the state; next
// follows each step. Who finds a journal running goes on from next, of which
// alone it can't know whether it is done, and its names tell: a move is done if
// the source is gone and the target there, a making if the target is there, an
// exchange if its inode is at the second path (where the file system can't exchange
// names, it goes by way of tmp/aside). A step that fails has those before it undone
// in reverse, by the same rules.
package upper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
)

// AreaSize is how many bytes of the mount's memory Open is given.
const AreaSize = 64

// format is the version of what a directory holds that this package reads and writes.
const format = "1\n"

// Names of the format.
const (
	whiteout     = ".wh."
	opaque       = ".wh..wh..opq"
	recordPrefix = ".wh..wh.sitefs."
	sideDir      = ".wh..wh.sitefs"
	formatFile   = "FORMAT"
	baseFile     = "base"
	lockFile     = "lock"
	journalFile  = "journal"
	tmpName      = "tmp"
	orphansName  = "orphans"
	tmpDir       = sideDir + "/" + tmpName
	orphansDir   = sideDir + "/" + orphansName
)

// SideDir is the name of the side area, at the top of every directory that Lock or
// Open has made an upper one.
const SideDir = sideDir

// maxName is the length of the longest name a Linux file system takes (NAME_MAX).
const maxName = 255

var (
	// ErrLocked says that another session has the directory open.
	ErrLocked = errors.New("in use by another overlay")
	// ErrBase says that the layer was made over another tree; the error is a *BaseError.
	ErrBase = errors.New("made over another tree")
)

// A Base says what a layer was made over.
type Base struct {
	Tree   string `json:"tree"`             // digest of the tree
	Prefix string `json:"prefix"`           // where the environment stood
	Python string `json:"python"`           // version of its interpreter
	Layout string `json:"layout,omitempty"` // what of the tree is mounted
}

// A BaseError is a directory whose layer was made over another tree.
type BaseError struct {
	Dir        string
	Have, Want Base
}

func (e *BaseError) Error() string {
	return fmt.Sprintf("overlay %q was %v: %s (Python %s), not %s (Python %s)",
		e.Dir, ErrBase, e.Have.Tree, e.Have.Python, e.Want.Tree, e.Want.Python)
}

// Unwrap returns ErrBase.
func (e *BaseError) Unwrap() error { return ErrBase }

// Options say how to open a directory.
type Options struct {
	// Base is what the layer must have been made over; the zero Base takes any. A
	// directory without one is given it.
	Base Base
	// Rebase takes a directory that was made over another tree, and says from now
	// on that it was made over Base.
	Rebase bool
	// Area is AreaSize bytes of memory that live as long as the mount, zero in a new
	// one: by it the successor of a worker knows the session. Nil is a session of its
	// own.
	Area []byte
	// Locked is the lock that the caller has taken already; nil: Open takes it, and
	// Close gives it back.
	Locked *os.File
	// At is called at every moment between two system calls of a mutation, in tests:
	// "written 0" when its steps are in the journal, "before N", "made 0", "late N" and
	// "done N" of each step (what is made has its mode, a directory gets its time back
	// in between), "all N", "result 0" and "end 0"; "undo N" and "undone N" of a
	// step that is undone; "lent N" and "used N" around what modes forbid.
	At func(moment string)
}

// A Result is how a mutation ended.
type Result struct {
	Errno syscall.Errno // 0: done
	// Node is what Do's function gave. Of a mutation that Open had to finish it is
	// the NodeID of the last step's target.
	Node uint64
}

// NodeID returns the node id of an entry of the upper that is no node of the lower.
// A file keeps it for as long as it lives.
func NodeID(ino uint64) uint64 { return 5<<60 | ino&(1<<60-1) }

// A Listing is what one directory of the upper says. Its names are in no order.
type Listing struct {
	Entries   []Entry
	Whiteouts []string // the names that are gone, by ".wh." or by a record
	Records   []Record // those with a Lower
	Opaque    bool     // nothing of the lower is here
	Ignored   []Ignored
}

// An Entry is a name of the upper that is no whiteout or record.
type Entry struct {
	Name string
	Type uint32 // S_IFMT bits
	Ino  uint64 // st_ino
}

// An Ignored is a file in the place of a record that isn't one.
type Ignored struct {
	Name string
	Err  error
}

// An Orphan is what was unlinked while somebody might have it open.
type Orphan struct {
	ID   uint64 // node id
	Type uint32 // S_IFMT bits
	Ino  uint64 // st_ino
}

// Reserved reports whether the format has name for itself: it can't be an entry.
func Reserved(name string) bool { return strings.HasPrefix(name, whiteout) }

// WhiteoutPath returns where the whiteout of a name in a directory lies. Long
// says that it must be a record there, see [Dir.Whiteout].
func WhiteoutPath(dir, name string) (p string, long bool) {
	if len(whiteout)+len(name) > maxName || Reserved(name) {
		return RecordPath(dir, name), true
	}
	return path.Join(dir, whiteout+name), false
}

// RecordPath returns where the record of a name in a directory lies.
func RecordPath(dir, name string) string {
	sum := sha256.Sum256([]byte(name))
	return path.Join(dir, recordPrefix+hex.EncodeToString(sum[:16]))
}

// OrphanPath returns where an orphan lies, a path for steps and all that reads.
func OrphanPath(id uint64) string { return fmt.Sprintf("%s/%016x", orphansDir, id) }
