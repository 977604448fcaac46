package compiler

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// architectures are those whose system calls have been looked at.
var architectures = map[string]uint32{
	"amd64": unix.AUDIT_ARCH_X86_64,
	"arm64": unix.AUDIT_ARCH_AARCH64,
}

// refused are system calls that answer EPERM to a compiler. It is a list of what
// is forbidden: which calls an interpreter and its C library need differs too much
// to list what is allowed.
var refused = append(refusedHere,
	// network
	unix.SYS_SOCKET, unix.SYS_IO_URING_SETUP,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE,
	unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_MSGGET, unix.SYS_SHMGET, unix.SYS_SEMGET, unix.SYS_MQ_OPEN,
	// a file's attributes, which Landlock leaves alone
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT,
	unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR, unix.SYS_REMOVEXATTRAT,
	// parts of the kernel that a compiler has no use for
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_MOUNT, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
)

// otherABI is set in the numbers of the x32 calls, which pass as amd64's.
const otherABI = 0x40000000

var errArchitecture = errors.New("system calls of this architecture are not known")

// seccomp refuses the calls of the list, and kills a process that uses the calls
// of another architecture (seccomp(2)).
func seccomp() error {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return errArchitecture
	}
	program := filter(arch)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
}

// filter returns the program that judges a call.
func filter(arch uint32) []unix.SockFilter {
	// Offsets in struct seccomp_data.
	const number, architecture = 0, 4
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	answer := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	// when skips the next instruction unless the comparison holds.
	when := func(comparison uint16, v uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, Jf: 1, K: v}
	}
	unless := func(v uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: v}
	}
	program := []unix.SockFilter{
		load(architecture),
		unless(arch), answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(number),
		when(unix.BPF_JGE, otherABI), answer(unix.SECCOMP_RET_KILL_PROCESS),
	}
	for _, call := range refused {
		program = append(program, when(unix.BPF_JEQ, call), answer(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
	}
	return append(program, answer(unix.SECCOMP_RET_ALLOW))
}
