package repair

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

// Tree restores in the environment at dir, which was made from t, what verify.Tree
// found missing or changed, and removes bytecode that doesn't match its source.
// What is extra stays. In an environment of symlinks blobPath says where a file's
// content is; else it is nil.
//
// Paths that couldn't be repaired are in the report. The error says that none
// were, or that ctx ended. It wraps [ErrBusy] if another repair is under way.
func Tree(ctx context.Context, t *tree.Tree, src Source, dir string, found *verify.Result, blobPath func(digest.Digest) string) (*Report, error) {
	w, err := open(dir)
	if err != nil {
		return nil, err
	}
	r := &treeRepair{workshop: w, tree: t, src: src, blobPath: blobPath, folders: map[string]time.Time{}}
	r.plan(found)
	err = w.finish(ctx)
	if err == nil {
		r.removeBytecode(found.Bytecode)
	}
	w.report.sort()
	return w.report, errors.Join(err, w.clear(), r.settle(), w.close())
}

// A treeRepair is the repair of an environment that was made from a tree.
type treeRepair struct {
	*workshop
	tree     *tree.Tree
	src      Source
	blobPath func(digest.Digest) string
	folders  map[string]time.Time // that are written to, and the time they get back
}

// plan decides what is done about each finding.
func (r *treeRepair) plan(found *verify.Result) {
	paths := slices.Clone(found.Missing)
	for _, d := range found.Changed {
		paths = append(paths, d.Path)
	}
	for _, p := range paths {
		id, a, err := r.tree.Find(p)
		if err == nil {
			err = r.restore(p, id, a)
		}
		if err != nil {
			r.report.fail(p, err)
		}
	}
	for _, d := range found.Mode {
		_, a, err := r.tree.Find(d.Path)
		if err == nil {
			err = r.root.Chmod(d.Path, modeOf(a))
		}
		if err != nil {
			r.report.fail(d.Path, err)
			continue
		}
		r.report.Restored = append(r.report.Restored, d.Path)
	}
}

// restore plans to write the node at p and all below it.
func (r *treeRepair) restore(p string, id tree.ID, a tree.Attr) error {
	r.touch(path.Dir(p))
	if a.Kind != tree.Dir {
		f, err := r.file(p, id, a)
		if err == nil {
			r.files = append(r.files, f)
		}
		return err
	}
	if err := r.folder(p); err != nil {
		return err
	}
	r.touch(p)
	r.report.Restored = append(r.report.Restored, p)
	children, err := r.tree.Children(id)
	if err != nil {
		return err
	}
	for i := range children.Len() {
		name, id, a, err := children.At(i)
		if err != nil {
			return err
		}
		if err := r.restore(path.Join(p, string(name)), id, a); err != nil {
			return err
		}
	}
	return nil
}

// file returns the file of a node.
func (r *treeRepair) file(p string, id tree.ID, a tree.Attr) (*file, error) {
	f := &file{path: p, mode: modeOf(a), mtime: time.Unix(a.Mtime, 0)}
	switch {
	case a.Kind == tree.Symlink:
		target, err := r.tree.Link(id)
		f.target = string(target)
		return f, err
	case a.Kind != tree.File:
		text, err := r.tree.Bytes(id)
		f.write = func(out *os.File) error {
			_, err := out.Write(text)
			return err
		}
		return f, err
	case r.blobPath != nil && a.Size > 0 && !a.Exec: // as package materialize has it
		f.target = r.blobPath(a.Digest)
		return f, nil
	}
	f.write = func(out *os.File) error { return copyBlob(out, r.src, a.Digest, a.Size) }
	return f, nil
}

func modeOf(a tree.Attr) fs.FileMode {
	if a.Exec || a.Kind == tree.Dir {
		return 0o755
	}
	return 0o644
}

// removeBytecode removes .pyc files that don't match their source: Python, or the
// store, makes them anew.
func (r *treeRepair) removeBytecode(stale []verify.Difference) {
	for _, d := range stale {
		r.remove(d.Path)
	}
}

// touch notes that the directory p is written to, and the time that the tree gives
// it: Python lists a directory again when its time changes.
func (r *treeRepair) touch(p string) {
	if _, ok := r.folders[p]; ok {
		return
	}
	if _, a, err := r.tree.Find(p); err == nil && a.Kind == tree.Dir {
		r.folders[p] = time.Unix(a.Mtime, 0)
	}
}

// settle gives the directories their times back.
func (r *treeRepair) settle() error {
	r.touch(".")
	var errs []error
	for p, at := range r.folders {
		if err := r.root.Chtimes(p, at, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
