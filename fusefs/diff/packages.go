package diff

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// A Package is an installed project that something was done to.
type Package struct {
	Name     string // as its METADATA has it
	Old, New string // its versions; "" where it isn't installed
	By       string // who installed New: the content of INSTALLER
	Changes  []Change
}

// A Summary sorts the changes of an environment by what they belong to.
type Summary struct {
	Packages []Package // by name
	Other    []Change  // that no RECORD lists
	Bytecode []Change  // .pyc files and their directories
}

// Summary says which packages were installed, removed, upgraded and edited.
// Directories that were entered are left out.
func (d *Diff) Summary() (*Summary, error) {
	o := owners{Diff: d, owner: make(map[string]*Package), packages: make(map[string]*Package)}
	if err := o.find(); err != nil {
		return nil, err
	}
	s := new(Summary)
	for _, c := range d.Changes {
		p := o.of(c.Path)
		switch {
		case IsBytecode(c.Path):
			s.Bytecode = append(s.Bytecode, c)
		case c.Kind == Entered || p == nil && c.IsDir() && c.Kind != Removed:
		case p != nil:
			p.Changes = append(p.Changes, c)
		default:
			s.Other = append(s.Other, c)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.packages)) {
		if p := o.packages[name]; p.Old != p.New || len(p.Changes) > 0 {
			s.Packages = append(s.Packages, *p)
		}
	}
	return s, nil
}

// of returns the package that a path belongs to, nil if to none: what lies in a
// dist-info directory does, whether or not RECORD lists it.
func (o *owners) of(p string) *Package {
	if own := o.owner[p]; own != nil || !strings.HasSuffix(path.Dir(p), distInfo) {
		return own
	}
	return o.owner[path.Dir(p)]
}

// IsDir reports whether it is a directory that was changed.
func (c *Change) IsDir() bool {
	n := c.New
	if n == nil {
		n = c.Old
	}
	return n.Type == unix.S_IFDIR
}

// owners finds out whose each changed path is, from RECORD files on both sides.
type owners struct {
	*Diff
	owner    map[string]*Package // by path
	packages map[string]*Package // by normalised name
}

const distInfo = ".dist-info"

// find reads the packages of the tree, and those that the upper directory has.
func (o *owners) find() error {
	added := make(map[string]*Node) // by path, of what is below a dist-info directory
	gone := make(map[string]bool)   // dist-info directories of the tree
	for i := range o.Changes {
		c := &o.Changes[i]
		dir := path.Dir(c.Path)
		switch {
		case c.Kind == Removed && strings.HasSuffix(c.Path, distInfo):
			gone[c.Path] = true
		case c.Kind == Removed && strings.HasSuffix(dir, distInfo) && path.Base(c.Path) == "METADATA":
			gone[dir] = true
		case c.New != nil && strings.HasSuffix(dir, distInfo) && c.New.Type == unix.S_IFREG:
			added[c.Path] = c.New
		}
	}
	if err := o.findOld(gone); err != nil {
		return err
	}
	for p, n := range added {
		if path.Base(p) == "METADATA" {
			if err := o.findNew(path.Dir(p), n, added); err != nil {
				return err
			}
		}
	}
	return nil
}

// findOld reads the packages of the tree. Those in gone aren't installed any more.
func (o *owners) findOld(gone map[string]bool) error {
	for _, site := range o.sites() {
		dir, err := o.Diff.find(site)
		if err != nil {
			return err
		}
		names, err := o.children(dir)
		if err != nil {
			return err
		}
		for name := range names {
			if !strings.HasSuffix(name, distInfo) {
				continue
			}
			if err := o.oldPackage(path.Join(site, name), gone[path.Join(site, name)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sites returns the site-packages directories in which something changed.
func (o *owners) sites() []string {
	if o.Dir != "" {
		return []string{"."} // it is one
	}
	const name = "/site-packages"
	found := make(map[string]bool)
	for i := range o.Changes {
		if above, _, ok := strings.Cut(o.Changes[i].Path, name+"/"); ok {
			found[above+name] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// oldPackage reads one package of the tree.
func (o *owners) oldPackage(dir string, gone bool) error {
	files := make(map[string]*Node)
	for _, name := range []string{"METADATA", "RECORD"} {
		p, err := o.Diff.find(path.Join(dir, name))
		if err != nil {
			return err
		}
		if !p.found || p.isDir() {
			return nil // no package without them
		}
		n, err := o.treeNode(p)
		if err != nil {
			return err
		}
		files[path.Join(dir, name)] = n
	}
	p, version, err := o.read(dir, files[path.Join(dir, "METADATA")], files)
	if err != nil || p == nil {
		return err
	}
	p.Old = version
	if !gone {
		p.New = version
	}
	return nil
}

// findNew reads a package whose dist-info directory, or its METADATA, is new.
func (o *owners) findNew(dir string, metadata *Node, files map[string]*Node) error {
	p, version, err := o.read(dir, metadata, files)
	if err != nil || p == nil {
		return err
	}
	p.New = version
	if n := files[path.Join(dir, "INSTALLER")]; n != nil {
		by, err := o.readAll(n)
		p.By = strings.TrimSpace(by)
		return err
	}
	return nil
}

// maxMeta bounds what is read of a METADATA or RECORD file: the largest RECORD there
// is has 3 MB.
const maxMeta = 64 << 20

func (o *owners) readAll(n *Node) (string, error) {
	r, err := o.Open(n)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxMeta))
	return string(b), errors.Join(err, r.Close())
}

// read returns the package that a dist-info directory is of, nil if that can't be
// told, and its version there. What its RECORD lists is its own from now on.
func (o *owners) read(dir string, metadata *Node, files map[string]*Node) (p *Package, version string, err error) {
	text, err := o.readAll(metadata)
	if err != nil {
		return nil, "", err
	}
	name, version := header(text)
	if name == "" {
		return nil, "", nil
	}
	key := pyver.CanonicalName(name)
	if p = o.packages[key]; p == nil {
		p = new(Package)
		o.packages[key] = p
	}
	p.Name = name
	o.owner[dir] = p
	record := files[path.Join(dir, "RECORD")]
	if record == nil {
		return p, version, nil
	}
	if text, err = o.readAll(record); err != nil {
		return nil, "", err
	}
	// A row that can't be read lists nothing.
	rows, err := wheel.ParseRecord([]byte(text), func(error) error { return nil })
	if err != nil {
		return nil, "", err
	}
	site := path.Dir(dir)
	for _, row := range rows {
		file := path.Join(site, row.Path)
		o.owner[file] = p
		// A directory that goes or comes whole does so with the package that fills it.
		for up := path.Dir(file); within(up, site) && o.owner[up] == nil; up = path.Dir(up) {
			o.owner[up] = p
		}
	}
	return p, version, nil
}

// within reports whether a path is below a directory.
func within(p, dir string) bool {
	if dir == "." {
		return p != "." && p != ".." && !strings.HasPrefix(p, "../")
	}
	return strings.HasPrefix(p, dir+"/")
}

// header returns the name and the version that a METADATA file says (core metadata
// specification).
func header(text string) (name, version string) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() && lines.Text() != "" {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.ToLower(key) {
		case "name":
			name = strings.TrimSpace(value)
		case "version":
			version = strings.TrimSpace(value)
		}
	}
	return name, version
}
