package mount

import "strconv"

// opNames are the requests that a read-only mount sees (linux/fuse.h).
var opNames = map[uint32]string{
	1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 14: "OPEN", 15: "READ", 16: "WRITE",
	17: "STATFS", 18: "RELEASE", 20: "FSYNC", 22: "GETXATTR", 23: "LISTXATTR", 25: "FLUSH", 26: "INIT",
	27: "OPENDIR", 28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 31: "GETLK", 32: "SETLK", 33: "SETLKW",
	34: "ACCESS", 36: "INTERRUPT", 37: "BMAP", 38: "DESTROY", 39: "IOCTL", 40: "POLL", 42: "BATCH_FORGET",
	44: "READDIRPLUS", 46: "LSEEK", 50: "SYNCFS", 52: "STATX",
}

func opName(op uint32) string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return "OPCODE_" + strconv.Itoa(int(op))
}
