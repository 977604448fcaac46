package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tree"
)

// A Result is a compiled environment.
type Result struct {
	Tree        []byte        // for [tree.Open]
	Digest      digest.Digest // names the tree
	Diagnostics []Diagnostic  // sorted by path
}

// A Diagnostic is something about the environment that is allowed and that its
// user should know. A caller that is strict takes any as an error.
type Diagnostic struct {
	Path  string   // relative to the environment's root
	Names []string // the distributions concerned; of a collision the winner first
	Twin  string   // the path that equals Path but for case or Unicode form; "" of a collision
}

func isTwin(d Diagnostic) bool { return d.Twin != "" }

// String returns the diagnostic as one line.
func (d Diagnostic) String() string {
	if isTwin(d) {
		return fmt.Sprintf("%q and %q differ only by case or Unicode form (%s); macOS and Windows can't hold both", d.Path, d.Twin, strings.Join(d.Names, ", "))
	}
	return fmt.Sprintf("%q differs between distributions: %s's is used, as pip would, not that of %s", d.Path, d.Names[0], strings.Join(d.Names[1:], ", "))
}

// Compile returns the tree of an environment for one interpreter. Tables of
// wheels that s does not have for the interpreter's layout are made and put
// there; of a wheel with a table no file is looked at but those in directories
// that it shares. Now is the time that generated files carry.
//
// The result depends on m and py alone, and not on the order of m's wheels.
func Compile(m *Manifest, py *interp.Python, s Store, now time.Time) (*Result, error) {
	if got := PythonOf(py); got != m.Python {
		return nil, fmt.Errorf("the environment is for %s, %q is %s; compile it for another interpreter", m.Python, py.Executable, got)
	}
	v := newVenv(py)
	meta, err := m.Encode()
	if err != nil {
		return nil, err
	}
	wheels, err := m.sorted()
	if err != nil {
		return nil, err
	}
	tables, err := loadTables(wheels, v, s)
	if err != nil {
		return nil, err
	}
	c := &compiler{
		Builder: tree.NewBuilder(v.layout()),
		venv:    v,
		wheels:  wheels,
		tables:  tables,
		own:     make(map[string]bool),
	}
	c.Meta, c.Relocatable = meta, m.Relocatable
	if err := c.compile(m); err != nil {
		return nil, err
	}
	data, err := c.Build(now.Unix())
	if err != nil {
		return nil, err
	}
	t, err := tree.OpenTable(data)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(c.diagnostics, func(a, b Diagnostic) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Twin, b.Twin))
	})
	if i := slices.IndexFunc(c.diagnostics, isTwin); i >= 0 && py.Markers.SysPlatform == "darwin" {
		return nil, errors.New(c.diagnostics[i].String())
	}
	return &Result{Tree: data, Digest: t.Digest(), Diagnostics: c.diagnostics}, nil
}

// loadTables returns the wheels' tables, making those that s lacks.
func loadTables(wheels []Wheel, v *venv, s Store) ([]*tree.Table, error) {
	data := make([][]byte, len(wheels))
	var missing []int
	for i, w := range wheels {
		var err error
		data[i], err = s.Table(w.Digest, v.layout())
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, i)
		} else if err != nil {
			return nil, fmt.Errorf("%s %s: %w", w.Name, w.Version, err)
		}
	}
	if len(missing) > 0 {
		if err := makeTables(wheels, missing, data, v, s); err != nil {
			return nil, err
		}
	}
	tables := make([]*tree.Table, len(wheels))
	for i, w := range wheels {
		var err error
		if tables[i], err = tree.OpenTable(data[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", w.Name, w.Version, err)
		}
	}
	return tables, nil
}

// makeTables makes the tables of the wheels whose indexes are missing, fills
// them into data and puts them into s.
func makeTables(wheels []Wheel, missing []int, data [][]byte, v *venv, s Store) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range missing {
		g.Go(func() (err error) {
			if data[i], err = makeTable(wheels[i].Digest, v, s); err != nil {
				return fmt.Errorf("%s %s: %w", wheels[i].Name, wheels[i].Version, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	made := make(map[digest.Digest][]byte, len(missing))
	for _, i := range missing {
		made[wheels[i].Digest] = data[i]
	}
	return s.PutTables(v.layout(), made)
}

func makeTable(w digest.Digest, v *venv, s Store) ([]byte, error) {
	info, err := s.Info(w)
	if err != nil {
		return nil, err
	}
	added, err := s.WheelTime(w)
	if err != nil {
		return nil, err
	}
	return wheelTable(info, v, added.Unix(), s.ReadBlob)
}

// compiler merges the wheels' tables into a tree's own table.
type compiler struct {
	*tree.Builder
	venv        *venv
	wheels      []Wheel // sorted by name
	tables      []*tree.Table
	numbers     []uint32
	metas       []wheelMeta
	own         map[string]bool // generated files, and the directories above them
	ranks       []int           // see rank; nil until two wheels collide
	diagnostics []Diagnostic
}

func (c *compiler) compile(m *Manifest) error {
	if err := c.addTables(); err != nil {
		return err
	}
	for _, f := range c.venv.files(m) {
		if err := c.generate(f); err != nil {
			return err
		}
	}
	for i := range c.wheels {
		if err := c.describe(i); err != nil {
			return err
		}
	}
	for _, dir := range []string{c.venv.site, bin} {
		c.markOwn(dir)
		if err := c.Dir(dir); err != nil {
			return err
		}
	}
	roots := make([]claim, 0, len(c.tables))
	for i, t := range c.tables {
		root, err := t.Root()
		if err != nil {
			return fmt.Errorf("table of %s: %w", c.wheels[i].Name, err)
		}
		roots = append(roots, claim{i, root})
	}
	if err := c.merge("", roots); err != nil {
		return err
	}
	return c.explainPip()
}

// addTables numbers the tables and reads what they say of their wheels.
func (c *compiler) addTables() error {
	c.numbers, c.metas = make([]uint32, len(c.tables)), make([]wheelMeta, len(c.tables))
	for i, t := range c.tables {
		c.numbers[i] = c.Table(c.wheels[i].Digest, t)
		if err := json.Unmarshal(t.Meta(), &c.metas[i]); err != nil {
			return fmt.Errorf("%w: table of %s: %w", tree.ErrCorrupt, c.wheels[i].Name, err)
		}
		if got, want := &c.metas[i], &c.wheels[i]; got.Name != want.Name || !sameVersion(got.Version, want.Version) {
			return fmt.Errorf("wheel %s is %s %s, not %s %s: lock again", want.Digest, got.Name, got.Version, want.Name, want.Version)
		}
	}
	return nil
}

// sameVersion reports whether two spellings are of one version.
func sameVersion(a, b string) bool {
	if a == b {
		return true
	}
	v, errV := pyver.Parse(a)
	w, errW := pyver.Parse(b)
	return errV == nil && errW == nil && v.Compare(w) == 0
}

// generate adds a file that comes from no wheel.
func (c *compiler) generate(f generated) error {
	c.markOwn(f.path)
	switch f.kind {
	case tree.Symlink:
		return c.Symlink(f.path, string(f.content))
	case tree.Template:
		return c.Template(f.path, false, f.content)
	}
	return c.Inline(f.path, false, f.content)
}

// markOwn notes that path and the directories above it are not to be taken from
// a wheel's table as they are.
func (c *compiler) markOwn(path string) {
	for ok := true; ok && !c.own[path]; path, ok = parent(path) {
		c.own[path] = true
	}
}

// parent returns the directory that holds path, and whether that is not the root.
func parent(path string) (string, bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", false
	}
	return path[:i], true
}

// describe adds what installing a wheel writes into its dist-info in this
// environment but not in all: REQUESTED, direct_url.json, and RECORD with rows
// for the two.
func (c *compiler) describe(i int) error {
	w, dir := &c.wheels[i], c.metas[i].DistInfo
	var extra []generated
	if w.Requested {
		extra = append(extra, inline(dir+"/REQUESTED", ""))
	}
	if w.DirectURL != "" {
		extra = append(extra, inline(dir+"/direct_url.json", w.DirectURL))
	}
	if len(extra) == 0 {
		return nil
	}
	n, err := c.tables[i].Find(dir + "/RECORD")
	if err != nil {
		return fmt.Errorf("RECORD of %s: %w", w.Name, err)
	}
	rows, err := c.tables[i].Data(n)
	if err != nil {
		return fmt.Errorf("RECORD of %s: %w", w.Name, err)
	}
	for _, f := range extra {
		rows = insertRow(rows, strings.TrimPrefix(f.path, c.venv.site+"/"), digest.Of(f.content), int64(len(f.content)))
		if err := c.generate(f); err != nil {
			return err
		}
	}
	return c.generate(inline(dir+"/RECORD", string(rows)))
}

// A claim is what one wheel has at a path.
type claim struct {
	wheel int
	node  tree.Node
}

// A named is a child of one of the directories that merge.
type named struct {
	name string
	claim
}

// merge adds the children of directories of several wheels that are one
// directory of the environment. Path ends in a slash, or is empty at the root.
func (c *compiler) merge(path string, dirs []claim) error {
	var children []named
	for _, d := range dirs {
		t := c.tables[d.wheel]
		for i := range t.Children(d.node) {
			n, err := t.Child(d.node, i)
			if err != nil {
				return fmt.Errorf("table of %s: %w", c.wheels[d.wheel].Name, err)
			}
			children = append(children, named{string(n.Name), claim{d.wheel, n}})
		}
	}
	slices.SortStableFunc(children, func(a, b named) int { return strings.Compare(a.name, b.name) })
	c.reportTwins(path, children)
	for len(children) > 0 {
		n := 1
		for n < len(children) && children[n].name == children[0].name {
			n++
		}
		owners := make([]claim, n)
		for i := range owners {
			owners[i] = children[i].claim
		}
		if err := c.place(path+children[0].name, owners); err != nil {
			return err
		}
		children = children[n:]
	}
	return nil
}

// place adds what one or several wheels have at a path.
func (c *compiler) place(path string, owners []claim) error {
	dirs := 0
	for _, o := range owners {
		if o.node.Kind == tree.Dir {
			dirs++
		}
	}
	switch {
	case dirs > 0 && dirs < len(owners):
		return fmt.Errorf("%q is a directory in one distribution and a file in another: %s; leave one of them out", path, strings.Join(c.names(owners), ", "))
	case dirs > 0 && (len(owners) > 1 || c.own[path]):
		if err := c.Dir(path); err != nil {
			return c.reserved(path, owners)
		}
		return c.merge(path+"/", owners)
	case dirs == 0 && c.own[path]:
		if c.isDescription(path, owners) {
			return nil // written anew by describe
		}
		return c.reserved(path, owners)
	}
	winner := c.winner(path, owners)
	return c.Ref(path, c.numbers[winner.wheel], winner.node)
}

// isDescription reports whether path is the RECORD that describe replaced.
func (c *compiler) isDescription(path string, owners []claim) bool {
	return len(owners) == 1 && path == c.metas[owners[0].wheel].DistInfo+"/RECORD"
}

func (c *compiler) reserved(path string, owners []claim) error {
	return fmt.Errorf("%s brings %q, which every virtual environment has of its own", strings.Join(c.names(owners), ", "), path)
}

// winner returns the file that is served of those that wheels have at one path.
func (c *compiler) winner(path string, owners []claim) claim {
	if len(owners) == 1 {
		return owners[0]
	}
	if c.ranks == nil {
		c.ranks = rank(c.metas, c.venv.py.Markers)
	}
	slices.SortFunc(owners, func(a, b claim) int { return cmp.Compare(c.ranks[a.wheel], c.ranks[b.wheel]) })
	differ := owners[:1:1]
	for _, o := range owners[1:] {
		if !sameFile(o.node, owners[0].node) {
			differ = append(differ, o)
		}
	}
	if len(differ) > 1 {
		c.diagnostics = append(c.diagnostics, Diagnostic{Path: path, Names: c.names(differ)})
	}
	return owners[0]
}

func sameFile(a, b tree.Node) bool {
	return a.Kind == b.Kind && a.Exec == b.Exec && a.Digest == b.Digest
}

// names returns the distributions of owners, in their order.
func (c *compiler) names(owners []claim) []string {
	names := make([]string, len(owners))
	for i, o := range owners {
		names[i] = c.wheels[o.wheel].Name
	}
	return names
}

// reportTwins reports children, sorted by name, whose names a file system that
// ignores case or Unicode form takes for one. Those of a single wheel were
// reported when it was read.
func (c *compiler) reportTwins(path string, children []named) {
	first := make(map[string]named, len(children))
	for _, child := range children {
		key := fold(child.name)
		other, ok := first[key]
		switch {
		case !ok:
			first[key] = child
		case other.name != child.name && other.wheel != child.wheel:
			c.diagnostics = append(c.diagnostics, Diagnostic{
				Path:  path + other.name,
				Twin:  path + child.name,
				Names: c.names([]claim{other.claim, child.claim}),
			})
		}
	}
}

func fold(name string) string { return norm.NFC.String(strings.ToLower(name)) }

// explainPip adds bin/pip to an environment that has none.
func (c *compiler) explainPip() error {
	for _, name := range c.venv.pipNames() {
		err := c.Inline(bin+"/"+name, true, []byte(noPip))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
