package compiler

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes make a process a group of its own, which dies with the thread that
// started it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// limits leaves a command as it is: see limit.
func limits(argv []string) []string { return argv }

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
