package mount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount/internal/shared"
)

// A supervisor is replaced by exec: the process stays, and with it the worker as
// its child. What it knows and holds goes to the next program as an estate.

// estateVersion changes when the meaning of a field does. A program that finds
// another ends, and the worker is rescued.
const estateVersion = 1

// estate is what a supervisor leaves to the program that it becomes. Numbers named
// so are descriptors.
type estate struct {
	Version   int           `json:"version"`
	Keep      time.Duration `json:"keep"`
	Held      bool          `json:"held"`
	RemoveDir bool          `json:"remove_dir"`
	Made      string        `json:"made"`
	Number    uint64        `json:"number"` // st_dev
	Since     time.Time     `json:"since"`
	Rescued   bool          `json:"rescued,omitempty"`
	Leases    []estateLease `json:"leases"`
	WorkerPID int           `json:"worker_pid"`
	Confined  []string      `json:"confined"`

	Device  int `json:"device_fd"`
	Socket  int `json:"socket_fd"`
	Memory  int `json:"memory_fd"`
	Rescue  int `json:"rescue_fd"`
	Control int `json:"control_fd"`
	Client  int `json:"client_fd"` // waits for the reply to reload
	Conn    int `json:"conn_fd"`   // and End: 0 without a companion
	End     int `json:"end_fd"`

	Files []int `json:"file_fds,omitempty"` // see [Config]
}

type estateLease struct {
	FD      int     `json:"fd"`
	Process Process `json:"process"`
}

// become replaces the program of this process by the one now on disk. It returns
// only when it can't. It is called by the keeper, so that no worker comes or goes
// meanwhile; client gets its reply from the next program.
func (s *supervisor) become(client *net.UnixConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper.companion != nil {
		defer s.keeper.companion.hold()()
	}
	var kept kept
	defer kept.close()
	e := estate{
		Version:   estateVersion,
		Keep:      s.Keep,
		Held:      s.Held,
		RemoveDir: s.RemoveDir,
		Made:      s.dev.rung(),
		Number:    s.number,
		Since:     s.since,
		Rescued:   s.rescued,
		WorkerPID: s.keeper.child.process.Pid,
		Confined:  s.keeper.child.confined,
		Device:    kept.dup(s.dev.fd),
		Socket:    kept.dupConn(s.socket),
		Memory:    kept.dup(int(s.keeper.file.Fd())),
		Rescue:    kept.dup(int(s.keeper.rescue.Fd())),
		Control:   kept.dupConn(s.keeper.child.link.conn),
		Client:    kept.dupConn(client),
	}
	if c := s.keeper.companion; c != nil {
		e.Conn, e.End = kept.dup(int(c.conn.Fd())), kept.dup(int(c.end.Fd()))
	}
	for _, f := range s.keeper.files {
		e.Files = append(e.Files, kept.dup(int(f.Fd())))
	}
	for c, p := range s.leases {
		e.Leases = append(e.Leases, estateLease{kept.dupConn(c), p})
	}
	will, err := e.write()
	if err != nil {
		return err
	}
	defer will.Close()
	fd := kept.dup(int(will.Fd()))
	if kept.err != nil {
		return kept.err
	}
	command := serverCommand()
	if command == nil {
		return errors.New("the path of this program is not known")
	}
	env := append(cleanEnv(os.Environ()), stageVar+"="+stageReplaced+strconv.Itoa(fd))
	return fmt.Errorf("%s: %w", command[0], syscall.Exec(command[0], command, env))
}

// write returns a file that holds the estate.
func (e *estate) write() (*os.File, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("sitefs-estate", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "estate")
	if _, err := f.WriteAt(b, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// kept are copies of descriptors that survive exec.
type kept struct {
	fds []int
	err error // the first
}

func (k *kept) dup(fd int) int {
	// Not among those of the stages of a start, nor 0, which means none.
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, socketFD+1)
	if err != nil {
		k.err = errors.Join(k.err, fmt.Errorf("keeping descriptor %d over exec: %w", fd, err))
		return 0
	}
	k.fds = append(k.fds, dup)
	return dup
}

func (k *kept) dupConn(c syscall.Conn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		k.err = errors.Join(k.err, err)
		return 0
	}
	var dup int
	if err := raw.Control(func(fd uintptr) { dup = k.dup(int(fd)) }); err != nil {
		k.err = errors.Join(k.err, err)
	}
	return dup
}

func (k *kept) close() {
	for _, fd := range k.fds {
		unix.Close(fd)
	}
}

// inherited returns the estate of the program that this process was before, nil
// if it was none.
func inherited() (*estate, error) {
	number, ok := strings.CutPrefix(os.Getenv(stageVar), stageReplaced)
	if !ok {
		return nil, nil
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stageVar, err)
	}
	f := os.NewFile(uintptr(fd), "estate")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var e estate
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("the estate of the supervisor: %w", err)
	}
	if e.Version != estateVersion {
		return nil, fmt.Errorf("the estate of the supervisor has version %d, want %d", e.Version, estateVersion)
	}
	own := []int{e.Device, e.Socket, e.Memory, e.Rescue, e.Control, e.Client, e.Conn, e.End}
	for _, fd := range slices.Concat(own, e.Files, e.leaseFDs()) {
		if fd > 0 {
			unix.CloseOnExec(fd)
		}
	}
	return &e, nil
}

func (e *estate) leaseFDs() []int {
	var fds []int
	for _, l := range e.Leases {
		fds = append(fds, l.FD)
	}
	return fds
}

// supervisor returns the supervisor that goes on.
func (e *estate) supervisor(c Config) (*supervisor, error) {
	var err error
	if c.Dir, err = resolve(c.Dir); err != nil {
		return nil, err
	}
	c.Keep, c.Held, c.RemoveDir = e.Keep, e.Held, e.RemoveDir
	state, err := StateDir(c.Dir)
	if err != nil {
		return nil, err
	}
	h, err := newHome(state)
	if err != nil {
		return nil, err
	}
	socket, err := listenerOf(e.Socket)
	if err != nil {
		return nil, err
	}
	k, err := e.keeper(c)
	if err != nil {
		return nil, err
	}
	s := newSupervisor(c, &device{dir: c.Dir, fd: e.Device, made: e.Made}, e.Number, k, socket, h)
	s.since, s.rescued = e.Since, e.Rescued
	for _, l := range e.Leases {
		if err := s.inherit(l); err != nil {
			return nil, err
		}
	}
	if len(e.Leases) > 0 || e.Held {
		s.timer.Stop()
	} else {
		s.timer.Reset(e.Keep)
	}
	k.fd, k.answered = e.Device, k.memory.Answered()
	go k.run()
	e.reply()
	return s, nil
}

// keeper returns the keeper, with the worker that it has.
func (e *estate) keeper(c Config) (*keeper, error) {
	k := newKeeperOf(c)
	k.file, k.rescue = os.NewFile(uintptr(e.Memory), fileMemory), os.NewFile(uintptr(e.Rescue), fileRescue)
	var err error
	if k.memory, err = shared.Open(k.file); err != nil {
		return nil, err
	}
	for i, fd := range e.Files {
		k.files = append(k.files, os.NewFile(uintptr(fd), fileOfMount(i)))
	}
	if e.Conn > 0 && e.End > 0 {
		// Kept from the runtime's poller, as in newCompanion.
		if err := errors.Join(unix.SetNonblock(e.Conn, false), unix.SetNonblock(e.End, false)); err != nil {
			return nil, err
		}
		k.companion = companionOn(c.Companion, os.NewFile(uintptr(e.End), "companion"), os.NewFile(uintptr(e.Conn), "companion"))
		if err := errors.Join(unix.SetNonblock(e.Conn, true), unix.SetNonblock(e.End, true)); err != nil {
			return nil, err
		}
		go k.companion.run()
	}
	control, err := openLink(e.Control)
	if err != nil {
		return nil, err
	}
	process, err := os.FindProcess(e.WorkerPID)
	if err != nil {
		return nil, err
	}
	k.child = k.watch(process, control)
	k.child.confined = e.Confined
	return k, nil
}

// inherit goes on with a lease.
func (s *supervisor) inherit(l estateLease) error {
	c, err := connOf(l.FD)
	if err != nil {
		return err
	}
	s.leases[c] = l.Process
	go func() {
		s.room <- struct{}{}
		defer func() { <-s.room }()
		defer c.Close()
		_, _ = c.Read(make([]byte, 1)) // as in serve
		s.release(c)
	}()
	return nil
}

// reply tells who asked for the reload that it was done.
func (e *estate) reply() {
	c, err := connOf(e.Client)
	if err == nil {
		err = errors.Join(send(c, reply{Outcome: outcomeOK}), c.Close())
	}
	if err != nil {
		log.Printf("answering the reload: %v", err)
	}
}

func connOf(fd int) (*net.UnixConn, error) {
	l, err := openLink(fd)
	if err != nil {
		return nil, err
	}
	return l.conn, nil
}
