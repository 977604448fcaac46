// Package mount keeps a file system mounted for as long as it is used, and no
// longer.
//
// Every mount has a supervisor, a process in a session of its own, so no
// terminal's signal reaches it. It holds what a mount is: the descriptor that the
// kernel's requests come from, the mount point, the control socket, the leases and
// the decision to go. A worker, its child, answers the requests. When a worker
// dies another takes its place and the kernel sends it what was not answered, so
// nobody notices; what must not be lost lies in memory that both share. A request
// that kills worker after worker is answered with EIO, and it alone. Where no worker
// can open what is to be served, one that answers EIO to everything takes the place
// until another can. Beside them there may be a companion, a process that the file
// system asks for what takes long or may go wrong.
//
// A lease is an open connection to the control socket. Whoever runs in the
// environment holds one by inheriting it, through exec and fork, and gives it
// back by dying, however that happens. When the last lease is gone the mount
// stays warm for a while and then goes: the mount, the mount point (where the
// server made it), the state folder and the process.
//
// The invariants: a socket that accepts a connection means a server that holds
// the mount or is about to; the server unmounts only what the kernel says is
// free, unless it is told to detach; it never removes a file that it did not
// make; the supervisor touches nothing below the mount point, where it would wait
// for itself. The package knows nothing of trees or stores: what is mounted is a
// name that is compared and a fuse.RawFileSystem.
//
// State is kept in $XDG_STATE_HOME/sitefs/mounts/HASH, one folder per mount
// point and user:
//
//	lock   held for the moment in which the socket is made or removed
//	sock   the control socket
//	rescue where the worker of a supervisor that was killed awaits the next one
//	info   the mount point and what is mounted, JSON
//	log    the standard error of the mount's processes; log.old what was in it before
package mount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Errors that callers decide on.
var (
	// ErrNotMounted is a mount point that no server holds.
	ErrNotMounted = errors.New("not mounted")

	// ErrInUse is a mount that holds another tree than the one asked for and
	// can't give way, because somebody uses it.
	ErrInUse = errors.New("in use")

	// ErrBusy is an unmount refused because of processes; see [BusyError].
	ErrBusy = errors.New("busy")

	// ErrNoFUSE is a machine or a container that can't mount at all.
	ErrNoFUSE = errors.New("cannot mount a FUSE file system")

	// ErrMountPoint is a directory that must not be mounted on.
	ErrMountPoint = errors.New("not a usable mount point")
)

// errCovered is a mount that another one hides.
var errCovered = errors.New("covered")

// A Process uses a mount.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
	Uses string `json:"uses"` // how: lease, cwd, root, exe, map, file, VIRTUAL_ENV
}

// unknownName is the name of a process that is gone or can't be seen.
const unknownName = "?"

// BusyError says who keeps a mount busy. It is an [ErrBusy].
type BusyError struct {
	Dir       string
	Processes []Process
}

func (e *BusyError) Error() string {
	if len(e.Processes) == 0 {
		return fmt.Sprintf("%q is busy, by a process that can't be seen from here; --detach unmounts it nevertheless", e.Dir)
	}
	names := make([]string, len(e.Processes))
	for i, p := range e.Processes {
		names[i] = fmt.Sprintf("%s (pid %d, %s)", p.Name, p.PID, p.Uses)
	}
	return fmt.Sprintf("%q is busy: %s; end them, or unmount with --detach", e.Dir, strings.Join(names, ", "))
}

// Unwrap makes e an [ErrBusy].
func (e *BusyError) Unwrap() error { return ErrBusy }

// States of a mount.
const (
	StateUsed = "used" // there are leases
	StateHeld = "held" // it stays until it is unmounted
	StateWarm = "warm" // it is kept for the next run
	StateDead = "dead" // no server answers
)

// Status describes a mount, for people and as JSON.
type Status struct {
	Dir   string    `json:"dir"`
	Tree  string    `json:"tree"`
	PID   int       `json:"pid"`
	Since time.Time `json:"since,omitzero"`

	State string `json:"state"` // see [StateUsed] and those below

	// Keep is how long the mount stays warm, in JSON in nanoseconds.
	Keep time.Duration `json:"keep_ns"`

	Leases []Process `json:"leases"`

	// Rung is how the mount was made: [RungMount] and those below it.
	Rung string `json:"rung,omitempty"`

	// WorkerPID is the process that answers the kernel. Restarts counts those that
	// have taken the place of another; of the last few there is the reason.
	WorkerPID    int       `json:"worker_pid,omitempty"`
	Restarts     int64     `json:"restarts"`
	LastRestarts []Restart `json:"last_restarts,omitempty"`

	// Resend says that a worker that dies leaves nothing unanswered: the kernel
	// sends it again. Linux does from 6.9 on.
	Resend bool `json:"resend"`

	// Confined lists what holds the worker back from what it need not do.
	Confined []string `json:"confined,omitempty"`

	// Requests counts what the kernel asked, by kind; Errors what was answered
	// with EIO; BytesRead what was read of files. Latency is by kind too. They
	// count on when a worker takes the place of another.
	//
	// LastError is why the worker has answered with EIO, where it knows.
	Requests  map[string]int64   `json:"requests"`
	Errors    int64              `json:"errors"`
	LastError string             `json:"last_error,omitempty"`
	BytesRead int64              `json:"bytes_read"`
	Latency   map[string]Latency `json:"latency,omitempty"`

	// InFlight lists the requests that are being answered for more than a second.
	InFlight []InFlight `json:"in_flight,omitempty"`

	Memory Memory `json:"memory"`

	// Info is what the server was given to tell.
	Info json.RawMessage `json:"info,omitempty"`

	// Bytecode is what the file system tells of the bytecode that it serves.
	Bytecode json.RawMessage `json:"bytecode,omitempty"`
}

// Rungs: the ways to mount, from the best down.
const (
	RungMount     = "mount(2)"
	RungHelper    = "fusermount3"
	RungNamespace = "namespace" // mount(2) too, in a user namespace
)

// Latency is how long requests took, in microseconds, to less than a factor of
// two: half of them less than P50, all but a hundredth less than P99.
type Latency struct {
	N   int64   `json:"n"`
	P50 float64 `json:"p50_us"`
	P99 float64 `json:"p99_us"`
}

// A Restart is one worker that took the place of another.
type Restart struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
}

// InFlight is a request that is being answered.
type InFlight struct {
	Op   string `json:"op"`
	Path string `json:"path"`   // a node's number where its path is not known
	Age  int64  `json:"age_ms"` // in milliseconds
	PID  int    `json:"pid"`    // of the process that asked
}

// Memory is what the processes of a mount need, in bytes: their share of what
// several use (Pss). 0 is a process that is not there or can't be seen.
type Memory struct {
	Supervisor int64 `json:"supervisor"`
	Worker     int64 `json:"worker"`
	Companion  int64 `json:"companion"`
}

// The readiness pipe carries "ok\n", or a code from this table, a newline and
// the error's text.
var readyCodes = map[string]error{
	"nofuse":     ErrNoFUSE,
	"mountpoint": ErrMountPoint,
	"inuse":      ErrInUse,
}

const readyOK = "ok"

// remoteError is an error of another process that is still one of this package.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// writeReady tells the process at the other end of the pipe how the start went.
func writeReady(w io.Writer, err error) error {
	if err == nil {
		_, werr := io.WriteString(w, readyOK+"\n")
		return werr
	}
	code := "error"
	for c, kind := range readyCodes {
		if errors.Is(err, kind) {
			code = c
		}
	}
	_, werr := fmt.Fprintf(w, "%s\n%v", code, err)
	return werr
}

// readReady returns what writeReady was given. A pipe that ends at once is
// io.ErrUnexpectedEOF: the server died.
func readReady(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	code, text, ok := strings.Cut(string(b), "\n")
	switch {
	case !ok:
		return io.ErrUnexpectedEOF
	case code == readyOK:
		return nil
	}
	return &remoteError{kind: readyCodes[code], text: text}
}
