package compiler

import (
	"bytes"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryBound returns what a compiler may map, in bytes: half of the machine's
// memory, or of that which the control groups of this process leave it, within
// the bounds of the package, and never more than this process may.
func memoryBound() uint64 {
	bound := min(addressSpace, max(leastAddressSpace, min(machineMemory(), groupMemory("/"))/2))
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &own) == nil {
		bound = min(bound, own.Max)
	}
	return bound
}

// peakMemory returns the most that a process had resident so far, in bytes; 0 if it
// is gone. The usage that wait4(2) returns is no substitute: it counts what this
// process had resident when it started the other.
func peakMemory(pid int) uint64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, after, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	fields := bytes.Fields(after[:min(len(after), 32)]) // "1234 kB"
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// machineMemory returns the size of the memory in bytes.
func machineMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return math.MaxUint64
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// groupMemory returns the smallest limit in bytes of the control groups that this
// process is in, of either version (cgroups(7)). Below root are /proc and /sys.
func groupMemory(root string) uint64 {
	limit := uint64(math.MaxUint64)
	groups, err := os.ReadFile(path.Join(root, "proc/self/cgroup"))
	if err != nil {
		return limit // a kernel without them
	}
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		var dir, file string
		switch controllers := strings.Split(fields[1], ","); {
		case fields[1] == "":
			dir, file = "sys/fs/cgroup", "memory.max"
		case slices.Contains(controllers, "memory"):
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// A container may see its own group as the root, under a path that is
		// the host's: what isn't there is passed over.
		for group := path.Join("/", fields[2]); ; group = path.Dir(group) {
			limit = min(limit, readLimit(path.Join(root, dir, group, file)))
			if group == "/" {
				break
			}
		}
	}
	return limit
}

// readLimit returns the number in a file; without one, as for "max", there is no
// limit.
func readLimit(file string) uint64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}
