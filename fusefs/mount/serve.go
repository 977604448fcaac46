package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Config describes what a server mounts.
type Config struct {
	Dir  string        // the mount point; made if it isn't there
	Tree string        // the name of what is mounted, for leases to compare
	Keep time.Duration // how long the mount stays after the last lease

	// Worker is the command that answers the kernel: the path of a program and its
	// arguments. It calls [Work].
	Worker []string

	// Companion is the command of a process that the worker may ask; nil for none.
	// It finds its end of the socket with [CompanionConn].
	Companion []string

	// Held mounts stay until they are unmounted.
	Held bool

	// RemoveDir removes the mount point, which is empty then, when the mount
	// goes. Where the server makes the mount point it does so anyway.
	RemoveDir bool

	// Rung is the one way to mount that is tried; "" for the best there is.
	Rung string

	// AllowOther lets other users in; by default not even root is.
	AllowOther bool

	// Writable mounts may be changed, as far as the file system answers.
	Writable bool

	// Files returns what is to be open for as long as there is the mount, be it a lock
	// that its processes hold: the supervisor has it, and every worker
	// ([Session.Files]). It is asked once, when the mount is made; who takes over a
	// mount is given its files. An error is why nothing is mounted. Nil has none.
	Files func() ([]*os.File, error) `json:"-"`

	// Avoid lists directories that the mount point must be neither in nor above:
	// the store, an upper directory.
	Avoid []string

	// Info is shown in the status.
	Info json.RawMessage

	patience time.Duration // see stallPatience, which 0 means
}

// access is who may do what with a mount.
type access struct {
	writable   bool
	allowOther bool // others than who mounts, root included
}

func (c Config) access() access { return access{c.Writable, c.AllowOther} }

// A Session is what a worker is given.
type Session struct {
	// Conn is the socket to the companion (SOCK_SEQPACKET, non-blocking: a Read is
	// one message), nil if there is none.
	Conn *os.File

	// Area is 4 KiB of memory for the file system's own use: zero when the mount is
	// made, and as the last worker left it for the next. That one may have died at
	// any moment.
	Area []byte

	// Files are what [Config.Files] returned, in its order. They may share their
	// positions with other processes.
	Files []*os.File

	// Turn waits until no other worker serves, and returns an error if that is never to
	// be. Until then another may be changing what is served; all that can be opened
	// beside it is opened before, for requests wait meanwhile. It may be called once,
	// by who opens what is served.
	Turn func() error

	// Progress says that a request which takes long gets on. A worker that answers
	// nothing for 40 s, and doesn't say so, counts as hung.
	Progress func()

	// Notify tells the kernel what it doesn't know by itself.
	Notify *Notifier
}

// A Worker is what a worker process serves.
type Worker struct {
	FS fuse.RawFileSystem // answers the kernel

	// Report returns what the status shows under bytecode; nil for nothing.
	Report func() json.RawMessage

	// LastError returns why the file system has last answered with EIO, "" if it
	// never has; nil for one that doesn't know.
	LastError func() string

	// Idle gives back memory that is easily had again. It is called when there was no
	// request for a second. Nil has none.
	Idle func() error

	// Lost reports whether what is served is no longer in the place where it was
	// opened, or something else is. It is asked after an EIO. Then the supervisor
	// starts workers until one can open what is there, and that one takes over. Nil
	// is never lost.
	Lost func() bool

	// Describe returns a path for a node, for the log, "" where it knows none. Nil
	// knows none at all.
	Describe func(node uint64) string
}

// maxProcs bounds what the runtime keeps per processor. Requests are answered
// in microseconds and most wait for the page cache; more than four at once do
// not get faster.
const maxProcs = 4

// noResend is set by tests of what Linux before 6.9 can do.
var noResend bool

// atInit is where tests end a worker.
var atInit = func(moment string) {}

// supervisorGC keeps the heap of a supervisor near to what it holds.
const supervisorGC = 20

// Serve mounts what c describes and serves it until the mount goes: by itself,
// by [Unmount], by umount(8), or because ctx ends, which detaches it. It is
// called in a process that [Daemonize] has set up, and tells the process that
// started it how the start went; the error is for the log.
func Serve(ctx context.Context, c Config) error {
	// Nobody types at a server; a hangup of the session it came from is not its own.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	// It waits, nearly always, and holds next to nothing.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(supervisorGC)

	e, err := inherited()
	if err != nil {
		return err
	}
	if e != nil {
		s, err := e.supervisor(c)
		if err != nil {
			return err
		}
		return s.run(ctx)
	}
	ready := os.NewFile(readyFD, "ready")
	s, err := open(c)
	if werr := writeReady(ready, err); err == nil && werr != nil {
		// Whoever wanted the mount is gone; it goes too unless somebody else asked.
		log.Printf("nobody waited for %q: %v", c.Dir, werr)
		s.timer.Reset(0)
	}
	ready.Close()
	if err != nil {
		return err
	}
	return s.run(ctx)
}

// Fail tells the process that started this one why it can't get as far as
// [Serve], and returns err.
func Fail(err error) error {
	ready := os.NewFile(readyFD, "ready")
	defer ready.Close()
	return errors.Join(err, writeReady(ready, err))
}

// open returns the supervisor of the mount: one to be made, or one whose supervisor
// was killed. It leaves nothing behind if it can't.
func open(c Config) (s *supervisor, err error) {
	over := startsOver()
	if c.Dir, err = resolve(c.Dir); err != nil {
		return nil, err
	}
	state, err := StateDir(c.Dir)
	if err != nil {
		return nil, err
	}
	socket, err := listenerOf(socketFD)
	if err != nil {
		return nil, err
	}
	home, err := newHome(state)
	if err != nil {
		socket.Close()
		return nil, err
	}
	if s, err = rescue(c, state, socket, home); s != nil || err != nil {
		return s, err
	}
	if s, err = create(c, socket, home, over); err != nil {
		return nil, errors.Join(err, home.leave(socket, nil))
	}
	return s, nil
}

// create makes the mount, and has a worker get ready meanwhile.
func create(c Config, socket *net.UnixListener, h home, over bool) (s *supervisor, err error) {
	k, err := newKeeper(c, h.state)
	if err != nil {
		return nil, err
	}
	if err = k.begin(); err != nil {
		return nil, errors.Join(err, k.close())
	}
	served := false
	defer func() {
		if !served {
			err = errors.Join(err, k.abandon())
		}
	}()
	made, err := settle(&c, h.state, over)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeDirs(made))
		}
	}()
	var dev *device
	if over {
		dev, err = attachOver(c.Dir, c.access())
	} else {
		dev, err = attach(c.Dir, c.access(), c.Rung)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dev.detach(true), dev.close())
		}
	}()
	number, err := dev.number()
	if err != nil {
		return nil, err
	}
	if err := writeInfo(h.state, infoOf(c, dev)); err != nil {
		return nil, err
	}
	s = newSupervisor(c, dev, number, k, socket, h)
	served = true // the keeper cleans up after itself from here on
	if err = k.serve(dev.fd); err != nil {
		s.timer.Stop()
		return nil, err
	}
	return s, nil
}

// settle makes the mount point ready, notes what it is for, and returns the
// directories that it has made.
func settle(c *Config, state string, over bool) (made []string, err error) {
	if !over { // else the place is one already
		if made, err = prepare(c.Dir, c.Avoid); err != nil {
			return nil, err
		}
	}
	// Where a server that died has made the mount point, it is still to go.
	before, err := readInfo(state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, removeDirs(made))
	}
	c.RemoveDir = c.RemoveDir || len(made) > 0 || before.RemoveDir
	if err := writeInfo(state, infoOf(*c, nil)); err != nil {
		return nil, errors.Join(err, removeDirs(made))
	}
	return made, nil
}

// listenerOf returns the control socket of an inherited descriptor.
func listenerOf(fd int) (*net.UnixListener, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("taking over the control socket: %w", err)
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("the inherited socket is a %s, want a unix socket", l.Addr().Network())
	}
	return socket, nil
}

// infoOf describes a mount for whoever finds its state folder.
func infoOf(c Config, dev *device) info {
	i := info{
		Dir:       c.Dir,
		Tree:      c.Tree,
		PID:       os.Getpid(),
		Info:      c.Info,
		RemoveDir: c.RemoveDir,
		Server:    serverCommand(),
		Held:      c.Held,
	}
	if dev != nil {
		i.Rung = dev.rung()
	}
	return i
}

// serverCommand returns the command line that this process was started with, by
// the path of its program.
func serverCommand() []string {
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	return append([]string{exe}, os.Args[1:]...)
}

// rescue takes over the mount of a supervisor that was killed, if its worker
// serves on. What can't be taken over stays as it is.
func rescue(c Config, state string, socket *net.UnixListener, h home) (s *supervisor, err error) {
	o, err := findOrphan(state)
	if o == nil || err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, socket.Close())
		}
	}()
	i, err := readInfo(state)
	if err != nil {
		return nil, err
	}
	c.RemoveDir, c.Held = c.RemoveDir || i.RemoveDir, c.Held || i.Held
	dev, err := o.device(c.Dir, i.Rung)
	if err != nil {
		return nil, err
	}
	number, err := dev.number()
	if err != nil {
		return nil, err
	}
	k, err := o.keeper(c)
	if err != nil {
		return nil, err
	}
	if err := writeInfo(state, infoOf(c, dev)); err != nil {
		return nil, err
	}
	s = newSupervisor(c, dev, number, k, socket, h)
	s.rescued = true
	if err := k.takeOver(o, dev.fd); err != nil {
		s.timer.Stop()
		return nil, err
	}
	return s, nil
}

// deviceNumber returns the st_dev of dir: each mount has one of its own.
func deviceNumber(dir string) (uint64, error) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("%q: no device number on %s", dir, runtime.GOOS)
	}
	return uint64(st.Dev), nil
}

// removeDirs removes directories that were made from the top down. One that is
// not empty has become somebody's.
func removeDirs(made []string) error {
	for _, dir := range slices.Backward(made) {
		err := os.Remove(dir)
		if isNotEmpty(err) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// home is the state folder as one server holds it.
type home struct {
	state string
	sock  os.FileInfo // tells this server's socket from a later one's
}

func newHome(state string) (home, error) {
	fi, err := os.Lstat(filepath.Join(state, sockName))
	return home{state, fi}, err
}

// leave removes the folder, unless another server has taken the place since,
// and calls also while no other can start. The socket is closed before the lock
// is given up, so that a connection means a server.
func (h home) leave(socket *net.UnixListener, also func() error) error {
	unlock, err := lockState(h.state)
	if err != nil {
		socket.Close()
		return err
	}
	defer unlock()
	if also != nil {
		err = also()
	}
	socket.Close()
	fi, serr := os.Lstat(filepath.Join(h.state, sockName))
	if serr == nil && !os.SameFile(fi, h.sock) {
		return err
	}
	return errors.Join(err, removeState(h.state))
}
