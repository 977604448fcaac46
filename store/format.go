package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// formatVersion changes when an older sitefs would misread what a newer one has
// written.
const formatVersion = 1

const formatPrefix = "sitefs store "

// folders are made with the store; blobs must be there to be kept open.
var folders = []string{"blobs", "wheels", "trees", "known", "leases", "tmp"}

const readme = `This directory is the store of sitefs: the files of Python packages, kept once,
by content. Environments that are mounted read from it.

It can be removed as a whole while nothing is mounted; sitefs then fetches
again what it needs. Nothing in it should be changed by hand: a file is named by
the SHA-256 of its bytes and is served without a further check.

blobs     the files          wheels   what each wheel holds
trees     environments       known    which inputs gave which environment
bytecode  what Python sources compile to; may be removed while nothing is mounted
links     second copies of files, for environments of hard links; may be removed
interp, answers              what interpreters and resolvers have said
catalog   an index; may be removed alone at any time
leases    who uses what      tmp      what is being written
`

// checkFormat makes an empty directory a store and refuses one that this sitefs
// doesn't know.
func (s *Store) checkFormat(make bool) error {
	b, err := os.ReadFile(s.path("FORMAT"))
	if errors.Is(err, fs.ErrNotExist) && make {
		if err := s.create(); err != nil {
			return err
		}
		b, err = os.ReadFile(s.path("FORMAT"))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	text, ok := strings.CutPrefix(string(bytes.TrimSpace(b)), formatPrefix)
	version, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil:
		return fmt.Errorf("%w: %q holds %.40q, want %q: set SITEFS_STORE to another place", ErrFormat, s.path("FORMAT"), b, formatPrefix+strconv.Itoa(formatVersion))
	case version > formatVersion:
		return fmt.Errorf("%w: %q has format %d, this sitefs knows up to %d: use the newer sitefs that made it, or set SITEFS_STORE to another place", ErrFormat, s.dir, version, formatVersion)
	case version < formatVersion:
		return fmt.Errorf("%w: %q has format %d, which no release has written, want %d: set SITEFS_STORE to another place", ErrFormat, s.dir, version, formatVersion)
	}
	return nil
}

// create makes the store in a directory that is empty, or that a creation was
// interrupted in. FORMAT is the last thing written. Two processes may create
// one store at once: each step does no harm when done twice.
func (s *Store) create() error {
	if s.readOnly != nil {
		return fmt.Errorf("make the store: %w", s.readOnly)
	}
	if err := s.checkEmpty(); err != nil {
		return err
	}
	for _, name := range folders {
		if err := os.Mkdir(s.path(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the store: %w", s.diskError(err))
		}
	}
	format := fmt.Appendf(nil, "%s%d\n", formatPrefix, formatVersion)
	for _, file := range []map[string][]byte{{"README": []byte(readme)}, {"FORMAT": format}} {
		if err := s.put(file); err != nil {
			return fmt.Errorf("make the store: %w", err)
		}
	}
	if err := s.root.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("make the store: %w", s.diskError(err))
	}
	return nil
}

// checkEmpty refuses a directory that holds anything but what create makes,
// unless another process has just made a store of it.
func (s *Store) checkEmpty() error {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for _, e := range names {
		if name := e.Name(); !slices.Contains(folders, name) && name != "README" && name != "FORMAT" && name != "lock" && !s.exists("FORMAT") {
			return fmt.Errorf("%w: %q has no FORMAT file and holds %q: set SITEFS_STORE to an empty or a new directory", ErrFormat, s.dir, name)
		}
	}
	return nil
}
