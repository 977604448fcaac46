package lock

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tag"
)

// A Pylock is a pylock.toml, checked.
type Pylock struct {
	RequiresPython pyver.SpecifierSet // what a Python must satisfy, zero for any

	// Extras and Groups are what a user may choose, DefaultGroups what is
	// installed where the user doesn't.
	Extras        []string
	Groups        []string
	DefaultGroups []string

	// Warnings are sentences for the user about a file that is read all the same.
	Warnings []string

	dir          string // relative paths start here
	environments []*marker.Marker
	packages     []*pkg
}

// A pkg is an element of packages. It has wheels, an sdist or both, or else
// exactly one of archive, directory and vcs; an archive that is a wheel is
// among the wheels too.
type pkg struct {
	name           string
	version        string // "" if the file doesn't say
	marker         *marker.Marker
	requiresPython pyver.SpecifierSet
	index          string

	wheels    []wheelFile
	sdist     *file
	archive   *file
	directory string // its path
	vcs       string // its URL or path
}

// A file is where an archive is, and what is known of it.
type file struct {
	name   string // of the file itself
	url    string
	path   string
	size   int64
	hashes map[string]any // strings all
}

type wheelFile struct {
	file
	parsed tag.WheelName
}

// ReadPylock reads a pylock.toml (PEP 751, lock-version 1). Its relative paths
// are relative to dir, the absolute folder that holds the file. An error about
// one value of the file is a [*FieldError].
func ReadPylock(data []byte, dir string) (*Pylock, error) {
	var values map[string]any
	if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &values); err != nil {
		return nil, fmt.Errorf("not a TOML file: %w: mend it there, or lock again", position(err))
	}
	root := &table{index: -1, values: values, errs: new(errorList)}
	l := &Pylock{dir: dir}
	if err := l.checkVersion(root); err != nil {
		return nil, err
	}
	l.read(root)
	if root.errs.first != nil {
		return nil, root.errs.first
	}
	return l, nil
}

// position adds line and column to an error of the TOML reader.
func position(err error) error {
	var syntax *toml.DecodeError
	if !errors.As(err, &syntax) {
		return err
	}
	line, column := syntax.Position()
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

// checkVersion comes before all else: a file of another major version may mean
// anything by its other keys.
func (l *Pylock) checkVersion(root *table) error {
	text, _ := required[string](root, "lock-version")
	if root.errs.first != nil {
		return root.errs.first
	}
	v, err := pyver.Parse(text)
	if err != nil {
		return &FieldError{Path: "lock-version", Err: err}
	}
	major, minor := v.Release()[0], 0
	if r := v.Release(); len(r) > 1 {
		minor = r[1]
	}
	switch {
	case major != 1:
		return fmt.Errorf("found lock-version %q, want 1.0: lock again with a tool that writes lock-version 1.0, or use a newer sitefs", text)
	case minor > 0:
		l.Warnings = append(l.Warnings, fmt.Sprintf("lock-version %q is newer than 1.0: what it adds is ignored", text))
	}
	return nil
}

func (l *Pylock) read(root *table) {
	required[string](root, "created-by")
	l.RequiresPython, _ = parsed(root, "requires-python", pyver.ParseSpecifiers)
	l.environments = markers(root, "environments")
	l.Extras = list[string](root, "extras")
	for i, extra := range l.Extras {
		if !pyver.IsCanonicalName(extra) {
			root.failf(fmt.Sprintf("extras[%d]", i), "found %q, want a normalized name such as %q", extra, pyver.CanonicalName(extra))
		}
	}
	l.Groups = list[string](root, "dependency-groups")
	l.DefaultGroups = list[string](root, "default-groups")
	root.table("tool")
	required[[]any](root, "packages")
	packages := root.tables("packages")
	for i := range packages {
		l.packages = append(l.packages, readPackage(&packages[i]))
	}
}

func markers(t *table, key string) []*marker.Marker {
	var ms []*marker.Marker
	for i, text := range list[string](t, key) {
		m, err := marker.Parse(text)
		if err != nil {
			t.failf(fmt.Sprintf("%s[%d]", key, i), "%w", err)
		}
		ms = append(ms, m)
	}
	return ms
}

func readPackage(t *table) *pkg {
	p := new(pkg)
	p.name, _ = required[string](t, "name")
	if !pyver.IsCanonicalName(p.name) {
		t.failf("name", "found %q, want a normalized name such as %q", p.name, pyver.CanonicalName(p.name))
	}
	v, _ := parsed(t, "version", pyver.Parse)
	p.version, _ = value[string](t, "version")
	p.marker, _ = parsed(t, "marker", marker.Parse)
	p.requiresPython, _ = parsed(t, "requires-python", pyver.ParseSpecifiers)
	p.index, _ = value[string](t, "index")
	t.tables("dependencies")
	t.table("tool")
	identities := t.tables("attestation-identities")
	for i := range identities {
		required[string](&identities[i], "kind")
	}
	p.readSources(t, v)
	return p
}

// readSources reads where the package comes from: exactly one kind of source.
func (p *pkg) readSources(t *table, version pyver.Version) {
	var kinds []string
	wheels := t.tables("wheels")
	p.wheels = make([]wheelFile, 0, len(wheels))
	for i := range wheels {
		p.wheels = append(p.wheels, readWheel(&wheels[i], p.name, version))
	}
	if s := t.table("sdist"); s != nil {
		p.sdist = readSdist(s, p.name, version)
	}
	if len(p.wheels) > 0 || p.sdist != nil {
		kinds = append(kinds, "wheels or sdist")
	}
	if a := t.table("archive"); a != nil {
		p.readArchive(a, version)
		kinds = append(kinds, "archive")
	}
	if d := t.table("directory"); d != nil {
		p.directory, _ = required[string](d, "path")
		value[bool](d, "editable")
		value[string](d, "subdirectory")
		kinds = append(kinds, "directory")
	}
	if c := t.table("vcs"); c != nil {
		p.vcs = readVCS(c)
		kinds = append(kinds, "vcs")
	}
	switch len(kinds) {
	case 0:
		t.failf("", "no source, want wheels, sdist, archive, directory or vcs")
	case 1:
	default:
		t.failf("", "found %s side by side, want one kind of source", strings.Join(kinds, ", "))
	}
}

// readArchive reads an archive, which is one of sources, or a wheel: so do
// resolvers record a wheel that was named by its path or URL.
func (p *pkg) readArchive(t *table, version pyver.Version) {
	value[string](t, "subdirectory")
	f := readFile(t)
	p.archive = &f
	if strings.HasSuffix(f.name, ".whl") {
		p.wheels = []wheelFile{readWheel(t, p.name, version)}
	}
}

func readVCS(t *table) string {
	required[string](t, "type")
	required[string](t, "commit-id")
	value[string](t, "requested-revision")
	value[string](t, "subdirectory")
	return location(t).where()
}

// location reads url and path, of which one must be there.
func location(t *table) file {
	var f file
	f.url, _ = value[string](t, "url")
	f.path, _ = value[string](t, "path")
	if f.url == "" && f.path == "" {
		t.failf("", "neither url nor path, want one of them")
	}
	return f
}

// where says where the file is, to the user.
func (f file) where() string {
	if f.path != "" {
		return f.path
	}
	return Redacted(f.url)
}

func readFile(t *table) file {
	f := location(t)
	name, _ := value[string](t, "name")
	f.name = f.fileName(name)
	f.size, _ = value[int64](t, "size")
	if f.size < 0 {
		t.failf("size", "found %d, want a number of bytes", f.size)
	}
	f.hashes = readHashes(t)
	checkUploadTime(t)
	return f
}

// fileName is the name if the lock file gives one, else the last part of the
// path, which may be a Windows one, else of the URL.
func (f file) fileName(name string) string {
	switch {
	case name != "":
		return name
	case strings.Contains(f.path, "/"):
		return f.path[strings.LastIndexByte(f.path, '/')+1:]
	case f.path != "":
		return f.path[strings.LastIndexByte(f.path, '\\')+1:]
	}
	u, _, _ := strings.Cut(f.url, "#")
	u, _, _ = strings.Cut(u, "?")
	last := u[strings.LastIndexByte(u, '/')+1:]
	if decoded, err := url.PathUnescape(last); err == nil {
		return decoded
	}
	return last
}

// readHashes reads the table of hashes. Which of them count is asked when the
// file is chosen: a lock file may list one for another platform as it likes.
func readHashes(t *table) map[string]any {
	hashes, ok := value[map[string]any](t, "hashes")
	if _, there := t.values["hashes"]; !there {
		t.failf("hashes", "missing, and a file without a hash can't be checked")
	}
	if ok && len(hashes) == 0 {
		t.failf("hashes", "empty, want at least one hash")
	}
	for algorithm, digits := range hashes {
		if _, ok := digits.(string); !ok {
			t.failf("hashes."+algorithm, "found %s, want a string", kind(digits))
		}
	}
	return hashes
}

func checkUploadTime(t *table) {
	switch found := t.values["upload-time"].(type) {
	case nil, time.Time, toml.LocalDateTime:
	default:
		t.failf("upload-time", "found %s, want a date and time", kind(found))
	}
}

func readWheel(t *table, name string, version pyver.Version) wheelFile {
	w := wheelFile{file: readFile(t)}
	var err error
	if w.parsed, err = tag.ParseWheelName(w.name); err != nil {
		t.failf("", "%w", err)
		return w
	}
	checkName(t, w.name, w.parsed.Name, w.parsed.Version, name, version)
	return w
}

func readSdist(t *table, name string, version pyver.Version) *file {
	f := readFile(t)
	parsed, err := tag.ParseSdistName(f.name)
	if err != nil {
		t.failf("", "%w", err)
		return &f
	}
	checkName(t, f.name, parsed.Name, parsed.Version, name, version)
	return &f
}

// checkName holds what a file's name says against what its package is.
func checkName(t *table, filename, name string, version pyver.Version, wantName string, wantVersion pyver.Version) {
	if name != wantName {
		t.failf("", "file name %q: found package %q, want %q", filename, name, wantName)
	}
	if !wantVersion.IsZero() && version.Compare(wantVersion) != 0 {
		t.failf("", "file name %q: found version %q, want %q", filename, version, wantVersion)
	}
}
