package faults

import (
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A changer is a system call that changes files: which of its arguments say what.
// An argument that the call doesn't have is none.
type changer struct {
	name string
	dir  int // a descriptor of the directory that path is relative to; none: the working directory
	path int // a string
	fd   int // of the file itself
}

const none = -1

func ofFile(name string, fd int) changer    { return changer{name, none, none, fd} }
func ofPath(name string, path int) changer  { return changer{name, none, path, none} }
func at(name string, dir, path int) changer { return changer{name, dir, path, none} }

// changers are all of them that file systems have, by number: more in changersHere.
// A call that makes a second name is of the second name.
var changers = map[uint32]changer{
	unix.SYS_OPENAT:      at("openat", 0, 1),
	unix.SYS_OPENAT2:     at("openat2", 0, 1),
	unix.SYS_MKDIRAT:     at("mkdirat", 0, 1),
	unix.SYS_MKNODAT:     at("mknodat", 0, 1),
	unix.SYS_LINKAT:      at("linkat", 2, 3),
	unix.SYS_SYMLINKAT:   at("symlinkat", 1, 2),
	unix.SYS_RENAMEAT:    at("renameat", 2, 3),
	unix.SYS_RENAMEAT2:   at("renameat2", 2, 3),
	unix.SYS_UNLINKAT:    at("unlinkat", 0, 1),
	unix.SYS_FCHMODAT:    at("fchmodat", 0, 1),
	unix.SYS_FCHMODAT2:   at("fchmodat2", 0, 1),
	unix.SYS_FCHOWNAT:    at("fchownat", 0, 1),
	unix.SYS_UTIMENSAT:   at("utimensat", 0, 1),
	unix.SYS_TRUNCATE:    ofPath("truncate", 0),
	unix.SYS_SETXATTR:    ofPath("setxattr", 0),
	unix.SYS_LSETXATTR:   ofPath("lsetxattr", 0),
	unix.SYS_REMOVEXATTR: ofPath("removexattr", 0),

	unix.SYS_WRITE:           ofFile("write", 0),
	unix.SYS_PWRITE64:        ofFile("pwrite64", 0),
	unix.SYS_WRITEV:          ofFile("writev", 0),
	unix.SYS_PWRITEV:         ofFile("pwritev", 0),
	unix.SYS_PWRITEV2:        ofFile("pwritev2", 0),
	unix.SYS_SENDFILE:        ofFile("sendfile", 0),
	unix.SYS_SPLICE:          ofFile("splice", 2),
	unix.SYS_COPY_FILE_RANGE: ofFile("copy_file_range", 2),
	unix.SYS_IOCTL:           ofFile("ficlone", 0),
	unix.SYS_FTRUNCATE:       ofFile("ftruncate", 0),
	unix.SYS_FALLOCATE:       ofFile("fallocate", 0),
	unix.SYS_FCHMOD:          ofFile("fchmod", 0),
	unix.SYS_FCHOWN:          ofFile("fchown", 0),
	unix.SYS_FSETXATTR:       ofFile("fsetxattr", 0),
	unix.SYS_FREMOVEXATTR:    ofFile("fremovexattr", 0),
	unix.SYS_FSYNC:           ofFile("fsync", 0),
	unix.SYS_FDATASYNC:       ofFile("fdatasync", 0),
	unix.SYS_SYNCFS:          ofFile("syncfs", 0),
	unix.SYS_SYNC_FILE_RANGE: ofFile("sync_file_range", 0),
	unix.SYS_FLOCK:           ofFile("flock", 0),
}

func init() {
	for number, c := range changersHere {
		changers[number] = c
	}
}

// look returns the call that a thread makes, and whether it changes something.
func (t thread) look(number uint32, args [6]uint64) (Call, bool) {
	c := changers[number]
	if !t.changes(c, args) {
		return Call{}, false
	}
	path := t.target(c, args)
	return Call{Name: c.name, Path: path}, path != ""
}

// changes reports whether a call changes something that by its name may or may
// not.
func (t thread) changes(c changer, args [6]uint64) bool {
	flags := uint64(0)
	switch c.name {
	case "ficlone":
		return args[1] == unix.FICLONE || args[1] == unix.FICLONERANGE
	case "open":
		flags = args[1]
	case "openat":
		flags = args[2]
	case "openat2":
		flags = t.uint64(args[2]) // the first member of struct open_how
	default:
		return true
	}
	return flags&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC) != 0
}

// target returns the path that a call is about, "" if it is no file's.
func (t thread) target(c changer, args [6]uint64) string {
	if c.fd != none {
		return t.link("fd/" + strconv.Itoa(int(int32(args[c.fd]))))
	}
	path := t.string(args[c.path])
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	dir := "cwd"
	if c.dir != none && int32(args[c.dir]) != unix.AT_FDCWD {
		dir = "fd/" + strconv.Itoa(int(int32(args[c.dir])))
	}
	return filepath.Join(t.link(dir), path)
}
