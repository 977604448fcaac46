package upper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Scan reads all that the upper says: visit is called once for each directory,
// after the one it is in, the siblings in no order. An error of visit ends it.
func (d *Dir) Scan(visit func(path string, l *Listing) error) error {
	todo := []string{"."}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		l, err := d.List(dir)
		if err != nil {
			return err
		}
		for _, e := range l.Entries {
			if e.Type == sIFDIR {
				todo = append(todo, path.Join(dir, e.Name))
			}
		}
		if err := visit(dir, l); err != nil {
			return err
		}
	}
	return nil
}

// List reads one directory of the upper.
func (d *Dir) List(dir string) (*Listing, error) {
	entries, err := d.readDir(dir)
	if err != nil {
		return nil, err
	}
	l := &Listing{Entries: entries[:0]}
	for _, e := range entries {
		if !Reserved(e.Name) {
			l.Entries = append(l.Entries, e)
			continue
		}
		d.addReserved(l, dir, e)
	}
	return l, nil
}

// addReserved adds to a listing what a name of the format's own says.
func (d *Dir) addReserved(l *Listing, dir string, e Entry) {
	switch name := e.Name[len(whiteout):]; {
	case e.Name == opaque:
		l.Opaque = true
	case dir == "." && e.Name == sideDir:
	case strings.HasPrefix(e.Name, recordPrefix):
		r, err := d.readRecord(path.Join(dir, e.Name))
		if err != nil {
			l.Ignored = append(l.Ignored, Ignored{e.Name, err})
			return
		}
		if r.Whiteout {
			l.Whiteouts = append(l.Whiteouts, r.Name)
		}
		if r.Lower != "" {
			l.Records = append(l.Records, r)
		}
	case Reserved(name): // another's metadata
	case !validName(name):
		l.Ignored = append(l.Ignored, Ignored{e.Name, errors.New("a whiteout of no name")})
	default:
		l.Whiteouts = append(l.Whiteouts, name)
	}
}

// readRecord reads the record at a path.
func (d *Dir) readRecord(p string) (Record, error) {
	fd, err := d.OpenFile(p, unix.O_RDONLY)
	if err != nil {
		return Record{}, err
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Record{}, err
	}
	if !st.Mode().IsRegular() {
		return Record{}, errors.New("a record is a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Record{}, err
	}
	if len(b) > maxRecord {
		return Record{}, errors.New("too large for a record")
	}
	_, name := split(p)
	return decodeRecord(name, b)
}

// readDir returns all entries of a directory.
func (d *Dir) readDir(dir string) (entries []Entry, err error) {
	err = d.inside("readdir", dir, func(at int, name string) error {
		fd, err := openAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		entries, err = d.entries(fd)
		return err
	})
	return entries, err
}

// entries returns all entries of an open directory.
func (d *Dir) entries(fd int) ([]Entry, error) {
	entries, err := readEntries(fd)
	if err != nil {
		return nil, err
	}
	there := entries[:0]
	for _, e := range entries {
		if d.statAll || e.Type == 0 {
			err := statEntry(fd, &e)
			if err == unix.ENOENT {
				continue // it went while we looked, see OpenReadOnly
			}
			if err != nil {
				return nil, err
			}
		}
		there = append(there, e)
	}
	return there, nil
}

// statEntry asks for what a directory doesn't tell.
func statEntry(dir int, e *Entry) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	e.Type, e.Ino = st.Mode&sIFMT, st.Ino
	return nil
}

// readEntries reads an open directory from its start, without the dots. A type
// that the file system doesn't tell is 0.
func readEntries(fd int) ([]Entry, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	var entries []Entry
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return entries, err
		}
		entries = appendEntries(entries, buf[:n])
	}
}

// appendEntries reads linux_dirent64 structures, see getdents(2).
func appendEntries(entries []Entry, b []byte) []Entry {
	const (
		lengthAt = unsafe.Offsetof(unix.Dirent{}.Reclen)
		typeAt   = unsafe.Offsetof(unix.Dirent{}.Type)
		nameAt   = unsafe.Offsetof(unix.Dirent{}.Name)
	)
	for len(b) > int(nameAt) {
		n := int(binary.NativeEndian.Uint16(b[lengthAt:]))
		name, _, _ := bytes.Cut(b[nameAt:n], []byte{0})
		if s := string(name); s != "." && s != ".." {
			entries = append(entries, Entry{s, uint32(b[typeAt]) << 12, binary.NativeEndian.Uint64(b)}) // IFTODT of dirent.h
		}
		b = b[n:]
	}
	return entries
}

// Changed returns the paths of the lower tree that the layer says something of,
// sorted: what lies over them, is gone or is there under another name. Of a path that
// is a directory in both, that is nothing of what is in it, unless hidden has it
// too: then all below it is gone, or somewhere else. A layer fits another tree if
// that has the same at each of them.
func (d *Dir) Changed() (changed, hidden []string, err error) {
	lower := map[string]string{".": "."} // what lies under the directories of the upper
	err = d.Scan(func(dir string, l *Listing) error {
		under := lower[dir]
		if l.Opaque && under != "" {
			hidden = append(hidden, under)
			under = ""
		}
		for name, at := range l.under(under) {
			if at != "" {
				lower[path.Join(dir, name)] = at
			}
		}
		if under != "" {
			changed = append(changed, l.paths(under)...)
			for _, name := range l.Whiteouts {
				hidden = append(hidden, path.Join(under, name))
			}
		}
		for _, r := range l.Records {
			changed = append(changed, r.Lower)
			if under == "" || r.Lower != path.Join(under, r.Name) {
				hidden = append(hidden, r.Lower)
			}
		}
		return nil
	})
	return sortedOnce(changed), sortedOnce(hidden), err
}

// under returns what of the lower lies under the directories of a listing, "" for
// nothing; dir is what lies under the listing's own.
func (l *Listing) under(dir string) map[string]string {
	own := make(map[string]string) // of names that don't have what lies at their place
	for _, name := range l.Whiteouts {
		own[name] = ""
	}
	for _, r := range l.Records {
		own[r.Name] = r.Lower
	}
	under := make(map[string]string)
	for _, e := range l.Entries {
		at, ok := own[e.Name]
		if !ok && dir != "" {
			at = path.Join(dir, e.Name)
		}
		if e.Type == sIFDIR {
			under[e.Name] = at
		}
	}
	return under
}

func sortedOnce(paths []string) []string {
	slices.Sort(paths)
	return slices.Compact(paths)
}

// paths returns the paths of all that a listing names.
func (l *Listing) paths(dir string) []string {
	var paths []string
	for _, e := range l.Entries {
		paths = append(paths, path.Join(dir, e.Name))
	}
	for _, name := range l.Whiteouts {
		paths = append(paths, path.Join(dir, name))
	}
	for _, r := range l.Records {
		paths = append(paths, path.Join(dir, r.Name))
	}
	return paths
}
