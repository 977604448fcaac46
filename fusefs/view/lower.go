package view

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/sitefs/sitefs/manifest/tree"
)

// What is below answers an overlay, which asks in its own process what a kernel
// would ask by FUSE. Nodes are the kernel's; a ghost is a node that LOOKUP finds
// and no listing has: a __pycache__ or what is in it. None of these methods has
// anything compiled.

// CacheName is the name of a directory that may be a ghost (PEP 3147).
const CacheName = cacheName

// IsGhost reports whether a node is found by name alone.
func IsGhost(node uint64) bool {
	v := variant(node >> variantShift)
	return v >= cacheDir && v < code+(maxOpt+1)<<stampBits
}

// Attr fills in what stat(2) shows of a node. A .pyc that is gone is
// [tree.ErrStale].
func (f *FS) Attr(node uint64, out *fuse.Attr) error {
	id, v := f.split(node)
	a, err := f.tree.Stat(id)
	if err != nil {
		return err
	}
	switch {
	case v == cacheDir && a.Kind == tree.Dir:
		a = cacheDirAttr(&a)
	case v.isCode() && a.Kind == tree.File:
		size, stamp, _ := f.bytecode.Lookup(nil, id, a, v.opt(), false)
		if size == 0 || stamp != v.stamp() {
			return tree.ErrStale
		}
		a = codeAttr(&a, size)
	case v != itself:
		return tree.ErrStale
	}
	f.attr(node, &a, out)
	return nil
}

// Child returns the node that the directory dir has under name, or an error that
// is [fs.ErrNotExist]. In a __pycache__ that is a .pyc which was compiled already.
func (f *FS) Child(dir uint64, name string) (node uint64, err error) {
	parent, v := f.split(dir)
	if v == cacheDir {
		return f.compiledChild(parent, name)
	}
	if v != itself {
		return 0, tree.ErrNotDir
	}
	id, _, err := f.tree.Lookup(parent, name)
	switch {
	case err == nil:
		return f.swap(uint64(id)), nil
	case err != fs.ErrNotExist || name != cacheName || f.bytecode == nil || !hasVariants(parent):
		return 0, err
	}
	has, err := f.hasSource(parent)
	if err == nil && !has {
		err = fs.ErrNotExist
	}
	return cacheDir.node(parent), err
}

// compiledChild returns the .pyc in the __pycache__ of dir.
func (f *FS) compiledChild(dir tree.ID, name string) (uint64, error) {
	var buf [maxName]byte
	source, opt, ok := f.sourceOf(&buf, name)
	if !ok {
		return 0, fs.ErrNotExist
	}
	id, a, err := f.tree.Lookup(dir, source)
	if err != nil {
		return 0, err
	}
	if a.Kind != tree.File || !hasVariants(id) {
		return 0, fs.ErrNotExist
	}
	size, stamp, _ := f.bytecode.Lookup(nil, id, a, opt, false)
	if size == 0 {
		return 0, fs.ErrNotExist
	}
	return codeOf(opt, stamp).node(id), nil
}

// Find returns the node at a slash-separated path relative to the served
// directory, which is ".". It follows no symlink.
func (f *FS) Find(name string) (node uint64, err error) {
	node = fuse.FUSE_ROOT_ID
	if name == "." {
		return node, nil
	}
	for elem := range strings.SplitSeq(name, "/") {
		if node, err = f.Child(node, elem); err != nil {
			return 0, &fs.PathError{Op: "find", Path: name, Err: err}
		}
	}
	return node, nil
}

// NodePath returns where a node is, relative to the served directory.
func (f *FS) NodePath(node uint64) (string, error) {
	id, v := f.split(node)
	p, err := f.tree.Path(id)
	if err != nil {
		return "", err
	}
	top, err := f.tree.Path(f.root)
	if err != nil {
		return "", err
	}
	if top != "." && p != top {
		below, ok := strings.CutPrefix(p, top+"/")
		if !ok {
			return "", fmt.Errorf("node %d is %q: not in the served %q", node, p, top)
		}
		p = below
	} else if p == top {
		p = "."
	}
	switch {
	case v == cacheDir:
		return path.Join(p, cacheName), nil
	case v.isCode():
		dir, source := path.Split(p)
		return path.Join(dir, cacheName, f.codeName(source, v.opt())), nil
	}
	return p, nil
}

// Place returns the directory that has a node, and under which name. The served
// directory is in none.
func (f *FS) Place(node uint64) (dir uint64, name string, err error) {
	p, err := f.NodePath(node)
	if err != nil {
		return 0, "", err
	}
	if p == "." {
		return 0, "", fmt.Errorf("node %d is in no directory: it is the served one", node)
	}
	above, name := path.Split(p)
	dir, err = f.Find(path.Clean(above))
	return dir, name, err
}

// Entries calls fn for the entries of a directory in the order of READDIR, from
// the one with number from on, until it returns false. Name and attributes are
// good until fn returns.
func (f *FS) Entries(dir uint64, from int, fn func(i int, name []byte, node uint64, a *fuse.Attr) bool) error {
	id, v := f.split(dir)
	if v != itself {
		return nil // of a __pycache__ nothing is listed
	}
	children, err := f.tree.Children(id)
	if err != nil {
		return err
	}
	var out fuse.Attr
	for i := from; i < children.Len(); i++ {
		name, child, a, err := children.At(i)
		if err != nil {
			return err
		}
		node := f.swap(uint64(child))
		f.attr(node, &a, &out)
		if !fn(i, name, node, &out) {
			break
		}
	}
	return nil
}

// Content returns the bytes of a file: the first size bytes of fd, which the
// caller closes, or where fd is -1 those of data, which is the caller's. A .pyc that
// is gone is [tree.ErrStale].
func (f *FS) Content(node uint64) (fd int, data []byte, size int64, err error) {
	id, v := f.split(node)
	a, err := f.tree.Stat(id)
	if err != nil {
		return -1, nil, 0, err
	}
	switch {
	case v.isCode() && a.Kind == tree.File:
		fd, size, err = f.bytecode.Open(a, v.opt(), v.stamp())
		if errors.Is(err, fs.ErrNotExist) {
			err = tree.ErrStale
		}
	case v != itself:
		err = syscall.EISDIR
	case a.Kind == tree.File:
		fd, err = f.blobs.OpenBlob(a.Digest)
		size = a.Size
	case a.Kind == tree.Inline, a.Kind == tree.Template:
		var b []byte
		b, err = f.tree.Bytes(id)
		return -1, append([]byte(nil), b...), int64(len(b)), err
	default:
		err = tree.ErrKind
	}
	if err != nil {
		return -1, nil, 0, err
	}
	return fd, nil, size, nil
}

// CodeNames returns the names that the bytecode of a source has in __pycache__:
// none where name is no source's.
func (f *FS) CodeNames(name string) []string {
	if f.bytecode == nil || len(name) <= len(sourceExt) || !strings.HasSuffix(name, sourceExt) {
		return nil
	}
	names := make([]string, 0, maxOpt+1)
	for opt := range maxOpt + 1 {
		names = append(names, f.codeName(name, opt))
	}
	return names
}

// codeName returns the name of a source's .pyc (PEP 3147, PEP 488).
func (f *FS) codeName(source string, opt int) string {
	level := ""
	if opt > 0 {
		level = fmt.Sprintf(".opt-%d", opt)
	}
	return strings.TrimSuffix(source, sourceExt) + f.tag + level + codeExt
}

// SourceDir returns the directory whose sources a __pycache__ has the bytecode of.
func (f *FS) SourceDir(cache uint64) uint64 {
	id, _ := f.split(cache)
	return f.swap(uint64(id))
}

// SourceName returns the name of the source that a name in a __pycache__ is the
// bytecode of.
func (f *FS) SourceName(name string) (source string, ok bool) {
	if f.bytecode == nil {
		return "", false
	}
	var buf [maxName]byte
	source, _, ok = f.sourceOf(&buf, name)
	return strings.Clone(source), ok
}

// Fault logs what can't be served or kept, one line a second at most, and has
// LastError return it.
func (f *FS) Fault(format string, args ...any) { f.fault.report(format, args...) }
