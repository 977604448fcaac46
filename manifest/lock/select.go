package lock

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tag"
)

// Options say what of a lock file is wanted. Names may be in any spelling.
type Options struct {
	Extras    []string // extras of the locked project
	AllExtras bool

	Groups          []string // dependency groups, beside the default ones
	NoGroups        []string // without these, default ones or not
	NoDefaultGroups bool     // without those that Groups doesn't name
	AllGroups       bool

	Requested []string // packages that the user asked for by name
}

// Select returns the pins that the lock file has for py, in the file's order
// (PEP 751, "Installing"). An error about the interpreter rather than the file
// is an [ErrPython], or an [ErrNoWheel] that names every package concerned.
func (l *Pylock) Select(py *interp.Python, o Options) ([]Pin, error) {
	t := newTarget(py)
	extras, err := l.extras(o)
	if err != nil {
		return nil, err
	}
	groups, err := l.groups(o)
	if err != nil {
		return nil, err
	}
	sources, err := l.sources(t, extras, groups)
	if err != nil {
		return nil, err
	}
	if err := t.wheelsOnly(sources); err != nil {
		return nil, err
	}
	requested := canonicalSet(o.Requested)
	pins := make([]Pin, len(sources))
	for i, s := range sources {
		if pins[i], err = l.pin(s); err != nil {
			return nil, fmt.Errorf("package %s: %w", s.pkg, err)
		}
		pins[i].Requested = requested[s.pkg.name]
	}
	return pins, nil
}

// extras returns the extras that o asks for, in the lock file's spelling.
func (l *Pylock) extras(o Options) ([]string, error) {
	if o.AllExtras {
		return l.Extras, nil
	}
	extras := []string{}
	for _, name := range o.Extras {
		extra, ok := find(l.Extras, name)
		if !ok {
			return nil, fmt.Errorf("the lock file has no extra %q, it has %s", name, enumerate(l.Extras))
		}
		extras = append(extras, extra)
	}
	return extras, nil
}

// groups returns the dependency groups that o asks for, in the lock file's
// spelling. A default group may be one that Groups doesn't list: it is
// the locking tool's own name for what is installed by default.
func (l *Pylock) groups(o Options) ([]string, error) {
	all := slices.Concat(l.DefaultGroups, l.Groups)
	groups := []string{}
	switch {
	case o.AllGroups:
		groups = all
	case !o.NoDefaultGroups:
		groups = slices.Clone(l.DefaultGroups)
	}
	for _, name := range o.Groups {
		group, ok := find(all, name)
		if !ok {
			return nil, fmt.Errorf("the lock file has no dependency group %q, it has %s", name, enumerate(all))
		}
		groups = append(groups, group)
	}
	without := canonicalSet(o.NoGroups)
	return slices.DeleteFunc(groups, func(g string) bool { return without[pyver.CanonicalName(g)] }), nil
}

func find(names []string, name string) (string, bool) {
	i := slices.IndexFunc(names, func(n string) bool { return pyver.CanonicalName(n) == pyver.CanonicalName(name) })
	if i < 0 {
		return "", false
	}
	return names[i], true
}

func canonicalSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[pyver.CanonicalName(n)] = true
	}
	return set
}

func enumerate(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// A target is the interpreter that packages and wheels are chosen for.
type target struct {
	name    string // for messages
	version pyver.Version
	markers marker.Environment
	tags    tag.Set
}

func newTarget(py *interp.Python) *target {
	return &target{name: py.String(), version: py.Release(), markers: py.Markers, tags: tag.NewSet(py.Tags)}
}

// A source is a package of the lock file that is to be installed and, unless it
// has none that fits, its wheel.
type source struct {
	pkg   *pkg
	wheel *wheelFile
}

// sources walks the lock file by the steps of PEP 751.
func (l *Pylock) sources(t *target, extras, groups []string) ([]source, error) {
	if !l.RequiresPython.Contains(t.version, pyver.Allow) {
		return nil, refuse(ErrPython, "the lock file is for Python %s, found %s: lock again for it, or choose another with --python", l.RequiresPython, t.name)
	}
	if err := l.checkEnvironments(t); err != nil {
		return nil, err
	}
	env := t.markers
	env.Context, env.Extras, env.DependencyGroups = marker.LockFile, extras, groups
	chosen := map[string]int{}
	var sources []source
	for i, p := range l.packages {
		if p.marker != nil {
			ok, err := p.marker.Eval(env)
			if err != nil {
				return nil, &FieldError{Path: fmt.Sprintf("packages[%d].marker", i), Err: err}
			}
			if !ok {
				continue
			}
		}
		if !p.requiresPython.Contains(t.version, pyver.Allow) {
			return nil, refuse(ErrPython, "packages[%d]: %s is for Python %s, found %s: lock again for it, or choose another with --python", i, p, p.requiresPython, t.name)
		}
		if first, twice := chosen[p.name]; twice {
			return nil, fmt.Errorf("packages[%d] and packages[%d] are both %q and both wanted here: a lock file must leave one choice, lock again", first, i, p.name)
		}
		chosen[p.name] = i
		sources = append(sources, source{pkg: p, wheel: t.best(p.wheels)})
	}
	return sources, nil
}

func (l *Pylock) checkEnvironments(t *target) error {
	var texts []string
	for i, m := range l.environments {
		env := t.markers
		env.Context = marker.RequirementLine // neither extras nor groups
		ok, err := m.Eval(env)
		if err != nil {
			return &FieldError{Path: fmt.Sprintf("environments[%d]", i), Err: err}
		}
		if ok {
			return nil
		}
		texts = append(texts, m.String())
	}
	if len(texts) == 0 {
		return nil
	}
	return refuse(ErrPython, "the lock file is for environments with %s, which %s isn't: lock again for it, or choose another with --python", strings.Join(texts, " or "), t.name)
}

// best returns the wheel that suits the target best, nil if none does: the one
// with the best tag, of equal ones that with the highest build tag, of equal
// ones the first.
func (t *target) best(wheels []wheelFile) *wheelFile {
	var best *wheelFile
	bestRank := 0
	for i := range wheels {
		w := &wheels[i]
		rank, ok := t.tags.Best(w.parsed.Tags)
		if !ok {
			continue
		}
		if best == nil || rank < bestRank || rank == bestRank && w.parsed.Build.Compare(best.parsed.Build) > 0 {
			best, bestRank = w, rank
		}
	}
	return best
}

// pin turns a chosen wheel into a pin: hashes that count, places made absolute.
func (l *Pylock) pin(s source) (Pin, error) {
	hashes := make(map[string]string, len(s.wheel.hashes))
	for algorithm, digits := range s.wheel.hashes {
		hashes[algorithm] = digits.(string)
	}
	hashes, err := Strong(hashes)
	if err != nil {
		return Pin{}, fmt.Errorf("%s: %w", s.wheel.name, err)
	}
	pin := Pin{
		Name:     s.pkg.name,
		Version:  s.pkg.version,
		Filename: s.wheel.name,
		Path:     s.wheel.path,
		Index:    s.pkg.index,
		Size:     s.wheel.size,
		Hashes:   hashes,
		Direct:   s.pkg.archive != nil,
	}
	if pin.Version == "" {
		pin.Version = s.wheel.parsed.RawVersion
	}
	if pin.Path != "" && !filepath.IsAbs(pin.Path) {
		pin.Path = filepath.Join(l.dir, filepath.FromSlash(pin.Path))
	}
	if err := pin.setURL(s.wheel.url); err != nil {
		return Pin{}, err
	}
	return pin, nil
}

func (p *Pin) setURL(text string) error {
	if text == "" {
		return nil
	}
	if path, ok := FilePath(text); ok {
		if p.Path == "" {
			p.Path = path
		}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("url %q isn't one to fetch a wheel from, want an absolute http, https or file URL", Redacted(text))
	}
	p.URL = text
	return nil
}

// String names the package to the user.
func (p *pkg) String() string { return strings.TrimSpace(p.name + " " + p.version) }
