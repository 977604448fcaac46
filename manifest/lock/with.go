package lock

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tag"
)

// A With is what one --with asks for. Exactly one of Requirement, Wheel and Dir
// is set.
type With struct {
	Requirement string // a requirement (PEP 508) for the resolver
	Name        string // canonical, of the Requirement or the Wheel

	Wheel  string   // absolute path of a wheel
	Extras []string // of the Wheel

	Dir string // absolute path of a folder, every package of which is meant
}

// ParseWith reads the argument of --with as pip reads one: a requirement, the
// path or URL of a wheel, or, where it has a "/" or is "." or "..", a folder of
// wheels. Relative paths are relative to dir.
func ParseWith(arg, dir string) (With, error) {
	arg = strings.TrimSpace(arg)
	if arg == "" {
		return With{}, fmt.Errorf("--with %q names nothing, want a requirement, a wheel or a folder of wheels", arg)
	}
	place, extras, err := cutExtras(arg)
	if err != nil {
		return With{}, fmt.Errorf("--with %q: %w", arg, err)
	}
	if path, ok := FilePath(place); ok {
		return withPath(arg, path, extras)
	}
	if isPath(place) {
		if !filepath.IsAbs(place) {
			place = filepath.Join(dir, place)
		}
		return withPath(arg, filepath.Clean(place), extras)
	}
	if isURL(place) {
		return withURL(arg, place, extras)
	}
	return withRequirement(arg)
}

// cutExtras splits "x.whl[a,b]". A requirement keeps its extras.
func cutExtras(arg string) (place string, extras []string, err error) {
	place, list, ok := strings.Cut(arg, ".whl[")
	if !ok || !strings.HasSuffix(list, "]") {
		return arg, nil, nil
	}
	// A requirement's own grammar says what extras may be.
	r, err := marker.ParseRequirement("x[" + list)
	return place + ".whl", r.Extras, err
}

// isPath tells a path from a URL and a requirement as pip does, without asking
// the disk. No requirement begins with a dot or a slash.
func isPath(s string) bool {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "/") {
		return true
	}
	reference := strings.Contains(s, "://") || strings.Contains(s, " @") // name @ URL
	return !reference && (strings.Contains(s, "/") || isArchive(s))
}

// isURL tells a URL from "name @ URL".
func isURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && !strings.ContainsAny(scheme, " @")
}

// isArchive reports whether s ends like the file of a package.
func isArchive(s string) bool {
	s = strings.ToLower(s)
	return slices.ContainsFunc([]string{".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz"}, func(suffix string) bool {
		return strings.HasSuffix(s, suffix)
	})
}

func withPath(arg, path string, extras []string) (With, error) {
	switch {
	case strings.HasSuffix(path, ".whl"):
		name, err := tag.ParseWheelName(filepath.Base(path))
		if err != nil {
			return With{}, fmt.Errorf("--with %q: %w", arg, err)
		}
		return With{Wheel: path, Name: name.Name, Extras: extras}, nil
	case isArchive(path):
		return With{}, refuse(ErrNoWheel, "--with %q is no wheel, and sitefs builds nothing: make one of it (pip wheel, uv build) and name that", arg)
	}
	return With{Dir: path}, nil
}

func withURL(arg, u string, extras []string) (With, error) {
	f := file{url: u}
	name, err := tag.ParseWheelName(f.fileName(""))
	if err != nil {
		return With{}, refuse(ErrNoWheel, "--with %q isn't the URL of a wheel, and sitefs builds nothing: make one of it (pip wheel, uv build) and name that", Redacted(arg))
	}
	return With{Name: name.Name, Requirement: reference(name.RawName, extras, u)}, nil
}

func withRequirement(arg string) (With, error) {
	r, err := marker.ParseRequirement(arg)
	if err != nil {
		return With{}, fmt.Errorf("--with is no requirement such as \"numpy>=2\", and no path (a path has a \"/\"): %s", Redacted(err.Error()))
	}
	if path, ok := FilePath(r.URL); ok && r.Marker == nil {
		w, err := withPath(arg, path, r.Extras)
		if err == nil && w.Name != pyver.CanonicalName(r.Name) {
			err = fmt.Errorf("--with %q: the file isn't a wheel of %s", arg, r.Name)
		}
		return w, err
	}
	return With{Requirement: arg, Name: pyver.CanonicalName(r.Name)}, nil
}

// Reference returns the requirement that stands for a wheel file: name @ URL.
func (w With) Reference() string { return reference(w.Name, w.Extras, FileURL(w.Wheel)) }

func reference(name string, extras []string, u string) string {
	if len(extras) > 0 {
		name += "[" + strings.Join(extras, ",") + "]"
	}
	return name + " @ " + u
}

// ChooseWheels chooses from the file names of a folder one wheel per package:
// the newest version that py takes, and of that the best wheel. Names that
// aren't those of wheels are passed over. The notes say what newer or other
// version was left; a package without a wheel for py is an [ErrNoWheel].
func ChooseWheels(names []string, py *interp.Python) (chosen, notes []string, err error) {
	t := newTarget(py)
	packages := map[string][]wheelFile{}
	for _, name := range names {
		if !strings.HasSuffix(name, ".whl") {
			continue
		}
		w := wheelFile{file: file{name: name}}
		if w.parsed, err = tag.ParseWheelName(name); err != nil {
			return nil, nil, err
		}
		packages[w.parsed.Name] = append(packages[w.parsed.Name], w)
	}
	for _, name := range slices.Sorted(maps.Keys(packages)) { // the same package is refused every time
		wheels := packages[name]
		best := t.newest(wheels)
		if best == nil {
			return nil, nil, refuse(ErrNoWheel, "no wheel of %s here fits: found %s, %s takes %s", name, offers(wheels), t.name, t.takes())
		}
		chosen = append(chosen, best.name)
		if left := otherVersions(wheels, best.parsed.Version); len(left) > 0 {
			notes = append(notes, fmt.Sprintf("of %s the wheel of version %s is used, not of %s", name, best.parsed.RawVersion, strings.Join(left, ", ")))
		}
	}
	slices.Sort(chosen)
	slices.Sort(notes)
	return chosen, notes, nil
}

// newest returns the best wheel of the newest version that has one.
func (t *target) newest(wheels []wheelFile) *wheelFile {
	slices.SortStableFunc(wheels, func(a, b wheelFile) int { return b.parsed.Version.Compare(a.parsed.Version) })
	for len(wheels) > 0 {
		same := 1
		for same < len(wheels) && wheels[same].parsed.Version.Compare(wheels[0].parsed.Version) == 0 {
			same++
		}
		if best := t.best(wheels[:same]); best != nil {
			return best
		}
		wheels = wheels[same:]
	}
	return nil
}

// otherVersions returns the versions besides v, newest first as wheels are.
func otherVersions(wheels []wheelFile, v pyver.Version) []string {
	var versions []string
	for _, w := range wheels {
		if w.parsed.Version.Compare(v) != 0 {
			versions = append(versions, w.parsed.RawVersion)
		}
	}
	return slices.Compact(versions)
}
