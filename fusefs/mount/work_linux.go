package mount

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// controlFD is the worker's end of the link, in the worker.
const controlFD = 3

// parkGrace is how long a worker that is to end may take to finish what can't be
// interrupted. It is sent again to its successor.
const parkGrace = time.Second

// Work is the whole life of a worker: it opens what it is to serve, answers the
// kernel until the mount has ended or another takes over, and returns. It is
// called in the process that [Config.Worker] starts; the error is for the log.
//
// Open returns what is served. Where it can't, the supervisor is told why. While it
// runs another worker may serve, unless it says when it is to be its turn.
//
// Confined lists what confines the process, for the status.
func Work(ctx context.Context, confined []string, open func(Session) (Worker, error)) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	runtime.GOMAXPROCS(min(maxProcs, runtime.NumCPU()))
	unix.CloseOnExec(controlFD)
	control, err := openLink(controlFD)
	if err != nil {
		return fmt.Errorf("this command is started by sitefs itself, not by hand: %w", err)
	}
	defer control.close()
	h := &hand{control: control, confined: confined, known: make(chan bool), orphaned: make(chan struct{})}
	h.notifier = &Notifier{begun: make(chan struct{}), send: h.notify, ask: h.ask}
	err = h.prepare(open)
	if errors.Is(err, errNotNeeded) {
		return nil
	}
	if err != nil {
		return errors.Join(err, control.send(message{Kind: kindRefuse, Reason: err.Error()}))
	}
	return h.serve(ctx)
}

// errNotNeeded is a worker that is never told to serve: another does, or the mount has
// gone.
var errNotNeeded = errors.New("this worker is not needed")

// hand is a worker process.
type hand struct {
	control  *link
	confined []string
	files    map[string]*os.File // what it holds, beside the device for its supervisor
	memory   *shared.Memory
	notifier *Notifier
	served   Worker
	worker   *worker

	asking   sync.Mutex    // held while the supervisor is asked what the kernel knows
	known    chan bool     // its answer
	orphaned chan struct{} // closed when the supervisor was killed

	told   bool // it is its turn
	resend bool // and there may be what another has not answered
}

// prepare opens what is served, has it agree with what an earlier worker and the
// kernel have agreed on, and returns when it is to serve.
func (h *hand) prepare(open func(Session) (Worker, error)) error {
	m, files, err := h.control.receive()
	if err != nil {
		return err
	}
	if m.Kind != kindStart || files[fileMemory] == nil {
		return fmt.Errorf("the first message is %q with %q, want %q with %q: the supervisor is of another version of sitefs", m.Kind, m.Files, kindStart, fileMemory)
	}
	h.files = files
	if h.memory, err = shared.Open(files[fileMemory]); err != nil {
		return err
	}
	if h.worker, err = newWorker(h.memory, m.Writable, log.Default()); err != nil {
		return err
	}
	if m.Reason != "" {
		h.served, h.worker.standIn = standIn(m.Reason), true
	} else if h.served, err = open(h.session()); err != nil {
		return err
	}
	h.worker.describe, h.worker.giveBack = h.served.Describe, h.served.Idle
	if err := h.worker.offer(h.served.FS); err != nil {
		return err
	}
	if h.told {
		if err := h.control.send(message{Kind: kindBegun}); err != nil {
			log.Printf("telling the supervisor: %v", err) // it was killed; the mount is served on
		}
		return nil
	}
	return h.await(message{Kind: kindReady, Confined: h.confined})
}

func (h *hand) session() Session {
	return Session{
		Conn:     h.files[fileConn],
		Area:     h.memory.Area(),
		Files:    filesOfMount(h.files),
		Turn:     h.turn,
		Progress: h.memory.NoteProgress,
		Notify:   h.notifier,
	}
}

// turn is [Session.Turn]. Whether another program may serve at all doesn't depend on
// what it serves, and is found out while the predecessor still does.
func (h *hand) turn() error {
	if h.told {
		return errors.New("this worker has had its turn")
	}
	if err := h.worker.offer(fuse.NewDefaultRawFileSystem()); err != nil {
		return err
	}
	return h.await(message{Kind: kindReady, Confined: h.confined, Turn: true})
}

// await tells the supervisor that the worker is ready, and returns when it is to serve.
func (h *hand) await(ready message) error {
	if err := h.control.send(ready); err != nil {
		return err
	}
	m, files, err := h.control.receive()
	if err != nil {
		return errNotNeeded
	}
	if m.Kind != kindGo || files[fileDevice] == nil {
		return fmt.Errorf("the second message is %q with %q, want %q with %q", m.Kind, m.Files, kindGo, fileDevice)
	}
	h.files[fileDevice] = files[fileDevice]
	h.told, h.resend = true, m.Resend
	return nil
}

// standIn is served where nothing can be, for that reason: no request gets as far
// as the file system.
func standIn(reason string) Worker {
	return Worker{
		FS:        fuse.NewDefaultRawFileSystem(),
		LastError: func() string { return "nothing can be served: " + reason },
	}
}

// serve answers the kernel.
func (h *hand) serve(ctx context.Context) error {
	w := h.worker
	go w.run(int(h.files[fileDevice].Fd()), h.resend)
	h.notifier.begin()
	parked := make(chan struct{})
	go h.obey(parked)
	if h.served.Lost != nil {
		go h.search()
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	case <-parked:
	}
	return h.park()
}

// obey does what the supervisor says until it says to park.
func (h *hand) obey(parked chan<- struct{}) {
	select {
	case <-h.worker.inited:
		if err := h.control.send(message{Kind: kindInited}); err != nil {
			log.Printf("telling the supervisor: %v", err)
		}
	case <-h.worker.done:
		return
	}
	for {
		m, _, err := h.control.receive()
		switch {
		case err != nil:
			// The supervisor was killed; the mount is served on.
			close(h.orphaned)
			go h.alone()
			if err := h.leave(); err != nil {
				log.Printf("no supervisor can take over: %v", err)
				return
			}
			close(parked)
			return
		case m.Kind == kindPark:
			close(parked)
			return
		case m.Kind == kindReport:
			h.report(m.Nodes)
		case m.Kind == kindKnown:
			select {
			case h.known <- m.Known:
			case <-h.worker.done:
			}
		}
	}
}

func (h *hand) report(nodes []uint64) {
	m := message{Kind: kindReport, Paths: h.worker.paths(nodes)}
	if h.served.Report != nil {
		m.Report = h.served.Report()
	}
	if h.served.LastError != nil {
		m.LastError = h.served.LastError()
	}
	if err := h.control.send(m); err != nil {
		log.Printf("reporting to the supervisor: %v", err)
	}
}

// notify has the supervisor notify the kernel. A thread that waits for the kernel there
// can't be killed, and what it waits for may be an answer of this worker: it would
// never be dead, and none would take its place.
func (h *hand) notify(notification []byte) error {
	if err := h.control.send(message{Kind: kindNotify, Notification: notification}); err != nil {
		return fmt.Errorf("asking the supervisor to notify the kernel: %w", err)
	}
	return nil
}

// ask notifies the kernel as notify does, and returns whether it knew of the node.
func (h *hand) ask(notification []byte) (known bool, err error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	if err := h.control.send(message{Kind: kindNotify, Notification: notification, Known: true}); err != nil {
		return false, fmt.Errorf("asking the supervisor what the kernel knows: %w", err)
	}
	select {
	case known := <-h.known:
		return known, nil
	case <-h.orphaned:
		return false, errors.New("the supervisor was killed when it was asked what the kernel knows")
	case <-h.worker.done:
		return false, errors.New("the mount has ended")
	}
}

// search tells the supervisor when a request has failed because what is served is
// gone from its place.
func (h *hand) search() {
	for {
		select {
		case <-h.worker.done:
			return
		case <-h.worker.faults:
		}
		if !h.served.Lost() {
			continue
		}
		// Without a supervisor nobody can do anything about it; the next one starts
		// a worker of its own.
		if err := h.control.send(message{Kind: kindLost}); err != nil {
			log.Printf("telling the supervisor that what is served is gone: %v", err)
		}
		return
	}
}

// park ends the readers.
func (h *hand) park() error {
	h.worker.park(parkGrace)
	select {
	case <-h.worker.done:
		return h.worker.err
	default:
		return nil
	}
}
