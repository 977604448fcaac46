package bytecode

import (
	"path"
	"strings"

	"github.com/sitefs/sitefs/manifest/tree"
)

// A layout finds the sources of modules in a tree.
type layout struct {
	tree *tree.Tree
	site string // the folder of site-packages, slash-separated, without a slash at its end
}

// source returns the source at a node: a Python file whose bytes are a blob.
func (l *layout) source(id tree.ID) (Source, bool) {
	a, err := l.tree.Stat(id)
	if err != nil || a.Kind != tree.File {
		return Source{}, false
	}
	p, err := l.tree.Path(id)
	if err != nil {
		return Source{}, false
	}
	return Source{Path: l.name(p), Digest: a.Digest, Size: a.Size, Mtime: a.Mtime}, true
}

// name returns what becomes co_filename: the path from site-packages, so that the
// place of the environment is no part of the bytecode. Importlib puts the real one
// in its place.
func (l *layout) name(p string) string {
	if below, ok := strings.CutPrefix(p, l.site+"/"); ok {
		return below
	}
	return p
}

// imported returns the sources that an import of the named modules by the source
// at id runs, in order. Names are as package imports gives them: dotted, with
// leading dots where they are relative. What isn't in the tree is left out: the
// standard library, extension modules, names of a module that aren't modules.
func (l *layout) imported(id tree.ID, names []string) []tree.ID {
	p, err := l.tree.Path(id)
	if err != nil {
		return nil
	}
	var ids []tree.ID
	for _, name := range names {
		absolute := strings.TrimLeft(name, ".")
		if dots := len(name) - len(absolute); dots > 0 {
			ids = l.appendRelative(ids, p, dots, absolute)
		} else if site, ok := l.folder(l.site); ok {
			ids = l.appendModule(ids, site, name)
		}
	}
	return ids
}

// appendRelative appends the sources of a module whose name has leading dots in the
// source at p, the package that it starts from first.
func (l *layout) appendRelative(ids []tree.ID, p string, dots int, name string) []tree.ID {
	for range dots {
		p = path.Dir(p)
	}
	dir, ok := l.folder(p)
	if !ok {
		return ids
	}
	return l.appendModule(l.appendFile(ids, dir, "__init__.py"), dir, name)
}

func (l *layout) folder(p string) (tree.ID, bool) {
	id, a, err := l.tree.Find(p)
	return id, err == nil && a.Kind == tree.Dir
}

// appendModule appends the sources of a module below dir, its packages' first.
func (l *layout) appendModule(ids []tree.ID, dir tree.ID, name string) []tree.ID {
	for part := range strings.SplitSeq(name, ".") {
		sub, a, err := l.tree.Lookup(dir, part)
		if err != nil || a.Kind != tree.Dir {
			return l.appendFile(ids, dir, part+".py")
		}
		ids = l.appendFile(ids, sub, "__init__.py")
		dir = sub
	}
	return ids
}

func (l *layout) appendFile(ids []tree.ID, dir tree.ID, name string) []tree.ID {
	if id, a, err := l.tree.Lookup(dir, name); err == nil && a.Kind == tree.File {
		return append(ids, id)
	}
	return ids
}
