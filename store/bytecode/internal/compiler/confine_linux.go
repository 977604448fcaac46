package compiler

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes make a process a group of its own, which dies with the thread that
// started it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// ownThread runs f on a thread that serves nothing else and ends with it. That is
// not the main thread: it can't end, and Landlock takes its domain for that of
// the process when a compiler sends a signal.
func ownThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return // without unlocking, which ends the thread
		}
		defer runtime.UnlockOSThread()
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
	}()
}

// limits leaves a command as it is: see limit.
func limits(argv []string) []string { return argv }

// confine restricts the calling thread and what it starts, for ever. It returns
// what holds: a kernel that lacks a means, or a container that forbids it, is no
// reason not to compile.
func confine() (held []string) {
	// os finds out with a signal to this process whether it can use pidfds, which
	// Landlock may refuse on this thread: it shall do so before.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		self.Release()
	}
	steps := []struct {
		name string
		take func() error
	}{
		{"no_new_privs", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"capabilities", dropCapabilities},
		{"landlock", landlock},
		{"seccomp", seccomp},
	}
	for _, s := range steps {
		if s.take() == nil {
			held = append(held, s.name)
		}
	}
	return held
}

// dropCapabilities makes the next execve end with none, but for reading: root's
// compiler must still find an interpreter in a folder that only its owner may list.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if os.Geteuid() != 0 && os.Getuid() != 0 {
		return nil // no_new_privs keeps them from coming back
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return err
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return err
	}
	for c := uintptr(0); ; c++ {
		if c == unix.CAP_DAC_READ_SEARCH {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the last one that this kernel knows was c-1
		}
		if err != nil {
			return err
		}
	}
}

// landlock refuses all writing to files (landlock(7)), and where the kernel knows
// of them TCP, abstract unix sockets and signals to others. /dev/null stays, for
// interpreters that are shell scripts.
func landlock() error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return errno
	}
	rules := landlockRules(int(abi))
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	null, err := unix.Open(os.DevNull, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(null)
	writable := unix.LandlockPathBeneathAttr{
		Allowed_access: rules.Handled_access_fs & (unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE),
		Parent_fd:      int32(null),
	}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&writable)), 0, 0, 0); errno != 0 {
		return errno
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// landlockRules are the rights that are taken away, as many as the version of the
// interface has.
func landlockRules(abi int) (r unix.LandlockRulesetAttr) {
	r.Handled_access_fs = unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	if abi >= 2 {
		r.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		r.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		r.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		r.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		r.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return r
}

// limit bounds what a process may use, memory in bytes, and returns what could be
// bounded. It comes after the start: a wrapper may need more than a compiler.
func limit(pid int, memory uint64) (held []string) {
	limits := []struct {
		name     string
		resource int
		max      uint64
	}{
		{"memory", unix.RLIMIT_AS, memory},
		{"core", unix.RLIMIT_CORE, 0},
		{"fsize", unix.RLIMIT_FSIZE, 0},
		{"nofile", unix.RLIMIT_NOFILE, 64}, // four pipes, and the modules of a codec
		{"nproc", unix.RLIMIT_NPROC, 0},    // not for root, says getrlimit(2)
	}
	for _, l := range limits {
		if unix.Prlimit(pid, l.resource, &unix.Rlimit{Cur: l.max, Max: l.max}, nil) == nil {
			held = append(held, l.name)
		}
	}
	// If the machine runs out of memory, a compiler is what can be spared.
	if os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0) == nil {
		held = append(held, "oom")
	}
	return held
}

// lower makes a process nicer than this one.
func lower(pid, nice int) error {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	const zero = 20 // the system call adds it, so that no result looks like an error
	return unix.Setpriority(unix.PRIO_PROCESS, pid, zero-raw+nice)
}

// processorTime returns how long a process has run; 0 if it is gone.
func processorTime(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED, below the inverted id: clock_getcpuclockid(3)
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|scheduler), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
