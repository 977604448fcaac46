package interp

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A wish is what --python or a line of .python-version asks for: a path, a
// program's name, or properties.
type wish struct {
	path           string // an executable, or a directory that has one
	program        string // to be looked up in PATH
	implementation string // "" is any
	versions       pyver.SpecifierSet
	threads        threads
}

// A threads says which builds of CPython 3.13 and later are wanted.
type threads uint8

const (
	withGIL threads = iota // free-threaded builds are for those who ask
	freeThreaded
	eitherBuild
)

// implementations are the words that requests begin with.
var implementations = [...]struct{ word, name string }{
	{"cpython", "cpython"}, {"pypy", "pypy"}, {"graalpy", "graalpy"}, {"cp", "cpython"}, {"pp", "pypy"},
}

// parseWish reads a request in the forms that uv knows: 3, 3.12, 3.12.1, 312,
// 3.13t, >=3.11,<3.13, pypy, pypy3.10, cpython@3.12, cp312, a path, a program.
func (f *Finder) parseWish(s string) (wish, error) {
	if s == "any" || s == "default" {
		return wish{}, nil
	}
	if w, err := parseVersionWish(s); err == nil {
		return w, nil
	} else if strings.ContainsRune("<>=!~", rune(s[0])) {
		return wish{}, err
	}
	for _, i := range implementations {
		rest, ok := strings.CutPrefix(s, i.word)
		if !ok {
			continue
		}
		rest = strings.TrimLeft(rest, "@-")
		if rest == "" {
			return wish{implementation: i.name}, nil
		}
		if w, err := parseVersionWish(rest); err == nil {
			w.implementation = i.name
			return w, nil
		}
	}
	if path := f.absolute(s); strings.ContainsRune(s, filepath.Separator) || exists(path) {
		return wish{path: path, threads: eitherBuild}, nil
	}
	return wish{program: s, threads: eitherBuild}, nil
}

func parseVersionWish(s string) (wish, error) {
	if strings.ContainsRune("<>=!~", rune(s[0])) {
		set, err := pyver.ParseSpecifiers(s)
		return wish{versions: set}, err
	}
	var w wish
	text, ok := strings.CutSuffix(s, "+freethreaded")
	if t, short := strings.CutSuffix(text, "t"); short && t != "" && isDigit(t[len(t)-1]) {
		text, ok = t, true
	}
	if ok {
		w.threads = freeThreaded
	}
	v, err := pyver.Parse(text)
	if err != nil {
		return wish{}, err
	}
	release := v.Release()
	if len(release) == 1 && len(text) > 1 && release[0] >= 27 { // 312: 3.12
		return parseVersionWish(text[:1] + "." + s[1:])
	}
	spec := "==" + text
	if len(release) < 3 && !v.IsPrerelease() {
		spec += ".*"
	}
	w.versions, err = pyver.ParseSpecifiers(spec)
	return w, err
}

// refuses says why p is not what is wished for, or returns nil.
func (w wish) refuses(p *Python) error {
	switch {
	case w.implementation != "" && p.Implementation != w.implementation:
		return fmt.Errorf("is no %s", w.implementation)
	case !w.versions.IsZero() && !satisfies(p, w.versions):
		return fmt.Errorf("is not %s", w.versions)
	case w.threads == freeThreaded && !p.GILDisabled:
		return fmt.Errorf("is not free-threaded")
	case w.threads == withGIL && p.GILDisabled:
		return fmt.Errorf("is free-threaded; ask for it with --python %d.%dt", p.Version[0], p.Version[1])
	}
	return nil
}

// satisfies reports whether p's release, or the pre-release that it is, is in
// the set: 3.14.0rc2 is in >=3.14 and in ==3.14.0rc2.
func satisfies(p *Python, set pyver.SpecifierSet) bool {
	return set.Contains(p.Release(), pyver.Allow) || set.ContainsString(p.FullVersion, pyver.Allow)
}
