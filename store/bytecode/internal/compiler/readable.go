package compiler

import (
	"os"
	"path/filepath"

	"github.com/sitefs/sitefs/store/confine"
)

// readable returns the files and folders that an interpreter reads: its prefix, and
// where the system's libraries are. One that reads others can't start with these.
func readable(python string) []string {
	paths := append(confine.Libraries(), "/dev/urandom")
	for _, path := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
		if filepath.IsAbs(path) {
			paths = append(paths, path)
		}
	}
	if p := prefix(python); p != "/" { // else it would be a rule that forbids nothing
		paths = append(paths, p)
	}
	return paths
}

// prefix returns the folder that an interpreter is installed in, found as the
// interpreter does (Python's Modules/getpath.py): from where the links end.
func prefix(python string) string {
	if real, err := filepath.EvalSymlinks(python); err == nil {
		python = real
	}
	dir := filepath.Dir(python)
	if filepath.Base(dir) == "bin" {
		return filepath.Dir(dir)
	}
	return dir
}
