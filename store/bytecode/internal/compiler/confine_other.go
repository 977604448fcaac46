//go:build !linux

package compiler

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// attributes make a process a group of its own. It ends with this one when it
// finds its standard input closed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// limits makes a command bound itself before it becomes the interpreter: only
// Linux can bound another process.
func limits(argv []string) []string {
	return append([]string{"/bin/sh", "-c", `ulimit -c 0 && ulimit -f 0 && ulimit -n 64 && exec "$@"`, "sh"}, argv...)
}

// limit bounds nothing more: limits has.
func limit(int, uint64) []string { return []string{"core", "fsize", "nofile"} }

// memoryBound returns what a compiler may map.
func memoryBound() uint64 { return unbounded }

// peakMemory isn't asked where memory is unbounded.
func peakMemory(int) uint64 { return 0 }

// lower makes a process nicer than this one.
func lower(pid, nice int) error {
	own, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	return unix.Setpriority(unix.PRIO_PROCESS, pid, own+nice)
}

var begin = time.Now()

// processorTime returns how long a process has run, for which the clock has to
// stand in.
func processorTime(int) time.Duration { return time.Since(begin) }
