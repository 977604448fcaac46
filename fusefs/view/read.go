package view

import (
	"fmt"
	"io"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/tree"
)

// Read fills buf, which is a part of the reply.
func (f *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	id, v := f.split(in.NodeId)
	a, err := f.tree.Stat(id)
	if err != nil {
		return nil, f.status("reading", id, err)
	}
	var n int
	switch {
	case v != itself:
		n, err = f.readVariant(in, v, id, &a, buf)
	case a.Kind == tree.File:
		n, err = f.readBlob(&a, buf, in.Offset)
	case a.Kind == tree.Inline, a.Kind == tree.Template:
		n, err = f.readBytes(id, buf, in.Offset)
	case a.Kind == tree.Dir:
		return nil, fuse.Status(syscall.EISDIR)
	default:
		return nil, fuse.EINVAL
	}
	if err != nil {
		return nil, f.status("reading", id, err)
	}
	return Filled(buf[:n]), fuse.OK
}

// readBlob reads from the blob that holds a's content.
func (f *FS) readBlob(a *tree.Attr, buf []byte, off uint64) (int, error) {
	fd, err := f.blobs.OpenBlob(a.Digest)
	if err != nil {
		return 0, fmt.Errorf("opening blob %s: %w", a.Digest, err)
	}
	n, err := readFile(fd, a.Size, buf, off)
	if err != nil {
		return 0, fmt.Errorf("reading blob %s: %d bytes at %d of %d: %w", a.Digest, n, off, a.Size, err)
	}
	return n, nil
}

// readFile reads what the first size bytes of fd, which it closes, have at off.
// Less than size promises is an error: the kernel would make zeroes of it.
func readFile(fd int, size int64, buf []byte, off uint64) (n int, err error) {
	if off < uint64(size) {
		n, err = preadFull(fd, buf[:min(uint64(len(buf)), uint64(size)-off)], int64(off))
	}
	if cerr := syscall.Close(fd); err == nil {
		err = cerr
	}
	return n, err
}

// preadFull fills buf; a file that ends before is io.ErrUnexpectedEOF.
func preadFull(fd int, buf []byte, off int64) (int, error) {
	done := 0
	for done < len(buf) {
		n, err := syscall.Pread(fd, buf[done:], off+int64(done))
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, io.ErrUnexpectedEOF
		default:
			done += n
		}
	}
	return done, nil
}

// readBytes reads what the tree itself holds.
func (f *FS) readBytes(id tree.ID, buf []byte, off uint64) (int, error) {
	b, err := f.tree.Bytes(id)
	if err != nil || off >= uint64(len(b)) {
		return 0, err
	}
	return copy(buf, b[off:]), nil
}

// filled is the result of a read whose bytes already lie in the reply. It is
// reused, where fuse.ReadResultData would be a new object for each request.
type filled struct{ b []byte }

var fills = sync.Pool{New: func() any { return new(filled) }}

// Filled returns the result of a read whose bytes lie in the reply already, as
// they do in a part of the buffer that READ is given. It makes no object for it.
func Filled(b []byte) fuse.ReadResult {
	r := fills.Get().(*filled)
	r.b = b
	return r
}

// Size returns the number of bytes read.
func (r *filled) Size() int { return len(r.b) }

// Bytes returns the bytes where they are.
func (r *filled) Bytes([]byte) ([]byte, fuse.Status) { return r.b, fuse.OK }

// Readv puts the bytes into dst, which is where they are already unless the
// reply is scattered. go-fuse's ProtocolServer takes this way.
func (r *filled) Readv(dst [][]byte) (int, fuse.Status) {
	if len(dst) == 1 && len(r.b) > 0 && len(dst[0]) == len(r.b) && &dst[0][0] == &r.b[0] {
		return len(r.b), fuse.OK
	}
	n := 0
	for _, d := range dst {
		n += copy(d, r.b[n:])
	}
	return n, fuse.OK
}

// Done gives the result back.
func (r *filled) Done() {
	r.b = nil
	fills.Put(r)
}
