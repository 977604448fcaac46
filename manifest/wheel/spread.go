package wheel

import (
	"cmp"
	"strings"
)

// cleanPath returns the path that the member name stands for, relative to the
// archive's root: "./a" and "a//b" lose what means nothing. It is empty for
// the root itself.
func cleanPath(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", invalidf("member %q is an absolute path", name)
	}
	clean := true
	rest := strings.TrimSuffix(name, "/")
	for part := range strings.SplitSeq(rest, "/") {
		switch {
		case part == "..":
			return "", invalidf("member %q has a component %q", name, part)
		case len(part) > maxComponent:
			return "", invalidf("member %q has a component of %d bytes, want at most %d", name, len(part), maxComponent)
		case part == "" || part == ".":
			clean = false
		}
	}
	if clean {
		return rest, nil
	}
	var parts []string
	for part := range strings.SplitSeq(rest, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), nil
}

// A place is where a file of the archive goes.
type place struct {
	scheme Scheme
	path   string
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.scheme, q.scheme), cmp.Compare(p.path, q.path))
}

// root returns the place in the directory that Purelib and Platlib share.
func (p place) root() place {
	if p.scheme == Platlib {
		p.scheme = Purelib
	}
	return p
}

// spread returns the place of the file at path: under .data the scheme that
// the path names, elsewhere site-packages. dataDir is this wheel's .data
// directory, empty if it has none.
func spread(path, dataDir string, purelib bool) (place, error) {
	top, rest, _ := strings.Cut(path, "/")
	if top != dataDir {
		if purelib {
			return place{Purelib, path}, nil
		}
		return place{Platlib, path}, nil
	}
	key, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return place{}, invalidf("file %q lies directly in the .data directory, want it in one of %s", path, strings.Join(schemes[:], ", "))
	}
	scheme, ok := parseScheme(key)
	if !ok {
		return place{}, invalidf("file %q: %q is no scheme, want one of %s", path, key, strings.Join(schemes[:], ", "))
	}
	p := place{scheme, rest}
	return p, p.check(path)
}

// check refuses what no wheel may put at p; path is the file in the archive.
func (p place) check(path string) error {
	switch p.scheme {
	case Scripts:
		if strings.Contains(p.path, "/") {
			return invalidf("file %q: scripts go into bin, which has no subdirectories", path)
		}
		if isReservedScript(p.path) {
			return reservedf("file", path)
		}
	case Data:
		top, _, _ := strings.Cut(p.path, "/")
		switch top {
		case "pyvenv.cfg", "lib64", ".gitignore", "CACHEDIR.TAG":
			return reservedf("file", path)
		case "bin":
			if isReservedScript(strings.TrimPrefix(p.path, "bin/")) {
				return reservedf("file", path)
			}
		}
	}
	return nil
}

// isReservedScript reports whether a venv has a file of this name in bin of
// its own: an interpreter (python, python3.13t, pypy3) or an activate script.
// Names that only start alike (python-argcomplete-check) are for all.
func isReservedScript(name string) bool {
	name = strings.ToLower(name)
	if rest, ok := strings.CutPrefix(name, "activate"); ok {
		return rest == "" || rest[0] == '.' || rest == "_this.py"
	}
	for _, python := range []string{"python", "pypy"} {
		if rest, ok := strings.CutPrefix(name, python); ok {
			return strings.Trim(rest, "0123456789.tw") == ""
		}
	}
	return false
}

func reservedf(what, name string) error {
	return invalidf("%s %q takes the place of a file that every virtual environment has", what, name)
}

// inBytecode reports whether path lies in, or is, a __pycache__.
func inBytecode(path string) bool {
	if !strings.Contains(path, "__pycache__") {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "__pycache__" {
			return true
		}
	}
	return false
}

// isWrapper reports whether the script name is what an older installer
// generated for one of the entry points: pip passes over the same names.
func isWrapper(name string, points map[string]bool) bool {
	lower := strings.ToLower(name)
	for _, suffix := range []string{".exe", "-script.py", ".pya"} {
		if strings.HasSuffix(lower, suffix) {
			name = name[:len(name)-len(suffix)]
			break
		}
	}
	return points[name]
}
