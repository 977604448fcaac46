package confine

import "golang.org/x/sys/unix"

// refusedHere are older names of refused calls that newer architectures lack.
var refusedHere = []uint32{unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT}
