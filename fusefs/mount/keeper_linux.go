package mount

import (
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

const (
	// startTimeout is how long a worker may take to open what it serves. A tree of
	// any size takes milliseconds, a disk that spins up seconds.
	startTimeout = 30 * time.Second

	// stallPatience is how long requests may wait with none answered until the
	// worker counts as hung. A request for bytecode waits for 25 s at most.
	stallPatience = 40 * time.Second

	// dumpGrace is how long a hung worker has to write where its goroutines are.
	dumpGrace = time.Second

	// A worker that dies before it has answered anything is started again after
	// a pause, longer each time.
	firstPause = 10 * time.Millisecond
	lastPause  = 5 * time.Second

	// standInAfter is for how long no worker could be started until one that serves
	// nothing takes the place: a request shall fail rather than wait for ever.
	standInAfter = time.Second

	// releaseGrace is how long a mount that was unmounted may take to end: the kernel
	// tells its worker at once.
	releaseGrace = time.Second
)

// keeper keeps a worker at the mount: it starts one in the place of each that
// dies, or hangs, or is replaced, and judges which request was the cause.
type keeper struct {
	command  []string
	own      bool          // the command's program is that of this process
	patience time.Duration // see stallPatience
	writable bool
	log      *log.Logger

	memory    *shared.Memory
	file      *os.File // of the memory
	rescue    *os.File // see listenRescue
	companion *companion
	files     []*os.File // see [Config]
	fd        int        // of the device

	reloads chan reloading

	once   sync.Once
	inited chan struct{} // closed when the kernel and a worker have agreed
	done   chan struct{} // closed when the mount has ended
	err    error         // why, if not by an unmount; set before done is closed

	pause    time.Duration
	answered int64 // when the worker was started
	quiet    stall

	again *time.Timer   // set while the worker can't serve what it should
	every time.Duration // what it was last set to; 0: never since a worker could

	asking sync.Mutex // held while a status is filled, and the worker asked for a report
	closed bool       // there is nothing to fill it from; guarded by asking
	mu     sync.Mutex
	child  *child
}

// newKeeperOf returns a keeper that holds nothing yet.
func newKeeperOf(c Config) *keeper {
	k := &keeper{
		command:  c.Worker,
		own:      isRunning(c.Worker[0]),
		patience: stallPatience,
		writable: c.Writable,
		log:      log.Default(),
		reloads:  make(chan reloading),
		inited:   make(chan struct{}),
		done:     make(chan struct{}),
		pause:    firstPause,
		again:    time.NewTimer(0),
	}
	k.again.Stop()
	if c.patience > 0 {
		k.patience = c.patience
	}
	return k
}

// newKeeper returns a keeper of a mount to be made, without a worker.
func newKeeper(c Config, state string) (*keeper, error) {
	k := newKeeperOf(c)
	var err error
	if k.memory, k.file, err = shared.New(); err != nil {
		return nil, err
	}
	if k.rescue, err = listenRescue(state); err != nil {
		return nil, errors.Join(err, k.close())
	}
	if c.Files != nil {
		if k.files, err = c.Files(); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	if len(c.Companion) > 0 {
		if k.companion, err = newCompanion(c.Companion); err != nil {
			return nil, errors.Join(err, k.close())
		}
		go k.companion.run()
	}
	return k, nil
}

// close gives back what the keeper holds, when the worker has ended.
func (k *keeper) close() error {
	k.asking.Lock()
	defer k.asking.Unlock()
	k.closed = true
	err := errors.Join(k.memory.Close(), k.file.Close())
	if k.rescue != nil {
		err = errors.Join(err, k.rescue.Close())
	}
	if k.companion != nil {
		err = errors.Join(err, k.companion.stop())
	}
	return errors.Join(err, k.closeFiles())
}

func (k *keeper) closeFiles() error {
	var err error
	for _, f := range k.files {
		err = errors.Join(err, f.Close())
	}
	k.files = nil
	return err
}

// release closes the files of a mount that has gone, for whoever waits for them. One
// that was detached, and is still used, has not: it keeps them.
func (k *keeper) release() error {
	if len(k.files) == 0 {
		return nil
	}
	timer := time.NewTimer(releaseGrace)
	defer timer.Stop()
	select {
	case <-k.done:
		return k.closeFiles()
	case <-timer.C:
		return nil
	}
}

// begin starts the first worker, which opens what it serves while the mount is
// made.
func (k *keeper) begin() error {
	c, err := k.spawn("")
	k.child = c
	return err
}

// abandon gives up before the mount is made.
func (k *keeper) abandon() error {
	return errors.Join(k.child.abandon(), k.close())
}

// serve has the first worker serve the device, and returns when the kernel and it
// have agreed.
func (k *keeper) serve(fd int) error {
	k.fd = fd
	if err := k.child.ready(startTimeout); err != nil {
		return errors.Join(err, k.close())
	}
	if err := k.handOver(k.child, false); err != nil {
		return errors.Join(err, k.close())
	}
	go k.run()
	select {
	case <-k.inited:
		return nil
	case <-k.done:
		return errors.Join(errors.New("the mount ended at once: somebody has unmounted it"), k.err, k.close())
	}
}

// handOver has c serve. With resend it begins with what was not answered. One that
// can't be told is killed; run starts another, as it does when c dies later. An error
// is why it serves nothing; it has ended then.
func (k *keeper) handOver(c *child, resend bool) error {
	k.mu.Lock()
	k.child = c
	k.mu.Unlock()
	k.answered = k.memory.Answered()
	k.quiet = stall{}
	k.again.Stop()
	err := c.link.send(message{Kind: kindGo, Files: []string{fileDevice}, Resend: resend && k.resends()}, k.fd)
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) { // else it has died meanwhile
		c.fault = fmt.Sprintf("could not be given the mount: %v", err)
		k.kill(c)
	}
	if err = c.begun(startTimeout); err != nil && c.fault == "" && !errors.Is(err, errKilled) {
		c.fault = err.Error()
	}
	return err
}

// run keeps a worker until the mount ends.
func (k *keeper) run() {
	defer func() {
		for range k.child.heard { // the last notifications, while the device is there
		}
		close(k.done)
	}()
	watch := time.NewTicker(k.patience / 8) // often enough that a hang is found soon after patience ends
	defer watch.Stop()
	for {
		select {
		case <-k.child.ended:
			if k.err = k.succeed(); k.err != nil || !k.connected() {
				return
			}
		case <-watch.C:
			if k.quiet.lasts(k.memory.Moved(), k.waiting(), time.Now(), k.patience) {
				k.dump()
			}
		case <-k.child.lost:
			k.log.Printf("what worker %d serves is gone from its place", k.child.process.Pid)
			k.tryAgain(firstPause)
		case <-k.again.C:
			k.restore()
		case r := <-k.reloads:
			r.answer <- k.reload(r.become)
		}
	}
}

// connected reports whether the mount is still there.
func (k *keeper) connected() bool { return k.poll(0, 0)&unix.POLLERR == 0 }

// poll returns which of events there are at the device, or are within wait: POLLIN is
// a request that nobody has read. POLLERR, the end of the mount, is always one of
// them. While a worker serves nobody waits here, who would be woken by every request.
func (k *keeper) poll(events int16, wait time.Duration) int16 {
	fds := []unix.PollFd{{Fd: int32(k.fd), Events: events}}
	for end := time.Now().Add(wait); ; wait = max(0, time.Until(end)) {
		if _, err := unix.Poll(fds, int(wait.Milliseconds())); err != unix.EINTR {
			return fds[0].Revents
		}
	}
}

// succeed starts a worker in the place of one that has ended, unless the mount
// has too.
func (k *keeper) succeed() error {
	err := k.child.link.close()
	if !k.connected() {
		return err
	}
	reason, counted := k.child.reason(), !k.child.killed()
	if !k.resends() {
		return fmt.Errorf("the worker has ended (%s), and this kernel sends no request again (Linux 6.9 and later do): mount again", reason)
	}
	if counted {
		for _, r := range k.memory.Blame() {
			k.log.Printf("%s has ended the worker for the third time, with nothing else to do: it is answered with an I/O error", describeRequest(&r, r.Name, nil))
		}
	} else {
		k.memory.ClearInFlight()
	}
	noted := ""
	for began := time.Now(); k.connected(); {
		if counted {
			k.rest()
		}
		if !counted || reason != noted { // else the same again
			k.restarted(reason)
			noted = reason
		}
		c, err := k.launch("")
		if err == nil {
			err = k.handOver(c, true)
		}
		if err == nil {
			k.every = 0
			return nil
		}
		reason, counted = err.Error(), !errors.Is(err, errKilled)
		if counted && time.Since(began) > standInAfter && k.standIn(reason) {
			return nil
		}
	}
	return nil
}

// standIn has a worker serve that answers every request with an I/O error, and
// reports whether it does.
func (k *keeper) standIn(reason string) bool {
	if _, _, ok := k.memory.Init(); !ok {
		return false // the kernel is still to be told what can be served
	}
	c, err := k.launch(reason)
	if err != nil {
		k.log.Printf("nothing can be served: %v", err)
		return false
	}
	k.log.Printf("every request is answered with an I/O error until a worker can serve: %s", reason)
	if err := k.handOver(c, true); err != nil {
		k.log.Printf("nothing can be served: %v", err)
		return false
	}
	k.tryAgain(max(firstPause, 2*k.every))
	return true
}

// tryAgain has run call restore after d.
func (k *keeper) tryAgain(d time.Duration) {
	k.every = min(d, lastPause)
	k.again.Reset(k.every)
}

// restore replaces a worker that can't serve what it should by one that can, if
// there is one by now.
func (k *keeper) restore() {
	c, err := k.launch("")
	if err != nil {
		k.tryAgain(2 * k.every)
		return
	}
	if k.companion != nil {
		defer k.companion.hold()() // the next one, too, finds what is there now
	}
	if k.exchange(c, "what it serves is there again") == nil {
		k.every = 0
	}
}

// restarted notes that a worker is to take the place of another, and why.
func (k *keeper) restarted(reason string) {
	k.log.Printf("a new worker: %s", reason)
	k.memory.NoteRestart(shared.Restart{Time: time.Now(), Reason: reason})
}

// launch starts a worker, as spawn does, and waits until it is ready to serve.
func (k *keeper) launch(nothing string) (*child, error) {
	return awaited(k.spawn(nothing))
}

// awaited returns a worker that was started when it is ready to serve.
func awaited(c *child, err error) (*child, error) {
	if err != nil {
		return nil, err
	}
	return c, c.ready(startTimeout)
}

// rest waits before the next start, or until the mount has ended. One that was
// detached, but is used, has not.
func (k *keeper) rest() { k.poll(0, k.nextPause()) }

// nextPause returns how long to wait before the next start: not at all if something
// was answered since the last.
func (k *keeper) nextPause() time.Duration {
	if answered := k.memory.Answered(); answered != k.answered {
		k.answered, k.pause = answered, firstPause
		return 0
	}
	pause := k.pause
	k.pause = min(2*k.pause, lastPause)
	return pause
}

// resends reports whether the kernel sends requests again that a worker has left.
// Before it has said what it can there is nothing to lose.
func (k *keeper) resends() bool {
	_, reply, ok := k.memory.Init()
	return !ok || canResend(reply)
}

// waiting reports whether a request waits for its answer, or the end of the mount
// for that of the worker.
func (k *keeper) waiting() bool {
	return k.poll(unix.POLLIN, 0) != 0 || len(k.memory.InFlight()) > 0
}

// stall is a time in which requests wait and none is answered.
type stall struct {
	since    time.Time // zero: there is none
	answered int64
}

// lasts reports whether it has lasted for patience. It is told how many requests
// were answered so far, and whether one waits.
func (s *stall) lasts(answered int64, waiting bool, now time.Time, patience time.Duration) bool {
	if !waiting || s.since.IsZero() || answered != s.answered {
		*s = stall{answered: answered}
		if waiting {
			s.since = now
		}
		return false
	}
	return now.Sub(s.since) >= patience
}

// dump kills a worker that hangs, when it has written to the log what it is at.
func (k *keeper) dump() {
	c := k.child
	c.fault = "answered nothing, although requests waited"
	if !k.connected() {
		c.fault = "did not end with the mount"
	}
	k.log.Printf("worker %d %s; this is what it is at:", c.process.Pid, c.fault)
	if err := c.process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		k.log.Printf("asking worker %d for its goroutines: %v", c.process.Pid, err)
	}
	k.end(c, dumpGrace)
}

// end kills a worker that has not ended after grace, and waits for its end.
func (k *keeper) end(c *child, grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		k.kill(c)
		<-c.ended
	}
}

func (k *keeper) kill(c *child) {
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		k.log.Printf("killing worker %d: %v", c.process.Pid, err)
	}
}

// reloading is a wish to be replaced.
type reloading struct {
	become func() error // replaces the supervisor; it returns only if it can't
	answer chan error
}

// reload has a worker of the program now on disk take over, and then a supervisor.
// A worker that can't leaves the present one in place.
func (k *keeper) reload(become func() error) error {
	c, err := awaited(k.start("", false))
	if err != nil {
		return fmt.Errorf("the mount goes on as it was: %w", err)
	}
	if err := k.exchange(c, "reload"); err != nil {
		return fmt.Errorf("the mount goes on as it was: %w", err)
	}
	return fmt.Errorf("the worker was replaced, and the supervisor goes on as it was: %w", become())
}

// exchange has c, which is ready, serve in the place of the present worker. Where it
// can't after all, run starts another.
func (k *keeper) exchange(c *child, reason string) error {
	old := k.child
	if err := old.link.send(message{Kind: kindPark}); err != nil {
		k.log.Printf("parking worker %d: %v", old.process.Pid, err)
	}
	k.end(old, 2*parkGrace)
	if err := old.link.close(); err != nil {
		k.log.Printf("worker %d: %v", old.process.Pid, err)
	}
	k.memory.ClearInFlight()
	k.restarted(reason)
	return k.handOver(c, true)
}

// replace is reload for the other goroutines.
func (k *keeper) replace(become func() error) error {
	answer := make(chan error, 1)
	select {
	case k.reloads <- reloading{become, answer}:
		return <-answer
	case <-k.done:
		return ErrNotMounted
	}
}

// current returns the worker.
func (k *keeper) current() *child {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.child
}
