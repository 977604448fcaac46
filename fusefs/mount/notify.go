package mount

import (
	"encoding/binary"
	"errors"
	"sync"
	"syscall"
)

// A Notifier tells the kernel to forget what it has kept. It waits for what the kernel
// is at with the file or folder, which may be a request to this worker: so it is
// called by goroutines that answer none and hold nothing that one needs. Before the
// worker serves they wait until it does.
type Notifier struct {
	begun chan struct{} // closed when device is set
	once  sync.Once

	device int
}

func newNotifier() *Notifier { return &Notifier{begun: make(chan struct{})} }

// begin has what waits go on.
func (n *Notifier) begin(device int) {
	n.once.Do(func() {
		n.device = device
		close(n.begun)
	})
}

// Notifications are replies to nobody, with their kind in the place of the error
// (linux/fuse.h).
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyResend     = 7

	outHeaderSize = 16 // struct fuse_out_header: len u32, error i32, unique u64
)

// Inode has the kernel forget a node's attributes and content. What is dirty it writes
// first.
func (n *Notifier) Inode(node uint64) error {
	b := notification(notifyInvalInode, 24) // struct fuse_notify_inval_inode_out: ino u64, off i64, len i64
	binary.NativeEndian.PutUint64(b[outHeaderSize:], node)
	return n.send(b)
}

// Entry has the kernel forget what the name in the folder parent stands for, or that
// it stands for nothing, and what the folder lists.
func (n *Notifier) Entry(parent uint64, name string) error {
	b := notification(notifyInvalEntry, 16+len(name)+1) // struct fuse_notify_inval_entry_out: parent u64, namelen u32, flags u32; the name, a NUL
	binary.NativeEndian.PutUint64(b[outHeaderSize:], parent)
	binary.NativeEndian.PutUint32(b[outHeaderSize+8:], uint32(len(name)))
	copy(b[outHeaderSize+16:], name)
	return n.send(b)
}

// notification returns a notification of which size bytes are to be filled in.
func notification(kind uint32, size int) []byte {
	b := make([]byte, outHeaderSize+size)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], kind)
	return b
}

// send sends a notification. It is no error that the kernel knows nothing of what it
// is about, or has no mount any more.
func (n *Notifier) send(b []byte) error {
	<-n.begun
	for {
		_, err := syscall.Write(n.device, b)
		switch {
		case err == syscall.EINTR:
			continue
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV):
			return nil
		}
		return err
	}
}
