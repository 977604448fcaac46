package mount

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// proportional returns the memory of a process in bytes, of which it bears its
// share of what others use too (Pss, proc_pid_smaps(5)); 0 if that can't be seen.
func proportional(pid int) int64 {
	if pid == 0 {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == "Pss:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}
