package bytecode

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

const host = "bytecode-host" // the verb of a compiler host

// hosts returns the compiler hosts of the mounts in a home.
func hosts(t *testing.T, home string) []sandbox.Process {
	t.Helper()
	return slices.DeleteFunc(processesOf(t, home), func(p sandbox.Process) bool { return !p.Is(host) })
}

// compilers returns the processes that compile for the mounts in a home.
func compilers(t *testing.T, home string) []sandbox.Process {
	t.Helper()
	of := hosts(t, home)
	return slices.DeleteFunc(processes(t), func(p sandbox.Process) bool {
		return !slices.ContainsFunc(of, func(h sandbox.Process) bool { return h.PID == p.Parent })
	})
}

// processesOf returns the compiler hosts of the mounts in a home, and what was
// started from an interpreter that lies in it.
func processesOf(t *testing.T, home string) []sandbox.Process {
	t.Helper()
	return slices.DeleteFunc(processes(t), func(p sandbox.Process) bool {
		proc := filepath.Join("/proc", strconv.Itoa(p.PID))
		if p.Is(host) {
			environ, err := os.ReadFile(filepath.Join(proc, "environ"))
			return err != nil || !bytes.Contains(environ, []byte("HOME="+home+"\x00"))
		}
		exe, err := os.Readlink(filepath.Join(proc, "exe"))
		return err != nil || !strings.HasPrefix(exe, home+"/")
	})
}

func processes(t *testing.T) []sandbox.Process {
	t.Helper()
	all, err := sandbox.Processes()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
