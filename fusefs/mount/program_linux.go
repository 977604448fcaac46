package mount

import "os"

// runningProgram is the program of this process, even if its file was replaced or
// removed.
const runningProgram = "/proc/self/exe"

// isRunning reports whether path is the program of this process.
func isRunning(path string) bool {
	named, err := os.Stat(path)
	if err != nil {
		return false
	}
	running, err := os.Stat(runningProgram)
	return err == nil && os.SameFile(named, running)
}
