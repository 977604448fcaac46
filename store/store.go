// Package store is the only door to what sitefs keeps on disk.
//
// A store is one directory of one user:
//
//	FORMAT                     the version of everything below; another one is refused
//	README                     for the human who finds the directory
//	blobs/ab/cdef…             the bytes of one file, named by their SHA-256
//	wheels/DIGEST.info         what is known of a wheel; its presence says that all its blobs are there
//	wheels/DIGEST.LAYOUT       the wheel's table for a venv layout (package tree)
//	trees/DIGEST               a compiled environment (package tree)
//	bytecode/                  what sources compile to (package store/bytecode)
//	links/ab/cdef…-MODE-MTIME  second inodes of blobs, for environments of hard links
//	known/DIGEST               inputs that were read once -> the tree they gave
//	interp/, answers/          answers of interpreters and resolvers, by what was asked
//	catalog/, catalog.lock     an index over wheels and trees; made anew when it is lost
//	copies/DIGEST              an environment that runs as a directory (package store/materialize)
//	roots/                     environments elsewhere whose files are symlinks into blobs
//	leases/                    one locked file for each use of a tree
//	tmp/                       what is being written; each entry is locked by its living writer
//	lock                       shared while an entry of tmp or leases is made, exclusive while they are swept
//
// It keeps one promise: a name under blobs, wheels or trees is complete, on
// stable storage, and never wrong. The kernel serves blobs unhashed, so there is
// no later moment to find out. Everything is written in tmp first; a wheel's
// .info, its commit, is the last thing that an ingest writes, after its blobs
// and their directory entries are durable. What was not committed does not
// exist, and what a killed process leaves is in tmp, where the next ingest
// removes it. Files under known, interp, answers and bytecode are not synced; each
// carries its own checksum, and one that is torn counts as absent.
//
// The store never runs a program, opens no network connection and knows no mount.
// The catalog is opened by an ingest and by the methods that take a context,
// never on the way from known inputs to a served tree.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/store/internal/blob"
)

// Errors that callers act on. Each comes wrapped, with the numbers and the way
// out.
var (
	ErrFormat   = errors.New("not a store that this sitefs can use")
	ErrOwner    = errors.New("store belongs to another user")
	ErrReadOnly = errors.New("store is read-only")
	ErrNoSpace  = errors.New("no space left in the store")
	ErrMismatch = errors.New("not the file that was asked for") // by its hash
)

// Options are what Open can be told. The zero value is fine.
type Options struct {
	// Warn is told, in one sentence, what went wrong without harm: the catalog
	// had to be made anew. It may be nil.
	Warn func(sentence string)

	// Existing opens a store that is there, and makes none: the error is then
	// [fs.ErrNotExist]. It is for processes that serve what somebody else has put
	// into the store, which may be away for a while.
	Existing bool
}

// A Store is an open store. Its methods may be called concurrently, by any
// number of processes.
type Store struct {
	dir      string
	root     *os.File
	blobs    *blob.Dir
	readOnly error // why nothing can be written, or nil
	warn     func(string)
	now      func() time.Time

	mapMu sync.RWMutex
	maps  map[string][]byte // by name relative to the store

	roundFiles int               // see the constant
	step       func(name string) // tests only: called between the steps of a commit

}

// DefaultDir returns where the store is unless a flag says otherwise:
// SITEFS_STORE, else sitefs in XDG_CACHE_HOME, else in the user's cache
// directory (~/.cache, on macOS ~/Library/Caches).
func DefaultDir() (string, error) {
	if dir := os.Getenv("SITEFS_STORE"); dir != "" {
		return filepath.Abs(dir)
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) { // the specification ignores relative ones
		return filepath.Join(dir, "sitefs"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("where to keep the store: %w: set SITEFS_STORE", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Caches", "sitefs"), nil
	}
	return filepath.Join(home, ".cache", "sitefs"), nil
}

// Open opens the store in dir and makes it on first use. It takes no lock and
// opens no catalog. A store that can't be written to opens all the same and
// serves what it has: methods that write return [ErrReadOnly].
//
// The errors are [ErrFormat] for a directory that is no store or one of another
// format, and [ErrOwner] for a store that neither this user nor, for reading,
// root has made: who may write to it decides which programs run.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := openRoot(dir, !o.Existing)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, root: root, warn: o.Warn, now: time.Now, maps: map[string][]byte{}, roundFiles: roundFiles}
	if s.warn == nil {
		s.warn = func(string) {}
	}
	if err := s.open(!o.Existing); err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

// openRoot opens the top directory. With make it makes it if there is none.
func openRoot(dir string, make bool) (*os.File, error) {
	root, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) && make {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the store: %w: set SITEFS_STORE to a directory that can be written to", err)
		}
		root, err = os.Open(dir)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: %w: set SITEFS_STORE to a directory of yours", ErrOwner, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return root, nil
}

func (s *Store) open(make bool) error {
	if err := s.checkOwner(); err != nil {
		return err
	}
	if err := s.checkFormat(make); err != nil {
		return err
	}
	var err error
	s.blobs, err = blob.OpenDir(s.path("blobs"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// checkOwner refuses the store of another user and finds out whether this one
// can be written to.
func (s *Store) checkOwner() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.root.Fd()), &st); err != nil {
		return fmt.Errorf("stat the store %q: %w", s.dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%w: %q is not a directory: set SITEFS_STORE to another place", ErrFormat, s.dir)
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("%w: everybody may write to %q, and so choose what your programs run: chmod 700 it, or set SITEFS_STORE to another place", ErrOwner, s.dir)
	}
	uid := os.Geteuid()
	switch int(st.Uid) {
	case uid:
		if err := unix.Faccessat(unix.AT_FDCWD, s.dir, unix.W_OK, unix.AT_EACCESS); err != nil {
			s.readOnly = fmt.Errorf("%w: %q: %w: mount it for writing, or set SITEFS_STORE to another place", ErrReadOnly, s.dir, err)
		}
	case 0:
		s.readOnly = fmt.Errorf("%w: %q belongs to root: set SITEFS_STORE to a directory of yours", ErrReadOnly, s.dir)
	default:
		return fmt.Errorf("%w: %q is of user %d, this process runs as user %d: set SITEFS_STORE to a directory of your own", ErrOwner, s.dir, st.Uid, uid)
	}
	return nil
}

// Close closes the store. Tables and trees that were handed out stay valid.
func (s *Store) Close() error { return errors.Join(s.blobs.Close(), s.root.Close()) }

// Displaced reports whether the store was removed from its path, or another put
// there, since it was opened.
func (s *Store) Displaced() bool {
	return displaced(s.root, s.dir) || displaced(s.blobs, s.path("blobs"))
}

// displaced reports whether path leads to another file than the open one, or to
// none.
func displaced(open interface{ Stat() (fs.FileInfo, error) }, path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	held, err := open.Stat()
	return err == nil && !os.SameFile(held, now)
}

// Dir returns the store's directory, an absolute path.
func (s *Store) Dir() string { return s.dir }

// path returns a path in the store.
func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// OpenBlob opens a blob for reading and returns its descriptor, which is
// close-on-exec and the caller's.
func (s *Store) OpenBlob(d digest.Digest) (fd int, err error) { return s.blobs.Open(d) }

// BlobPath returns the absolute path of a blob. It is for a symlink to it: what
// reads a blob now opens it by [Store.OpenBlob].
func (s *Store) BlobPath(d digest.Digest) string { return s.path("blobs", blob.Path(d)) }

// ReadBlob returns the bytes of a blob.
func (s *Store) ReadBlob(d digest.Digest) ([]byte, error) { return s.blobs.Read(d) }

// mapFile returns a file of the store, mapped for the life of the process. The
// file must be one that is never rewritten; it may be removed.
func (s *Store) mapFile(name string) ([]byte, error) {
	s.mapMu.RLock()
	b, ok := s.maps[name]
	s.mapMu.RUnlock()
	if ok {
		return b, nil
	}
	s.mapMu.Lock()
	defer s.mapMu.Unlock()
	if b, ok := s.maps[name]; ok {
		return b, nil
	}
	b, err := mapAll(s.path(name))
	if err == nil {
		s.maps[name] = b
	}
	return b, err
}

// Release gives back the memory that the tables and trees which are mapped take.
// They stay valid: what is used again is read again, mostly from the page cache.
func (s *Store) Release() error {
	s.mapMu.RLock()
	defer s.mapMu.RUnlock()
	var errs []error
	for name, b := range s.maps {
		if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
			errs = append(errs, fmt.Errorf("give back the memory of %q: %w", s.path(name), err))
		}
	}
	return errors.Join(errs...)
}

func mapAll(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 || info.Size() != int64(int(info.Size())) {
		return nil, fmt.Errorf("%q has %d bytes, it is damaged: remove it and try again", path, info.Size())
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %q: %w", path, err)
	}
	return b, nil
}

// exists reports whether the store has a file of that name.
func (s *Store) exists(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(s.root.Fd()), name, &st, 0) == nil
}
