package diff

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// typeOf returns the S_IFMT bits of a node of a tree.
func typeOf(a tree.Attr) uint32 {
	switch a.Kind {
	case tree.Dir:
		return unix.S_IFDIR
	case tree.Symlink:
		return unix.S_IFLNK
	}
	return unix.S_IFREG
}

// treeNode returns a node of the tree as the view shows it.
func (d *Diff) treeNode(p place) (*Node, error) {
	n := &Node{
		Type:  typeOf(p.attr),
		Mode:  0o644,
		UID:   d.UID,
		GID:   d.GID,
		Size:  p.attr.Size,
		Mtime: upper.Time{Sec: p.attr.Mtime},
		lower: p.id,
		attr:  p.attr,
	}
	switch {
	case p.attr.Kind == tree.Symlink:
		target, err := d.tree.Link(p.id)
		if err != nil {
			return nil, err
		}
		n.Mode, n.Target = 0o777, string(target)
	case p.attr.Kind == tree.Dir || p.attr.Exec:
		n.Mode = 0o755
	}
	return n, nil
}

// node returns what an entry is, nil if it went meanwhile.
func (d *Diff) node(e *entry) (*Node, error) {
	if e.real != nil {
		n, err := d.upperNode(e.in)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return n, err
	}
	n, err := d.treeNode(e.lower)
	if err == nil && e.record != nil {
		n.apply(e.record)
	}
	return n, err
}

// apply gives a node of the tree the attributes that a record says.
func (n *Node) apply(r *upper.Record) {
	for _, f := range []struct{ to, from *uint32 }{{&n.Mode, r.Mode}, {&n.UID, r.UID}, {&n.GID, r.GID}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if r.Mtime != nil {
		n.Mtime = *r.Mtime
	}
	n.Xattrs = r.Xattrs
}

// upperNode returns what the upper directory has at a path.
func (d *Diff) upperNode(in string) (*Node, error) {
	st, err := d.upper.Stat(in)
	if err != nil {
		return nil, err
	}
	n := &Node{
		Type:    uint32(st.Mode) & unix.S_IFMT,
		Mode:    uint32(st.Mode) &^ unix.S_IFMT,
		UID:     st.Uid,
		GID:     st.Gid,
		Size:    st.Size,
		Mtime:   upper.Time{Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec},
		Ino:     st.Ino,
		Nlink:   uint64(st.Nlink),
		inUpper: in,
	}
	if n.Type == unix.S_IFLNK {
		n.Target, err = d.upper.Readlink(in)
		return n, err
	}
	n.Xattrs, err = d.xattrs(in)
	return n, err
}

// xattrs returns the extended attributes at a path of the upper directory.
func (d *Diff) xattrs(in string) (map[string][]byte, error) {
	names, err := d.upper.Listxattr(in)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // this file system has none
	}
	if err != nil || len(names) == 0 {
		return nil, err
	}
	values := make(map[string][]byte, len(names))
	for _, name := range names {
		value, err := d.upper.Getxattr(in, name)
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		values[name] = value
	}
	return values, nil
}

// Blob returns the blob that holds the content of a file of the tree; ok is false for
// one whose content is elsewhere.
func (n *Node) Blob() (d digest.Digest, ok bool) {
	return n.attr.Digest, n.inUpper == "" && n.attr.Kind == tree.File
}

// Open opens the content of a regular file.
func (d *Diff) Open(n *Node) (io.ReadCloser, error) {
	switch {
	case n.Type != unix.S_IFREG:
		return nil, fmt.Errorf("open what is no regular file (type %#o): %w", n.Type, fs.ErrInvalid)
	case n.inUpper != "":
		fd, err := d.upper.OpenFile(n.inUpper, unix.O_RDONLY)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), n.inUpper), nil
	case n.attr.Kind == tree.File:
		fd, err := d.blobs.OpenBlob(n.attr.Digest)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), n.attr.Digest.String()), nil
	}
	b, err := d.tree.Bytes(n.lower)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// sameContent reports whether two nodes of one type have the same bytes, or lead to
// the same place.
func (d *Diff) sameContent(before, now *Node) (bool, error) {
	switch {
	case now.Type == unix.S_IFLNK:
		return before.Target == now.Target, nil
	case now.Type != unix.S_IFREG:
		return true, nil
	case before.Size != now.Size:
		return false, nil
	case now.inUpper == "" && now.attr.Kind == tree.File && before.attr.Kind == tree.File:
		return now.attr.Digest == before.attr.Digest, nil
	}
	x, err := d.sum(before)
	if err != nil {
		return false, err
	}
	y, err := d.sum(now)
	return x == y, err
}

// sum returns the digest of a regular file's content.
func (d *Diff) sum(n *Node) (digest.Digest, error) {
	if n.inUpper == "" && n.attr.Kind == tree.File {
		return n.attr.Digest, nil
	}
	r, err := d.Open(n)
	if err != nil {
		return digest.Digest{}, err
	}
	h := sha256.New()
	_, err = io.Copy(h, r)
	return digest.Digest(h.Sum(nil)), errors.Join(err, r.Close())
}
