package overlay

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/fusefs/view"
)

// There is no handle of an open directory, so an offset means the same for as long
// as there is a name at it, whatever else comes and goes: 1 and 2 are behind the
// dots, 3+i behind what the lower lists as number i, whichever node has that name
// now, and names that the lower doesn't list follow in the order of their hashes.
const (
	dots       = 2
	upperNames = 1 << 62 // plus the hash of the name before
	hashBits   = 61      // so that no sum has the sign bit
)

// hash returns the place of a name in a listing. It is a good one, since names with
// the same can only be listed together.
func hash(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.LittleEndian.Uint64(sum[:]) >> (64 - hashBits)
}

// A listing is the names of a directory that the lower doesn't list, and maybe
// some that are gone. Its zero value is empty.
type listing struct {
	mu     sync.Mutex
	sorted []hashed
	fresh  []hashed // since sorted was
}

type hashed struct {
	hash uint64
	name string
}

func (a hashed) compare(b hashed) int {
	switch {
	case a.hash < b.hash:
		return -1
	case a.hash > b.hash:
		return 1
	}
	return strings.Compare(a.name, b.name)
}

// add adds a name, which may be there already. Now and then it goes through what was
// added, of which more may be gone than alive reports.
func (l *listing) add(name string, live int, alive func(name string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = append(l.fresh, hashed{hash(name), name})
	if len(l.fresh) > 2*live+mostDead {
		slices.SortFunc(l.fresh, hashed.compare)
		l.fresh = slices.DeleteFunc(slices.Compact(l.fresh), func(h hashed) bool { return !alive(h.name) })
	}
}

// after returns the names whose hash is off or above, of those that alive reports.
func (l *listing) after(off uint64, live int, alive func(name string) bool) []hashed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fresh) > 0 {
		slices.SortFunc(l.fresh, hashed.compare)
		l.sorted = merge(l.sorted, l.fresh)
		l.fresh = nil
	}
	if len(l.sorted) > 2*live+mostDead {
		l.sorted = slices.DeleteFunc(slices.Clone(l.sorted), func(h hashed) bool { return !alive(h.name) })
	}
	i, _ := slices.BinarySearchFunc(l.sorted, off, func(h hashed, off uint64) int {
		if h.hash < off {
			return -1
		}
		return 1
	})
	return l.sorted[i:]
}

// mostDead keeps small listings from being gone through each time.
const mostDead = 64

// merge returns the names of two sorted lists, each once.
func merge(a, b []hashed) []hashed {
	out := make([]hashed, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].compare(b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return slices.Compact(append(append(out, a...), b...))
}

// ReadDir lists a directory.
func (f *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry, _ *node, _ *fuse.Attr) bool {
		return out.AddDirEntry(e)
	})
}

// ReadDirPlus lists a directory with everything LOOKUP would say of each entry,
// and counts as one of each.
func (f *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in, func(e fuse.DirEntry, n *node, a *fuse.Attr) bool {
		o := out.AddDirLookupEntry(e)
		switch {
		case o == nil:
			return false
		case n != nil:
			if f.fill(n, o) != fuse.OK {
				*o = fuse.EntryOut{} // no node: LOOKUP will say what is wrong
			}
		case a != nil:
			*o = fuse.EntryOut{NodeId: e.Ino, Generation: 1, EntryValid: forever, AttrValid: forever, Attr: *a}
			f.seen.add(e.Ino)
		}
		return true
	})
}

// adder takes an entry with its object, or with its attributes if the lower has
// it and nobody else, and reports whether there was room. The dots have neither.
type adder func(e fuse.DirEntry, n *node, a *fuse.Attr) bool

// list gives add the entries of a directory from in.Offset on until it has no room.
func (f *FS) list(in *fuse.ReadIn, add adder) fuse.Status {
	f.mu.RLock()
	defer f.mu.RUnlock()
	dir := f.nodes[in.NodeId]
	if dir != nil && !dir.isDir() {
		return fuse.ENOTDIR
	}
	if dir == nil && !ofLower(in.NodeId) {
		return fuse.Status(syscall.ESTALE)
	}
	if dir != nil && dir.unlinked() {
		return fuse.OK // not even the dots, as on other file systems
	}
	off := in.Offset
	if off == 0 {
		if !add(fuse.DirEntry{Name: ".", Ino: in.NodeId, Mode: syscall.S_IFDIR, Off: 1}, nil, nil) {
			return fuse.OK
		}
		off++
	}
	if off == 1 {
		if !add(fuse.DirEntry{Name: "..", Ino: fuse.FUSE_UNKNOWN_INO, Mode: syscall.S_IFDIR, Off: dots}, nil, nil) {
			return fuse.OK
		}
		off++
	}
	if off < upperNames {
		more, err := f.listLower(dir, in.NodeId, int(off-dots), add)
		if err != nil {
			return f.lowerStatus("listing a directory", err)
		}
		if !more {
			return fuse.OK
		}
		off = upperNames
	}
	if dir != nil {
		listUpper(dir, off-upperNames, add)
	}
	return fuse.OK
}

// listLower gives add what the lower lists, from number from on, and reports whether
// there was room for it.
func (f *FS) listLower(dir *node, id uint64, from int, add adder) (more bool, err error) {
	if dir != nil {
		id = dir.lower
	}
	if id == 0 {
		return true, nil
	}
	more = true
	err = f.lower.Entries(id, from, func(i int, name []byte, node uint64, a *fuse.Attr) bool {
		e := fuse.DirEntry{
			// The name is copied into the reply before add returns.
			Name: unsafe.String(unsafe.SliceData(name), len(name)),
			Ino:  node,
			Mode: a.Mode,
			Off:  uint64(i) + 1 + dots,
		}
		if dir == nil {
			more = add(e, nil, a)
			return more
		}
		kid := dir.kids[e.Name]
		if kid == nil {
			if !dir.white[e.Name] {
				more = add(e, nil, a)
			}
			return more
		}
		e.Ino, e.Mode = kid.id, kid.kind
		more = add(e, kid, nil)
		return more
	})
	return more, err
}

// listUpper gives add what the lower doesn't list, from a hash on.
func listUpper(dir *node, from uint64, add adder) {
	names := dir.listing.after(from, len(dir.kids), dir.has)
	for i, h := range names {
		kid := dir.kids[h.name]
		if kid == nil || kid.isGhost(h.name) {
			continue
		}
		// Behind the last of those with the same hash comes the next hash; behind
		// the others, all of them again.
		off := h.hash + 1
		if i+1 < len(names) && names[i+1].hash == h.hash {
			off = h.hash
		}
		if !add(fuse.DirEntry{Name: h.name, Ino: kid.id, Mode: kid.kind, Off: upperNames + off}, kid, nil) {
			return
		}
	}
}

// isEmpty reports whether a directory has nothing that a listing shows. mu is held.
func (f *FS) isEmpty(dir *node) (bool, error) {
	for name, kid := range dir.kids {
		if !kid.isGhost(name) {
			return false, nil
		}
	}
	if dir.lower == 0 {
		return true, nil
	}
	empty := true
	err := f.lower.Entries(dir.lower, 0, func(_ int, name []byte, _ uint64, _ *fuse.Attr) bool {
		empty = dir.white[string(name)]
		return empty
	})
	return empty, err
}

// listed reports whether the lower's listing of dir has a name.
func (f *FS) listed(dir *node, name string) (bool, error) {
	id, err := f.childOfLower(dir, name)
	return id != 0 && !view.IsGhost(id), err
}
