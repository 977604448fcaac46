package mount

import (
	"bytes"
	"strconv"
)

// inHeaderSize is the size of struct fuse_in_header: len u32, opcode u32, …
const inHeaderSize = 40

// opNames are the requests that a mount sees (linux/fuse.h).
var opNames = map[uint32]string{
	1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
	10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS",
	18: "RELEASE", 20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH",
	26: "INIT", 27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 31: "GETLK", 32: "SETLK",
	33: "SETLKW", 34: "ACCESS", 35: "CREATE", 36: "INTERRUPT", 37: "BMAP", 38: "DESTROY", 39: "IOCTL", 40: "POLL",
	42: "BATCH_FORGET", 43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK", 47: "COPY_FILE_RANGE",
	50: "SYNCFS", 51: "TMPFILE", 52: "STATX", 53: "COPY_FILE_RANGE_64",
}

// namedAt says where the name of a directory's entry begins, behind the header, in
// the requests that are for one. Of a rename it is the old name.
var namedAt = map[uint32]int{
	1: 0, 6: 0, 8: 16, 9: 8, 10: 0, 11: 0, 12: 8, 13: 8, 35: 16, 45: 16,
}

// nameIn returns the name of the entry that a request is for, nothing if it is for
// none. Request has all of it, with the header.
func nameIn(opcode uint32, request []byte) []byte {
	at, ok := namedAt[opcode]
	if !ok || len(request) < inHeaderSize+at {
		return nil
	}
	name, _, _ := bytes.Cut(request[inHeaderSize+at:], []byte{0})
	return name
}

func opName(op uint32) string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return "OPCODE_" + strconv.Itoa(int(op))
}
