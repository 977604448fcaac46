package view

import "path"

// Path returns where a node of the kernel is, relative to the tree's root, for a
// log: "" if it is none.
func (f *FS) Path(node uint64) string {
	id, v := f.split(node)
	p, err := f.tree.Path(id)
	switch {
	case err != nil:
		return ""
	case v == cacheDir:
		return path.Join(p, cacheName)
	case v.isCode():
		return "the bytecode of " + p
	}
	return p
}
