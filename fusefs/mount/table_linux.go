package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is a line of the mount table.
type entry struct {
	id     string
	parent string // the id of the mount that dir is in
	dir    string
	fsType string
	number uint64 // st_dev
}

// mounts returns the mount table of this process (proc_pid_mountinfo(5)). Of
// several mounts on one directory the last is the one that is seen.
func mounts() ([]entry, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return parseMounts(string(b)), nil
}

func parseMounts(table string) []entry {
	var list []entry
	for line := range strings.Lines(table) {
		// 36 35 98:0 /root /dir options [optional]… - type source options
		const idField, parentField, numberField, dirField = 0, 1, 2, 4
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) > dirField && len(right) > 0 {
			list = append(list, entry{
				id:     left[idField],
				parent: left[parentField],
				dir:    unescape(left[dirField]),
				fsType: right[0],
				number: parseNumber(left[numberField]),
			})
		}
	}
	return list
}

// parseNumber returns the st_dev that the table shows as major:minor.
func parseNumber(s string) uint64 {
	var major, minor uint32
	if _, err := fmt.Sscanf(s, "%d:%d", &major, &minor); err != nil {
		return 0
	}
	return unix.Mkdev(major, minor)
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+4 > len(s) {
			return b.String() + s
		}
		c, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return b.String() + s
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(c))
		s = s[i+4:]
	}
}

// top returns what is mounted on dir, if anything is that can be seen.
func top(table []entry, dir string) (entry, bool) {
	for i := len(table) - 1; i >= 0; i-- {
		if table[i].dir == dir {
			return table[i], !hidden(table, i)
		}
	}
	return entry{}, false
}

// hidden reports whether a later mount on a directory above hides entry i, or the
// mount that it is in. A namespace that is made in another has such.
func hidden(table []entry, i int) bool {
	e := table[i]
	if slices.ContainsFunc(table[i+1:], func(l entry) bool {
		return l.parent == e.parent && l.dir != e.dir && within(e.dir, l.dir)
	}) {
		return true
	}
	above := slices.IndexFunc(table[:i], func(a entry) bool { return a.id == e.parent })
	return above >= 0 && hidden(table, above)
}

// isMounted reports whether one of our mounts is on dir.
func isMounted(dir string) bool {
	table, err := mounts()
	if err != nil {
		return false
	}
	e, ok := top(table, dir)
	return ok && e.fsType == fsType
}

// detachDead detaches our mounts on dir whose server is dead, and what a [Switch]
// that was killed has left, and reports whether there were any. One that is alive is
// an error: its server can't be reached, but processes may use it.
func detachDead(dir string) (found bool, err error) {
	dir, err = resolve(dir)
	if err != nil {
		return false, err
	}
	for isMounted(dir) {
		found = true
		// Not stat(2): the kernel goes on answering that from its cache.
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
			if left, err := endLeft(dir); err != nil {
				return found, err
			} else if left {
				continue
			}
			return found, fmt.Errorf("%q is mounted by sitefs, but its server can't be found (was its state folder removed, or XDG_STATE_HOME changed?); unmount it with \"umount -l\" or \"fusermount3 -uz\": %w", dir, ErrInUse)
		}
		if err := unmount(dir, true, false); err != nil {
			return found, err
		}
	}
	return found, nil
}

// prepare makes dir ready to be mounted on and returns the directories that it
// made for that. It refuses what would hide somebody's files, and what would have
// the mount serve itself.
func prepare(dir string, avoid []string) (made []string, err error) {
	if _, err := detachDead(dir); err != nil {
		return nil, err
	}
	table, err := mounts()
	if err != nil {
		return nil, err
	}
	for i, e := range table {
		if e.fsType == fsType && within(dir, e.dir) && !hidden(table, i) {
			return nil, fmt.Errorf("%w: %q is inside the mount %q; choose a place outside", ErrMountPoint, dir, e.dir)
		}
	}
	for _, a := range avoid {
		if a, err = resolve(a); err != nil {
			return nil, err
		}
		if within(dir, a) || within(a, dir) {
			return nil, fmt.Errorf("%w: %q and %q overlap; choose a place outside", ErrMountPoint, dir, a)
		}
	}
	made, err = makeDir(dir)
	if err != nil {
		return nil, here.explain(dir, fmt.Errorf("%w: %w; choose another place, or have it made for you", ErrMountPoint, err))
	}
	if err := checkPlace(dir); err != nil {
		return nil, errors.Join(here.explain(dir, err), removeDirs(made))
	}
	return made, nil
}

// within reports whether path is root or below it.
func within(path, root string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// makeDir makes dir and what is above it, and returns what wasn't there, from the
// top. When it fails it leaves nothing.
func makeDir(dir string) (made []string, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if made, err = makeDir(filepath.Dir(dir)); err != nil {
			return nil, err
		}
		err = os.Mkdir(dir, 0o755)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return made, nil
	case err != nil:
		return nil, errors.Join(err, removeDirs(made))
	}
	return append(made, dir), nil
}

// checkPlace refuses a directory that is another user's, and one with files in it
// unless they are sitefs's own.
func checkPlace(dir string) error {
	// As fusermount3 does, which has no error of its own for it.
	if err := unix.Access(dir, unix.W_OK); errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %q can't be written to, so only its owner may mount there (%w); choose another place", ErrMountPoint, dir, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMountPoint, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: %q is not a directory; choose another place", ErrMountPoint, dir)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMountPoint, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, Marker)); err == nil {
		return nil
	}
	return fmt.Errorf("%w: %q is not empty (there is %q); its files would be hidden: move them away or choose another place", ErrMountPoint, dir, names[0])
}
