package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// A worker outlives a supervisor that is killed, and serves on. It then listens
// on the rescue socket, through which the next supervisor gets the descriptors of
// the mount. That one is started by whoever finds the control socket dead.

// listenRescue makes the rescue socket, which nobody listens on yet.
func listenRescue(state string) (file *os.File, err error) {
	err = os.Remove(filepath.Join(state, rescueName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err = withSocket(state, rescueName, func(path string) error {
		l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		file, err = l.File()
		return errors.Join(err, l.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("making the rescue socket in %q: %w", state, err)
	}
	return file, nil
}

// connectRescue connects to a worker without a supervisor.
func connectRescue(state string) (l *link, err error) {
	err = withSocket(state, rescueName, func(path string) error {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		l = &link{c}
		return err
	})
	return l, err
}

// noWorker reports whether an error of connectRescue says that no worker is left.
func noWorker(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// orphaned reports whether a worker is left at the mount that state belongs to: one
// that answers, not one that is dying.
func orphaned(state string) bool {
	o, err := findOrphan(state)
	if o == nil || err != nil {
		return false
	}
	for _, f := range o.files {
		f.Close()
	}
	o.link.close()
	return true
}

// orphan is a worker whose supervisor was killed, as the next supervisor sees it.
type orphan struct {
	link  *link
	files map[string]*os.File
}

// findOrphan returns the worker that is left at a mount, nil if none is.
func findOrphan(state string) (*orphan, error) {
	l, err := connectRescue(state)
	if noWorker(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := l.conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, errors.Join(err, l.close())
	}
	m, files, err := l.receive()
	if err == nil && (m.Kind != kindHeld || files[fileMemory] == nil || files[fileDevice] == nil || files[fileRescue] == nil) {
		err = fmt.Errorf("a %q message with %q", m.Kind, m.Files)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the worker that is left at the mount does not give it up: %w", err), l.close())
	}
	return &orphan{l, files}, nil
}

// keeper returns a keeper of the orphan's mount.
func (o *orphan) keeper(c Config) (*keeper, error) {
	k := newKeeperOf(c)
	k.file, k.rescue, k.files = o.files[fileMemory], o.files[fileRescue], filesOfMount(o.files)
	var err error
	if k.memory, err = shared.Open(k.file); err != nil {
		return nil, err
	}
	conn, end := o.files[fileConn], o.files[fileEnd]
	if conn != nil && end != nil && len(c.Companion) > 0 {
		k.companion = companionOn(c.Companion, end, conn)
		go k.companion.run()
	}
	return k, nil
}

// device returns the mount's device.
func (o *orphan) device(dir, rung string) (*device, error) {
	// A copy of the descriptor, since a file would close its own.
	fd, err := unix.FcntlInt(o.files[fileDevice].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &device{dir: dir, fd: fd, made: rung}, o.files[fileDevice].Close()
}

// end has the orphan finish what it is at and end.
func (o *orphan) end() error {
	_, pid, err := peer(o.link.conn)
	err = errors.Join(err, o.link.send(message{Kind: kindPark}), o.link.conn.SetReadDeadline(time.Now().Add(2*parkGrace)))
	if _, _, rerr := o.link.receive(); errors.Is(rerr, os.ErrDeadlineExceeded) && pid > 0 {
		err = errors.Join(err, unix.Kill(pid, unix.SIGKILL), o.link.conn.SetReadDeadline(time.Time{}))
		_, _, _ = o.link.receive() // the end of the socket, when it is dead
	}
	return errors.Join(err, o.link.close())
}

// takeOver has a worker of this supervisor serve in the orphan's place. Where none
// can the orphan serves on.
func (k *keeper) takeOver(o *orphan, fd int) error {
	k.fd = fd
	c, err := k.launch("")
	if err != nil {
		return fmt.Errorf("the mount is served, but its supervisor was killed and can't be replaced: %w", err)
	}
	if err := o.end(); err != nil {
		k.log.Printf("ending the worker that was left: %v", err)
	}
	k.restarted("its supervisor was killed")
	k.memory.ClearInFlight()
	if err := k.handOver(c, true); err != nil {
		k.log.Printf("a worker could not take over: %v", err)
	}
	go k.run()
	return nil
}

// alone answers for the companion, which has died with the supervisor.
func (h *hand) alone() {
	if h.files[fileEnd] == nil {
		return
	}
	c := companionOn(nil, h.files[fileEnd], h.files[fileConn])
	for c.lose(); c.asked(); {
		c.lose()
	}
}

// leave gives the mount to the next supervisor, when the present one is gone, and
// returns when that has a worker of its own.
func (h *hand) leave() error {
	listener, err := net.FileListener(h.files[fileRescue])
	if err != nil {
		return fmt.Errorf("the rescue socket: %w", err)
	}
	defer listener.Close()
	for {
		c, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("the rescue socket: %w", err)
		}
		if u, ok := c.(*net.UnixConn); ok && h.give(u) {
			return nil
		}
		c.Close()
	}
}

// give reports whether the process at the other end takes over.
func (h *hand) give(c *net.UnixConn) bool {
	uid, _, err := peer(c)
	if err != nil || uid != 0 && int(uid) != os.Getuid() {
		return false
	}
	l := &link{c}
	m := message{Kind: kindHeld}
	var fds []int
	for name, f := range h.files {
		m.Files, fds = append(m.Files, name), append(fds, int(f.Fd()))
	}
	if err := l.send(m, fds...); err != nil {
		return false // it only looked whether anybody is here
	}
	m, _, err = l.receive()
	return err == nil && m.Kind == kindPark
}
