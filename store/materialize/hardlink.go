package materialize

import (
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

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

// next returns the inode that the next path of a's content is linked to. Each has
// one of its own: dlopen and samefile take two with one inode for one file.
func (b *builder) next(a tree.Attr) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.linked[contentOf(a)]
	b.linked[contentOf(a)] = n + 1
	return n
}

// linkFile makes a hard link.
func (w *worker) linkFile(dir int, name string, a tree.Attr) error {
	for {
		n := w.next(a)
		err := w.src.Link(a, n, dir, name)
		if errors.Is(err, fs.ErrNotExist) {
			err = w.linkMissing(dir, name, a, n)
		}
		if err == nil {
			w.counts.Linked++
		}
		if !errors.Is(err, unix.EMLINK) {
			return err
		}
	}
}

// linkMissing links to an inode that wasn't there a moment ago. The first time the
// store makes what is missing for the whole environment: nearly always nothing is,
// and to look for each inode beforehand took a tenth of the run.
func (w *worker) linkMissing(dir int, name string, a tree.Attr, n int) error {
	w.making.Lock()
	defer w.making.Unlock()
	if !w.made {
		if err := w.makeLinks(); err != nil {
			return err
		}
		w.made = true
	}
	err := w.src.Link(a, n, dir, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The ones before it are full, so this one is beyond what the tree needs.
	if err := w.src.MakeLinks(w.ctx, slices.Repeat([]tree.Attr{a}, n+1)); err != nil {
		return err
	}
	return w.src.Link(a, n, dir, name)
}

// makeLinks has the store make what an environment links to.
func (b *builder) makeLinks() error {
	var files []tree.Attr
	err := b.tree.Walk(func(_ string, _ tree.ID, a tree.Attr) error {
		if a.Kind == tree.File {
			files = append(files, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.src.MakeLinks(b.ctx, files)
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
		if a.Kind == tree.File && !seen[contentOf(a)] {
			seen[contentOf(a)] = true
			files = append(files, a)
		}
	}
	return files, nil
}
