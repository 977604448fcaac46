package bytecode

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// lockName is the file in a version's folder that [locks] are taken on.
const lockName = "lock"

// A Cache is the entries of one version. Its methods may be called concurrently,
// by any number of processes.
type Cache struct {
	version Version
	name    []byte // of the version
	magic   [4]byte
	dir     string // of the version's entries; made by the first writer
	blobs   Blobs
}

// Open returns the cache of a version below dir. It touches no disk: a folder that
// isn't there is an empty cache, and is made when something is written.
func Open(dir string, v Version, blobs Blobs) (*Cache, error) {
	magic, err := v.check()
	if err != nil {
		return nil, err
	}
	return &Cache{version: v, name: []byte(v.String()), magic: magic, dir: filepath.Join(dir, v.String()), blobs: blobs}, nil
}

// path returns where an entry is.
func (c *Cache) path(k key) string {
	var b [1 + 2*digest.Size]byte
	hex.Encode(b[1:], k.source[:])
	b[0], b[1], b[2] = b[1], b[2], '/'
	return c.dir + "/" + string(b[:]) + suffixes[k.opt]
}

// suffixes mirror what Python appends to the names of .pyc files.
var suffixes = [maxOpt + 1]string{"", ".opt-1", ".opt-2"}

// find returns the entry of a source if it is whole and the source is still there:
// what was set aside as damaged keeps no bytecode.
func (c *Cache) find(s *Source, opt int) (entry, bool) {
	fd, err := open(c.path(key{s.Digest, opt}))
	if err != nil {
		return entry{}, false
	}
	ch := checkers.Get().(*checker)
	e, ok := ch.check(fd, c.name, c.magic, s, opt)
	checkers.Put(ch)
	unix.Close(fd)
	return e, ok && c.hasSource(s.Digest)
}

func (c *Cache) hasSource(d digest.Digest) bool {
	fd, err := c.blobs.OpenBlob(d)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// open opens the .pyc file of a source that [Cache.find] has found before, with
// that stamp, and reads no more of it than its trailer. It begins at the
// descriptor's first byte and has size bytes; what follows is none of it. Where
// the entry is gone or has been made anew since, the error is [fs.ErrNotExist]:
// two compilations of a source may differ (marshal, co_filename), and a reader
// must not get a part of each.
func (c *Cache) open(k key, found uint16) (fd int, size int64, err error) {
	path := c.path(k)
	fd, err = open(path)
	if err != nil {
		return -1, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return -1, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	var t [trailerSize]byte
	size = st.Size - trailerSize
	if size < headerSize || !readFull(fd, t[:], size) || string(t[:headSize]) != entryMagic+string([]byte{byte(kindCode), byte(k.opt)}) || stamp(t[:]) != found {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("%q is not what it was when it was found: %w", path, fs.ErrNotExist)
	}
	return fd, size, nil
}

func open(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// put makes an entry in the place of what may be there. It is written as aside
// first, a name on the cache's file system that nobody else uses.
func (c *Cache) put(aside string, k key, kind kind, payload []byte) error {
	data := append(payload, trailer(c.name, k, kind, payload)...)
	if err := os.WriteFile(aside, data, 0o444); err != nil {
		return errors.Join(err, removeAside(aside))
	}
	path := c.path(k)
	err := os.Rename(aside, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.Rename(aside, path)
		}
	}
	if err != nil {
		return errors.Join(err, removeAside(aside))
	}
	return nil
}

func removeAside(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
