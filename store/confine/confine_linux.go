package confine

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Go runs f on a thread that serves nothing else, is confined, and ends with f.
// It doesn't wait for it. Held is what holds, sorted.
func Go(r Rules, f func(held []string)) {
	ownThread(func() { f(apply(r)) })
}

// stage is set for the confined process that [Self] becomes: what holds.
const stage = "SITEFS_CONFINED"

// Self confines this process: it executes its program anew, with the same
// arguments and whatever descriptors are not closed by that. So a program calls it
// before anything else, and goes on behind it confined. Held is what holds, sorted.
//
// If there is an error the program isn't confined and may go on all the same.
func Self(r Rules) (held []string, err error) {
	if v, ok := os.LookupEnv(stage); ok {
		return strings.Fields(v), os.Unsetenv(stage)
	}
	program, err := self()
	if err != nil {
		return nil, fmt.Errorf("confine this process: %w", err)
	}
	if r.Read != nil {
		if r.Read, err = withProgram(r.Read); err != nil {
			return nil, fmt.Errorf("confine this process: %w", err)
		}
	}
	failed := make(chan error)
	Go(r, func(held []string) {
		failed <- syscall.Exec(program, os.Args, append(os.Environ(), stage+"="+strings.Join(held, " ")))
	})
	return nil, fmt.Errorf("confine this process: execute %q again: %w", program, <-failed)
}

// running is the program of this process, even if its file was replaced.
const running = "/proc/self/exe"

// self returns a name of the running program, if possible the one it was started
// by: it is what ps shows.
func self() (string, error) {
	now, err := os.Stat(running)
	if err != nil {
		return "", err
	}
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	if named, err := os.Stat(name); err != nil || !os.SameFile(named, now) {
		return running, nil
	}
	return name, nil
}

// withProgram adds to a list what it takes to execute this program.
func withProgram(read []string) ([]string, error) {
	program, err := elf.Open(running)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	read = append(slices.Clone(read), running)
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP { // as programs with cgo have
			return append(read, Libraries()...), nil
		}
	}
	return read, nil
}

// Libraries returns where the dynamic loader and the C library are, with what they
// read.
func Libraries() []string {
	return []string{
		"/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib",
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload",
	}
}

// NeedsSearch reports whether this process can read a folder only by root's right to
// read what only others may: where the folder is root's, in another user's home.
func NeedsSearch(dir string) bool {
	if os.Geteuid() != 0 {
		return false
	}
	needs := make(chan bool)
	ownThread(func() {
		if err := dropCapabilities(0); err != nil {
			needs <- false // it has what it has
			return
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		needs <- errors.Is(err, unix.EACCES)
	})
	return <-needs
}

// ownThread runs f on a thread that serves nothing else and ends with it. That is
// not the main thread: it can't end, and Landlock takes its domain for that of
// the process when another thread sends a signal.
func ownThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return // without unlocking, which ends the thread
		}
		defer runtime.UnlockOSThread()
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
	}()
}

// apply confines the calling thread and returns what holds.
func apply(r Rules) (held []string) {
	// os finds out with a signal to this process whether it can use pidfds, which
	// Landlock may refuse on this thread: it shall do so before.
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		self.Release()
	}
	// In this order: without the first the last two are root's alone, without
	// capabilities the files of the second may be out of reach.
	if unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == nil {
		held = append(held, NoNewPrivs)
	}
	if landlock(r) == nil {
		held = append(held, Landlock)
		if r.Read != nil {
			held = append(held, Read)
		}
	}
	if dropCapabilities(r.capabilities()) == nil {
		held = append(held, Capabilities)
	}
	if seccomp(r) == nil {
		held = append(held, Seccomp)
	}
	slices.Sort(held)
	return held
}

// owning are the capabilities by which root does to the files of others what it does
// to its own, and clears or keeps what a change of owner or content clears.
const owning = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP

// capabilities are those that the rules leave, as a set.
func (r Rules) capabilities() uint32 {
	var kept uint32
	if r.Search {
		kept |= 1 << unix.CAP_DAC_READ_SEARCH
	}
	if len(r.Own) > 0 {
		kept |= owning
	}
	return kept
}

// dropCapabilities leaves none but those of a set.
func dropCapabilities(kept uint32) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if err := dropBounding(kept); err != nil {
		return err
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return err
	}
	left := sets[0].Permitted & kept
	sets = [2]unix.CapUserData{{Effective: left, Permitted: left}}
	return unix.Capset(&head, &sets[0])
}

// dropBounding keeps root's programs from having capabilities by their start.
func dropBounding(kept uint32) error {
	for c := range uintptr(64) { // as many as a set has bits
		if c < 32 && kept&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the last one that this kernel knows was c-1
		}
		if errors.Is(err, unix.EPERM) {
			return nil // an ordinary user, whom no_new_privs keeps from gaining any
		}
		if err != nil {
			return err
		}
	}
	return nil
}
