package mount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The supervisor and its worker talk over a socketpair (SOCK_SEQPACKET), a JSON
// object a message. Descriptors travel with the message that names them.

type kind string

const (
	kindStart  kind = "start"  // to the worker: get ready; with a Reason, to serve nothing. Files: memory, rescue; conn and end if there is a companion; those of the mount
	kindGo     kind = "go"     // to the worker: serve; no other does. Files: device
	kindPark   kind = "park"   // to the worker: finish what you are at, and end
	kindReport kind = "report" // to the worker: what has the status to show; and its answer
	kindReady  kind = "ready"  // from the worker: what it serves is open, or with Turn what can be before go
	kindBegun  kind = "begun"  // from the worker: the rest is open, and it serves
	kindRefuse kind = "refuse" // from the worker: it can't serve, because of Reason
	kindInited kind = "inited" // from the worker: the kernel and it have agreed
	kindNotify kind = "notify" // from the worker: tell the kernel; with Known, and say whether it knew
	kindKnown  kind = "known"  // to the worker: the answer to that
	kindLost   kind = "lost"   // from the worker: what it serves is gone from its place; said once
	kindHeld   kind = "held"   // from a worker without a supervisor. Files: all of these
)

// Names of descriptors.
const (
	fileMemory = "memory" // see package shared
	fileDevice = "device" // of the mount
	fileConn   = "conn"   // the file system's end of the socket to the companion
	fileEnd    = "end"    // the companion's
	fileRescue = "rescue" // see listenRescue
)

// fileOfMount returns the name of one of the mount's files; see [Config].
func fileOfMount(i int) string { return "file" + strconv.Itoa(i) }

// filesOfMount returns those that there are, in their order.
func filesOfMount(files map[string]*os.File) []*os.File {
	var list []*os.File
	for files[fileOfMount(len(list))] != nil {
		list = append(list, files[fileOfMount(len(list))])
	}
	return list
}

type message struct {
	Kind   kind     `json:"kind"`
	Files  []string `json:"files,omitempty"` // names of the descriptors that come with it
	Reason string   `json:"reason,omitempty"`

	// Writable is for start: see [Config].
	Writable bool `json:"writable,omitempty"`

	// Resend is for go: a worker has died, or has left requests behind.
	Resend bool `json:"resend,omitempty"`

	// Turn is for ready: begun, or refuse, follows on go.
	Turn bool `json:"turn,omitempty"`

	// Confined is for ready: what confines the worker.
	Confined []string `json:"confined,omitempty"`

	// Notification is for notify: what to write to the device.
	Notification []byte `json:"notification,omitempty"`
	Known        bool   `json:"known,omitempty"`

	// Nodes is for report, the question: those whose paths are wanted. The rest is for
	// the answer: see [Worker]; Paths has those of the first nodes.
	Nodes     []uint64        `json:"nodes,omitempty"`
	Paths     []string        `json:"paths,omitempty"`
	Report    json.RawMessage `json:"report,omitempty"`
	LastError string          `json:"last_error,omitempty"`
}

// maxLinkMessage bounds a message: a report is some kilobytes.
const maxLinkMessage = 64 << 10

// maxFiles is how many descriptors a message may bring.
const maxFiles = 16

// link is one end of the socket between a supervisor and a worker.
type link struct{ conn *net.UnixConn }

// newLink returns both ends; theirs is for another process.
func newLink() (ours *link, theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "control")
	if ours, err = openLink(pair[0]); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// openLink returns the link whose descriptor is fd, which it takes over.
func openLink(fd int) (*link, error) {
	f := os.NewFile(uintptr(fd), "control")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the control socket is a %s, want a unix socket", c.LocalAddr().Network()), c.Close())
	}
	return &link{u}, nil
}

// close closes the link, once or more often.
func (l *link) close() error {
	err := l.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// send sends a message and the descriptors that it names.
func (l *link) send(m message, fds ...int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxLinkMessage {
		return fmt.Errorf("a %s message of %d bytes, want at most %d", m.Kind, len(b), maxLinkMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = l.conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receive returns the next message and its descriptors by name, which the caller
// closes. They are closed on exec.
func (l *link) receive() (message, map[string]*os.File, error) {
	b := make([]byte, maxLinkMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, on, _, _, err := l.conn.ReadMsgUnix(b, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return message{}, nil, err
	}
	fds, err := rights(oob[:on])
	if err != nil {
		return message{}, nil, err
	}
	var m message
	if err = json.Unmarshal(b[:n], &m); err == nil && len(fds) != len(m.Files) {
		err = fmt.Errorf("a %s message with %d descriptors, want %q", m.Kind, len(fds), m.Files)
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return message{}, nil, err
	}
	files := make(map[string]*os.File)
	for i, name := range m.Files {
		files[name] = os.NewFile(uintptr(fds[i]), name)
	}
	return m, files, nil
}

// rights returns the descriptors in a control message.
func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}
