package faults

import "golang.org/x/sys/unix"

// changersHere are older calls that newer architectures lack.
var changersHere = map[uint32]changer{
	unix.SYS_OPEN:      ofPath("open", 0),
	unix.SYS_CREAT:     ofPath("creat", 0),
	unix.SYS_MKDIR:     ofPath("mkdir", 0),
	unix.SYS_MKNOD:     ofPath("mknod", 0),
	unix.SYS_LINK:      ofPath("link", 1),
	unix.SYS_SYMLINK:   ofPath("symlink", 1),
	unix.SYS_RENAME:    ofPath("rename", 1),
	unix.SYS_UNLINK:    ofPath("unlink", 0),
	unix.SYS_RMDIR:     ofPath("rmdir", 0),
	unix.SYS_CHMOD:     ofPath("chmod", 0),
	unix.SYS_CHOWN:     ofPath("chown", 0),
	unix.SYS_LCHOWN:    ofPath("lchown", 0),
	unix.SYS_UTIME:     ofPath("utime", 0),
	unix.SYS_UTIMES:    ofPath("utimes", 0),
	unix.SYS_FUTIMESAT: at("futimesat", 0, 1),
}
