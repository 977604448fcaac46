package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Process is one that runs. One that has ended is none, although nobody may have
// asked yet how.
type Process struct {
	PID, Parent int
	Argv        []string
}

func (p Process) String() string { return fmt.Sprintf("%d %q", p.PID, p.Argv) }

// Is reports whether the process is a `sitefs VERB`.
func (p Process) Is(verb string) bool { return len(p.Argv) > 1 && slices.Contains(p.Argv[1:], verb) }

// Processes returns all that run. Those that end meanwhile are left out.
func Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if p, ok := readProcess(filepath.Join("/proc", e.Name())); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// readProcess reads what proc(5) says of a process.
func readProcess(dir string) (p Process, runs bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, false
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return Process{}, false
	}
	p.Argv = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	var state string
	number, _, _ := bytes.Cut(stat, []byte(" "))
	fields := stat[bytes.LastIndexByte(stat, ')')+1:] // behind the name, which may hold anything
	if _, err := fmt.Sscan(string(number), &p.PID); err != nil {
		return Process{}, false
	}
	if _, err := fmt.Sscan(string(fields), &state, &p.Parent); err != nil {
		return Process{}, false
	}
	// The first thread may have ended before the others, which hold the files.
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	return p, err == nil && (state != "Z" || len(threads) > 1)
}

// Servers returns the processes that serve mounts beneath dir: supervisors and
// workers.
func Servers(dir string) ([]Process, error) {
	all, err := Processes()
	return slices.DeleteFunc(all, func(p Process) bool {
		serves := p.Is("mount-server") || p.Is("mount-worker")
		beneath := slices.ContainsFunc(p.Argv, func(arg string) bool { return strings.HasPrefix(arg, dir+"/") })
		return !serves || !beneath
	}), err
}
