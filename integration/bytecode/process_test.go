package bytecode

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A process is one that runs now.
type process struct {
	pid, parent int
	argv        []string
}

func (p process) String() string { return fmt.Sprintf("%d %q", p.pid, p.argv) }

// hosts returns the compiler hosts of the mounts in a home.
func hosts(home string) []process {
	return slices.DeleteFunc(processesOf(home), func(p process) bool { return !p.isHost() })
}

// compilers returns the processes that compile for the mounts in a home.
func compilers(home string) []process {
	of := hosts(home)
	return slices.DeleteFunc(processes(), func(p process) bool {
		return !slices.ContainsFunc(of, func(h process) bool { return h.pid == p.parent })
	})
}

// processesOf returns the compiler hosts of the mounts in a home, and what was
// started from an interpreter that lies in it.
func processesOf(home string) []process {
	return slices.DeleteFunc(processes(), func(p process) bool {
		proc := filepath.Join("/proc", strconv.Itoa(p.pid))
		if p.isHost() {
			environ, err := os.ReadFile(filepath.Join(proc, "environ"))
			return err != nil || !bytes.Contains(environ, []byte("HOME="+home+"\x00"))
		}
		exe, err := os.Readlink(filepath.Join(proc, "exe"))
		return err != nil || !strings.HasPrefix(exe, home+"/")
	})
}

func (p process) isHost() bool { return slices.Contains(p.argv, "bytecode-host") }

// processes returns all that run. Those that end meanwhile are left out.
func processes() []process {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var found []process
	for _, dir := range dirs {
		if p, err := readProcess(dir); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// readProcess reads what proc(5) says of a process.
func readProcess(dir string) (process, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return process{}, err
	}
	p := process{argv: strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")}
	if p.pid, err = strconv.Atoi(filepath.Base(dir)); err != nil {
		return process{}, err
	}
	var state string
	afterName := stat[bytes.LastIndexByte(stat, ')')+1:]
	if _, err := fmt.Sscan(string(afterName), &state, &p.parent); err != nil {
		return process{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	if state == "Z" {
		return process{}, fmt.Errorf("process %d has ended", p.pid)
	}
	return p, nil
}
