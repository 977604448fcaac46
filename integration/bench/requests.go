package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// requests are what a kernel asked a mount while something was done.
type requests struct {
	number map[string]int64   // by kind
	took   map[string]float64 // by kind, all of them in sum, in seconds
	untold error              // why there is no took
}

// record counts and times the requests to a mount while something is done.
func (m *machine) record(ctx context.Context, dir string, do func() error) (requests, error) {
	t, err := startTrace()
	if err != nil {
		number, derr := m.asked(ctx, dir, do)
		return requests{number: number, untold: err}, derr
	}
	number, err := m.asked(ctx, dir, do)
	var took map[string]float64
	if err == nil {
		took, err = t.read(dir)
	}
	return requests{number: number, took: took}, errors.Join(err, t.stop())
}

// table lists the kinds of the requests of something that took so many seconds.
// The kernel reads ahead, and the program need not have waited for all of it.
func (r requests) table(seconds float64) string {
	var all int64
	for _, n := range r.number {
		all += n
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, %.0f a second", all, float64(all)/seconds)
	if r.untold != nil {
		fmt.Fprintf(&b, "; not timed: %v", r.untold)
	}
	byNumber := func(x, y string) int { return int(r.number[y] - r.number[x]) }
	for _, kind := range slices.SortedFunc(maps.Keys(r.number), byNumber) {
		n := r.number[kind]
		fmt.Fprintf(&b, "\n%-12s %6d", kind, n)
		if s, ok := r.took[kind]; ok {
			fmt.Fprintf(&b, " %8.1f ms %6.0f µs each", s*1e3, s*1e6/float64(n))
		}
	}
	return b.String()
}

// A trace is the kernel's record of all FUSE requests, in a buffer of its own
// (Documentation/trace/ftrace.rst; the events are there since Linux 6.11).
type trace string

const (
	// tracing is where systems mount tracefs since Linux 4.1.
	tracing = "/sys/kernel/tracing"

	// traceKB is the buffer of each processor: an import makes 14,000 events of
	// 48 bytes.
	traceKB = "4096"
)

// startTrace needs root. The trace must be stopped.
func startTrace() (trace, error) {
	t := trace(filepath.Join(tracing, "instances", numbered("sitefs-bench", os.Getpid())))
	if err := os.Mkdir(string(t), 0o700); err != nil {
		return "", err
	}
	for _, setting := range [][2]string{
		{"buffer_size_kb", traceKB},
		{"trace_clock", "mono"}, // the same on all processors
		{"events/fuse/fuse_request_send/enable", "1"},
		{"events/fuse/fuse_request_end/enable", "1"},
	} {
		if err := os.WriteFile(t.file(setting[0]), []byte(setting[1]), 0); err != nil {
			return "", errors.Join(err, t.stop())
		}
	}
	return t, nil
}

func (t trace) file(name string) string { return filepath.Join(string(t), name) }

func (t trace) stop() error { return os.Remove(string(t)) }

// read returns how long the requests of a mount took, by kind, in seconds.
func (t trace) read(mounted string) (map[string]float64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(mounted, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: mounted, Err: err}
	}
	data, err := os.ReadFile(t.file("trace"))
	if err != nil {
		return nil, err
	}
	return parseTrace(data, unix.Minor(uint64(st.Dev)))
}

// parseTrace sums up the requests of a connection, which is called by the minor
// device number of its mount. The lines are like
//
//	python-71 [001] ..... 66.000100: fuse_request_send: connection 45 req 6 opcode 1 (FUSE_LOOKUP) len 55
//	sitefs-70 [000] ..... 66.000130: fuse_request_end: connection 45 req 6 len 144 error 0
func parseTrace(data []byte, connection uint32) (map[string]float64, error) {
	type sent struct {
		kind string
		at   float64
	}
	waiting := map[string]sent{} // by number
	took := map[string]float64{}
	for line := range bytes.Lines(data) {
		head, event, ok := strings.Cut(string(line), ": fuse_request_")
		f := strings.Fields(event) // send: connection 45 req 6 …
		if !ok || len(f) < 5 || f[2] != strconv.FormatUint(uint64(connection), 10) {
			continue
		}
		at, err := strconv.ParseFloat(head[strings.LastIndexByte(head, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("trace: %q: want a time before the event", line)
		}
		number := f[4]
		if f[0] == "send:" {
			_, kind, _ := strings.Cut(event, "(FUSE_")
			kind, _, _ = strings.Cut(kind, ")")
			waiting[number] = sent{kind, at}
		} else if s, ok := waiting[number]; ok { // else it was sent before the trace began
			took[s.kind] += at - s.at
			delete(waiting, number)
		}
	}
	return took, nil
}
