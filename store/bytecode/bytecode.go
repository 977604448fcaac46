// Package bytecode keeps what Python sources compile to, so that a source is
// compiled once on a machine and by whoever asks first.
//
// It has two ends. A [Client] stands in the process that serves a mount: it finds
// entries and checks them, and never compiles. [Serve] is the other process, the
// compiler host: it runs confined interpreters, is the only writer, and may die at
// any moment at the cost of an answer. [CompileAll] is a host that is told
// beforehand what to compile.
//
// The invariant is "right or not at all". What is served was found whole a moment
// before and belongs to exactly this source, interpreter and optimisation;
// everything else counts as absent. Failures that lie in the source are kept like
// bytecode, since they would repeat; failures of the machine are never kept.
//
// The package runs no code of a package that it compiles, opens no network
// connection, and never waits without a bound.
//
// # Format
//
// An entry is a file, named by the version of the bytecode and the SHA-256 of the
// source:
//
//	TAG-MAGIC/ab/cdef…[.opt-1|.opt-2]
//	TAG-MAGIC/lock     locked at one byte for each source that is being compiled
//
// TAG is sys.implementation.cache_tag, MAGIC is importlib.util.MAGIC_NUMBER in
// hexadecimal. An entry is a payload and a trailer of 40 bytes:
//
//	0  magic  6 bytes: "sfpyc", format version
//	6  kind   u8: 1 bytecode, 2 failure
//	7  opt    u8: 0, 1 or 2
//	8  sum    32 bytes: SHA-256 over the payload, the 8 bytes before, the digest
//	          of the source, and the text TAG-MAGIC
//
// The payload of bytecode is a whole .pyc file of the timestamp kind (PEP 552):
// MAGIC, then little-endian u32 each: flags 0, the source's mtime, its size; then
// the marshalled code. The payload of a failure is the path under which the source
// was first asked for, a NUL, and the reason.
//
// Entries are written aside, renamed, and never synced: after a power loss an
// entry may be torn, which its sum tells. One that is damaged is made again.
package bytecode

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A Version says which interpreters can load the bytecode.
type Version struct {
	Tag   string // sys.implementation.cache_tag, such as "cpython-312"
	Magic string // importlib.util.MAGIC_NUMBER in hexadecimal, such as "cb0d0d0a"
}

// String returns the name of the folder of the version's entries.
func (v Version) String() string { return v.Tag + "-" + v.Magic }

// check returns the magic number. The tag becomes part of a path.
func (v Version) check() (magic [4]byte, err error) {
	if v.Tag == "" || strings.ContainsAny(v.Tag, "/\x00") {
		return magic, fmt.Errorf("cache tag %q: want a name such as %q", v.Tag, "cpython-312")
	}
	if n, err := hex.Decode(magic[:], []byte(v.Magic[:min(len(v.Magic), 2*len(magic))])); err != nil || n != len(magic) || len(v.Magic) != 2*len(magic) {
		return magic, fmt.Errorf("magic number %q of %s: want 8 hexadecimal digits", v.Magic, v.Tag)
	}
	return magic, nil
}

// A Source is a Python source whose bytes are a blob.
type Source struct {
	Path   string // becomes co_filename, and names the source in messages
	Digest digest.Digest
	Size   int64 // in bytes
	Mtime  int64 // in Unix seconds
}

// Blobs gives the contents of sources.
type Blobs interface {
	// OpenBlob opens a blob for reading; the caller closes fd.
	OpenBlob(d digest.Digest) (fd int, err error)
	// ReadBlob returns the bytes of a blob.
	ReadBlob(d digest.Digest) ([]byte, error)
}

// A key is what an entry of one version depends on.
type key struct {
	source digest.Digest
	opt    int // the optimisation: 0, 1 or 2
}

// maxOpt is the highest level of optimisation that Python has.
const maxOpt = 2
