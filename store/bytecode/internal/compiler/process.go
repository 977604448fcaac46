package compiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/store/confine"
)

// The status of a reply, as in compiler.py.
const (
	done      = 0
	failed    = 1
	exhausted = 2 // failed, for want of memory, Python says
)

// unbounded is the memory of a process on a system that lends more than it has.
const unbounded = 0

// A process is an interpreter that runs a script: its pipes and its end.
type process struct {
	cmd      *exec.Cmd
	requests *os.File // its standard input
	replies  *os.File // its descriptor 3
	stderr   *tail
	held     []string // how it is confined
	memory   uint64   // what it may map, in bytes, or unbounded

	ended chan struct{} // closed when it is gone and the two below are set
	state *os.ProcessState
	err   error // why there is no state
}

// command is how an interpreter is run: no site-packages, no .pth files, nothing
// written, no warnings. It is neither -I nor -E, which ignore PYTHONHASHSEED:
// without that the order of a set in the code is random.
func command(python, script string) *exec.Cmd {
	argv := limits([]string{python, "-s", "-S", "-B", "-X", "utf8", "-W", "ignore", "-c", script, strconv.Itoa(maxReply)})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PYTHONHASHSEED=0"}
	// Where an interpreter with a shared library finds it.
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.SysProcAttr = attributes()
	return cmd
}

// startProcess runs a command, confined by rules. Standard input and descriptor 3
// are the protocol's, the end of standard error is kept, standard output is dropped.
func startProcess(cmd *exec.Cmd, rules confine.Rules) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	stdin, requests, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	replies, fd3, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, requests.Close())
	}
	defer fd3.Close()
	said, stderr, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, requests.Close(), replies.Close())
	}
	defer stderr.Close()
	// Opened here: the thread that starts the process can't open it for writing.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(err, requests.Close(), replies.Close(), said.Close())
	}
	defer null.Close()

	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = stdin, null, stderr, []*os.File{fd3}
	p.requests, p.replies, p.stderr = requests, replies, keepTail(said)
	started := make(chan error)
	confine.Go(rules, func(held []string) { p.run(held, started) })
	if err := <-started; err != nil {
		close(p.ended)
		return nil, errors.Join(err, p.closePipes())
	}
	return p, nil
}

// run starts the process on a confined thread, which it inherits that from, and
// waits for its end: the kernel kills the process when that thread is gone.
func (p *process) run(held []string, started chan<- error) {
	p.held = held
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.state, p.err = p.cmd.Process.Wait()
	p.killGroup() // what a wrapper has left; a group that lives keeps its number
	close(p.ended)
	// What the process wrote is in the pipes; only a child that left the group
	// could keep their end open.
	deadline := time.Now().Add(parting)
	p.replies.SetReadDeadline(deadline)
	p.stderr.from.SetReadDeadline(deadline)
}

func (p *process) killGroup() { unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) }

// kill ends the process; p.ended tells when.
func (p *process) kill() {
	p.cmd.Process.Kill() // fails if it is gone, as wanted
}

// Dead reports whether the process has ended.
func (p *process) Dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Close kills the process and waits for its end.
func (p *process) Close() error {
	p.kill()
	<-p.ended
	return p.closePipes()
}

func (p *process) closePipes() error {
	return errors.Join(p.requests.Close(), p.replies.Close(), p.stderr.Close())
}

// Confined returns what holds the process back, in words, sorted; what this
// kernel can't do is missing.
func (p *process) Confined() []string { return p.held }

// request sends a source.
func (p *process) request(source []byte, name string, optimisation int) error {
	head := make([]byte, 0, 12+len(name))
	head = binary.LittleEndian.AppendUint32(head, uint32(optimisation))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(name)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(source)))
	head = append(head, name...)
	if _, err := p.requests.Write(head); err != nil {
		return err
	}
	_, err := p.requests.Write(source)
	return err
}

// reply reads one.
func (p *process) reply() (status byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(p.replies, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if head[0] > exhausted || n > maxReply {
		return 0, nil, fmt.Errorf("it answers %q, which is no reply", head)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.replies, payload)
	return head[0], payload, err
}
