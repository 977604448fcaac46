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
	var ids []tree.ID
	p, err := l.tree.Path(id)
	if err != nil {
		return nil
	}
	folder := path.Dir(p)
	for _, name := range names {
		ids = l.appendModule(ids, folder, name)
	}
	return ids
}

// appendModule appends the sources of one module, its packages' first.
func (l *layout) appendModule(ids []tree.ID, folder, name string) []tree.ID {
	base := l.site
	if absolute := strings.TrimLeft(name, "."); len(absolute) < len(name) {
		base = folder
		for range len(name) - len(absolute) - 1 {
			base = path.Dir(base)
		}
		name = absolute
	}
	dir, a, err := l.tree.Find(base)
	if err != nil || a.Kind != tree.Dir {
		return ids
	}
	if base != l.site {
		ids = l.appendFile(ids, dir, "__init__.py") // of the package that a relative name starts at
	}
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
