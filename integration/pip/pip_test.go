// Package pip compares a compiled tree with what pip installs from the same
// wheels: every path, mode and content.
package pip

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store"
)

const site = "lib/python3.12/site-packages/"

// direct is the wheel that is given by its path and so has a direct_url.json.
const direct = "attrs"

// A file is one path of an environment, on disk or in a tree.
type file struct {
	mode    fs.FileMode // type and permissions; of a directory the type alone
	content []byte      // of a symlink its target
}

// A difference is one way in which sitefs writes another file than pip.
type difference struct {
	name   string
	reason string

	// allows reports whether the difference explains what is at a path. A nil
	// file is absent.
	allows func(path string, ours, theirs *file) bool
}

// differences is the closed list. Each is needed: the test fails when one no
// longer is.
var differences = []difference{
	{
		"INSTALLER", "it names who installed",
		func(p string, ours, theirs *file) bool {
			return path.Base(p) == "INSTALLER" && both(ours, theirs) && string(ours.content) == "sitefs\n" && string(theirs.content) == "pip\n"
		},
	},
	{
		"RECORD", "pip ends lines by CR LF, hashes scripts (ours change with the prefix), and has another INSTALLER",
		func(p string, ours, theirs *file) bool {
			return path.Base(p) == "RECORD" && both(ours, theirs) && sameRecord(string(ours.content), string(theirs.content))
		},
	},
	{
		"pyvenv.cfg", "it names the tool that made the environment, and no command line",
		func(p string, ours, theirs *file) bool {
			return p == "pyvenv.cfg" && both(ours, theirs) && setting(ours, "home") == setting(theirs, "home") &&
				setting(ours, "include-system-site-packages") == setting(theirs, "include-system-site-packages")
		},
	},
	{
		"activate scripts", "venv's own do not quote every path right",
		func(p string, ours, theirs *file) bool {
			return slices.Contains([]string{"bin/activate", "bin/activate.fish", "bin/activate.csh"}, p) && both(ours, theirs)
		},
	},
	{
		"Activate.ps1", "PowerShell is not served",
		func(p string, ours, theirs *file) bool { return p == "bin/Activate.ps1" && ours == nil },
	},
	{
		"include/python3.12", "venv makes an empty directory that nothing uses",
		func(p string, ours, theirs *file) bool {
			return p == "include/python3.12" && ours == nil && theirs.mode.IsDir()
		},
	},
	{
		"marks", "version control and backups leave an environment alone, as uv's and newer venvs' do",
		func(p string, ours, theirs *file) bool {
			return (p == ".gitignore" || p == "CACHEDIR.TAG") && theirs == nil
		},
	},
}

func both(ours, theirs *file) bool { return ours != nil && theirs != nil && ours.mode == theirs.mode }

// setting returns the value of a key of pyvenv.cfg.
func setting(f *file, key string) string {
	for line := range strings.Lines(string(f.content)) {
		if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// sameRecord reports whether two RECORD files list the same but for what the
// list of differences says.
func sameRecord(ours, theirs string) bool {
	if strings.Contains(ours, "\r") || strings.Count(theirs, "\n") != strings.Count(theirs, "\r\n") {
		return false
	}
	return slices.EqualFunc(strings.Split(ours, "\n"), strings.Split(theirs, "\r\n"), func(got, want string) bool {
		p, _, _ := strings.Cut(want, ",")
		switch {
		case got == want:
			return true
		case path.Base(p) == "INSTALLER":
			return strings.HasPrefix(got, p+",sha256=") && strings.HasSuffix(got, ",7")
		}
		return strings.HasPrefix(p, "../../../bin/") && got == p+",,"
	})
}

// TestSameAsPip installs the wheels of compare.txt with pip, dependencies
// resolved, and compiles a tree of them.
func TestSameAsPip(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: pip installs 281 wheels")
	}
	python, wheels := prepare(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	venv := filepath.Join(t.TempDir(), "venv")
	installed := make(chan error, 1)
	go func() { installed <- install(ctx, python, venv, wheels) }()

	s, tr, diagnostics := compile(t, python, venv, wheels)
	if err := <-installed; err != nil {
		t.Fatal(err)
	}
	used := compare(t, readTree(t, s, tr), readDir(t, venv))
	for _, d := range differences {
		if used[d.name] == 0 {
			t.Errorf("difference %q is on the list and not needed: %s", d.name, d.reason)
		}
		t.Logf("%6d paths: %s: %s", used[d.name], d.name, d.reason)
	}
	checkCollisions(t, diagnostics)
	checkReaders(t, python, s, tr, venv, wheels)
}

// prepare returns a CPython 3.12 and the wheels, or skips the test.
func prepare(t *testing.T) (python string, wheels []wheelhouse.Wheel) {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	candidates, err := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.12.*/bin/python"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range append(candidates, "/usr/bin/python3.12", "/usr/local/bin/python3.12") {
		if exec.Command(c, "-c", "import venv").Run() == nil {
			python = c
			break
		}
	}
	if python == "" {
		t.Skip("no CPython 3.12 in ~/.pyenv, /usr or /usr/local")
	}
	wheels, err = wheelhouse.ReadList("../testdata/compare.txt")
	if err != nil {
		t.Fatal(err)
	}
	if missing := wheelhouse.Missing(wheels); len(missing) > 0 {
		t.Skipf("%d of %d wheels are not in %s; go run ./integration/wheelhouse/fetch integration/testdata/compare.txt gets them", len(missing), len(wheels), wheelhouse.Dir())
	}
	return python, wheels
}

// install makes a venv and has the pip among the wheels install them all.
func install(ctx context.Context, python, venv string, wheels []wheelhouse.Wheel) error {
	if out, err := exec.CommandContext(ctx, python, "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		return fmt.Errorf("venv: %w\n%s", err, out)
	}
	links := venv + "-links"
	if err := os.Mkdir(links, 0o755); err != nil {
		return err
	}
	args := []string{"install", "--quiet", "--no-compile", "--no-index", "--find-links", links}
	for _, w := range wheels {
		if err := os.Symlink(w.Path(), filepath.Join(links, w.Filename)); err != nil {
			return err
		}
		if w.Name() == direct {
			args = append(args, w.Path())
			continue
		}
		// pip puts headers below the name as it was asked for; locks ask by the
		// canonical one.
		args = append(args, pyver.CanonicalName(w.Name())+"=="+w.Version())
	}
	out, err := pip(ctx, python, venv, wheels, args...)
	if err != nil {
		return fmt.Errorf("pip: %w\n%s", err, out)
	}
	return nil
}

// pip runs the pip among the wheels for the environment in venv.
func pip(ctx context.Context, python, venv string, wheels []wheelhouse.Wheel, args ...string) ([]byte, error) {
	i := slices.IndexFunc(wheels, func(w wheelhouse.Wheel) bool { return w.Name() == "pip" })
	argv := append([]string{"-B", filepath.Join(wheels[i].Path(), "pip"), "--python", filepath.Join(venv, "bin/python"), "--isolated", "--disable-pip-version-check"}, args...)
	cmd := exec.CommandContext(ctx, python, argv...)
	cmd.Env = append(os.Environ(), "PIP_CONFIG_FILE="+os.DevNull, "PYTHONDONTWRITEBYTECODE=1")
	return cmd.CombinedOutput()
}

// compile puts the wheels into a store and returns their tree as seen at venv.
func compile(t *testing.T, python, venv string, wheels []wheelhouse.Wheel) (*store.Store, *tree.Tree, []manifest.Diagnostic) {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	py, err := interp.Probe(t.Context(), python, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifest.Manifest{Python: manifest.PythonOf(py), Wheels: ingest(t, s, wheels)}
	r, err := manifest.Compile(m, py, s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(r.Tree, venv, s)
	if err != nil {
		t.Fatal(err)
	}
	return s, tr, r.Diagnostics
}

func ingest(t *testing.T, s *store.Store, wheels []wheelhouse.Wheel) []manifest.Wheel {
	t.Helper()
	in, err := s.NewIngest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var mu sync.Mutex
	var out []manifest.Wheel
	var g errgroup.Group
	g.SetLimit(4)
	for _, w := range wheels {
		g.Go(func() error {
			f, err := os.Open(w.Path())
			if err != nil {
				return err
			}
			defer f.Close()
			added, err := in.Add(t.Context(), f, w.Size, w.Filename, store.AddOptions{})
			if err != nil {
				return fmt.Errorf("%s: %w", w.Filename, err)
			}
			entry := manifest.Wheel{Digest: added.Digest, Name: added.Info.Name, Version: added.Info.Version, Requested: true}
			if w.Name() == direct {
				entry.DirectURL = directURL(w.Path(), added.Digest)
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, entry)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(); err != nil {
		t.Fatal(err)
	}
	return out
}

// directURL returns direct_url.json (PEP 610) of a wheel given by its path.
func directURL(path string, d digest.Digest) string {
	u := url.URL{Scheme: "file", Path: path}
	return fmt.Sprintf(`{"archive_info": {"hash": "sha256=%[1]s", "hashes": {"sha256": "%[1]s"}}, "url": "%[2]s"}`, d, &u)
}

// readTree returns every path of a tree.
func readTree(t *testing.T, s *store.Store, tr *tree.Tree) map[string]*file {
	t.Helper()
	files := make(map[string]*file)
	err := tr.Walk(func(path string, id tree.ID, a tree.Attr) error {
		f := &file{mode: 0o644}
		if a.Exec {
			f.mode = 0o755
		}
		var err error
		switch a.Kind {
		case tree.Dir:
			f.mode = fs.ModeDir
		case tree.Symlink:
			f.mode = fs.ModeSymlink
			f.content, err = tr.Link(id)
		case tree.File:
			f.content, err = s.ReadBlob(a.Digest)
		default:
			f.content, err = tr.Bytes(id)
		}
		if a.Kind != tree.Dir && int64(len(f.content)) != a.Size {
			t.Errorf("%q has %d bytes, the tree says %d", path, len(f.content), a.Size)
		}
		f.content = shorten(f.content)
		files[path] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// readDir returns every path below a directory.
func readDir(t *testing.T, dir string) map[string]*file {
	t.Helper()
	files := make(map[string]*file)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := &file{mode: info.Mode()}
		switch {
		case d.IsDir():
			f.mode = fs.ModeDir
		case f.mode&fs.ModeSymlink != 0:
			f.mode = fs.ModeSymlink
			var target string
			target, err = os.Readlink(name)
			f.content = []byte(target)
		default:
			f.content, err = os.ReadFile(name)
		}
		f.content = shorten(f.content)
		files[strings.TrimPrefix(name, dir+"/")] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// shorten replaces what is too long to keep or to print by its digest.
func shorten(content []byte) []byte {
	if len(content) <= 1<<20 {
		return content
	}
	return fmt.Appendf(nil, "%d bytes, sha256 %s", len(content), digest.Of(content))
}

// compare reports every path that no difference explains and returns how often
// each explained one.
func compare(t *testing.T, ours, theirs map[string]*file) map[string]int {
	t.Helper()
	paths := make(map[string]bool)
	for _, files := range []map[string]*file{ours, theirs} {
		for p := range files {
			paths[p] = true
		}
	}
	used := make(map[string]int)
	same, shown := 0, 0
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		a, b := ours[p], theirs[p]
		if both(a, b) && bytes.Equal(a.content, b.content) {
			same++
			continue
		}
		i := slices.IndexFunc(differences, func(d difference) bool { return d.allows(p, a, b) })
		if i >= 0 {
			used[differences[i].name]++
			continue
		}
		if shown++; shown <= 20 {
			t.Errorf("%s:\nsitefs %s\npip    %s", p, describe(a), describe(b))
		}
	}
	if shown > 20 {
		t.Errorf("and %d more", shown-20)
	}
	if same < 40_000 {
		t.Errorf("%d paths are the same, want the 40,000 and more of a large environment", same)
	}
	t.Logf("%6d paths are the same", same)
	return used
}

func describe(f *file) string {
	if f == nil {
		return "absent"
	}
	content := f.content
	if len(content) > 400 {
		content = content[:400]
	}
	return fmt.Sprintf("%v %q", f.mode, content)
}

// checkCollisions holds the real collisions among the wheels.
func checkCollisions(t *testing.T, diagnostics []manifest.Diagnostic) {
	t.Helper()
	got := make(map[string]string)
	for _, d := range diagnostics {
		got[d.Path] = strings.Join(d.Names, " ")
		t.Log(d)
	}
	for p, names := range map[string]string{
		site + "jwt/__init__.py":   "jwt pyjwt",
		site + "jwt/exceptions.py": "jwt pyjwt",
		site + "jwt/utils.py":      "jwt pyjwt",
	} {
		if got[p] != names {
			t.Errorf("collision at %q is reported for %q, want %q", p, got[p], names)
		}
	}
	if _, ok := got[site+"jwt/py.typed"]; ok {
		t.Error("a file with one content is reported as a collision")
	}
}

// checkReaders has pip read both environments. It reads metadata and scripts only.
func checkReaders(t *testing.T, python string, s *store.Store, tr *tree.Tree, venv string, wheels []wheelhouse.Wheel) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ours")
	err := tr.Walk(func(p string, id tree.ID, a tree.Attr) error {
		to := filepath.Join(dir, p)
		if a.Kind == tree.Dir || !strings.Contains(p, ".dist-info/") && strings.HasPrefix(p, "lib/") {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if a.Kind == tree.Symlink {
			target, err := tr.Link(id)
			if err != nil {
				return err
			}
			return os.Symlink(string(target), to)
		}
		content, err := tr.Bytes(id)
		if a.Kind == tree.File {
			content, err = s.ReadBlob(a.Digest)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	// One of each class that compare.txt lists.
	show := []string{"show", "--files", direct, "docutils", "ruff", "greenlet", "jupyterlab", "protobuf", "pyjwt", "guidata", "pelican", "pip"}
	for _, args := range [][]string{{"list"}, {"freeze", "--all"}, {"check"}, {"inspect"}, show} {
		ours, oursErr := pip(t.Context(), python, dir, wheels, args...)
		theirs, theirsErr := pip(t.Context(), python, venv, wheels, args...)
		if len(theirs) == 0 || fmt.Sprint(oursErr) != fmt.Sprint(theirsErr) {
			t.Errorf("pip %s: %v here, %v there\n%s", args[0], oursErr, theirsErr, ours)
		}
		a, b := normalise(string(ours), dir), normalise(string(theirs), venv)
		if a != b {
			t.Errorf("pip %s differs:\n%s", args[0], firstDifference(a, b))
		}
	}
}

// normalise takes out of pip's output what the list of differences explains.
func normalise(out, prefix string) string {
	out = strings.ReplaceAll(out, prefix, "PREFIX")
	return strings.ReplaceAll(out, `"installer": "pip"`, `"installer": "sitefs"`)
}

// firstDifference returns the first lines that differ.
func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return fmt.Sprintf("sitefs %s\npip    %s", as[i], bs[i])
		}
	}
	return fmt.Sprintf("%d lines, %d lines", len(as), len(bs))
}
