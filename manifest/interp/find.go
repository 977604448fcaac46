package interp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/pyver"
)

// A Request says which Python an environment is for.
type Request struct {
	Python     string             // --python: a path, 3.12, 3.13t, pypy3.10, >=3.11; "" finds one
	PythonBy   string             // who gave Python, for messages; "" is --python
	Requires   pyver.SpecifierSet // the lock's requires-python
	RequiresBy string             // who requires that, for messages; "" is "the lock file"
	Dir        string             // the project, where .python-version is looked for; "" is the current directory
}

// A Finder finds interpreters. New fills the fields with this machine's; a test
// puts in its own.
type Finder struct {
	Dir     string              // what relative paths are relative to, and what a pyenv shim is asked in
	Home    string              // the user's home
	Getenv  func(string) string // the environment
	Places  []string            // directories of interpreters beside those of PATH, in order; one "*" stands for any name
	Cache   Cache               // may be nil
	Timeout time.Duration       // how long an interpreter may take to answer
}

// New returns a Finder for this machine and this process.
func New(c Cache) (*Finder, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	f := &Finder{Dir: dir, Home: os.Getenv("HOME"), Getenv: os.Getenv, Cache: c, Timeout: probeTimeout}
	f.Places = f.usualPlaces()
	return f, nil
}

// usualPlaces are where pyenv, uv, distributions, Homebrew and python.org's
// installer put interpreters.
func (f *Finder) usualPlaces() []string {
	data := cmp.Or(f.Getenv("XDG_DATA_HOME"), filepath.Join(f.Home, ".local", "share"))
	uv := cmp.Or(f.Getenv("UV_PYTHON_INSTALL_DIR"), filepath.Join(data, "uv", "python"))
	return []string{
		filepath.Join(f.pyenvRoot(), "versions", "*", "bin"),
		filepath.Join(uv, "*", "bin"),
		"/usr/bin",
		"/usr/local/bin",
		"/opt/homebrew/bin",
		"/opt/*/bin",
		"/Library/Frameworks/Python.framework/Versions/*/bin",
	}
}

// Find returns the Python that a request means on this machine.
func Find(ctx context.Context, req Request, c Cache) (*Python, error) {
	f, err := New(c)
	if err != nil {
		return nil, err
	}
	return f.Find(ctx, req)
}

// Find returns the Python that a request means: the one it names; else what the
// nearest .python-version asks for; else the base of the active virtual
// environment; else the first in PATH or the usual places that satisfies
// req.Requires. What was asked for and does not satisfy req.Requires is an error
// that names both sides.
func (f *Finder) Find(ctx context.Context, req Request) (*Python, error) {
	if req.Python != "" {
		p, err := f.wished(ctx, req)
		return req.accept(p, err)
	}
	if file := upward(f.project(req), ".python-version"); file != "" {
		versions, err := readVersionFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoPython, err)
		}
		if len(versions) > 0 {
			p, err := f.pinned(ctx, versions, file, req)
			return req.accept(p, err)
		}
	}
	if env := f.Getenv("VIRTUAL_ENV"); env != "" {
		if python := filepath.Join(f.absolute(env), "bin", "python"); exists(python) {
			p, err := f.Probe(ctx, python)
			return req.accept(withSource(p, "the active virtual environment "+env), err)
		}
	}
	return f.search(ctx, wish{}, "", req)
}

func (req Request) requirer() string { return cmp.Or(req.RequiresBy, "the lock file") }

// accept refuses a Python that was asked for when the lock excludes it.
func (req Request) accept(p *Python, err error) (*Python, error) {
	if err != nil || satisfies(p, req.Requires) {
		return p, err
	}
	return nil, fmt.Errorf("%w: %s asks for %s, but %s requires Python %s: change one of them, or name another with --python",
		ErrNoPython, p.Source, p, req.requirer(), req.Requires)
}

func withSource(p *Python, source string) *Python {
	if p != nil {
		p.Source = source
	}
	return p
}

// pinned returns the first Python of a .python-version that is there. Each line
// is a version or a named environment of pyenv, or a request as --python takes.
func (f *Finder) pinned(ctx context.Context, versions []string, file string, req Request) (*Python, error) {
	var first error
	for _, version := range versions {
		p, err := f.pinnedTo(ctx, version, file, req)
		if err == nil {
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (f *Finder) pinnedTo(ctx context.Context, version, file string, req Request) (*Python, error) {
	root := f.pyenvRoot()
	if version == "system" {
		python := cmp.Or(f.lookPath("python3", filepath.Join(root, "shims")), f.lookPath("python", filepath.Join(root, "shims")))
		if python == "" {
			return nil, fmt.Errorf("%w: %s asks for the system's Python, and PATH has none; name one with --python", ErrNoPython, file)
		}
		p, err := f.Probe(ctx, python)
		return withSource(p, file), err
	}
	if dir := pyenvDir(root, version); dir != "" {
		p, err := f.Probe(ctx, filepath.Join(dir, "bin", "python"))
		return withSource(p, file), err
	}
	// A file that comes with a project may choose among interpreters; it may not
	// name a program to be run.
	w, err := f.parseWish(version)
	if err != nil || w.path != "" || w.program != "" {
		return nil, fmt.Errorf("%w: %s asks for %q, which is neither a version nor an environment that pyenv has; install it, or name another with --python", ErrNoPython, file, version)
	}
	p, err := f.search(ctx, w, asks(file, version), req)
	return withSource(p, file), err
}

func asks(source, text string) string { return fmt.Sprintf("%s asks for %q", source, text) }

// wished returns the Python that --python means.
func (f *Finder) wished(ctx context.Context, req Request) (*Python, error) {
	source := cmp.Or(req.PythonBy, "--python")
	w, err := f.parseWish(req.Python)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNoPython, asks(source, req.Python), err)
	}
	var p *Python
	switch {
	case w.path != "":
		p, err = f.Probe(ctx, pythonIn(w.path))
	case w.program != "":
		path := f.lookPath(w.program)
		if path == "" {
			return nil, fmt.Errorf("%w: %s, which is neither a version, nor a file, nor a program in PATH", ErrNoPython, asks(source, req.Python))
		}
		p, err = f.Probe(ctx, path)
	default:
		p, err = f.search(ctx, w, asks(source, req.Python), req)
	}
	return withSource(p, source), err
}

// pythonIn returns the interpreter of a directory, be it an environment or an
// installation, and path itself for anything else.
func pythonIn(path string) string {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return path
	}
	for _, name := range []string{"bin/python3", "bin/python", "bin/pypy3", "python3", "python"} {
		if python := filepath.Join(path, name); isExecutable(python) {
			return python
		}
	}
	return filepath.Join(path, "bin", "python3")
}

// search returns the first candidate that w, which asked describes, and
// req.Requires both take. A pre-release is taken only where no final release fits.
func (f *Finder) search(ctx context.Context, w wish, asked string, req Request) (*Python, error) {
	const source = "PATH and the usual places"
	var prerelease *Python
	var refused []string
	for path := range f.candidates(ctx) {
		p, err := f.Probe(ctx, path)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && !errors.Is(err, ErrNoPython) {
			return nil, err
		}
		if err != nil {
			refused = append(refused, reason(path, err))
			continue
		}
		err = w.refuses(p)
		if err == nil && !satisfies(p, req.Requires) {
			err = fmt.Errorf("is not %s", req.Requires)
		}
		switch {
		case err != nil:
			refused = append(refused, fmt.Sprintf("%s %v", p, err))
		case !p.isPrerelease():
			return withSource(p, source), nil
		case prerelease == nil:
			prerelease = withSource(p, source)
		}
	}
	if prerelease != nil {
		return prerelease, nil
	}
	return nil, noneFits(refused, asked, req)
}

// noneFits is the error of a search: what was looked for, and why nothing that
// was found is it.
func noneFits(refused []string, asked string, req Request) error {
	var looked []string
	if asked != "" {
		looked = append(looked, asked)
	}
	if !req.Requires.IsZero() {
		looked = append(looked, fmt.Sprintf("%s requires Python %s", req.requirer(), req.Requires))
	}
	if len(looked) == 0 {
		looked = append(looked, fmt.Sprintf("sitefs needs Python %d.%d or newer", oldest[0], oldest[1]))
	}
	what := strings.Join(looked, " and ")
	if len(refused) == 0 {
		return fmt.Errorf("%w: %s, and none is in PATH and the usual places; install one, or name one with --python", ErrNoPython, what)
	}
	return fmt.Errorf("%w: %s, and none of those found fits; install one, or name one with --python:\n  %s", ErrNoPython, what, strings.Join(refused, "\n  "))
}

// reason says in one line why a candidate can't be used, without the advice
// that Probe gives to somebody who named it.
func reason(path string, err error) string {
	for {
		inner, ok := err.(interface{ Unwrap() []error })
		if !ok {
			break
		}
		errs := inner.Unwrap()
		err = errs[len(errs)-1]
	}
	return path + ": " + err.Error()
}

// candidates yields the interpreters of PATH and then of the usual places, each
// binary once, however many names, links and shims lead to it.
func (f *Finder) candidates(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := make(map[string]bool)
		for dir := range f.directories() {
			for _, path := range interpretersIn(dir) {
				base, err := f.resolve(ctx, path)
				if _, shim := shimRoot(path); shim && err != nil {
					continue // pyenv has the program in a version that is not chosen
				}
				if err != nil {
					base = path // Probe says what is wrong with it
				}
				real, err := filepath.EvalSymlinks(base)
				if err != nil || seen[real] {
					continue // a dangling link is no interpreter
				}
				seen[real] = true
				if !yield(path) {
					return
				}
			}
		}
	}
}

// directories yields where interpreters may be.
func (f *Finder) directories() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, dir := range filepath.SplitList(f.Getenv("PATH")) {
			if !yield(f.absolute(cmp.Or(dir, "."))) {
				return
			}
		}
		for _, place := range f.Places {
			dirs := expand(place)
			slices.SortStableFunc(dirs, func(a, b string) int { return compareNumbers(b, a) })
			for _, dir := range dirs {
				if !yield(dir) {
					return
				}
			}
		}
	}
}

// expand returns the directories that a place may stand for, there or not. It
// reads the folder above the star and no other: filepath.Glob would read every
// directory that the star stands for, at each start of a known environment.
func expand(place string) []string {
	above, below, ok := strings.Cut(place, "*")
	if !ok {
		return []string{place}
	}
	entries, err := os.ReadDir(above)
	if err != nil {
		return nil // not there, like most places
	}
	dirs := make([]string, len(entries))
	for i, e := range entries {
		dirs[i] = above + e.Name() + below
	}
	return dirs
}

// interpretersIn returns the files of a directory that are named like
// interpreters: python3 and python, whose names say that they are meant, then
// the highest version first. An unreadable directory has none.
func interpretersIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		if isInterpreterName(e.Name()) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortStableFunc(paths, func(a, b string) int {
		return cmp.Or(cmp.Compare(plainness(a), plainness(b)), compareNumbers(b, a))
	})
	return paths
}

func plainness(path string) int {
	switch filepath.Base(path) {
	case "python3":
		return 0
	case "python":
		return 1
	}
	return 2
}

// isInterpreterName tells python3.12 and pypy3 from python3-config and python2.
func isInterpreterName(name string) bool {
	for _, prefix := range []string{"python", "pypy"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return !strings.HasPrefix(rest, "2") && strings.Trim(strings.TrimSuffix(rest, "t"), "0123456789.") == ""
		}
	}
	return false
}

func (f *Finder) absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.Dir, path)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
