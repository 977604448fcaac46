package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Mounts returns the mount points at and beneath dir.
func Mounts(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		const mountPoint = 4 // proc(5)
		fields := strings.Fields(line)
		if p := unescape(fields[mountPoint]); p == dir || strings.HasPrefix(p, dir+"/") {
			found = append(found, p)
		}
	}
	return found, nil
}

// unescape undoes what the kernel does to white space and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Leaks says what is left of the mounts of the home dir: mounts, servers, state
// folders and mount points that sitefs made. "" is nothing.
func Leaks(dir string) string {
	mounts, err := Mounts(dir)
	servers, serr := Servers(dir)
	folders, ferr := folders(filepath.Join(dir, "state", "sitefs"))
	if err := errors.Join(err, serr, ferr); err != nil {
		return err.Error()
	}
	if len(mounts)+len(servers)+len(folders) == 0 {
		return ""
	}
	return fmt.Sprintf("left behind: mounts %q, servers %q, folders %q", mounts, servers, folders)
}

// folders returns the state folders and the mount points in the state home.
func folders(state string) ([]string, error) {
	var found []string
	for _, kind := range []string{"mounts", "env"} {
		entries, err := os.ReadDir(filepath.Join(state, kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			found = append(found, filepath.Join(kind, e.Name()))
		}
	}
	return found, nil
}
