package tree

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
)

// Builder returns a builder that holds what t holds, for a tree that differs in
// some paths: what is left alone stays a reference to the table of a wheel, so that
// the new tree costs what differs. Its layout, meta and scripts are t's too.
func (t *Tree) Builder() (*Builder, error) {
	b := &Builder{
		Layout:      t.own.Layout(),
		Meta:        bytes.Clone(t.own.Meta()),
		Relocatable: t.own.Relocatable(),
		root:        newDir(),
		tables:      bytes.Clone(t.own.refs),
		from:        t,
	}
	root, err := t.own.Root()
	if err != nil {
		return nil, err
	}
	return b, copyOwn(b.root, t.own, root)
}

// copyOwn fills a directory with what a tree's own table has in dir.
func copyOwn(into *entry, own *Table, dir Node) error {
	for i := range own.Children(dir) {
		n, err := own.Child(dir, i)
		if err != nil {
			return err
		}
		e := &entry{Node: n}
		switch n.Kind {
		case Dir:
			e = newDir()
			err = copyOwn(e, own, n)
		case Inline, Template, Symlink:
			e.data, err = own.Data(n)
		}
		if err != nil {
			return err
		}
		into.children[string(n.Name)] = e
	}
	return nil
}

// open makes a directory of the builder's own of one that is a reference, so that
// it can be changed. Anything but a directory is [ErrNotDir].
func (b *Builder) open(e *entry) error {
	if e.Kind == Dir {
		return nil
	}
	if e.Kind != ref || e.target != Dir || b.from == nil {
		return ErrNotDir
	}
	number := e.first
	tab, err := b.from.table(number)
	if err != nil {
		return err
	}
	dir, err := tab.Node(e.count)
	if err != nil {
		return err
	}
	*e = *newDir()
	for i := range tab.Children(dir) {
		n, err := tab.Child(dir, i)
		if err != nil {
			return err
		}
		e.children[string(n.Name)] = refTo(number, n)
	}
	return nil
}

// Remove takes away what is at a path, with all that is below it. A path that
// there isn't is [fs.ErrNotExist].
func (b *Builder) Remove(path string) error {
	dir, names := b.root, strings.Split(path, "/")
	last := len(names) - 1
	for _, name := range names[:last] {
		next := dir.children[name]
		if next == nil {
			return fmt.Errorf("path %q: %w", path, fs.ErrNotExist)
		}
		if err := b.open(next); err != nil {
			return fmt.Errorf("path %q: %q: %w", path, name, err)
		}
		dir = next
	}
	if dir.children[names[last]] == nil {
		return fmt.Errorf("path %q: %w", path, fs.ErrNotExist)
	}
	delete(dir.children, names[last])
	return nil
}
