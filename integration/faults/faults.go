// Package faults makes the system calls of a program fail, or kills the program
// in front of one.
//
// [Run] runs a command and is asked about each of its calls that changes
// something beneath a directory, in any of its processes and threads, one after
// the other: let it be, answer it with an error, or kill. Which call of the run it
// is, is exact, whatever thread makes it. A [Subject] is an installer with an
// environment to put at a target, and [Subject.Try] tells what one fault does: to
// the target, and to a second run that nothing disturbs.
//
// The package changes no file itself. Run needs Linux 5.19 (seccomp's user
// notification) and no privilege.
package faults

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
)

// A Call is a system call that is about to change something.
type Call struct {
	Name string // as the kernel calls it; "ficlone" is an ioctl
	Path string // absolute: what is made, changed or removed
}

func (c Call) String() string { return c.Name + " of " + c.Path }

// An Answer is what becomes of a call. The zero Answer lets it be.
type Answer struct {
	Errno syscall.Errno // what it fails with, without having been made
	Kill  bool          // the command is sent SIGKILL, and the call is not made
}

// A Fault is an answer to one call of a run.
type Fault struct {
	Name string // the N-th of this name; "" is of any
	N    int    // 1 is the first
	Answer
}

func (f Fault) String() string {
	what := "SIGKILL"
	if !f.Kill {
		what = ErrnoName(f.Errno)
	}
	if f.Name == "" {
		return fmt.Sprintf("%s at call %d", what, f.N)
	}
	return fmt.Sprintf("%s at %s %d", what, f.Name, f.N)
}

// errnoNames are the errors that are tried.
var errnoNames = map[syscall.Errno]string{
	syscall.EIO:        "EIO",
	syscall.ENOSPC:     "ENOSPC",
	syscall.EDQUOT:     "EDQUOT",
	syscall.EINTR:      "EINTR",
	syscall.EPERM:      "EPERM",
	syscall.EMLINK:     "EMLINK",
	syscall.EXDEV:      "EXDEV",
	syscall.EOPNOTSUPP: "EOPNOTSUPP",
}

// ErrnoName returns the name of one of [Errors].
func ErrnoName(errno syscall.Errno) string { return errnoNames[errno] }

// Errors returns the errors that file systems have for a call: full, broken,
// forbidden, or not able to.
func Errors() []syscall.Errno {
	all := make([]syscall.Errno, 0, len(errnoNames))
	for errno := range errnoNames {
		all = append(all, errno)
	}
	slices.Sort(all)
	return all
}

// Injections returns the faults that fail one call of a run: of each name the
// first, a middle and the last, with each error.
func Injections(calls []Call, errnos []syscall.Errno) []Fault {
	var faults []Fault
	names := Names(calls)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		last := names[name]
		at := slices.Compact([]int{1, (last + 1) / 2, last})
		for _, n := range at {
			for _, errno := range errnos {
				faults = append(faults, Fault{name, n, Answer{Errno: errno}})
			}
		}
	}
	return faults
}

// Kills returns the faults that kill a run in front of each of its calls.
func Kills(calls []Call) []Fault {
	faults := make([]Fault, len(calls))
	for i := range faults {
		faults[i] = Fault{N: i + 1, Answer: Answer{Kill: true}}
	}
	return faults
}

// Names returns how often each call was made.
func Names(calls []Call) map[string]int {
	n := make(map[string]int)
	for _, c := range calls {
		n[c.Name]++
	}
	return n
}
