package bytecode

import (
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// An Export hands out what a cache has, for whoever writes an environment to a
// directory. It looks at each folder of entries once: of an environment's 20,000
// sources and three optimisations most have none, and asking for each by name
// would take as long as linking them. Its methods may be called concurrently.
type Export struct {
	cache   *Cache
	folders [256]folder // by the first byte of a source's digest
}

// A folder is the names of entries.
type folder struct {
	once  sync.Once
	names map[string]bool
}

// Export returns an Export of what the cache has from now on.
func (c *Cache) Export() *Export { return &Export{cache: c} }

// OpenCode opens the .pyc file of a source with that digest, size in bytes and
// modification time in Unix seconds, for an optimisation of 0, 1 or 2. It begins at
// the descriptor's first byte and has size bytes; what follows is none of it. The
// caller closes the descriptor. What isn't there, is damaged or is known not to
// compile is [fs.ErrNotExist].
func (e *Export) OpenCode(source digest.Digest, sourceSize, mtime int64, optimize int) (fd int, size int64, err error) {
	k := key{source, optimize}
	if !e.has(k) {
		return -1, 0, fs.ErrNotExist
	}
	fd, err = open(e.cache.path(k))
	if err != nil {
		return -1, 0, &fs.PathError{Op: "open", Path: e.cache.path(k), Err: err}
	}
	ch := checkers.Get().(*checker)
	found, ok := ch.check(fd, e.cache.name, e.cache.magic, &Source{Digest: source, Size: sourceSize, Mtime: mtime}, optimize)
	checkers.Put(ch)
	if !ok || found.kind != kindCode {
		unix.Close(fd)
		return -1, 0, fs.ErrNotExist
	}
	return fd, found.size, nil
}

// has reports whether there was an entry when its folder was first looked at. A
// folder that can't be read is as good as empty: bytecode is made anew.
func (e *Export) has(k key) bool {
	f := &e.folders[k.source[0]]
	f.once.Do(func() {
		dir, err := os.Open(filepath.Dir(e.cache.path(k)))
		if err != nil {
			return
		}
		defer dir.Close()
		names, _ := dir.Readdirnames(-1)
		f.names = make(map[string]bool, len(names))
		for _, name := range names {
			f.names[name] = true
		}
	})
	return f.names[hex.EncodeToString(k.source[1:])+suffixes[k.opt]]
}

// CodeName returns the name in __pycache__ of the .pyc file of stem + ".py".
func (e *Export) CodeName(stem string, optimize int) string {
	return stem + "." + e.cache.version.Tag + suffixes[optimize] + ".pyc"
}
