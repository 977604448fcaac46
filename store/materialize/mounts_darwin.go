package materialize

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountsBelow returns the mount points at and below a directory.
func mountsBelow(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	n, err := unix.Getfsstat(nil, unix.MNT_NOWAIT)
	if err != nil {
		return nil, err
	}
	table := make([]unix.Statfs_t, n)
	if n, err = unix.Getfsstat(table, unix.MNT_NOWAIT); err != nil {
		return nil, err
	}
	var points []string
	for _, m := range table[:n] {
		point := unix.ByteSliceToString(m.Mntonname[:])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points, nil
}
