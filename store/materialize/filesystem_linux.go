package materialize

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// placeOf returns the place of a directory that is there: by its mount, whose
// device tells file systems apart where a file's doesn't (btrfs subvolumes).
func placeOf(path string) (Place, error) {
	var st unix.Statx_t
	if err := retry(func() error { return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st) }); err != nil {
		return Place{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	p := Place{Path: path, Type: "unknown file system", Device: fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor)}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return p, nil // before Linux 5.8
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return p, nil // without /proc the sentence says less
	}
	defer f.Close()
	id := strconv.FormatUint(st.Mnt_id, 10)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// See proc(5): "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG]… - TYPE …".
		mount, rest, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if len(fields) > 2 && fields[0] == id {
			p.Device = fields[2]
			p.Type, _, _ = strings.Cut(rest, " ")
		}
	}
	return p, nil
}
