package overlay

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/view"
)

// Read fills buf, which is a part of the reply. Of a file that nobody has
// changed it is the view's READ.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f.mu.RLock()
	n := f.nodes[in.NodeId]
	f.mu.RUnlock()
	switch {
	case n == nil && !ofLower(in.NodeId):
		return nil, fuse.Status(syscall.ESTALE)
	case n == nil:
		return f.lower.Read(cancel, in, buf)
	case n.isDir():
		return nil, fuse.Status(syscall.EISDIR)
	}
	n.content.RLock()
	defer n.content.RUnlock()
	if !n.real {
		return f.lower.Read(cancel, in, buf)
	}
	o, err := f.file(n, false)
	if err != nil {
		return nil, f.errno("opening a file to read", err)
	}
	defer f.files.release(o)
	got, err := f.files.pread(o.fd, buf, int64(in.Offset))
	if err != nil {
		return nil, f.errno("reading", err)
	}
	return view.Filled(buf[:got]), fuse.OK
}
