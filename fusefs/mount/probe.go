package mount

import "fmt"

// A Kernel is what the kernel offers to a FUSE file system, as its first request
// (FUSE_INIT) says.
type Kernel struct {
	Major, Minor uint32 // of the protocol

	// Resend: what a worker that died has not answered is sent again.
	Resend bool

	// NoOpen and NoOpenDir: files and folders are opened without a request.
	NoOpen, NoOpenDir bool

	// CacheSymlinks: where a link leads is asked once.
	CacheSymlinks bool
}

// Protocol is the version of the protocol.
func (k Kernel) Protocol() string { return fmt.Sprintf("%d.%d", k.Major, k.Minor) }
