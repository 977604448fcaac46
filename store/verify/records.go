package verify

import (
	"bytes"
	"context"
	"hash"
	"path"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// Records compares the environment in dir, which pip or uv made, with the RECORD
// files in it. They list sizes and hashes and no times, so an edit that leaves the
// size takes a deep look. Outside site-packages whatever no RECORD lists is taken
// for the environment's own.
//
// The error wraps [ErrNoVenv] if there is no site-packages; else it is as that of
// [Tree].
func Records(ctx context.Context, dir string, o Options) (*Result, error) {
	sites, err := sitesOf(dir)
	if err != nil {
		return nil, err
	}
	all, err := installedIn(dir, sites)
	if err != nil {
		return nil, err
	}
	top := &listed{below: map[string]*listed{}}
	top.file("pyvenv.cfg", entry{kind: regular, size: -1})
	for _, site := range sites {
		top.dir(site).strict = true
	}
	var unknown []Difference
	for _, d := range all {
		if d.Broken != nil {
			top.dir(d.Info).loose = true
			unknown = append(unknown, Difference{d.Info, d.Broken.Error(), "a list of its files"})
			continue
		}
		unknown = append(unknown, top.distribution(d)...)
	}
	r, err := compare(ctx, dir, o, top)
	if err != nil {
		return nil, err
	}
	r.Unknown = unknown
	r.sort()
	return r, nil
}

// listed is a directory of which RECORD files list files.
type listed struct {
	below  map[string]*listed // directories
	files  map[string]*entry
	strict bool // what isn't listed is extra, here and below
	loose  bool // a dist-info folder without a list: nothing in it is extra
}

func (l *listed) free(name string) bool {
	return !l.strict || l.loose || slices.Contains(ownNames, name)
}

// ownNames are what makers of environments put into site-packages themselves.
var ownNames = []string{"_virtualenv.py", "_virtualenv.pth"}

func (l *listed) entries() ([]entry, error) {
	entries := make([]entry, 0, len(l.below)+len(l.files))
	for name, below := range l.below {
		below.strict = below.strict || l.strict
		entries = append(entries, entry{name: name, kind: directory, below: below})
	}
	for name, e := range l.files {
		if l.below[name] == nil { // else another distribution wants a directory
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// dir returns the directory at p, made if it isn't listed yet.
func (l *listed) dir(p string) *listed {
	if p == "." {
		return l
	}
	parent := l.dir(path.Dir(p))
	d := parent.below[path.Base(p)]
	if d == nil {
		d = &listed{below: map[string]*listed{}}
		if parent.below == nil {
			parent.below = map[string]*listed{}
		}
		parent.below[path.Base(p)] = d
	}
	return d
}

// file lists a file at p. Of two distributions that list it differently nobody
// knows whose is there: only that it is there can be asked.
func (l *listed) file(p string, e entry) {
	d := l.dir(path.Dir(p))
	if d.files == nil {
		d.files = map[string]*entry{}
	}
	e.name = path.Base(p)
	if before := d.files[e.name]; before != nil && !sameContent(before, &e) {
		e.size, e.content = -1, nil
	}
	d.files[e.name] = &e
}

func sameContent(a, b *entry) bool {
	x, ok := a.content.(recorded)
	y, same := b.content.(recorded)
	return a.size == b.size && ok == same && x.Algorithm == y.Algorithm && bytes.Equal(x.Sum, y.Sum)
}

// recorded is a content whose hash RECORD lists.
type recorded wheel.RecordSum

func (r recorded) newHash() hash.Hash   { return digest.NewHash(r.Algorithm) }
func (r recorded) sum() ([]byte, error) { return r.Sum, nil }

// distribution lists the files of d and returns what can't be compared.
func (l *listed) distribution(d *Distribution) []Difference {
	var unknown []Difference
	for _, row := range d.Rows {
		p, ok := d.Path(row.Path)
		switch {
		case !ok:
			unknown = append(unknown, Difference{row.Path, "listed by " + d.String(), "a path in the environment"})
			continue
		case path.Base(path.Dir(p)) == pycache, strings.HasSuffix(row.Path, "/"):
			continue // Python makes bytecode anew
		}
		e := entry{kind: regular, size: row.Size, follow: true}
		if row.Sum.Algorithm != "" {
			e.content = recorded(row.Sum)
		}
		if path.Dir(p) == "bin" {
			e.mode, e.bits = 0o755, ownerExec
			if !d.Finished {
				e.size, e.content = -1, nil // the installer changes the first line
			}
		}
		l.file(p, e)
	}
	if !d.Finished {
		for _, p := range d.unwritten() {
			l.file(p, entry{kind: regular, size: -1})
		}
	}
	return unknown
}

// ownerExec is the bit without which a script can't be run by its owner.
const ownerExec = 0o100

// unwritten returns what the installer would have written at the end.
func (d *Distribution) unwritten() []string {
	paths := []string{d.Info + "/INSTALLER"}
	for _, e := range d.EntryPoints {
		paths = append(paths, "bin/"+e.Name)
	}
	return paths
}
