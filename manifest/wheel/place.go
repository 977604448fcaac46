package wheel

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sitefs/sitefs/manifest/digest"
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
	case Purelib, Platlib:
		if top, _, _ := strings.Cut(p.path, "/"); strings.HasSuffix(top, ".dist-info") {
			return invalidf("file %q would install a second %q directory or change the first", path, "*.dist-info")
		}
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

// placeFiles decides where each file goes.
func (w *Wheel) placeFiles(l *listing) error {
	points := make(map[string]bool, len(w.info.EntryPoints))
	for _, p := range w.info.EntryPoints {
		points[p.Name] = true
	}
	type placed struct {
		place
		member int
	}
	at := make(map[place]int, len(l.byPath)) // by shared root, the index into files
	var files []placed
	for m, path := range l.paths {
		if path == "" {
			continue
		}
		p, err := spread(path, l.dataDir, w.info.Purelib)
		if err != nil {
			return err
		}
		if inBytecode(path) || l.isReplaced(path) || p.scheme == Scripts && isWrapper(p.path, points) {
			w.rest = append(w.rest, m)
			continue
		}
		if first, again := at[p.root()]; again {
			if err := w.addTwin(files[first].member, m); err != nil {
				return err
			}
			continue
		}
		at[p.root()] = len(files)
		files = append(files, placed{p, m})
	}
	slices.SortFunc(files, func(a, b placed) int { return a.compare(b.place) })
	for _, f := range files {
		file, err := w.file(f.place, f.member)
		if err != nil {
			return err
		}
		w.info.Files = append(w.info.Files, file)
		w.files = append(w.files, f.member)
	}
	return w.checkPlaces()
}

// isReplaced reports whether an installer writes a file of its own at path.
func (l *listing) isReplaced(path string) bool {
	name, ok := strings.CutPrefix(path, l.distInfo+"/")
	return ok && (name == "RECORD" || name == "INSTALLER" || name == "REQUESTED" || name == "direct_url.json")
}

// Unix file types, in the high half of a member's attributes. They count
// whatever system the archive says it was made on: Python's zipfile writes
// them and pip acts on them so.
const (
	typeMask    = 0o170000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

// file describes what member m becomes at p.
func (w *Wheel) file(p place, m int) (File, error) {
	src := &w.archive.members[m]
	mode := src.attrs >> 16
	f := File{
		Scheme: p.scheme,
		Path:   p.path,
		Exec:   mode&typeMask == typeRegular && mode&0o111 != 0,
		Size:   src.size,
	}
	if mode&typeMask == typeSymlink {
		w.info.warnf("%q is a symbolic link in the archive; it becomes a file that holds the link's target", src.name)
	}
	if sum := w.sums[m]; sum.Algorithm == "sha256" && !w.opt.AllowBadRecord {
		f.Digest = digest.Digest(sum.Sum)
	}
	if p.scheme != Scripts {
		return f, nil
	}
	f.Exec = true
	var err error
	f.Python, err = w.archive.startsWith(src, "#!python")
	return f, err
}

// checkPlaces refuses a file where another file's directory is, and warns of
// names that some filesystems hold to be one.
func (w *Wheel) checkPlaces() error {
	dirs := map[place]bool{}
	folded := make(map[place]string, len(w.info.Files))
	fold := cases.Fold()
	for i := range w.info.Files {
		p := place{w.info.Files[i].Scheme, w.info.Files[i].Path}.root()
		for dir := p; ; {
			slash := strings.LastIndexByte(dir.path, '/')
			if slash < 0 {
				break
			}
			dir.path = dir.path[:slash]
			if dirs[dir] {
				break // and so are its parents
			}
			dirs[dir] = true
		}
		key := place{p.scheme, foldPath(fold, p.path)}
		if other, ok := folded[key]; ok {
			w.info.warnf("%q and %q differ only by case or Unicode form: a filesystem that ignores these can't hold both", other, p.path)
		}
		folded[key] = p.path
	}
	for i := range w.info.Files {
		p := place{w.info.Files[i].Scheme, w.info.Files[i].Path}
		if dirs[p.root()] {
			return invalidf("%q in %s is a file and a directory", p.path, p.scheme)
		}
	}
	return nil
}

// foldPath returns the form that paths share which differ only by case or by
// Unicode normalisation.
func foldPath(fold cases.Caser, path string) string {
	for i := range len(path) {
		if path[i] >= 0x80 {
			return norm.NFC.String(fold.String(norm.NFC.String(path)))
		}
	}
	return strings.ToLower(path)
}
