package materialize

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// placeOf returns the place of a directory that is there.
func placeOf(path string) (Place, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(path, &st) }); err != nil {
		return Place{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	dev := uint64(uint32(st.Fsid.Val[0]))
	return Place{Path: path, Type: unix.ByteSliceToString(st.Fstypename[:]), Device: fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))}, nil
}
