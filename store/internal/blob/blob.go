// Package blob keeps files that are named by the digest of their bytes, and
// writes every file of the store that must never be wrong.
//
// A name that exists is complete, on stable storage and never rewritten: who
// reads it checks nothing. To keep that, a file is written into a staging
// folder, made durable there, and only then given its name; see [Batch].
//
// The package never hashes. Its callers hand it bytes together with a digest
// that they have checked.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// dirMode and fileMode belong to a store that is private by its top directory:
// nothing beneath it needs to hide, and nothing is ever written twice.
const (
	dirMode  = 0o755
	fileMode = 0o444
)

// Path returns the name of a blob relative to the folder of blobs: "ab/cdef…".
// Two digits make 256 folders, which keeps each small enough to be listed for
// stores of millions of files.
func Path(sum digest.Digest) string {
	var b [1 + 2*digest.Size]byte
	hex.Encode(b[1:], sum[:])
	b[0], b[1], b[2] = b[1], b[2], '/'
	return string(b[:])
}

// A Dir is the folder of blobs, kept open.
type Dir struct {
	f *os.File
}

// OpenDir opens the folder of blobs at path.
func OpenDir(path string) (*Dir, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Stat describes the folder that is open.
func (d *Dir) Stat() (fs.FileInfo, error) { return d.f.Stat() }

// Close closes the folder. Blobs that are open stay so.
func (d *Dir) Close() error { return d.f.Close() }

// Open opens a blob for reading and returns its descriptor, which is
// close-on-exec and the caller's. A blob that is not there is [fs.ErrNotExist].
func (d *Dir) Open(sum digest.Digest) (fd int, err error) {
	path := Path(sum)
	for {
		fd, err = unix.Openat(int(d.f.Fd()), path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &fs.PathError{Op: "open", Path: d.f.Name() + "/" + path, Err: err}
		}
	}
}

// Read returns the bytes of a blob.
func (d *Dir) Read(sum digest.Digest) ([]byte, error) {
	fd, err := d.Open(sum)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.f.Name()+"/"+Path(sum))
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %q: %w", f.Name(), err)
	}
	return b, nil
}

// Size returns the size of a blob in bytes, and whether it is there.
func (d *Dir) Size(sum digest.Digest) (size int64, ok bool, err error) {
	path := Path(sum)
	var st unix.Stat_t
	err = unix.Fstatat(int(d.f.Fd()), path, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, &fs.PathError{Op: "stat", Path: d.f.Name() + "/" + path, Err: err}
	}
	return st.Size, true, nil
}
