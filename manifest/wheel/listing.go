package wheel

import (
	"strings"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A listing is the members of an archive by path.
type listing struct {
	members  []member
	paths    []string       // by member; clean; empty for directories and twins
	byPath   map[string]int // files
	distInfo string
	dataDir  string // empty if there is none
}

// list cleans the names of all members and finds files that are there twice.
func (w *Wheel) list() (*listing, error) {
	members := w.archive.members
	l := &listing{members: members, paths: make([]string, len(members)), byPath: make(map[string]int, len(members))}
	for i := range members {
		m := &members[i]
		path, err := cleanPath(m.name)
		if err != nil {
			return nil, err
		}
		if m.isDir() {
			w.rest = append(w.rest, i)
			continue
		}
		if path == "" {
			return nil, invalidf("member %q names no file", m.name)
		}
		first, again := l.byPath[path]
		if !again {
			l.byPath[path] = i
			l.paths[i] = path
			continue
		}
		if err := w.addTwin(first, i); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// addTwin demands that member twin, and its own twins, have the bytes of member
// m. Sizes and CRC-32 are compared at once, the bytes when they are read.
func (w *Wheel) addTwin(m, twin int) error {
	a, b := &w.archive.members[m], &w.archive.members[twin]
	if a.size != b.size || a.crc != b.crc {
		return differf(a.name, b.name)
	}
	w.twins[m] = append(append(w.twins[m], twin), w.twins[twin]...)
	return nil
}

// findTops finds the one *.dist-info directory and the one *.data directory.
// Both must be of the project name.
func (l *listing) findTops(name string) error {
	for _, path := range l.paths {
		top, _, inside := strings.Cut(path, "/")
		isInfo, isData := strings.HasSuffix(top, ".dist-info"), strings.HasSuffix(top, ".data")
		if !isInfo && !isData {
			continue
		}
		found := &l.distInfo
		stem := strings.TrimSuffix(top, ".dist-info")
		if isData {
			found = &l.dataDir
			stem = strings.TrimSuffix(top, ".data")
		}
		switch {
		case *found == top:
		case !inside:
			return invalidf("%q is a file, want a directory", top)
		case *found != "":
			return invalidf("directories %q and %q, want one", *found, top)
		case !isStemOf(stem, name):
			return invalidf("directory %q is not of the project %q in the file name", top, name)
		}
		*found = top
	}
	if l.distInfo == "" {
		return invalidf("no %q directory: not a wheel", "*.dist-info")
	}
	return nil
}

// isStemOf reports whether stem is NAME-VERSION for the canonical name. Old
// builders left dashes in names, so each dash may be the one between them.
func isStemOf(stem, name string) bool {
	for i, c := range stem {
		if c == '-' && pyver.CanonicalName(stem[:i]) == name {
			return true
		}
	}
	return false
}

func differf(a, b string) error {
	if a == b {
		return invalidf("member %q is there more than once, with different bytes", a)
	}
	return invalidf("members %q and %q go to one place and have different bytes", a, b)
}
