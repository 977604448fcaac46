package mount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Probe mounts on dir in the way that rung names, looks at what the kernel offers
// and detaches: whether this process may mount depends on more than can be asked for.
func Probe(dir, rung string) (_ Kernel, err error) {
	d, err := attach(dir, access{}, rung)
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, d.detach(true), d.close()) }()
	return offer(d.fd)
}

// offerTimeout bounds the wait for the first request. The kernel queues it while it
// mounts.
const offerTimeout = time.Second

// minReadBuffer is what the kernel wants room for in a read (FUSE_MIN_READ_BUFFER).
const minReadBuffer = 8192

// offer reads the first request of a new mount.
func offer(fd int) (Kernel, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, int(offerTimeout.Milliseconds()))
	for err == unix.EINTR {
		n, err = unix.Poll(poll, int(offerTimeout.Milliseconds()))
	}
	if err != nil {
		return Kernel{}, fmt.Errorf("waiting for the kernel's first request: %w", err)
	}
	if n == 0 {
		return Kernel{}, fmt.Errorf("the kernel mounted and sent no request within %v", offerTimeout)
	}
	request := make([]byte, minReadBuffer)
	if n, err = unix.Read(fd, request); err != nil {
		return Kernel{}, fmt.Errorf("reading the kernel's first request: %w", err)
	}
	return parseOffer(request[:n])
}

// Of struct fuse_init_in, behind the header: offsets in the request. Flags2 came
// with version 7.36 and is 0 before.
const (
	offerMajor  = 40
	offerMinor  = 44
	offerFlags  = 52
	offerFlags2 = 56
)

func parseOffer(request []byte) (Kernel, error) {
	if len(request) < offerFlags2 {
		return Kernel{}, fmt.Errorf("the kernel's first request has %d bytes, want %d or more", len(request), offerFlags2)
	}
	field := func(offset int) uint32 { return binary.NativeEndian.Uint32(request[offset:]) }
	flags := uint64(field(offerFlags))
	if len(request) >= offerFlags2+4 {
		flags |= uint64(field(offerFlags2)) << 32
	}
	return Kernel{
		Major:         field(offerMajor),
		Minor:         field(offerMinor),
		Resend:        flags&fuse.CAP_HAS_RESEND != 0,
		NoOpen:        flags&fuse.CAP_NO_OPEN_SUPPORT != 0,
		NoOpenDir:     flags&fuse.CAP_NO_OPENDIR_SUPPORT != 0,
		CacheSymlinks: flags&fuse.CAP_CACHE_SYMLINKS != 0,
	}, nil
}
