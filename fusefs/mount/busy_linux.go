package mount

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
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
			if venv, ok := bytes.CutPrefix(v, []byte("VIRTUAL_ENV=")); ok && others.samePlace(string(venv), dir) {
				return "VIRTUAL_ENV"
			}
		}
		return ""
	})
}

// resolvePatience is for how long the path of another process is looked at. One that
// takes longer is found in the kernel's cache the next time, or its disk is gone.
const resolvePatience = 100 * time.Millisecond

// resolver finds out where the paths of other processes lead. They may be on a
// network disk whose server is gone, and a mount must not wait for that: it has
// those who ask for its status or its end wait meanwhile.
type resolver struct {
	resolve func(path string) (string, error)

	mu      sync.Mutex
	pending map[string]bool // paths of which nothing has been heard yet
}

var others = resolver{resolve: resolve}

// samePlace reports whether path names dir, which has no symbolic links in it. Of
// one that can't be looked at in time it says so too: who may use a mount is taken
// for one who does.
func (r *resolver) samePlace(path, dir string) bool {
	if !filepath.IsAbs(path) {
		return false
	}
	if path = filepath.Clean(path); within(path, dir) {
		return path == dir // what is below would be looked up in this very mount
	}
	if !r.begin(path) {
		return true
	}
	same := make(chan bool, 1)
	go func() {
		real, err := r.resolve(path)
		r.finish(path) // first: the next process may have the same path
		same <- err == nil && real == dir
	}()
	timer := time.NewTimer(resolvePatience)
	defer timer.Stop()
	select {
	case s := <-same:
		return s
	case <-timer.C:
		return true
	}
}

// begin reports whether nobody waits for path yet: each that hangs takes a thread.
func (r *resolver) begin(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[path] {
		return false
	}
	if r.pending == nil {
		r.pending = make(map[string]bool)
	}
	r.pending[path] = true
	return true
}

func (r *resolver) finish(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, path)
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
