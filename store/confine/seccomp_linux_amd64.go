package confine

import "golang.org/x/sys/unix"

// attributesHere are older names of these calls that newer architectures lack.
var attributesHere = []uint32{unix.SYS_CHMOD, unix.SYS_CHOWN, unix.SYS_LCHOWN, unix.SYS_UTIME, unix.SYS_UTIMES, unix.SYS_FUTIMESAT}
