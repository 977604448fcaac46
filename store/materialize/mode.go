package materialize

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMode is wrapped by the error of a run whose mode was asked for by name and
// can't be used between these file systems.
var ErrMode = errors.New("link mode can't be used here")

// A Mode says how files get their bytes.
type Mode uint8

const (
	// Auto is Clone where the two file systems can, else Copy.
	Auto Mode = iota

	// Clone shares the blocks on disk until one side writes: FICLONE on Linux,
	// clonefile on macOS.
	Clone

	// Hardlink shares the inode with other environments of this mode, so that an
	// edit in one shows in all. It never shares with the store's blobs.
	Hardlink

	// Copy copies the bytes. A file system that shares blocks when the kernel
	// copies (copy_file_range) does so here too.
	Copy

	// Symlink points into the store, which the environment needs from then on.
	Symlink
)

var modeNames = []string{"auto", "clone", "hardlink", "copy", "symlink"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode returns the mode of that name.
func ParseMode(name string) (Mode, error) {
	i := slices.Index(modeNames, name)
	if i < 0 {
		return 0, fmt.Errorf("link mode %q, want one of %s", name, strings.Join(modeNames, ", "))
	}
	return Mode(i), nil
}
