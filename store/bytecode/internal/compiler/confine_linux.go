package compiler

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// confine restricts the calling thread, for ever.
func confine() []string { return nil }

// limit bounds what a process may use.
func limit(pid int) []string { return nil }

// lower adds to this process's niceness for another one.
func lower(pid, nice int) error {
	return unix.Setpriority(unix.PRIO_PROCESS, pid, nice)
}

// processorTime returns how long a process has run on a processor; 0 if it is
// gone.
func processorTime(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED of the process whose id is inverted above it: clock_getcpuclockid(3)
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|scheduler), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
