package mount

import (
	"encoding/binary"
	"math"
)

// A Notifier tells the kernel to forget what it has kept. It returns when the kernel
// is asked, not when it has forgotten: for that it waits until what is at the file or
// folder is answered. Before the worker serves the methods wait until it does, so they
// are called by goroutines that answer no request. What is asked for when the worker
// dies may be lost.
type Notifier struct {
	begun chan struct{} // closed when the worker serves
	send  func(notification []byte) error
	ask   func(notification []byte) (known bool, err error)
}

// begin has what waits go on. It is called once.
func (n *Notifier) begin() { close(n.begun) }

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
	<-n.begun
	return n.send(b)
}

// Known reports whether the kernel knows a node, whose attributes it then forgets. A
// node that it doesn't know and no name leads to it will never ask for again.
func (n *Notifier) Known(node uint64) (bool, error) {
	b := notification(notifyInvalInode, 24)
	binary.NativeEndian.PutUint64(b[outHeaderSize:], node)
	const attributes = math.MaxUint64 // -1, an offset that leaves the content alone
	binary.NativeEndian.PutUint64(b[outHeaderSize+8:], attributes)
	<-n.begun
	return n.ask(b)
}

// Entry has the kernel forget what the name in the folder parent stands for, or that
// it stands for nothing, and what the folder lists.
func (n *Notifier) Entry(parent uint64, name string) error {
	b := notification(notifyInvalEntry, 16+len(name)+1) // struct fuse_notify_inval_entry_out: parent u64, namelen u32, flags u32; the name, a NUL
	binary.NativeEndian.PutUint64(b[outHeaderSize:], parent)
	binary.NativeEndian.PutUint32(b[outHeaderSize+8:], uint32(len(name)))
	copy(b[outHeaderSize+16:], name)
	<-n.begun
	return n.send(b)
}

// notification returns a notification of which size bytes are to be filled in.
func notification(kind uint32, size int) []byte {
	b := make([]byte, outHeaderSize+size)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[4:], kind)
	return b
}
