package sandbox

import (
	"fmt"
	"os"
	"testing"
)

// Main is the TestMain of a package whose tests drive the program. It builds the
// program into a directory that every user can look into, which bin is set to;
// python, unless it is nil, is set to the interpreter of [Python].
func Main(m *testing.M, bin, python *string) {
	code, err := run(m, bin, python)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M, bin, python *string) (code int, err error) {
	if *bin, err = os.MkdirTemp("", "sitefs-bin-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(*bin)
	if err := os.Chmod(*bin, 0o755); err != nil {
		return 0, err
	}
	if err := Build(*bin); err != nil {
		return 0, err
	}
	if python != nil {
		if *python, err = Python(); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}
