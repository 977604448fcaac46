package session

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/diff"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store"
)

// A Committed is a tree that was made of an overlay.
type Committed struct {
	Tree  digest.Digest
	Notes []string // what of the overlay a tree can't say, a sentence each
}

// Commit puts the environment that an overlay makes into the store, as a tree, and
// notes in the overlay that it did: mounted the next time, it lies over that tree and
// is empty. Until then nothing changes. Bytecode, which every mount has, is left out.
// Name, if not empty, is what lists call the tree.
func (l *Layer) Commit(ctx context.Context, name string) (*Committed, error) {
	if l.upper.Base().Layout == LayoutSitePackages {
		return nil, fmt.Errorf("the overlay %q has the site-packages directory of an environment alone, and a tree is a whole one: mount it with --layout venv to commit", l.Dir)
	}
	files, err := l.Store.NewFiles()
	if err != nil {
		return nil, err
	}
	c := &commitment{Layer: l, add: func(r io.Reader) (digest.Digest, int64, error) { return files.Add(ctx, r) }}
	r, err := c.compile(name)
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	// The tree is the last to come: what it refers to is there, and durable.
	if err := files.Commit(); err != nil {
		return nil, err
	}
	if _, err := l.Store.PutTree(r.Tree); err != nil {
		return nil, err
	}
	if err := l.upper.SetCommitted(r.Digest.String()); err != nil {
		return nil, err
	}
	return &Committed{r.Digest, c.notes()}, nil
}

// A commitment is a commit under way.
type commitment struct {
	*Layer
	add func(io.Reader) (digest.Digest, int64, error) // takes in a file's content

	special, modes, xattrs []string // paths that lose something
}

// compile returns the tree of the environment, under a name.
func (c *commitment) compile(name string) (*manifest.Result, error) {
	s, err := c.Summary()
	if err != nil {
		return nil, err
	}
	layer := manifest.Layer{Name: name}
	for _, p := range s.Packages {
		project := pyver.CanonicalName(p.Name)
		if p.Old != "" && p.Old != p.New {
			layer.Removed = append(layer.Removed, manifest.Distribution{Name: project, Version: p.Old})
		}
		if p.New != "" && p.Old != p.New {
			layer.Installed = append(layer.Installed, manifest.Distribution{Name: project, Version: p.New})
		}
	}
	for _, change := range c.Changes {
		if addsBytecode(change) || change.Kind == diff.Entered {
			continue
		}
		if err := c.change(&layer, change); err != nil {
			return nil, err
		}
	}
	return manifest.CommitLayer(c.Layer.Tree, layer, time.Now())
}

// addsBytecode reports whether a change is of what every mount has by itself. Others
// keep in __pycache__ what no mount can make again, as numba does.
func addsBytecode(c diff.Change) bool {
	return c.New != nil && diff.IsBytecode(c.Path) && (c.IsDir() || strings.HasSuffix(c.Path, ".pyc"))
}

// change adds a change to the layer.
func (c *commitment) change(layer *manifest.Layer, d diff.Change) error {
	m := manifest.Change{Path: d.Path}
	if d.New == nil {
		layer.Changes = append(layer.Changes, m)
		return nil
	}
	if len(d.New.Xattrs) > 0 {
		c.xattrs = append(c.xattrs, d.Path)
	}
	switch d.New.Type {
	case unix.S_IFDIR:
		m.Kind = tree.Dir
		c.noteMode(d, 0o755)
	case unix.S_IFLNK:
		m.Kind, m.Content = tree.Symlink, []byte(d.New.Target)
	case unix.S_IFREG:
		m.Exec = d.New.Mode&0o111 != 0
		if m.Exec {
			c.noteMode(d, 0o755)
		} else {
			c.noteMode(d, 0o644)
		}
		if d.Kind == diff.Touched && m.Exec == (d.Old.Mode&0o111 != 0) {
			return nil // what else there is of it a tree can't say
		}
		if err := c.content(&m, d.New); err != nil {
			return err
		}
	default:
		c.special = append(c.special, d.Path)
		return nil
	}
	layer.Changes = append(layer.Changes, m)
	return nil
}

func (c *commitment) noteMode(d diff.Change, want uint32) {
	if d.New.Mode != want {
		c.modes = append(c.modes, d.Path)
	}
}

// maxInline bounds what is read into memory, of files that a commit looks into: the
// largest RECORD there is has 3 MB.
const maxInline = 16 << 20

// content fills in where a file's bytes are. Scripts and RECORD files, which name
// places, are in the tree itself; programs in bin are not, they are large.
func (c *commitment) content(m *manifest.Change, n *diff.Node) error {
	if d, ok := n.Blob(); ok {
		m.Kind, m.Size, m.Digest = tree.File, n.Size, d
		return nil
	}
	r, err := c.Diff.Open(n)
	if err != nil {
		return err
	}
	content := bufio.NewReader(r)
	named := path.Base(m.Path) == "RECORD" && strings.HasSuffix(path.Dir(m.Path), ".dist-info")
	if m.Exec && path.Dir(m.Path) == "bin" {
		head, _ := content.Peek(2) // an error comes again
		named = string(head) == "#!"
	}
	if named && n.Size <= maxInline {
		m.Kind = tree.Inline
		m.Content, err = io.ReadAll(io.LimitReader(content, maxInline))
	} else {
		m.Kind = tree.File
		m.Digest, m.Size, err = c.add(content)
	}
	if err != nil {
		err = fmt.Errorf("commit %q: %w", m.Path, err)
	}
	return errors.Join(err, r.Close())
}

// notes tells what a tree has no room for.
func (c *commitment) notes() []string {
	var notes []string
	for _, n := range []struct {
		paths []string
		what  string
	}{
		{c.special, "is no file, directory or symbolic link, and is left out"},
		{c.modes, "has a mode that is neither 0644 nor 0755, which becomes one of them"},
		{c.xattrs, "loses its extended attributes"},
	} {
		switch len(n.paths) {
		case 0:
		case 1:
			notes = append(notes, fmt.Sprintf("%q %s", n.paths[0], n.what))
		default:
			notes = append(notes, fmt.Sprintf("%q, and %d more like it, %s", n.paths[0], len(n.paths)-1, n.what))
		}
	}
	return notes
}

// committed returns env as the overlay in dir has it: where the overlay was committed,
// over the tree that it became then. The overlay is emptied over that one unless more
// was changed since, or a mount has it.
func (s *Session) committed(ctx context.Context, env *Environment, dir string) (*Environment, error) {
	if _, err := os.Lstat(filepath.Join(dir, upper.SideDir)); err != nil {
		return env, nil // nothing was ever committed; who opens it says what is wrong with it
	}
	if err := finish(dir); err != nil {
		return env, nil // as above
	}
	u, err := upper.OpenReadOnly(dir)
	if err != nil {
		return env, nil // as above
	}
	text, err := u.Committed()
	base := u.Base()
	if err = errors.Join(err, u.Close()); err != nil {
		return nil, err
	}
	over, err := s.cameFrom(base.Tree, env.Tree)
	if err != nil || !over {
		return env, err
	}
	now := *env
	if now.Tree, err = digest.Parse(base.Tree); err != nil {
		return nil, err
	}
	next, err := digest.Parse(text)
	if err != nil || !s.Store.HasTree(next) {
		return &now, nil // no commit since, or one in another store
	}
	switch adopted, err := s.adopt(ctx, dir, next); {
	case errors.Is(err, upper.ErrLocked):
	case err != nil:
		return nil, err
	case !adopted:
		s.Warn(fmt.Sprintf("the overlay %q was changed since it was committed: it stays over the tree that it was made over; `sitefs commit` commits the rest", dir))
	default:
		now.Tree = next
	}
	return &now, nil
}

// finish has what a killed process began in an overlay finished or undone: the overlay
// may be half emptied over the tree that it was committed as.
func finish(dir string) error {
	u, err := upper.OpenReadOnly(dir)
	if err != nil {
		return err
	}
	interrupted, err := u.Interrupted()
	if err = errors.Join(err, u.Close()); err != nil || !interrupted {
		return err
	}
	u, err = upper.Open(dir, upper.Options{})
	if errors.Is(err, upper.ErrLocked) {
		return nil // a mount has it under way
	}
	if err != nil {
		return err
	}
	return u.Close()
}

// cameFrom reports whether a tree is another one, or came out of it by commits.
func (s *Session) cameFrom(name string, from digest.Digest) (bool, error) {
	for name != from.String() {
		d, err := digest.Parse(name)
		if err != nil || !s.Store.HasTree(d) {
			return false, nil
		}
		t, err := s.Store.OpenTree(d, "/")
		if err != nil {
			return false, err
		}
		m, err := manifest.Decode(t.Meta())
		if err != nil || m.Commit == nil {
			return false, err
		}
		name = m.Commit.Base.String()
	}
	return true, nil
}

// adopt empties an overlay over the tree that it was committed as, and reports whether
// it could.
func (s *Session) adopt(ctx context.Context, dir string, as digest.Digest) (bool, error) {
	u, err := upper.Open(dir, upper.Options{})
	if err != nil {
		return false, err
	}
	same, err := emptied(ctx, s.Store, dir, u, as)
	return same, errors.Join(err, u.Close())
}

// emptied empties an overlay over the tree that it was committed as, and reports
// whether it was nothing else.
func emptied(ctx context.Context, st *store.Store, dir string, u *upper.Dir, as digest.Digest) (bool, error) {
	l, err := newLayer(ctx, st, dir, u)
	if err != nil {
		return false, err
	}
	was, err := committedAs(st, as)
	if err != nil {
		return false, err
	}
	c := &commitment{Layer: l, add: hash}
	r, err := c.compile(was.Name)
	if err != nil || r.Digest != as {
		return false, err
	}
	base := u.Base()
	base.Tree = as.String()
	return true, u.Reset(base)
}

// committedAs returns what a tree that was committed says of that.
func committedAs(st *store.Store, d digest.Digest) (*manifest.Commit, error) {
	t, err := st.OpenTree(d, "/")
	if err != nil {
		return nil, err
	}
	m, err := manifest.Decode(t.Meta())
	if err == nil && m.Commit == nil {
		err = fmt.Errorf("tree %s was never committed", d)
	}
	if err != nil {
		return nil, err
	}
	return m.Commit, nil
}

// hash returns the digest and the length of what r has.
func hash(r io.Reader) (digest.Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return digest.Digest(h.Sum(nil)), n, err
}
