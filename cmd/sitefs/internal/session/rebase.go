package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// baseOf returns what is noted of a tree in the overlay over it.
func baseOf(t *tree.Tree, layout string) (upper.Base, error) {
	m, err := manifest.Decode(t.Meta())
	if err != nil {
		return upper.Base{}, fmt.Errorf("tree %s: %w", t.Digest(), err)
	}
	return upper.Base{Tree: t.Digest().String(), Prefix: t.Prefix(), Python: m.Python.String(), Layout: layout}, nil
}

// checkBase refuses an overlay that was made over another environment. One that
// differs in what sitefs generates alone is the same: a patch release of Python is.
func (s *Session) checkBase(d *upper.Dir, dir string, env *Environment, o *MountOptions) error {
	t, err := s.Store.OpenTree(env.Tree, o.Prefix)
	if err != nil {
		return err
	}
	want, err := baseOf(t, o.Layout)
	if err != nil {
		return err
	}
	have := d.Base()
	if have == (upper.Base{}) || have == want {
		return nil
	}
	switch {
	case have.Layout != want.Layout:
		return fmt.Errorf("overlay %q was %w: its paths are those of --layout %s, not of %s: give that, or choose another directory", dir, upper.ErrBase, have.Layout, want.Layout)
	case have.Python != want.Python:
		return fmt.Errorf("overlay %q was %w: what was installed for %s is not found by %s: choose another directory, or the old interpreter with --python", dir, upper.ErrBase, have.Python, want.Python)
	case have.Tree != want.Tree:
		if err := s.checkTrees(d, t, o.Rebase); err != nil {
			return fmt.Errorf("overlay %q was %w: %w; or choose another directory", dir, upper.ErrBase, err)
		}
	}
	if have.Prefix != want.Prefix {
		if script := scriptAt(dir, have.Prefix); script != "" {
			s.Warn(fmt.Sprintf("%s was installed when the environment was at %s, and names that path: install it again", script, have.Prefix))
		}
	}
	o.Rebase = true
	return nil
}

// shebangSize is more than what installers begin a script with to have it run by the
// environment's interpreter, but for the path of the environment.
const shebangSize = 64

// scriptAt returns a program of the overlay in dir that is run by the interpreter at
// prefix, "" if there is none.
func scriptAt(dir, prefix string) string {
	bin := filepath.Join(dir, "bin")
	entries, err := os.ReadDir(bin)
	if err != nil {
		return "" // no programs, or none that can be told of
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(bin, e.Name()))
		if err != nil {
			continue
		}
		head, err := io.ReadAll(io.LimitReader(f, int64(len(prefix)+shebangSize)))
		f.Close()
		if err == nil && bytes.Contains(head, []byte(prefix+"/bin/")) {
			return filepath.Join("bin", e.Name())
		}
	}
	return ""
}

// checkTrees refuses a tree that differs from the one that the overlay was made over,
// unless nothing of what differs was changed and the user wants it so.
func (s *Session) checkTrees(d *upper.Dir, t *tree.Tree, rebase bool) error {
	old, err := s.oldTree(d.Base())
	if err != nil {
		return fmt.Errorf("what differs can't be told: %w; mount what it was made over", err)
	}
	same := bytes.Equal(old.Meta(), t.Meta())
	if same || rebase {
		return checkChanged(d, old, t)
	}
	differ, err := differences(old, t)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s; --rebase puts the changes over the new one, if they are of other files", differ)
}

// oldTree returns the tree that an overlay was made over.
func (s *Session) oldTree(b upper.Base) (*tree.Tree, error) {
	d, err := digest.Parse(b.Tree)
	if err != nil {
		return nil, err
	}
	if !s.Store.HasTree(d) {
		return nil, fmt.Errorf("%s has no tree %s", s.Store.Dir(), d)
	}
	return s.Store.OpenTree(d, b.Prefix)
}

// maxNamed bounds the names that a refusal lists.
const maxNamed = 5

// checkChanged refuses a tree that has something else than the old one where the
// overlay has changes.
func checkChanged(d *upper.Dir, old, t *tree.Tree) error {
	changed, hidden, err := d.Changed()
	if err != nil {
		return err
	}
	if d.Base().Layout == LayoutSitePackages {
		site, err := sitePackages(t)
		if err != nil {
			return err
		}
		for _, paths := range [][]string{changed, hidden} {
			for i, p := range paths {
				paths[i] = path.Join(site, p)
			}
		}
	}
	below, err := pathsBelow(hidden, old, t)
	if err != nil {
		return err
	}
	changed = append(changed, below...)
	var collide []string
	for _, path := range changed {
		same, err := samePath(old, t, path)
		if err != nil {
			return err
		}
		if !same {
			collide = append(collide, path)
		}
	}
	if len(collide) == 0 {
		return nil
	}
	return fmt.Errorf("the new tree has something else where the overlay has changes: %s; undo those changes", someOf(collide))
}

// pathsBelow returns the paths below some that either of two trees has, sorted.
func pathsBelow(tops []string, a, b *tree.Tree) ([]string, error) {
	if len(tops) == 0 {
		return nil, nil
	}
	below := make(map[string]bool)
	for _, t := range []*tree.Tree{a, b} {
		err := t.Walk(func(p string, _ tree.ID, _ tree.Attr) error {
			dir := path.Dir(p)
			_, top := slices.BinarySearch(tops, dir)
			below[p] = top || below[dir] // parents come first
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	maps.DeleteFunc(below, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(below)), nil
}

// samePath reports whether two trees have the same at a path, directories alone
// being looked into no further.
func samePath(a, b *tree.Tree, path string) (bool, error) {
	idA, attrA, errA := a.Find(path)
	idB, attrB, errB := b.Find(path)
	goneA, goneB := isAbsent(errA), isAbsent(errB)
	switch {
	case goneA || goneB:
		return goneA && goneB, nil
	case errA != nil || errB != nil:
		return false, errors.Join(errA, errB)
	case attrA.Kind != attrB.Kind || attrA.Exec != attrB.Exec:
		return false, nil
	case attrA.Kind == tree.Dir:
		return true, nil
	case attrA.Kind == tree.Symlink:
		linkA, errA := a.Link(idA)
		linkB, errB := b.Link(idB)
		return bytes.Equal(linkA, linkB), errors.Join(errA, errB)
	}
	return attrA.Digest == attrB.Digest, nil
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, tree.ErrKind) }

// differences says by their packages what differs between two trees.
func differences(old, t *tree.Tree) (string, error) {
	was, err := versions(old)
	if err != nil {
		return "", err
	}
	is, err := versions(t)
	if err != nil {
		return "", err
	}
	var list []string
	for _, w := range was.Wheels {
		switch now, ok := version(is, w.Name); {
		case !ok:
			list = append(list, w.Name+" is not in it any more")
		case now.Version != w.Version:
			list = append(list, fmt.Sprintf("%s is %s, not %s", w.Name, now.Version, w.Version))
		case now.Digest != w.Digest:
			list = append(list, fmt.Sprintf("%s %s is another wheel", w.Name, w.Version))
		}
	}
	for _, w := range is.Wheels {
		if _, ok := version(was, w.Name); !ok {
			list = append(list, w.Name+" "+w.Version+" is new")
		}
	}
	if was.Commit != nil {
		list = append([]string{"it has nothing of what was committed" + named(was.Commit.Installed)}, list...)
	}
	if len(list) == 0 {
		return "its options differ, not its packages", nil
	}
	return someOf(list), nil
}

// named lists packages in brackets, if there are any.
func named(list []manifest.Distribution) string {
	if len(list) == 0 {
		return ""
	}
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = d.Name + " " + d.Version
	}
	return " (" + someOf(names) + ")"
}

func versions(t *tree.Tree) (*manifest.Manifest, error) { return manifest.Decode(t.Meta()) }

func version(m *manifest.Manifest, name string) (manifest.Wheel, bool) {
	for _, w := range m.Wheels {
		if w.Name == name {
			return w, true
		}
	}
	return manifest.Wheel{}, false
}

// someOf lists what a sentence has room for.
func someOf(list []string) string {
	if len(list) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:maxNamed], ", "), len(list)-maxNamed)
	}
	return strings.Join(list, ", ")
}
