package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Run runs a command until all its processes have ended, and asks what becomes of
// each call that changes something at or beneath dirs, which are absolute and no
// symlink leads to. It returns the calls that were asked about, and the error of
// the command, if that did not succeed. The command is made the leader of a process
// group.
func Run(ctx context.Context, c *exec.Cmd, dirs []string, answer func(Call) Answer) ([]Call, error) {
	listener, started, err := start(c)
	if err != nil {
		return nil, err
	}
	calls, err := serve(ctx, listener, dirs, answer)
	listener.Close() // whoever still asks is refused: nothing may wait for us
	if e := <-started; e != nil {
		return nil, e
	}
	if err != nil {
		return nil, errors.Join(err, syscall.Kill(-c.Process.Pid, syscall.SIGKILL), c.Wait())
	}
	return calls, c.Wait()
}

// start starts a command under a filter, whose listener it returns with what will
// tell that the command has started.
//
// A filter binds a thread and what it starts. So a thread takes the filter, starts
// the command and is never used again. It may itself call something that the
// filter asks about, so the listener is served from the first moment.
func start(c *exec.Cmd) (listener *os.File, started <-chan error, err error) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = new(syscall.SysProcAttr)
	}
	c.SysProcAttr.Setpgid = true
	type filtered struct {
		fd  int
		err error
	}
	ready, begun := make(chan filtered), make(chan error, 1)
	onThrowawayThread(func() {
		fd, err := listen()
		ready <- filtered{fd, err}
		if err == nil {
			begun <- c.Start()
		}
	})
	f := <-ready
	if f.err != nil {
		return nil, nil, f.err
	}
	return os.NewFile(uintptr(f.fd), "seccomp listener"), begun, nil
}

// onThrowawayThread has f run on a thread that ends with it.
func onThrowawayThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // without unlocking: the thread ends with the goroutine
		}
		// The main thread would be kept. While it is held here, f gets another.
		done := make(chan struct{})
		onThrowawayThread(func() {
			defer close(done)
			f()
		})
		<-done
		runtime.UnlockOSThread()
	}()
}

// listen has the kernel ask about all calls of the thread that may change a file,
// and returns the descriptor on which it asks.
func listen() (fd int, err error) {
	raw, err := bpf.Assemble(filter())
	if err != nil {
		return 0, err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // or root alone may
		return 0, err
	}
	// A signal must not interrupt a call that waits for its answer: Go's runtime
	// sends them all the time, and the call would be asked about again.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp with a listener (Linux 5.19 has it): %w", errno)
	}
	unix.CloseOnExec(int(listener))
	return int(listener), nil
}

// filter returns the program that has the changers asked about.
func filter() []bpf.Instruction {
	const number = 0 // offset in struct seccomp_data
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: number, Size: 4}}
	for call := range changers {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1},
			bpf.RetConstant{Val: unix.SECCOMP_RET_USER_NOTIF})
	}
	return append(program, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// What the kernel asks and is told: struct seccomp_notif and seccomp_notif_resp.
type (
	question struct {
		id     uint64
		thread uint32
		flags  uint32
		number uint32
		arch   uint32
		ip     uint64
		args   [6]uint64
	}
	response struct {
		id    uint64
		value int64
		errno int32 // negative
		flags uint32
	}
)

// serve answers until nobody is left who could ask.
func serve(ctx context.Context, listener *os.File, dirs []string, answer func(Call) Answer) (calls []Call, err error) {
	stop, stopped, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stop.Close()
	defer context.AfterFunc(ctx, func() { stopped.Close() })()
	fds := []unix.PollFd{{Fd: int32(listener.Fd()), Events: unix.POLLIN}, {Fd: int32(stop.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch events := fds[0].Revents; {
		case events&unix.POLLIN != 0:
			if calls, err = serveOne(listener, dirs, calls, answer); err != nil {
				return nil, err
			}
		case events&unix.POLLHUP != 0:
			return calls, nil
		}
	}
}

// serveOne answers one question. A thread that was killed meanwhile takes no
// answer, which is ENOENT.
func serveOne(listener *os.File, dirs []string, calls []Call, answer func(Call) Answer) ([]Call, error) {
	var q question
	if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&q)); errors.Is(err, unix.ENOENT) {
		return calls, nil
	} else if err != nil {
		return nil, fmt.Errorf("receiving a call: %w", err)
	}
	r := response{id: q.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if call, ok := thread(q.thread).look(q.number, q.args); ok && beneath(call.Path, dirs) {
		calls = append(calls, call)
		switch a := answer(call); {
		case a.Kill:
			return calls, kill(thread(q.thread))
		case a.Errno != 0:
			r.errno, r.flags = -int32(a.Errno), 0
		}
	}
	if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("answering a call: %w", err)
	}
	return calls, nil
}

// kill kills the command that a thread belongs to, the leader of its group, and
// the thread's own process, which waits for an answer. When it returns neither
// changes anything any more: nobody else's call is answered meanwhile.
func kill(t thread) error {
	leader, err := syscall.Getpgid(int(t))
	if err != nil {
		return err
	}
	own, err := t.process()
	if err != nil {
		return err
	}
	return errors.Join(killProcess(leader), killProcess(own))
}

// killProcess kills a process and waits until it has ended.
func killProcess(pid int) error {
	p, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(p)
		err = unix.PidfdSendSignal(p, syscall.SIGKILL, nil, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended
	}
	if err != nil {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}

// A thread is one that waits for an answer, by its id.
type thread int

// process returns the process that the thread is of.
func (t thread) process() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", int(t)))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// link returns where a link of the thread's folder in /proc leads, "" if there is
// none: an error of the program that the call itself will meet.
func (t thread) link(name string) string {
	to, _ := os.Readlink("/proc/" + strconv.Itoa(int(t)) + "/" + name)
	return to
}

// memory reads what the thread has at an address, up to the end of what is mapped.
func (t thread) memory(address uint64, p []byte) []byte {
	f, err := os.Open("/proc/" + strconv.Itoa(int(t)) + "/mem")
	if err != nil {
		return nil
	}
	defer f.Close()
	n, _ := f.ReadAt(p, int64(address)) // a bad address is the call's to refuse
	return p[:n]
}

func (t thread) string(address uint64) string {
	text, _, _ := bytes.Cut(t.memory(address, make([]byte, unix.PathMax)), []byte{0})
	return string(text)
}

func (t thread) uint64(address uint64) uint64 {
	p := t.memory(address, make([]byte, 8))
	if len(p) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(p)
}

// beneath reports whether path is one of dirs or stands in one.
func beneath(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		rest, ok := strings.CutPrefix(path, dir)
		return ok && (rest == "" || rest[0] == '/')
	})
}
