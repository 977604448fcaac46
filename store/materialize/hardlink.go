package materialize

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

// A content is what paths must have in common to be able to share an inode.
type content struct {
	digest digest.Digest
	exec   bool
	mtime  int64
}

func contentOf(a tree.Attr) content { return content{a.Digest, a.Exec, a.Mtime} }

// linkable reports whether a file can be a hard link. An empty one has nothing to
// share, and would be the one that runs out of links.
func linkable(a tree.Attr) bool { return a.Kind == tree.File && a.Size > 0 }

// claim reports whether no path of a's content has been linked yet. The others are
// copied, since no two paths may share an inode: dlopen and samefile compare them.
func (b *builder) claim(a tree.Attr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.linked[contentOf(a)] {
		return false
	}
	b.linked[contentOf(a)] = true
	return true
}

// linkFile makes a hard link. The store makes what isn't there to link to for the
// whole environment at once, when the first one is missed: nearly always all are
// there, and to look for each beforehand took a tenth of the run.
func (w *worker) linkFile(dir int, name string, a tree.Attr) error {
	err := w.src.Link(a, dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		err = w.linkMissing(dir, name, a)
	}
	if err == nil {
		w.counts.Linked++
	}
	return err
}

func (w *worker) linkMissing(dir int, name string, a tree.Attr) error {
	w.making.Lock()
	defer w.making.Unlock()
	// Another worker may have had it made meanwhile.
	if err := w.src.Link(a, dir, name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeLinks(w.ctx, w.tree, w.src); err != nil {
		return err
	}
	return w.src.Link(a, dir, name)
}

// makeLinks has the store make what an environment links to.
func makeLinks(ctx context.Context, t *tree.Tree, src Source) error {
	seen := make(map[content]bool)
	var files []tree.Attr
	err := t.Walk(func(_ string, _ tree.ID, a tree.Attr) error {
		if linkable(a) && !seen[contentOf(a)] {
			seen[contentOf(a)] = true
			files = append(files, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return src.MakeLinks(ctx, files)
}

// stale returns the files that an environment of hard links has not as the tree has
// them: somebody has written to the inodes through another environment.
func stale(t *tree.Tree, found *verify.Result) ([]tree.Attr, error) {
	seen := make(map[content]bool)
	var files []tree.Attr
	for _, d := range slices.Concat(found.Changed, found.Mode) {
		_, a, err := t.Find(d.Path)
		if err != nil {
			return nil, err
		}
		if linkable(a) && !seen[contentOf(a)] {
			seen[contentOf(a)] = true
			files = append(files, a)
		}
	}
	return files, nil
}
