package diff

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
)

// ErrLayer is wrapped by what an OCI layer can't say.
var ErrLayer = errors.New("can't be in an OCI layer")

// WriteTar writes the changes as a layer of an OCI image (image-spec, "Image Layer
// Filesystem Changeset"): applied to the materialized tree it makes the environment,
// with its modes, owners, times to the nanosecond, extended attributes and hard
// links. The same changes give the same bytes.
//
// Sockets, which no archive holds, are left out and returned by path. A name that a
// layer has for itself is [ErrLayer].
func (d *Diff) WriteTar(ctx context.Context, w io.Writer) (sockets []string, err error) {
	l := &layer{Diff: d, ctx: ctx, tar: tar.NewWriter(w), linked: make(map[uint64]string)}
	for i := range d.Changes {
		if err := l.add(&d.Changes[i], d.replaced(i)); err != nil {
			return nil, err
		}
	}
	return l.sockets, l.tar.Close()
}

// replaced reports whether change i removes what the next one puts something else in
// the place of.
func (d *Diff) replaced(i int) bool {
	return i+1 < len(d.Changes) && d.Changes[i+1].Path == d.Changes[i].Path
}

// A layer is an archive being written.
type layer struct {
	*Diff
	ctx     context.Context
	tar     *tar.Writer
	linked  map[uint64]string // the path at which a file of several names is, by inode
	sockets []string
}

// add writes one change. What another one replaces goes by that one.
func (l *layer) add(c *Change, replaced bool) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if upper.Reserved(path.Base(c.Path)) {
		return fmt.Errorf("%q %w: names that begin with .wh. mean something there", c.Path, ErrLayer)
	}
	switch {
	case c.Kind == Removed && replaced:
		return nil
	case c.Kind == Removed:
		return l.whiteout(c.Path)
	case c.New.Type == unix.S_IFSOCK:
		l.sockets = append(l.sockets, c.Path)
		return nil
	}
	return l.write(c.Path, c.New)
}

// whiteout says that what the layers below have at a path is gone.
func (l *layer) whiteout(p string) error {
	dir, name := path.Split(p)
	return l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + name, Mode: 0o644, Format: tar.FormatPAX})
}

// write writes what there is at a path.
func (l *layer) write(p string, n *Node) error {
	h := &tar.Header{
		Name:    p,
		Mode:    int64(n.Mode),
		Uid:     int(n.UID),
		Gid:     int(n.GID),
		ModTime: time.Unix(n.Mtime.Sec, n.Mtime.Nsec),
		Format:  tar.FormatPAX,
	}
	for name, value := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	if n.isLinked() {
		if first, ok := l.linked[n.Ino]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return l.tar.WriteHeader(h)
		}
		l.linked[n.Ino] = p
	}
	switch n.Type {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, p+"/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, n.Size
		return l.file(h, n)
	default:
		return fmt.Errorf("%q %w: it is a special file (type %#o)", p, ErrLayer, n.Type)
	}
	return l.tar.WriteHeader(h)
}

// file writes a regular file.
func (l *layer) file(h *tar.Header, n *Node) error {
	r, err := l.Open(n)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := l.tar.WriteHeader(h); err != nil {
		return err
	}
	copied, err := io.Copy(l.tar, r)
	if err == nil && copied != n.Size {
		err = fmt.Errorf("%q has %d bytes, it had %d a moment ago: it is being written to", h.Name, copied, n.Size)
	}
	return err
}
