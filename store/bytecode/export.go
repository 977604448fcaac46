package bytecode

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// OpenCode opens the .pyc file of a source with that digest, size in bytes and
// modification time in Unix seconds, for an optimisation of 0, 1 or 2. It begins at
// the descriptor's first byte and has size bytes; what follows is none of it. The
// caller closes the descriptor. What isn't there, is damaged or is known not to
// compile is [fs.ErrNotExist].
func (c *Cache) OpenCode(source digest.Digest, sourceSize, mtime int64, optimize int) (fd int, size int64, err error) {
	path := c.path(key{source, optimize})
	fd, err = open(path)
	if err != nil {
		return -1, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	ch := checkers.Get().(*checker)
	e, ok := ch.check(fd, c.name, c.magic, &Source{Digest: source, Size: sourceSize, Mtime: mtime}, optimize)
	checkers.Put(ch)
	if !ok || e.kind != kindCode {
		unix.Close(fd)
		return -1, 0, fmt.Errorf("%q holds no bytecode: %w", path, fs.ErrNotExist)
	}
	return fd, e.size, nil
}

// CodeName returns the name in __pycache__ of the .pyc file of stem + ".py".
func (c *Cache) CodeName(stem string, optimize int) string {
	return stem + "." + c.version.Tag + suffixes[optimize] + ".pyc"
}
