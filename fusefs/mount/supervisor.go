package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// startGrace is how long a new mount waits for its first lease: the client
	// that started it connects within milliseconds, unless it was killed.
	startGrace = 10 * time.Second

	// A mount that should go but is busy tries again, soon at first: a process
	// that is being torn down takes milliseconds.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 10 * time.Second

	// acceptPause is between attempts while there are no descriptors left.
	acceptPause = time.Second

	// requestTimeout ends a connection that says nothing.
	requestTimeout = 10 * time.Second

	// reserved is how many descriptors connections leave to the supervisor, who has
	// some fifteen and needs ten more for a moment to start a worker: a mount whose
	// worker dies must not wait until somebody gives back a lease.
	reserved = 32

	// unleased is how many connections leases leave to others: who can't have a lease
	// is told so, and a status or an unmount never waits for one to be given back.
	unleased = 8

	// maxConnections is for systems without a limit of descriptors.
	maxConnections = 1 << 20
)

// connections returns how many connections a supervisor may have at once.
func connections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > maxConnections {
		return maxConnections
	}
	return max(1+unleased, int(limit.Cur)-reserved)
}

// supervisor holds a mount: the leases on it and the decision when it goes. It
// answers on the control socket. It does not answer the kernel.
type supervisor struct {
	Config
	dev    *device
	number uint64 // st_dev of the mount, by which a client knows what it sees
	keeper *keeper
	socket *net.UnixListener
	home   home
	since  time.Time

	// rescued says that the supervisor before was killed, and with it went what it
	// knew of leases: who runs in the mount is seen by its environment alone.
	rescued bool

	room  chan struct{} // has an element for each connection
	clean chan struct{} // closed when the mount point and the state folder are

	mu     sync.Mutex
	leases map[*net.UnixConn]Process
	timer  *time.Timer // runs expire; set while nobody uses the mount
	retry  time.Duration
	gone   bool // unmounted, or detached
	goneCh chan struct{}
}

func newSupervisor(c Config, dev *device, number uint64, k *keeper, socket *net.UnixListener, h home) *supervisor {
	s := &supervisor{
		Config: c,
		dev:    dev,
		number: number,
		keeper: k,
		socket: socket,
		home:   h,
		since:  time.Now(),
		leases: make(map[*net.UnixConn]Process),
		room:   make(chan struct{}, connections()),
		goneCh: make(chan struct{}),
		clean:  make(chan struct{}),
		retry:  firstRetry,
	}
	s.timer = time.AfterFunc(startGrace, s.expire)
	return s
}

// run answers until the mount is gone, cleans up, and returns when the kernel
// has no more requests.
func (s *supervisor) run(ctx context.Context) error {
	go s.accept()
	go s.tend()
	select {
	case <-s.goneCh:
	case <-s.keeper.done:
		// Somebody else unmounted, or no worker can serve and the mount is dead.
		if s.keeper.err != nil {
			s.detach()
		}
	case <-ctx.Done():
		s.detach()
	}
	s.mu.Lock()
	s.gone = true
	s.timer.Stop()
	s.mu.Unlock()

	// A detached mount is served until the last file in it is closed, but its
	// place is free at once.
	err := errors.Join(s.keeper.release(), s.home.leave(s.socket, s.removeDir))
	close(s.clean)
	<-s.keeper.done
	return errors.Join(err, s.keeper.err, s.keeper.close(), s.dev.close())
}

// tend keeps the log small for as long as there is a mount.
func (s *supervisor) tend() {
	often := time.NewTicker(rotateEvery)
	defer often.Stop()
	for {
		select {
		case <-s.clean:
			return
		case <-often.C:
			if err := rotate(s.home.state, maxLog); err != nil {
				log.Print(err)
			}
		}
	}
}

// removeDir removes the mount point if it is this server's to remove.
func (s *supervisor) removeDir() error {
	if !s.RemoveDir {
		return nil
	}
	return removeMountPoint(s.Dir)
}

// removeMountPoint removes an empty folder. One that is not empty has become
// somebody's.
func removeMountPoint(dir string) error {
	err := os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) || isNotEmpty(err) {
		return nil
	}
	return err
}

// detach takes the mount away from under its users.
func (s *supervisor) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.leave(true); err != nil {
		log.Printf("detaching %q: %v", s.Dir, err)
	}
}

// accept takes connections until the socket is closed, or shut down by a client
// that gave up waiting for the start.
func (s *supervisor) accept() {
	for {
		// Each connection is a descriptor. Who waits in the backlog gets his turn when
		// others end, of which those that are no leases soon do.
		select {
		case s.room <- struct{}{}:
		case <-s.clean:
			return
		}
		c, err := s.socket.AcceptUnix()
		if err == nil {
			go func() {
				defer func() { <-s.room }()
				s.serve(c)
			}()
			continue
		}
		<-s.room
		switch {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			log.Printf("control socket: %v", err)
			select {
			case <-time.After(acceptPause):
			case <-s.clean:
				return
			}
		default:
			if !errors.Is(err, net.ErrClosed) {
				log.Printf("control socket: %v", err)
			}
			return
		}
	}
}

// serve answers one connection, and holds its lease until the last process
// that has it closes it.
func (s *supervisor) serve(c *net.UnixConn) {
	defer c.Close()
	q, pid, err := s.read(c)
	if err != nil {
		return
	}
	r := s.answer(c, pid, q)
	err = send(c, r)
	switch {
	case q.Verb == verbLease && r.Outcome == outcomeOK:
		if err == nil {
			// Nothing is ever sent; the read ends when nobody holds the other end.
			_, _ = c.Read(make([]byte, 1))
		}
		s.release(c)
	case r.Outcome == outcomeGoing, q.Verb == verbUnmount && r.Outcome == outcomeOK:
		// The end of the connection tells the client that it may mount again.
		<-s.clean
	}
}

// read reads a request of somebody who may ask.
func (s *supervisor) read(c *net.UnixConn) (q request, pid int, err error) {
	uid, pid, err := peer(c)
	if err != nil {
		return request{}, 0, err
	}
	if uid != 0 && int(uid) != os.Getuid() {
		return request{}, 0, fs.ErrPermission
	}
	if err := c.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return request{}, 0, err
	}
	if err := receive(c, &q); err != nil {
		return request{}, 0, err
	}
	return q, pid, c.SetReadDeadline(time.Time{})
}

func (s *supervisor) answer(c *net.UnixConn, pid int, q request) reply {
	switch q.Verb {
	case verbLease:
		return s.lease(c, pid, q)
	case verbHold:
		return s.hold(q)
	case verbStatus:
		return reply{Outcome: outcomeOK, Status: s.status()}
	case verbUnmount:
		return s.unmount(pid, q)
	case verbReload:
		return s.reload(c)
	}
	return reply{Outcome: outcomeError, Error: "unknown request " + string(q.Verb) + "; is another version of sitefs serving?"}
}

// lease grants a lease on the tree that is mounted. Another one is mounted in
// its place by the client, if nobody uses this.
func (s *supervisor) lease(c *net.UnixConn, pid int, q request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.want(q.Tree); !ok {
		return r
	}
	if most := cap(s.room) - unleased; len(s.leases) >= most {
		return reply{Outcome: outcomeError, Error: fmt.Sprintf("%d processes hold the mount, as many as the limit of its supervisor's descriptors allows: end some, or unmount and try again with a higher limit (ulimit -n)", most)}
	}
	s.leases[c] = Process{PID: pid, Name: processName(pid), Uses: "lease"}
	s.Keep = q.Keep
	s.timer.Stop()
	s.retry = firstRetry
	return reply{Outcome: outcomeOK, Device: s.number}
}

// hold makes the mount stay.
func (s *supervisor) hold(q request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.want(q.Tree); !ok {
		return r
	}
	s.Held = true
	s.timer.Stop()
	if err := writeInfo(s.home.state, infoOf(s.Config, s.dev)); err != nil {
		log.Printf("noting that %q is held: %v", s.Dir, err)
	}
	return reply{Outcome: outcomeOK, Device: s.number}
}

// want reports whether tree is mounted and stays so. If another is, it makes
// way where it can. The caller holds mu.
func (s *supervisor) want(tree string) (reply, bool) {
	switch {
	case s.gone, !s.keeper.connected(): // somebody else may have unmounted just now
		return reply{Outcome: outcomeGoing}, false
	case tree == s.Tree:
		return reply{}, true
	case s.Held || len(s.leases) > 0:
		return reply{Outcome: outcomeInUse, Tree: s.Tree}, false
	}
	if err := s.leaveIfFree(); err != nil {
		return reply{Outcome: outcomeInUse, Tree: s.Tree}, false
	}
	return reply{Outcome: outcomeGoing}, false
}

// release takes a lease back. After the last one the mount stays warm.
func (s *supervisor) release(c *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, c)
	if len(s.leases) == 0 && !s.Held && !s.gone {
		s.timer.Reset(s.Keep)
	}
}

// expire ends a mount that nobody uses, or tries again later.
func (s *supervisor) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.Held || len(s.leases) > 0 {
		return
	}
	err := s.leaveIfFree()
	if err == nil {
		return
	}
	if !errors.Is(err, ErrBusy) && !errors.Is(err, errCovered) {
		log.Printf("unmounting %q: %v", s.Dir, err)
	}
	s.timer.Reset(s.retry)
	s.retry = min(2*s.retry, lastRetry)
}

// leaveIfFree unmounts unless a process uses the mount. The caller holds mu.
func (s *supervisor) leaveIfFree() error {
	if living := environUsers(s.Dir); len(living) > 0 {
		return &BusyError{Dir: s.Dir, Processes: living}
	}
	return s.leave(false)
}

// leave unmounts; if detach is set, from under the users. The caller holds mu.
func (s *supervisor) leave(detach bool) error {
	if s.gone {
		return nil
	}
	if err := s.dev.detach(detach); err != nil {
		return err
	}
	s.gone = true
	close(s.goneCh)
	return nil
}

// reload has the program now on disk serve.
func (s *supervisor) reload(c *net.UnixConn) reply {
	err := s.keeper.replace(func() error { return s.become(c) })
	if errors.Is(err, ErrNotMounted) {
		return reply{Outcome: outcomeGoing}
	}
	return reply{Outcome: outcomeError, Error: err.Error()} // with success the next program replies
}

// unmount does what the user asked for by the process pid, or says who is in the way.
func (s *supervisor) unmount(pid int, q request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return reply{Outcome: outcomeGoing}
	}
	busy := func() reply { return reply{Outcome: outcomeBusy, Processes: s.users(pid)} }
	if !q.Detach && (len(s.leases) > 0 || s.rescued && len(s.activated(pid)) > 0) {
		return busy()
	}
	err := s.leave(q.Detach)
	if errors.Is(err, ErrBusy) {
		return busy()
	}
	if err != nil {
		return reply{Outcome: outcomeError, Error: err.Error()}
	}
	return reply{Outcome: outcomeOK}
}

// activated lists who has the mount as VIRTUAL_ENV, but for the process pid: who asks
// from an activated shell is not in his own way.
func (s *supervisor) activated(pid int) []Process {
	return slices.DeleteFunc(environUsers(s.Dir), func(p Process) bool { return p.PID == pid })
}

// users lists who uses the mount, each process once, for the process that asks:
// those that hold leases, then those that hold files. A lease whose process ended
// was inherited by what that process started, which has the mount as its
// VIRTUAL_ENV. The caller holds mu.
func (s *supervisor) users(asks int) []Process {
	list := s.leaseList()
	leases := len(list)
	list = slices.DeleteFunc(list, func(p Process) bool { return processName(p.PID) == unknownName })
	others := fileUsers(s.Dir)
	if len(list) < leases || s.rescued {
		others = append(s.activated(asks), others...)
	}
	for _, p := range others {
		if !slices.ContainsFunc(list, func(l Process) bool { return l.PID == p.PID }) {
			list = append(list, p)
		}
	}
	return list
}

// leaseList lists the leases by the processes that took them. The caller holds mu.
func (s *supervisor) leaseList() []Process {
	list := slices.AppendSeq([]Process{}, maps.Values(s.leases)) // not nil: JSON shows []
	slices.SortFunc(list, func(a, b Process) int { return a.PID - b.PID })
	for i, p := range list {
		// It has become the command since it took the lease.
		if name := processName(p.PID); name != unknownName {
			list[i].Name = name
		}
	}
	return list
}

func (s *supervisor) status() *Status {
	status := s.held()
	s.keeper.fill(status)
	return status
}

// held returns what the supervisor itself knows of the mount.
func (s *supervisor) held() *Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := StateWarm
	switch {
	case len(s.leases) > 0:
		state = StateUsed
	case s.Held:
		state = StateHeld
	}
	return &Status{
		Dir:    s.Dir,
		Tree:   s.Tree,
		PID:    os.Getpid(),
		Since:  s.since,
		State:  state,
		Keep:   s.Keep,
		Leases: s.leaseList(),
		Rung:   s.dev.rung(),
		Info:   s.Info,
	}
}
