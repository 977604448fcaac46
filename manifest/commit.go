package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// A Change is what a layer does to one path of an environment.
type Change struct {
	Path string // slash-separated, relative to the environment's root

	// Kind is what there is now: [tree.Dir], File, Inline or Symlink. 0 means that
	// what was there is gone, with all that is below it.
	Kind tree.Kind

	Exec    bool
	Size    int64         // of a File, in bytes
	Digest  digest.Digest // of a File, whose blob the store must have
	Content []byte        // of an Inline; of a Symlink its target
}

// A Distribution is an installed project.
type Distribution struct {
	Name    string `json:"name"` // normalised
	Version string `json:"version"`
}

// A Commit says how a tree came out of another one.
type Commit struct {
	Base      digest.Digest  // the tree that it was
	Name      string         `json:",omitempty"` // that its user gave it
	Installed []Distribution `json:",omitempty"` // by others than sitefs, and there now
	Removed   []Distribution `json:",omitempty"` // that Base had
}

// A Layer is what was changed in an environment.
type Layer struct {
	Name      string   // see [Commit]
	Changes   []Change // any order; a path may be removed and be there anew
	Installed []Distribution
	Removed   []Distribution
}

// CommitLayer returns the tree that base becomes with a layer on top. What the layer
// leaves alone stays a reference to the tables of base's wheels.
//
// Base must be open at the prefix that the layer was written at: scripts in bin that
// name the interpreter there become templates, so that the new tree serves any
// prefix as base does, and RECORD files list them without a hash. Now is the time
// that the layer's files carry, but for those whose time is their content's.
func CommitLayer(base *tree.Tree, l Layer, now time.Time) (*Result, error) {
	m, err := Decode(base.Meta())
	if err != nil {
		return nil, err
	}
	b, err := base.Builder()
	if err != nil {
		return nil, err
	}
	m.commit(base.Digest(), l)
	if b.Meta, err = m.Encode(); err != nil {
		return nil, err
	}
	if err := applyLayer(b, l.Changes, base.Prefix()); err != nil {
		return nil, err
	}
	data, err := b.Build(now.Unix())
	if err != nil {
		return nil, err
	}
	t, err := tree.OpenTable(data)
	if err != nil {
		return nil, err
	}
	return &Result{Tree: data, Digest: t.Digest()}, nil
}

// commit notes in m what a layer does to the environment that base is.
func (m *Manifest) commit(base digest.Digest, l Layer) {
	gone := make(map[string]bool, len(l.Removed))
	for _, d := range l.Removed {
		gone[d.Name] = true
	}
	m.Wheels = slices.DeleteFunc(m.Wheels, func(w Wheel) bool { return gone[w.Name] })
	c := &Commit{Base: base, Name: l.Name, Removed: l.Removed, Installed: slices.Clone(l.Installed)}
	for _, d := range l.Installed {
		gone[d.Name] = true // another version takes its place
	}
	if m.Commit != nil {
		for _, d := range m.Commit.Installed {
			if !gone[d.Name] {
				c.Installed = append(c.Installed, d)
			}
		}
	}
	for _, list := range [][]Distribution{c.Installed, c.Removed} {
		slices.SortFunc(list, func(a, b Distribution) int { return cmp.Compare(a.Name, b.Name) })
	}
	m.Commit = c
}

// applyLayer changes what b holds.
func applyLayer(b *tree.Builder, changes []Change, prefix string) error {
	unhashed := make(map[string]bool) // scripts that became templates
	var records []Change
	for _, c := range inOrder(changes) {
		switch {
		case c.Kind == 0:
			if err := b.Remove(c.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		case c.Kind == tree.Inline && path.Base(c.Path) == "RECORD" && strings.HasSuffix(path.Dir(c.Path), ".dist-info"):
			records = append(records, c)
			continue
		case c.Kind == tree.Inline && c.Exec && path.Dir(c.Path) == bin:
			if text, ok := scriptAt(prefix, c.Content); ok {
				unhashed[c.Path] = true
				c.Kind, c.Content = tree.Template, text
			}
		}
		if err := put(b, c); err != nil {
			return err
		}
	}
	for _, c := range records {
		c.Content = unhash(c, unhashed)
		if err := put(b, c); err != nil {
			return err
		}
	}
	return nil
}

// inOrder returns the changes sorted by path, parents first, and of one path its
// removal first.
func inOrder(changes []Change) []Change {
	return slices.SortedStableFunc(slices.Values(changes), func(x, y Change) int {
		byKind := 0
		if (x.Kind == 0) != (y.Kind == 0) {
			byKind = cmp.Compare(x.Kind, y.Kind)
		}
		return cmp.Or(strings.Compare(x.Path, y.Path), byKind)
	})
}

// put has b hold what a change says, in the place of a file that is there.
func put(b *tree.Builder, c Change) error {
	if c.Kind == tree.Dir {
		return b.Dir(c.Path)
	}
	if err := b.Remove(c.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch c.Kind {
	case tree.File:
		return b.File(c.Path, c.Exec, c.Size, c.Digest)
	case tree.Inline:
		return b.Inline(c.Path, c.Exec, c.Content)
	case tree.Template:
		return b.Template(c.Path, c.Exec, c.Content)
	case tree.Symlink:
		return b.Symlink(c.Path, string(c.Content))
	}
	return fmt.Errorf("path %q: a tree can't hold kind %d", c.Path, c.Kind)
}

// scriptAt returns the template of a script that a program of the venv at prefix
// runs, and whether it is one. Both pip and uv write the interpreter's path into the
// first line, and where that can't hold it into the trampoline of two more.
func scriptAt(prefix string, content []byte) (text []byte, ok bool) {
	first, rest, _ := bytes.Cut(content, []byte("\n"))
	if program, ok := bytes.CutPrefix(first, []byte("#!"+prefix+"/")); ok {
		if name, ok := bytes.CutPrefix(program, []byte(bin+"/python")); ok && isVersion(name) {
			return append([]byte(tree.MarkSource), tree.Quote(rest)...), true
		}
		return slices.Concat([]byte("#!"+tree.MarkPrefix+"/"), tree.Quote(program), []byte("\n"), tree.Quote(rest)), true
	}
	second, rest, _ := bytes.Cut(rest, []byte("\n"))
	third, rest, _ := bytes.Cut(rest, []byte("\n"))
	if string(first) != "#!/bin/sh" || !bytes.HasPrefix(second, []byte("'''exec' ")) || string(third) != "' '''" ||
		!bytes.Contains(second, []byte(prefix+"/"+bin+"/python")) {
		return nil, false
	}
	return append([]byte(tree.MarkScript), tree.Quote(rest)...), true
}

// isVersion reports whether name is what may follow "python" in the interpreter's
// name: nothing, "3" or "3.12". An option after it would be lost.
func isVersion(name []byte) bool { return len(bytes.Trim(name, "0123456789.t")) == 0 }

// unhash returns a RECORD file without the hashes and sizes of some paths of the
// environment. One that lists none of them, or that can't be read, stays as its
// installer wrote it.
func unhash(c Change, paths map[string]bool) []byte {
	rows, err := wheel.ParseRecord(c.Content, func(err error) error { return err })
	if err != nil {
		return c.Content
	}
	site := path.Dir(path.Dir(c.Path))
	changed := false
	for i := range rows {
		if r := &rows[i]; paths[path.Join(site, r.Path)] {
			*r, changed = wheel.RecordRow{Path: r.Path, Size: -1}, true
		}
	}
	if !changed {
		return c.Content
	}
	return wheel.FormatRecord(rows)
}
