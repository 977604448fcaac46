package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errKilled says that somebody killed a worker before it was ready: that tells
// nothing of what it would have served.
var errKilled = errors.New("the worker was killed before it was ready")

// child is a worker process as its supervisor sees it.
type child struct {
	process  *os.Process
	link     *link
	confined []string
	turn     bool // it has something to open when it is told to serve

	heard   chan message  // ready, begun or refuse; closed at the end of the link
	reports chan message  // at most one is waited for
	lost    chan struct{} // has an element when what it serves is gone
	ended   chan struct{} // closed when the process has ended
	state   *os.ProcessState
	waiting error  // what went wrong in waiting for that end; then there is no state
	fault   string // why it was killed, if that is its own fault
}

// spawn starts a worker, which opens what it serves, or with a reason one that
// serves nothing because of that. Nothing is waited for.
//
// Where the program on disk is another by now, or gone, it is the one that made the
// mount all the same: whether another can serve it is found out by a reload.
func (k *keeper) spawn(nothing string) (*child, error) {
	return k.start(nothing, k.own && !isRunning(k.command[0]))
}

// start starts a worker as spawn does; of the program of this process, or of the
// one now on disk.
func (k *keeper) start(nothing string, running bool) (*child, error) {
	ours, theirs, err := newLink()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(k.command[0], k.command[1:]...)
	if running {
		cmd.Path = runningProgram
	}
	cmd.Dir = "/"
	cmd.Env = cleanEnv(os.Environ())
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs} // controlFD
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.close())
	}
	c := k.watch(cmd.Process, ours)
	m := message{Kind: kindStart, Reason: nothing, Writable: k.writable, Files: []string{fileMemory, fileRescue}}
	fds := []int{int(k.file.Fd()), int(k.rescue.Fd())}
	if k.companion != nil {
		m.Files = append(m.Files, fileConn, fileEnd)
		fds = append(fds, int(k.companion.conn.Fd()), int(k.companion.end.Fd()))
	}
	for i, f := range k.files {
		m.Files, fds = append(m.Files, fileOfMount(i)), append(fds, int(f.Fd()))
	}
	if err := ours.send(m, fds...); err != nil {
		return nil, errors.Join(err, c.abandon())
	}
	return c, nil
}

// watch returns the worker that runs as that process.
func (k *keeper) watch(p *os.Process, l *link) *child {
	c := &child{
		process: p,
		link:    l,
		heard:   make(chan message, 1),
		reports: make(chan message, 1),
		lost:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
	}
	go k.hear(c)
	go func() {
		defer close(c.ended)
		c.state, c.waiting = p.Wait()
	}()
	return c
}

// hear takes what a worker says until it ends.
func (k *keeper) hear(c *child) {
	defer close(c.heard)
	for {
		m, _, err := c.link.receive()
		if err != nil {
			return // it ends, which is waited for elsewhere
		}
		to := c.heard
		switch m.Kind {
		case kindInited:
			k.once.Do(func() { close(k.inited) })
			continue
		case kindLost:
			select {
			case c.lost <- struct{}{}:
			default: // it has said so before
			}
			continue
		case kindNotify:
			known := k.notify(m.Notification)
			if m.Known {
				err := c.link.send(message{Kind: kindKnown, Known: known})
				if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) { // else it has died meanwhile
					k.log.Printf("telling worker %d what the kernel knows: %v", c.process.Pid, err)
				}
			}
			continue
		case kindReport:
			to = c.reports
		}
		select {
		case to <- m:
		default: // an answer that nobody waits for any more
		}
	}
}

// notify tells the kernel to forget something and reports whether it may have known of
// it. It may take as long as a request, and what the worker says meanwhile waits.
func (k *keeper) notify(notification []byte) (known bool) {
	_, err := unix.Write(k.fd, notification)
	for err == unix.EINTR {
		_, err = unix.Write(k.fd, notification)
	}
	// ENOENT: the kernel knows nothing of it. ENODEV: unmounted meanwhile.
	if err != nil && err != unix.ENOENT && err != unix.ENODEV {
		k.log.Printf("having the kernel forget: %v", err)
	}
	return err != unix.ENOENT
}

// abandon kills a worker that serves nothing, and waits for its end.
func (c *child) abandon() error {
	err := c.process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-c.ended
	return errors.Join(err, c.link.close())
}

// ready waits until the worker has opened what it serves, for which it has so long.
// One that can't has ended when ready returns.
func (c *child) ready(within time.Duration) error {
	m, err := c.hears(kindReady, within)
	c.confined, c.turn = m.Confined, m.Turn
	return err
}

// begun waits, as ready does, until a worker that was told to serve has opened what
// it could not before.
func (c *child) begun(within time.Duration) error {
	if !c.turn {
		return nil
	}
	_, err := c.hears(kindBegun, within)
	return err
}

// hears waits until the worker says want. One that doesn't has ended when hears
// returns.
func (c *child) hears(want kind, within time.Duration) (message, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	var m message
	select {
	case m = <-c.heard: // or nothing more will be
	case <-timer.C:
		return message{}, errors.Join(fmt.Errorf("the worker has not opened what it serves in %v", within), c.abandon())
	}
	if m.Kind == want {
		return m, nil
	}
	select {
	case <-c.ended:
	case <-timer.C:
		return message{}, errors.Join(fmt.Errorf("the worker was to end, and has not in %v: %q", within, m.Reason), c.abandon())
	}
	err := errors.New(m.Reason)
	switch {
	case m.Kind == kindRefuse:
	case c.killed():
		err = errKilled
	default:
		err = fmt.Errorf("the worker ended before it was ready: %s", c.reason())
	}
	return message{}, errors.Join(err, c.link.close())
}

// reason says why the worker ended.
func (c *child) reason() string {
	switch {
	case c.fault != "":
		return c.fault
	case c.waiting != nil:
		return fmt.Sprintf("nobody knows: %v", c.waiting)
	}
	return c.state.String()
}

// killed reports whether somebody killed the worker: that is no fault of its own.
func (c *child) killed() bool {
	if c.fault != "" || c.waiting != nil {
		return false
	}
	status, ok := c.state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
