package upper

import (
	"encoding/binary"
	"errors"
	"path"
	"strings"
)

// A Step is one system call of a mutation, done or not. Its paths are
// slash-separated and relative to the directory, "." being the top; those in the
// side area are what Stage…, TrashPath and OrphanPath return.
type Step struct {
	kind     stepKind
	from, to string // from: of a move or link; the target of a symbolic link
	mode     uint32 // of what is made, S_IFMT bits too
	owned    bool   // what is made is given to uid and gid
	uid, gid uint32
	timed    bool // what is made gets modified
	modified Time
	keepTime bool
	fd       *int
}

type stepKind uint8

const (
	moveStep stepKind = iota + 1
	linkStep
	makeStep
	exchangeStep
)

// Move gives what is at from the name to, where there must be nothing. A move
// to TrashPath deletes.
func Move(from, to string) Step { return Step{kind: moveStep, from: from, to: to} }

// Exchange gives what are at two paths each other's. Where something is to be
// replaced, an Exchange and then a Move of what was there leave no moment, not
// even for a disk that loses its power, without the one or the other.
func Exchange(a, b string) Step { return Step{kind: exchangeStep, from: a, to: b} }

// Hardlink gives the file at from the name to as well.
func Hardlink(from, to string) Step { return Step{kind: linkStep, from: from, to: to} }

// MakeFile makes an empty regular file with that mode (07777), whatever the umask.
func MakeFile(path string, mode uint32) Step { return makeNode(path, sIFREG|mode&0o7777) }

// MakeDir makes an empty directory with that mode (07777), whatever the umask.
func MakeDir(path string, mode uint32) Step { return makeNode(path, sIFDIR|mode&0o7777) }

// MakeSymlink makes a symbolic link.
func MakeSymlink(path, target string) Step {
	s := makeNode(path, sIFLNK|0o777)
	s.from = target
	return s
}

// MakeNode makes what the S_IFMT bits of mode say, a fifo or a socket: others are EPERM.
func MakeNode(path string, mode uint32) Step { return makeNode(path, mode) }

func makeNode(path string, mode uint32) Step { return Step{kind: makeStep, to: path, mode: mode} }

// KeepTime has the directories of the step's paths keep their modification times:
// copying up, or writing a record, is no change of a directory.
func (s Step) KeepTime() Step {
	s.keepTime = true
	return s
}

// Own gives what the step makes to that user and group.
func (s Step) Own(uid, gid uint32) Step {
	s.owned, s.uid, s.gid = true, uid, gid
	return s
}

// Mtime gives what the step makes that modification time.
func (s Step) Mtime(mtime Time) Step {
	s.timed, s.modified = true, mtime
	return s
}

// Keep has a MakeFile leave its descriptor, open for reading and writing, in *fd.
// It is the caller's to close once Do has returned nil; else *fd is not changed.
func (s Step) Keep(fd *int) Step {
	s.fd = fd
	return s
}

// The file types of mode_t, the same on every Unix.
const (
	sIFMT   = 0o170000
	sIFREG  = 0o100000
	sIFDIR  = 0o040000
	sIFLNK  = 0o120000
	sIFIFO  = 0o010000
	sIFSOCK = 0o140000
)

// verb is what the step does, for errors.
func (s *Step) verb() string {
	switch {
	case s.kind == moveStep, s.kind == exchangeStep:
		return "rename"
	case s.kind == linkStep:
		return "link"
	case s.mode&sIFMT == sIFDIR:
		return "mkdir"
	case s.mode&sIFMT == sIFLNK:
		return "symlink"
	case s.mode&sIFMT == sIFREG:
		return "create"
	}
	return "mknod"
}

// makesDir reports whether the step makes a directory.
func (s *Step) makesDir() bool { return s.kind == makeStep && s.mode&sIFMT == sIFDIR }

// deletes reports whether the step moves something to tmp/.
func (s *Step) deletes() bool {
	return s.kind == moveStep && path.Dir(s.to) == tmpDir
}

// Bits of an encoded step's flags.
const (
	flagOwned = 1 << iota
	flagTimed
	flagKeepTime
)

// append encodes the step; see the package comment.
func (s *Step) append(b []byte) []byte {
	var flags byte
	if s.owned {
		flags |= flagOwned
	}
	if s.timed {
		flags |= flagTimed
	}
	if s.keepTime {
		flags |= flagKeepTime
	}
	le := binary.LittleEndian
	b = append(b, byte(s.kind), flags, 0, 0)
	b = le.AppendUint32(b, s.mode)
	b = le.AppendUint32(b, s.uid)
	b = le.AppendUint32(b, s.gid)
	b = le.AppendUint64(b, uint64(s.modified.Sec))
	b = le.AppendUint64(b, uint64(s.modified.Nsec))
	for _, p := range []string{s.from, s.to} {
		b = le.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

var errStep = errors.New("the journal holds something that is not a step")

// stepHead is how many bytes of an encoded step come before its paths.
const stepHead = 32

// decodeStep reads one step and returns what follows it.
func decodeStep(b []byte) (s Step, rest []byte, err error) {
	if len(b) < stepHead {
		return Step{}, nil, errStep
	}
	le := binary.LittleEndian
	flags := b[1]
	s = Step{
		kind:     stepKind(b[0]),
		owned:    flags&flagOwned != 0,
		timed:    flags&flagTimed != 0,
		keepTime: flags&flagKeepTime != 0,
		mode:     le.Uint32(b[4:]),
		uid:      le.Uint32(b[8:]),
		gid:      le.Uint32(b[12:]),
		modified: Time{int64(le.Uint64(b[16:])), int64(le.Uint64(b[24:]))},
	}
	if s.kind < moveStep || s.kind > exchangeStep {
		return Step{}, nil, errStep
	}
	b = b[stepHead:]
	for _, p := range []*string{&s.from, &s.to} {
		if len(b) < 4 || uint64(le.Uint32(b)) > uint64(len(b)-4) {
			return Step{}, nil, errStep
		}
		n := le.Uint32(b)
		*p, b = string(b[4:4+n]), b[4+n:]
	}
	return s, b, nil
}

// split returns the directory of a path and the name in it.
func split(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}

// within reports whether p is dir or below it.
func within(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}
