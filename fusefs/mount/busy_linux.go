package mount

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// environUsers lists the user's processes that were started with dir as their
// virtual environment. The mount table doesn't know them: a program between
// two imports may have no file open.
func environUsers(dir string) []Process {
	return processes(func(proc string) string {
		env, err := os.ReadFile(filepath.Join(proc, "environ"))
		if err != nil {
			return ""
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if venv, ok := bytes.CutPrefix(v, []byte("VIRTUAL_ENV=")); ok && samePlace(string(venv), dir) {
				return "VIRTUAL_ENV"
			}
		}
		return ""
	})
}

// samePlace reports whether path names dir, which has no symbolic links in it.
func samePlace(path, dir string) bool {
	if path == dir {
		return true
	}
	real, err := resolve(path)
	return err == nil && filepath.IsAbs(path) && real == dir
}

// fileUsers lists the processes that have something below dir open, as far as
// this process may know.
func fileUsers(dir string) []Process {
	return processes(func(proc string) string {
		for _, link := range []string{"cwd", "root", "exe"} {
			if target, err := os.Readlink(filepath.Join(proc, link)); err == nil && within(target, dir) {
				return link
			}
		}
		if maps, err := os.ReadFile(filepath.Join(proc, "maps")); err == nil && bytes.Contains(maps, []byte(" "+dir+"/")) {
			return "map"
		}
		fds, err := os.ReadDir(filepath.Join(proc, "fd"))
		if err != nil {
			return ""
		}
		for _, fd := range fds {
			if target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil && within(target, dir) {
				return "file"
			}
		}
		return ""
	})
}

// processes lists the processes for which uses says how they use something. It
// is given the process's folder in /proc, and only of processes of this user,
// or of all if this is root.
func processes(uses func(proc string) string) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !mine(e) {
			continue
		}
		if how := uses(filepath.Join("/proc", e.Name())); how != "" {
			list = append(list, Process{PID: pid, Name: processName(pid), Uses: how})
		}
	}
	return list
}

func mine(e os.DirEntry) bool {
	if os.Getuid() == 0 {
		return true
	}
	fi, err := e.Info()
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// processName returns what ps calls the process, unknownName if it is gone.
func processName(pid int) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return unknownName
	}
	return strings.TrimSpace(string(b))
}
