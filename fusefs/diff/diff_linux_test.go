package diff

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

const site = "lib/python3.12/site-packages/"

// blobs keeps contents as files in a folder.
type blobs string

func (b blobs) OpenBlob(d digest.Digest) (int, error) {
	return unix.Open(filepath.Join(string(b), d.String()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// lower are the files of the tree; those that end in a slash are directories.
var lower = map[string]string{
	"pyvenv.cfg":                          "home = /usr/bin\n",
	site + "idna/__init__.py":             "i = 1\n",
	site + "idna/core.py":                 "c = 1\n",
	site + "idna-3.7.dist-info/METADATA":  "Metadata-Version: 2.1\nName: idna\nVersion: 3.7\n\nName: no header\n",
	site + "idna-3.7.dist-info/RECORD":    "idna/__init__.py,,\nidna/core.py,,\nidna-3.7.dist-info/METADATA,,\nidna-3.7.dist-info/RECORD,,\n",
	site + "six.py":                       "s = 1\n",
	site + "six-1.16.dist-info/METADATA":  "Name: six\nVersion: 1.16\n",
	site + "six-1.16.dist-info/RECORD":    "six.py,,\nsix-1.16.dist-info/METADATA,,\nsix-1.16.dist-info/RECORD,,\n",
	site + "numpy/big.so":                 "so",
	site + "numpy/sub/a.py":               "a = 1\n",
	site + "numpy/sub/deep/b.py":          "b = 1\n",
	site + "numpy-2.0.dist-info/METADATA": "Name: NumPy\nVersion: 2.0\n",
	site + "numpy-2.0.dist-info/RECORD":   "numpy/big.so,,\nnumpy/sub/a.py,,\nnumpy/sub/deep/b.py,,\nnumpy-2.0.dist-info/METADATA,,\nnumpy-2.0.dist-info/RECORD,,\n",
}

// fixture returns a tree of lower's files and an empty upper directory.
func fixture(t *testing.T) (*tree.Tree, blobs, *upper.Dir, string) {
	t.Helper()
	contents := blobs(t.TempDir())
	b := tree.NewBuilder("lib-python3.12")
	for p, content := range lower {
		d := digest.Of([]byte(content))
		write(t, filepath.Join(string(contents), d.String()), content)
		if err := b.File(p, false, int64(len(content)), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Symlink("lib64", "lib"); err != nil {
		t.Fatal(err)
	}
	own, err := b.Build(1_700_000_000)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(own, "/venv", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	u, err := upper.Open(dir, upper.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return tr, contents, u, dir
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// An edit does something in an upper directory, as an overlay would.
type edit func(t *testing.T, u *upper.Dir, dir string)

func file(p, content string) edit {
	return func(t *testing.T, _ *upper.Dir, dir string) { write(t, filepath.Join(dir, p), content) }
}

func whiteout(p string) edit {
	return func(t *testing.T, u *upper.Dir, dir string) {
		in, name := path.Split(p)
		if err := os.MkdirAll(filepath.Join(dir, in), 0o755); err != nil {
			t.Fatal(err)
		}
		step, err := u.Whiteout(path.Clean(in), name)
		if err == nil {
			err = u.Do(0, nil, step)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func record(in string, r upper.Record) edit {
	return func(t *testing.T, u *upper.Dir, dir string) {
		if err := os.MkdirAll(filepath.Join(dir, in), 0o755); err != nil {
			t.Fatal(err)
		}
		staged, err := u.StageRecord(r)
		if err == nil {
			err = u.Do(0, nil, upper.Move(staged, upper.RecordPath(in, r.Name)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func symlink(target, p string) edit {
	return func(t *testing.T, _ *upper.Dir, dir string) {
		if err := os.Symlink(target, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
}

func mode(bits uint32) *uint32 { return &bits }

// cases are edits and the changes that they make: their kinds and paths, but for
// directories that were entered.
var cases = []struct {
	name  string
	edits []edit
	want  []string
}{
	{"nothing", nil, nil},
	{"new file", []edit{file("new.txt", "n")}, []string{"A new.txt"}},
	{"new file below", []edit{file(site+"new/a.py", "n")}, []string{"A " + site + "new", "A " + site + "new/a.py"}},
	{"edited", []edit{file(site+"six.py", "s = 2\n")}, []string{"M " + site + "six.py"}},
	{"edited to the same length", []edit{file(site+"six.py", "s = 3\n")}, []string{"M " + site + "six.py"}},
	{"removed", []edit{whiteout(site + "six.py")}, []string{"D " + site + "six.py"}},
	{"removed whole", []edit{whiteout(site + "numpy")}, []string{"D " + site + "numpy"}},
	{"removed and new", []edit{whiteout(site + "six.py"), file(site+"six.py", "other\n")}, []string{"M " + site + "six.py"}},
	{"whiteout of nothing", []edit{whiteout("nothing")}, nil},
	{"file becomes directory", []edit{whiteout(site + "six.py"), file(site+"six.py/x", "x")}, []string{"D " + site + "six.py", "A " + site + "six.py", "A " + site + "six.py/x"}},
	{"the same without a whiteout", []edit{file(site+"six.py/x", "x")}, []string{"D " + site + "six.py", "A " + site + "six.py", "A " + site + "six.py/x"}},
	{"directory becomes file", []edit{whiteout(site + "numpy"), file(site+"numpy", "x")}, []string{"D " + site + "numpy", "A " + site + "numpy"}},
	{"directory replaced", []edit{whiteout(site + "idna"), file(site+"idna/core.py", "new\n")}, []string{"D " + site + "idna/__init__.py", "M " + site + "idna/core.py"}},
	{"opaque", []edit{file(site+"idna/.wh..wh..opq", ""), file(site+"idna/core.py", "new\n")}, []string{"D " + site + "idna/__init__.py", "M " + site + "idna/core.py"}},
	{"mode alone", []edit{record(site[:len(site)-1], upper.Record{Name: "six.py", Lower: site + "six.py", Mode: mode(0o600)})}, []string{"m " + site + "six.py"}},
	{"record that changes nothing", []edit{record(site[:len(site)-1], upper.Record{Name: "six.py", Lower: site + "six.py"})}, nil},
	{
		"file renamed",
		[]edit{whiteout(site + "six.py"), record(".", upper.Record{Name: "seven.py", Lower: site + "six.py"})},
		[]string{"D " + site + "six.py", "A seven.py"},
	},
	{
		"directory renamed",
		[]edit{whiteout(site + "numpy"), record(site[:len(site)-1], upper.Record{Name: "nump", Lower: site + "numpy"})},
		[]string{"A " + site + "nump", "A " + site + "nump/big.so", "A " + site + "nump/sub", "A " + site + "nump/sub/a.py", "A " + site + "nump/sub/deep", "A " + site + "nump/sub/deep/b.py", "D " + site + "numpy"},
	},
	{
		"directory renamed and changed",
		[]edit{
			whiteout(site + "numpy/sub"), record(".", upper.Record{Name: "sub", Lower: site + "numpy/sub"}),
			file("sub/c.py", "c"), whiteout("sub/deep"), file("sub/a.py", "a = 2\n"),
		},
		[]string{"D " + site + "numpy/sub", "A sub", "A sub/a.py", "A sub/c.py"},
	},
	{
		"another one in its place",
		[]edit{record(site[:len(site)-1], upper.Record{Name: "idna", Lower: site + "numpy/sub"})},
		[]string{"D " + site + "idna/__init__.py", "A " + site + "idna/a.py", "D " + site + "idna/core.py", "A " + site + "idna/deep", "A " + site + "idna/deep/b.py"},
	},
	{"symlink changed", []edit{whiteout("lib64"), symlink("elsewhere", "lib64")}, []string{"M lib64"}},
	{"bytecode of the view moved", []edit{record(".", upper.Record{Name: "x.pyc", Lower: site + "idna/__pycache__/core.cpython-312.pyc"})}, nil},
	{"long name", []edit{file(strings.Repeat("n", 255), "x"), whiteout(strings.Repeat("m", 255))}, []string{"A " + strings.Repeat("n", 255)}},
}

func compare(t *testing.T, tr *tree.Tree, u *upper.Dir, b blobs) *Diff {
	t.Helper()
	d, err := New(context.Background(), tr, u, b, Options{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestChanges(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			tr, contents, u, dir := fixture(t)
			for _, e := range test.edits {
				e(t, u, dir)
			}
			var got []string
			for _, c := range compare(t, tr, u, contents).Changes {
				if c.Kind != Entered {
					got = append(got, fmt.Sprintf("%c %s", c.Kind, c.Path))
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestRecordOfNothing: an overlay whose tree has not what a record names was made
// over another one.
func TestRecordOfNothing(t *testing.T) {
	tr, contents, u, dir := fixture(t)
	record(".", upper.Record{Name: "x", Lower: "not/there"})(t, u, dir)
	_, err := New(context.Background(), tr, u, contents, Options{})
	if err == nil || !strings.Contains(err.Error(), "another tree") {
		t.Errorf("got %v, want that it was made over another tree", err)
	}
}

// A meanwhile is a context that changes something each time that it is asked.
type meanwhile struct {
	context.Context
	change func()
}

func (m meanwhile) Err() error {
	m.change()
	return nil
}

// TestVanishes: beside a mount a directory can go after it was seen.
func TestVanishes(t *testing.T) {
	tr, contents, u, dir := fixture(t)
	write(t, filepath.Join(dir, "new/sub/file"), "")
	asked := 0
	m := meanwhile{context.Background(), func() {
		asked++
		if asked < 3 { // the top, new
			return
		}
		if err := os.RemoveAll(filepath.Join(dir, "new/sub")); err != nil {
			t.Error(err)
		}
	}}
	if _, err := New(m, tr, u, contents, Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestTar applies the layer of each case to the tree's files, as the image
// specification says, and compares with what the changes say.
func TestTar(t *testing.T) {
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			tr, contents, u, dir := fixture(t)
			for _, e := range test.edits {
				e(t, u, dir)
			}
			d := compare(t, tr, u, contents)
			want := state(t, d)
			var layer, again bytes.Buffer
			for _, w := range []*bytes.Buffer{&layer, &again} {
				if sockets, err := d.WriteTar(context.Background(), w); err != nil || len(sockets) > 0 {
					t.Fatal(sockets, err)
				}
			}
			if !bytes.Equal(layer.Bytes(), again.Bytes()) {
				t.Error("written twice the layer differs")
			}
			got := below()
			apply(t, got, &layer)
			for _, p := range slices.Sorted(keys(want, got)) {
				if got[p] != want[p] {
					t.Errorf("%s: the layer makes it %q, want %q", p, got[p], want[p])
				}
			}
		})
	}
}

// below returns the tree's paths with their contents, directories with "/".
func below() map[string]string {
	all := map[string]string{"lib64": "-> lib"}
	for p, content := range lower {
		all[p] = content
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			all[up] = "/"
		}
	}
	return all
}

// state returns the same of the environment: the tree's with the changes.
func state(t *testing.T, d *Diff) map[string]string {
	all := below()
	for _, c := range d.Changes {
		if c.New == nil {
			removeAll(all, c.Path)
			continue
		}
		if c.Path == "." {
			continue
		}
		all[c.Path] = text(t, d, c.New)
	}
	return all
}

func text(t *testing.T, d *Diff, n *Node) string {
	switch n.Type {
	case unix.S_IFDIR:
		return "/"
	case unix.S_IFLNK:
		return "-> " + n.Target
	}
	r, err := d.Open(n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func removeAll(all map[string]string, p string) {
	for q := range all {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(all, q)
		}
	}
}

func keys(a, b map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for p := range a {
			if !yield(p) {
				return
			}
		}
		for p := range b {
			if _, twice := a[p]; !twice && !yield(p) {
				return
			}
		}
	}
}

// apply applies a layer to a state, in the archive's order.
func apply(t *testing.T, all map[string]string, r io.Reader) {
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		p := path.Clean(h.Name)
		if p == "." {
			continue // for its time
		}
		dir, name := path.Split(p)
		if gone, ok := strings.CutPrefix(name, ".wh."); ok {
			removeAll(all, dir+gone)
			continue
		}
		if up := path.Dir(p); up != "." && all[up] != "/" {
			t.Errorf("%s comes before its directory", p)
		}
		if all[p] != "/" || h.Typeflag != tar.TypeDir {
			removeAll(all, p)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			all[p] = "/"
		case tar.TypeSymlink:
			all[p] = "-> " + h.Linkname
		case tar.TypeLink:
			all[p] = all[h.Linkname]
		default:
			b, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			all[p] = string(b)
		}
	}
}

// TestTarAttributes: what a layer can say of a file beside its bytes is there.
func TestTarAttributes(t *testing.T) {
	tr, contents, u, dir := fixture(t)
	when := time.Unix(1_234_567_890, 123_456_789)
	a := filepath.Join(dir, "a")
	write(t, a, "linked")
	if err := errors.Join(os.Link(a, filepath.Join(dir, "b")), unix.Chmod(a, 0o4751), os.Chtimes(a, when, when), unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o600, 0)); err != nil {
		t.Fatal(err)
	}
	xattr := unix.Setxattr(a, "user.colour", []byte("green"), 0)
	record(".", upper.Record{Name: "pyvenv.cfg", Lower: "pyvenv.cfg", Mode: mode(0o640), UID: mode(7)})(t, u, dir)

	var layer bytes.Buffer
	sockets, err := compare(t, tr, u, contents).WriteTar(context.Background(), &layer)
	if err != nil || !slices.Equal(sockets, []string{"socket"}) {
		t.Errorf("left out %q, %v; want the socket", sockets, err)
	}
	headers := make(map[string]*tar.Header)
	for archive := tar.NewReader(&layer); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
	if h := headers["a"]; h.Mode != 0o4751 || !h.ModTime.Equal(when) || h.Uid != os.Getuid() {
		t.Errorf("a has mode %#o, time %v, owner %d", h.Mode, h.ModTime, h.Uid)
	}
	if h := headers["a"]; xattr == nil && h.PAXRecords["SCHILY.xattr.user.colour"] != "green" {
		t.Errorf("a has the records %v", h.PAXRecords)
	}
	if h := headers["b"]; h.Typeflag != tar.TypeLink || h.Linkname != "a" {
		t.Errorf("b is type %c to %q, want a hard link to a", h.Typeflag, h.Linkname)
	}
	if h := headers["fifo"]; h.Typeflag != tar.TypeFifo {
		t.Errorf("the fifo has type %c", h.Typeflag)
	}
	if h := headers["pyvenv.cfg"]; h.Mode != 0o640 || h.Uid != 7 || h.Size != int64(len(lower["pyvenv.cfg"])) {
		t.Errorf("pyvenv.cfg has mode %#o, owner %d, %d bytes", h.Mode, h.Uid, h.Size)
	}
}

// TestReservedName: the tree may have a file whose name a layer would take for a
// whiteout.
func TestReservedName(t *testing.T) {
	b := tree.NewBuilder("lib-python3.12")
	if err := b.Inline(".wh.strange", false, []byte("x")); err != nil {
		t.Fatal(err)
	}
	own, err := b.Build(1)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Open(own, "/venv", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, contents, u, dir := fixture(t)
	whiteout(".wh.strange")(t, u, dir)
	d := compare(t, tr, u, contents)
	if len(d.Changes) != 2 || d.Changes[1].Kind != Removed { // the first is the top
		t.Errorf("changes %+v, want one removal", d.Changes)
	}
	if _, err := d.WriteTar(context.Background(), io.Discard); !errors.Is(err, ErrLayer) {
		t.Errorf("got %v, want %v", err, ErrLayer)
	}
}

func TestSummary(t *testing.T) {
	tr, contents, u, dir := fixture(t)
	for _, e := range []edit{
		// idna is upgraded by pip, six removed, numpy edited, requests installed by uv.
		whiteout(site + "idna-3.7.dist-info"), file(site+"idna/core.py", "c = 2\n"),
		file(site+"idna-3.8.dist-info/METADATA", "Name: idna\nVersion: 3.8\n"),
		file(site+"idna-3.8.dist-info/INSTALLER", "pip\n"),
		file(site+"idna-3.8.dist-info/RECORD", "idna/__init__.py,,\nidna/core.py,,\n"),
		whiteout(site + "six.py"), whiteout(site + "six-1.16.dist-info"),
		file(site+"numpy/sub/a.py", "edited\n"),
		file(site+"requests/__init__.py", "r"), file(site+"requests/__pycache__/__init__.cpython-312.pyc", "p"),
		file(site+"requests-2.dist-info/METADATA", "Name: requests\nVersion: 2\n"),
		file(site+"requests-2.dist-info/INSTALLER", "uv"),
		file(site+"requests-2.dist-info/RECORD", "requests/__init__.py,,\nrequests-2.dist-info/METADATA,,\nrequests-2.dist-info/INSTALLER,,\nrequests-2.dist-info/RECORD,,\n../../../bin/r,,\n"),
		file("bin/r", "#!"), file("notes.txt", "n"),
	} {
		e(t, u, dir)
	}
	s, err := compare(t, tr, u, contents).Summary()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range s.Packages {
		got = append(got, fmt.Sprintf("%s %q %q %q %d", p.Name, p.Old, p.New, p.By, len(p.Changes)))
	}
	want := []string{
		`idna "3.7" "3.8" "pip" 6`, // core.py, the old dist-info, the new one with three files that its RECORD doesn't list
		`NumPy "2.0" "2.0" "" 1`,
		`requests "" "2" "uv" 7`,
		`six "1.16" "" "" 2`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("packages\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var other []string
	for _, c := range s.Other {
		other = append(other, c.Path)
	}
	if want := []string{"notes.txt"}; !slices.Equal(other, want) {
		t.Errorf("other files %q, want %q", other, want)
	}
	if len(s.Bytecode) != 2 {
		t.Errorf("bytecode %+v, want a directory and a file", s.Bytecode)
	}
}

// TestPart: an environment may be one directory of the tree.
func TestPart(t *testing.T) {
	tr, contents, u, dir := fixture(t)
	for _, e := range []edit{
		whiteout("six.py"), whiteout("six-1.16.dist-info"), file("idna/core.py", "c = 2\n"),
		whiteout("numpy"), record(".", upper.Record{Name: "nump", Lower: "numpy/sub/deep"}),
	} {
		e(t, u, dir)
	}
	d, err := New(context.Background(), tr, u, contents, Options{Dir: site[:len(site)-1]})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range d.Changes {
		if c.Kind != Entered {
			got = append(got, fmt.Sprintf("%c %s", c.Kind, c.Path))
		}
	}
	if want := []string{"M idna/core.py", "A nump", "A nump/b.py", "D numpy", "D six-1.16.dist-info", "D six.py"}; !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	s, err := d.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Packages) != 3 || s.Packages[2].Name != "six" || s.Packages[2].New != "" {
		t.Errorf("packages %+v, want idna and NumPy changed and six removed", s.Packages)
	}
}
