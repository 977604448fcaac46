package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/wheel"
)

// ErrNoVenv is wrapped when a directory holds no site-packages.
var ErrNoVenv = errors.New("no virtual environment")

// A Distribution is what an installer left of a package in an environment
// (packaging.python.org, "Recording installed projects"). Paths are relative to
// the environment.
type Distribution struct {
	Name    string // as its folder spells it
	Version string
	Site    string // the site-packages folder that it is in
	Info    string // its *.dist-info folder

	// Rows are those of RECORD, nil if there is no RECORD that can be relied on;
	// Broken says why.
	Rows   []wheel.RecordRow
	Broken error

	// Finished says that the installer came to its end: RECORD lists what it
	// wrote beside what was in the wheel.
	Finished bool

	Tags        []string           // of its wheel, nil if WHEEL is gone
	EntryPoints []wheel.EntryPoint // nil if there are none, or the file is gone
	Origin      Origin
}

// An Origin is where a package came from that no index has (PEP 610). The zero
// Origin is an index.
type Origin struct {
	URL      string
	Editable bool // the package is a folder of sources elsewhere
}

// IsWheel reports whether the package came from a wheel of its own URL.
func (o Origin) IsWheel() bool { return !o.Editable && strings.HasSuffix(o.URL, ".whl") }

// String returns the name and the version.
func (d *Distribution) String() string { return d.Name + " " + d.Version }

// Path returns the path of a file that RECORD lists, relative to the environment,
// and whether it is in the environment. The RECORD of an install that never ended
// is the wheel's own, and so is its .data folder, which installers spread.
func (d *Distribution) Path(row string) (string, bool) {
	if strings.HasPrefix(row, "/") {
		return "", false
	}
	p := path.Join(d.Site, row)
	if data, rest, _ := strings.Cut(row, "/"); !d.Finished && strings.HasSuffix(data, ".data") {
		scheme, rest, _ := strings.Cut(rest, "/")
		p = path.Join(d.scheme(scheme), rest)
	}
	return p, p != "." && p != ".." && !strings.HasPrefix(p, "../")
}

// scheme returns the folder that the files in one of .data go to.
func (d *Distribution) scheme(name string) string {
	switch name {
	case "scripts":
		return "bin"
	case "data":
		return "."
	case "headers":
		return path.Join("include/site", path.Base(path.Dir(d.Site)), d.Name)
	}
	return d.Site
}

// Installed returns what is installed in the environment at dir, sorted by path.
// The error wraps [ErrNoVenv] if there is no site-packages.
func Installed(dir string) ([]*Distribution, error) {
	sites, err := sitesOf(dir)
	if err != nil {
		return nil, err
	}
	return installedIn(dir, sites)
}

func installedIn(dir string, sites []string) ([]*Distribution, error) {
	var all []*Distribution
	for _, site := range sites {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(site)))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if stem, ok := strings.CutSuffix(e.Name(), ".dist-info"); ok && e.IsDir() {
				d := &Distribution{Site: site, Info: site + "/" + e.Name()}
				d.Name, d.Version, _ = strings.Cut(stem, "-")
				d.read(dir)
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// sitesOf returns the site-packages folders of the environment at dir: one, or two
// where libraries for 64 bits have a folder of their own.
func sitesOf(dir string) ([]string, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w: there is no such directory", dir, ErrNoVenv)
	}
	var sites []string
	for _, lib := range []string{"lib", "lib64"} {
		if info, err := os.Lstat(filepath.Join(dir, lib)); err != nil || !info.IsDir() {
			continue // most often lib64 is a link to lib
		}
		entries, err := os.ReadDir(filepath.Join(dir, lib))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			site := path.Join(lib, e.Name(), "site-packages")
			if info, err := os.Stat(filepath.Join(dir, site)); err == nil && info.IsDir() {
				sites = append(sites, site)
			}
		}
	}
	if len(sites) == 0 {
		return nil, fmt.Errorf("%q: %w: it has no lib/python*/site-packages", dir, ErrNoVenv)
	}
	return sites, nil
}

// read fills in what the dist-info folder says. A file that is gone or damaged
// leaves its part empty: finding those is what this package is for.
func (d *Distribution) read(dir string) {
	d.Rows, d.Broken = d.readRecord(dir)
	if d.Broken == nil {
		d.Finished = slices.ContainsFunc(d.Rows, func(r wheel.RecordRow) bool { return path.Base(r.Path) == "INSTALLER" && d.owns(r.Path) })
	}
	if b, err := d.readFile(dir, "WHEEL"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, "Tag") {
				d.Tags = append(d.Tags, strings.TrimSpace(value))
			}
		}
	}
	if b, err := d.readFile(dir, "entry_points.txt"); err == nil {
		if points, _, err := wheel.ParseEntryPoints(b); err == nil {
			d.EntryPoints = points
		}
	}
	if b, err := d.readFile(dir, "direct_url.json"); err == nil {
		var direct struct {
			URL     string `json:"url"`
			DirInfo struct {
				Editable bool `json:"editable"`
			} `json:"dir_info"`
		}
		if json.Unmarshal(b, &direct) == nil {
			d.Origin = Origin{direct.URL, direct.DirInfo.Editable}
		}
	}
}

// maxMetadata is more than any file of a dist-info folder has: a RECORD of 100,000
// files has 13 MB.
const maxMetadata = 64 << 20

func (d *Distribution) readFile(dir, name string) ([]byte, error) {
	p := filepath.Join(dir, filepath.FromSlash(d.Info), name)
	fd, err := openRegular(unix.AT_FDCWD, p, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err == nil && len(b) > maxMetadata {
		err = fmt.Errorf("%q has more than %d bytes", p, maxMetadata)
	}
	return b, err
}

// owns reports whether a row lists a file of the dist-info folder.
func (d *Distribution) owns(row string) bool {
	p, ok := d.Path(row)
	return ok && path.Dir(p) == d.Info
}

// readRecord returns the rows of RECORD. One that was cut off or never written out
// is no RECORD: what it doesn't list would seem to be nobody's.
func (d *Distribution) readRecord(dir string) ([]wheel.RecordRow, error) {
	b, err := d.readFile(dir, "RECORD")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("it has no RECORD")
	case err != nil:
		return nil, err
	case !bytes.HasSuffix(b, []byte("\n")):
		return nil, errors.New("its RECORD is cut off")
	}
	rows, err := wheel.ParseRecord(b, func(err error) error { return err })
	if bad, ok := errors.AsType[*wheel.Error](err); ok {
		return nil, errors.New(bad.Reason) // the flag that the error names is none of verify's
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"RECORD", "METADATA"} {
		if !slices.ContainsFunc(rows, func(r wheel.RecordRow) bool { return path.Base(r.Path) == name && d.owns(r.Path) }) {
			return nil, fmt.Errorf("its RECORD doesn't list its own %s", name)
		}
	}
	return rows, nil
}

// Paths returns the paths of all files that the distribution should have.
func (d *Distribution) Paths() []string {
	var paths []string
	for _, row := range d.Rows {
		if p, ok := d.Path(row.Path); ok {
			paths = append(paths, p)
		}
	}
	if d.Broken == nil && !d.Finished {
		paths = append(paths, d.unwritten()...)
	}
	return paths
}
