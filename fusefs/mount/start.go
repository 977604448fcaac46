package mount

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Want is a mount that somebody wants to be there.
type Want struct {
	Dir  string        // the mount point
	Tree string        // what is to be mounted on it
	Keep time.Duration // how long it stays after the last lease

	// Server is the command that mounts Tree on Dir where nothing does yet: the
	// path of a program and its arguments. It calls [Daemonize], then [Serve].
	Server []string

	// Rung is the one way to mount that Server tries, as [Config] has it.
	Rung string

	over bool // in the place of a mount that [Switch] has put there
}

// Lease returns a lease on the mount that w describes, starting its server if
// need be. Where another tree is mounted and used the error is [ErrInUse]. See
// [Client.Lease] for what the file is.
func Lease(ctx context.Context, w Want) (*os.File, error) {
	var lease *os.File
	err := w.with(ctx, func(c *Client) error {
		var err error
		lease, err = c.Lease(ctx, w.Tree, w.Keep)
		return err
	})
	return lease, err
}

// Hold has the mount that w describes stay until it is unmounted, starting its
// server if need be.
func Hold(ctx context.Context, w Want) error {
	return w.with(ctx, func(c *Client) error { return c.Hold(ctx, w.Tree) })
}

// with calls fn with a client of the mount's server, and again with a new one
// when the server turns out to be leaving.
func (w Want) with(ctx context.Context, fn func(*Client) error) error {
	state, err := StateDir(w.Dir)
	if err != nil {
		return err
	}
	for {
		c, err := dial(ctx, w.Dir, state)
		if errors.Is(err, ErrNotMounted) {
			if err = w.start(ctx, state); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		err = fn(c)
		if errors.Is(err, ErrNotMounted) {
			// The connection ends when the mount point is clean.
			err = c.wait(ctx)
			c.Close()
			if err != nil {
				return err
			}
			continue
		}
		c.Close()
		return err
	}
}

// start starts a server, unless somebody else does at the same time.
func (w Want) start(ctx context.Context, state string) error {
	l, err := claim(state)
	if l == nil || err != nil {
		return err
	}
	defer l.Close()
	if err = w.spawn(ctx, state, l); err == nil {
		return nil
	}
	if rerr := refuse(l); rerr != nil {
		return errors.Join(err, rerr)
	}
	// A server that got as far as mounting has cleared its state away itself.
	if cerr := clearDead(w.Dir, state); !errors.Is(cerr, ErrNotMounted) && !errors.Is(cerr, ErrInUse) {
		err = errors.Join(err, cerr)
	}
	return err
}

// claim makes the control socket, which one process alone succeeds in: whoever
// comes later connects, and waits in the backlog until the server answers. It
// returns nil where a socket is there and somebody listens.
func claim(state string) (*net.UnixListener, error) {
	unlock, err := lockState(state)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c, err := connect(state); err == nil {
		return nil, c.Close()
	}
	return listen(state)
}

// refuse has the socket refuse connections, whoever else has it open: a server
// that failed may not have ended yet.
func refuse(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) { serr = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	return errors.Join(err, serr)
}

// Descriptors that a server inherits.
const (
	readyFD  = 3
	socketFD = 4
)

// spawn runs the server command and waits until it is ready.
func (w Want) spawn(ctx context.Context, state string, l *net.UnixListener) error {
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	ready, answer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	log, err := os.OpenFile(filepath.Join(state, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		answer.Close()
		return err
	}
	defer log.Close()

	cmd := exec.CommandContext(ctx, w.Server[0], w.Server[1:]...)
	cmd.Dir = "/"
	cmd.Env = serverEnv(os.Environ(), stageFirst)
	if w.over {
		cmd.Env = append(cmd.Env, overVar+"=1")
	}
	cmd.Stderr = log
	cmd.ExtraFiles = []*os.File{answer, socket} // readyFD, socketFD
	err = cmd.Run()                             // the first stage, which ends at once
	answer.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return w.died(state, err)
	}
	stop := context.AfterFunc(ctx, func() { ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err = readReady(ready); ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		var told *remoteError
		if !errors.As(err, &told) {
			return w.died(state, err)
		}
	}
	return err
}

// died returns the error for a server that ended without a word on the pipe.
func (w Want) died(state string, cause error) error {
	const most = 2000 // bytes, enough for a panic's first lines
	text, err := os.ReadFile(filepath.Join(state, logName))
	if err != nil || len(text) == 0 {
		return fmt.Errorf("the server of %q did not start: %w", w.Dir, cause)
	}
	return fmt.Errorf("the server of %q did not start: %w; its log:\n%s", w.Dir, cause, text[max(0, len(text)-most):])
}

// The stages of a server's start, in its environment. The first starts the
// second in a session of its own and ends, so that the server is no child of
// whatever the client becomes: a command must not find a child that it does not
// know when it waits for all of its own.
const (
	stageVar    = "SITEFS_SERVER_STAGE"
	stageFirst  = "1"
	stageSecond = "2"

	// stageReplaced and the number of a descriptor are for a program that takes the
	// place of a supervisor in its process; see estate.
	stageReplaced = "replaced-"
)

// serverEnv returns the environment for a stage of the server.
func serverEnv(env []string, stage string) []string {
	return append(cleanEnv(env), stageVar+"="+stage)
}

// cleanEnv returns the environment for what belongs to a server. VIRTUAL_ENV is
// left out: it marks processes that use a mount.
func cleanEnv(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if name != "VIRTUAL_ENV" && name != stageVar {
			kept = append(kept, e)
		}
	}
	return kept
}

// Daemonize is the first thing that a server command does. Where it returns
// true the process has started its successor and is to end with success.
//
// It closes every descriptor that was inherited by accident.
func Daemonize() (done bool, err error) {
	switch stage := os.Getenv(stageVar); stage {
	case stageFirst:
		if err := closeInherited(); err != nil {
			return false, err
		}
		exe, err := os.Executable()
		if err != nil {
			return false, err
		}
		cmd := exec.Command(exe, os.Args[1:]...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = serverEnv(os.Environ(), stageSecond)
		cmd.Stderr = os.Stderr
		cmd.ExtraFiles = []*os.File{os.NewFile(readyFD, "ready"), os.NewFile(socketFD, "socket")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return true, cmd.Start()
	case stageSecond:
		syscall.CloseOnExec(readyFD)
		syscall.CloseOnExec(socketFD)
		return false, nil
	default:
		if strings.HasPrefix(stage, stageReplaced) {
			return false, nil
		}
		return false, fmt.Errorf("this command is started by sitefs itself, not by hand (%s is %q)", stageVar, stage)
	}
}

// closeInherited closes the descriptors beyond those of a server. What this
// process opened itself is closed on exec, what it inherited can't be.
func closeInherited() error {
	dir, err := os.Open("/dev/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var fd int
		if _, err := fmt.Sscan(name, &fd); err != nil || fd <= socketFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}
