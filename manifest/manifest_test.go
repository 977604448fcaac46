package manifest

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

const site = "lib/python3.12/site-packages/"

var (
	wheelTime = time.Unix(1_700_000_000, 0)
	now       = time.Unix(1_800_000_000, 0)
)

// cpython returns an interpreter as package interp describes it.
func cpython(minor int) *interp.Python {
	short := fmt.Sprintf("3.%d", minor)
	return &interp.Python{
		Executable:     "/usr/bin/python" + short,
		Home:           "/usr/bin",
		Implementation: "cpython",
		Version:        [3]int{3, minor, 1},
		VersionInfo:    short + ".1",
		CacheTag:       fmt.Sprintf("cpython-3%d", minor),
		Platform:       "linux-x86_64",
		Layout: interp.Layout{
			Purelib: "lib/python" + short + "/site-packages",
			Platlib: "lib/python" + short + "/site-packages",
			Scripts: "bin",
			Headers: "include/site/python" + short,
		},
		Markers: marker.Environment{
			SysPlatform: "linux", PlatformMachine: "x86_64", PlatformPythonImplementation: "CPython",
			PythonVersion: short, PythonFullVersion: short + ".1", ImplementationVersion: short + ".1",
		},
	}
}

// memory is a Store in memory. It serves any path's digest as the blob of it.
type memory struct {
	infos  map[digest.Digest]*wheel.Info
	blobs  map[digest.Digest][]byte
	tables map[string][]byte
	puts   int
	asked  map[string]int // how often a table was asked for
}

func newMemory() *memory {
	return &memory{
		infos:  make(map[digest.Digest]*wheel.Info),
		blobs:  make(map[digest.Digest][]byte),
		tables: make(map[string][]byte),
		asked:  make(map[string]int),
	}
}

func (s *memory) Table(w digest.Digest, layout string) ([]byte, error) {
	s.asked[layout]++
	b, ok := s.tables[layout+w.String()]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (s *memory) Info(w digest.Digest) (*wheel.Info, error) {
	info, ok := s.infos[w]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return info, nil
}

func (s *memory) WheelTime(digest.Digest) (time.Time, error) { return wheelTime, nil }

func (s *memory) ReadBlob(d digest.Digest) ([]byte, error) {
	b, ok := s.blobs[d]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (s *memory) PutTables(layout string, tables map[digest.Digest][]byte) error {
	s.puts++
	for w, b := range tables {
		s.tables[layout+w.String()] = b
	}
	return nil
}

// file adds content to the store's blobs and returns a wheel's file of it.
func (s *memory) file(scheme wheel.Scheme, path, content string) wheel.File {
	d := digest.Of([]byte(content))
	s.blobs[d] = []byte(content)
	return wheel.File{Scheme: scheme, Path: path, Size: int64(len(content)), Digest: d, Exec: scheme == wheel.Scripts}
}

// lib is file for the site directory.
func (s *memory) lib(path, content string) wheel.File { return s.file(wheel.Purelib, path, content) }

// add puts a wheel of the given files and a METADATA into the store.
func (s *memory) add(name string, files []wheel.File, change func(*wheel.Info)) Wheel {
	info := &wheel.Info{
		Name: name, RawName: name, Version: "1", Filename: name + "-1-py3-none-any.whl",
		DistInfo: name + "-1.dist-info", Purelib: true,
	}
	info.Files = append(slices.Clone(files), s.lib(info.DistInfo+"/METADATA", "Name: "+name+"\n"))
	if change != nil {
		change(info)
	}
	d := digest.Of(info.Encode())
	s.infos[d] = info
	return Wheel{Digest: d, Name: name, Version: "1"}
}

func compile(t testing.TB, s *memory, wheels ...Wheel) *Result {
	t.Helper()
	r, err := Compile(&Manifest{Python: PythonOf(cpython(12)), Wheels: wheels}, cpython(12), s, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, s *memory, r *Result, prefix string) *tree.Tree {
	t.Helper()
	tr, err := tree.Open(r.Tree, prefix, s)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// read returns the content of a file of the tree, or "-> target" of a symlink.
func read(t testing.TB, s *memory, tr *tree.Tree, path string) string {
	t.Helper()
	id, a, err := tr.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	switch a.Kind {
	case tree.File:
		b, err = s.ReadBlob(a.Digest)
	case tree.Symlink:
		b, err = tr.Link(id)
		b = append([]byte("-> "), b...)
	default:
		b, err = tr.Bytes(id)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if a.Kind != tree.Symlink && int64(len(b)) != a.Size {
		t.Errorf("%s has %d bytes, its size is %d", path, len(b), a.Size)
	}
	return string(b)
}

// materialize writes the tree to disk.
func materialize(t testing.TB, s *memory, tr *tree.Tree) {
	t.Helper()
	if err := os.MkdirAll(tr.Prefix(), 0o755); err != nil {
		t.Fatal(err)
	}
	err := tr.Walk(func(path string, id tree.ID, a tree.Attr) error {
		to := filepath.Join(tr.Prefix(), path)
		switch {
		case a.Kind == tree.Dir:
			return os.Mkdir(to, 0o755)
		case a.Kind == tree.Symlink:
			target, err := tr.Link(id)
			if err != nil {
				return err
			}
			return os.Symlink(string(target), to)
		case a.Exec:
			return os.WriteFile(to, []byte(read(t, s, tr, path)), 0o755)
		}
		return os.WriteFile(to, []byte(read(t, s, tr, path)), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// demo is a wheel that has something of everything.
func demo(s *memory) Wheel {
	script := s.file(wheel.Scripts, "demo-script", "#!python -u\nprint('script')\n")
	script.Python = true
	binary := s.lib("demo/tool", "\x7fELF")
	binary.Exec = true
	return s.add("demo", []wheel.File{
		s.lib("demo/__init__.py", "x = 1\n"),
		s.lib("demo/cli.py", "class App:\n    @staticmethod\n    def run(): print('app')\n"),
		s.lib("demo/a,b.txt", "comma"),
		binary,
		s.file(wheel.Platlib, "demo/ext.so", "so"),
		s.file(wheel.Headers, "demo.h", "int demo;\n"),
		s.file(wheel.Data, "share/demo/data.txt", "data"),
		s.file(wheel.Data, "lib/python3.12/site-packages/demo/from_data.py", "y = 1\n"),
		s.file(wheel.Data, "lib/extra.txt", "extra"),
		s.file(wheel.Scripts, "demo.sh", "#!/bin/sh\n"),
		script,
	}, func(info *wheel.Info) {
		info.EntryPoints = []wheel.EntryPoint{{Name: "demo", Module: "demo.cli", Attr: "App.run"}, {Name: "demo-gui", Module: "demo", Attr: "main", GUI: true}}
	})
}

func TestCompile(t *testing.T) {
	s := newMemory()
	r := compile(t, s, demo(s))
	tr := open(t, s, r, "/srv/venv")
	got := make(map[string]string)
	err := tr.Walk(func(path string, _ tree.ID, a tree.Attr) error {
		got[path] = "dir"
		if a.Kind != tree.Dir {
			got[path] = read(t, s, tr, path)
			if a.Exec {
				got[path] = "x " + got[path]
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Collect(maps.Keys(got)) {
		if base := filepath.Base(path); strings.HasPrefix(base, "activate") || strings.HasPrefix(base, "pip") {
			delete(got, path) // tested by running them
		}
	}
	want := map[string]string{
		"bin":             "dir",
		"bin/demo":        "x #!/srv/venv/bin/python\nimport sys\nfrom demo.cli import App\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(App.run())\n",
		"bin/demo-gui":    "x #!/srv/venv/bin/python\nimport sys\nfrom demo import main\nif __name__ == '__main__':\n    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(main())\n",
		"bin/demo-script": "x #!/srv/venv/bin/python\nprint('script')\n",
		"bin/demo.sh":     "x #!/bin/sh\n",
		"bin/python":      "-> /usr/bin/python3.12",
		"bin/python3":     "-> python",
		"bin/python3.12":  "-> python",
		"include":         "dir", "include/site": "dir", "include/site/python3.12": "dir", "include/site/python3.12/demo": "dir",
		"include/site/python3.12/demo/demo.h": "int demo;\n",
		"lib":                                 "dir", "lib/python3.12": "dir", "lib/python3.12/site-packages": "dir",
		"lib/extra.txt":                     "extra",
		site + "demo":                       "dir",
		site + "demo/__init__.py":           "x = 1\n",
		site + "demo/cli.py":                "class App:\n    @staticmethod\n    def run(): print('app')\n",
		site + "demo/a,b.txt":               "comma",
		site + "demo/tool":                  "x \x7fELF",
		site + "demo/ext.so":                "so",
		site + "demo/from_data.py":          "y = 1\n",
		site + "demo-1.dist-info":           "dir",
		site + "demo-1.dist-info/INSTALLER": "sitefs\n",
		site + "demo-1.dist-info/METADATA":  "Name: demo\n",
		site + "demo-1.dist-info/RECORD": `../../../bin/demo,,
../../../bin/demo-gui,,
../../../bin/demo-script,,
../../../bin/demo.sh,sha256=qAdtPSjSHgIBKyDq99v3VAmmJ3E0Q5Al8oLjaOMwWr8,10
../../../include/site/python3.12/demo/demo.h,sha256=me0tbX_fNecPNKwvhoJd1YMtSG6s3fVsoOCq1dmhwUs,10
../../../share/demo/data.txt,sha256=Om6weQ85rIfJTzhWst0sXREOaBFgImGpqSPTuyOtyLc,4
../../extra.txt,sha256=yN7nj4x7RmyIGEeszBlpmLrQDiuWxe-RPfvkVNOAfJY,5
demo-1.dist-info/INSTALLER,sha256=dPr3le-3CqN0OXiG9cd2RTb5mBI2b_qwBzunv5cb9Y0,7
demo-1.dist-info/METADATA,sha256=TCbnncczH5a7clH-MmVga0zKkBjAxl7yrSIkXOrZk1E,11
demo-1.dist-info/RECORD,,
demo/__init__.py,sha256=nia_NpkRxFwkPGhBR7I_yeHc_PJX0pmhxjIBam_NM_Q,6
"demo/a,b.txt",sha256=82pOWGcFaRgVlTmb7sN-IsPbotjSq9GRuGYCoWwjKJw,5
demo/cli.py,sha256=4Dn2W-5eEyMES4YiwPEm1utDDpLq7y5pXeLFmii1nd0,57
demo/ext.so,sha256=odmJCITBtLlgwnnP51VKkA0WlCLWzsmAvu9ndhSH07k,2
demo/from_data.py,sha256=X1RaJADDdbPmRZ1aaJBqYzYrUjwkZzK5nSwAwVqihlE,6
demo/tool,sha256=O9u0_oOXzSuEJDCznM_wGoZjx1GUXvXpoJ4mf7ix01k,4
`,
		"lib64": "-> lib",
		"share": "dir", "share/demo": "dir",
		"share/demo/data.txt": "data",
		"pyvenv.cfg":          "home = /usr/bin\nimplementation = CPython\nversion_info = 3.12.1\ninclude-system-site-packages = false\nsitefs = 1\n",
		".gitignore":          "*\n",
		"CACHEDIR.TAG":        "Signature: 8a477f597d28d172789f06886806bc55\n",
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[path]; !ok {
			t.Errorf("%q is missing", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if w, ok := want[path]; !ok || got[path] != w {
			t.Errorf("%q is\n%q, want\n%q", path, got[path], w)
		}
	}
	if len(r.Diagnostics) != 0 {
		t.Errorf("diagnostics %v, want none", r.Diagnostics)
	}
}

// TestRecordIsTrue checks every row of every RECORD against the tree.
func TestRecordIsTrue(t *testing.T) {
	s := newMemory()
	asked := demo(s)
	asked.Requested, asked.DirectURL = true, `{"archive_info": {}, "url": "file:///x,y.whl"}`
	tr := open(t, s, compile(t, s, asked), "/srv/venv")
	rows, err := csv.NewReader(strings.NewReader(read(t, s, tr, site+"demo-1.dist-info/RECORD"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for i, row := range rows {
		path := filepath.Join(site, row[0])
		listed[path] = true
		if i > 0 && rows[i-1][0] >= row[0] {
			t.Errorf("row %q is not behind %q", row[0], rows[i-1][0])
		}
		content := read(t, s, tr, path)
		if row[1] == "" {
			if _, a, _ := tr.Find(path); a.Kind != tree.Template && filepath.Base(path) != "RECORD" {
				t.Errorf("row %q has no hash", row[0])
			}
			continue
		}
		if want := "sha256=" + digest.Of([]byte(content)).Record(); row[1] != want || row[2] != strconv.Itoa(len(content)) {
			t.Errorf("row %q, want %s,%d", row, want, len(content))
		}
	}
	for _, name := range []string{"REQUESTED", "direct_url.json", "RECORD", "INSTALLER", "METADATA"} {
		if !listed[site+"demo-1.dist-info/"+name] {
			t.Errorf("RECORD lacks %s", name)
		}
	}
}

func TestRequestedAndDirectURL(t *testing.T) {
	s := newMemory()
	plain := demo(s)
	base := compile(t, s, plain)
	asked := plain
	asked.Requested = true
	if r := compile(t, s, asked); r.Digest == base.Digest {
		t.Error("REQUESTED is no part of the digest, want one digest to mean one content")
	}
	asked.DirectURL = `{"url": "file:///demo.whl", "archive_info": {}}`
	tr := open(t, s, compile(t, s, asked), "/srv/venv")
	if got := read(t, s, tr, site+"demo-1.dist-info/direct_url.json"); got != asked.DirectURL {
		t.Errorf("direct_url.json is %q, want %q", got, asked.DirectURL)
	}
	if got := read(t, s, tr, site+"demo-1.dist-info/REQUESTED"); got != "" {
		t.Errorf("REQUESTED is %q, want it empty", got)
	}
	if id, _, err := tr.Find(site + "demo-1.dist-info/METADATA"); err != nil || id>>32 != 1 {
		t.Errorf("METADATA has id %#x, %v; want it in the wheel's table", id, err)
	}
}

// TestShuffle shows that the wheels' order is not seen.
func TestShuffle(t *testing.T) {
	s := newMemory()
	var wheels []Wheel
	for i := range 20 {
		name := fmt.Sprintf("p%02d", i)
		wheels = append(wheels, s.add(name, []wheel.File{
			s.lib("shared/__init__.py", fmt.Sprint(i%3)),
			s.lib("shared/"+name+".py", name),
			s.lib(name+"/__init__.py", name),
		}, func(info *wheel.Info) {
			if i > 0 {
				info.RequiresDist = []string{fmt.Sprintf("p%02d", (i*7)%i)}
			}
		}))
	}
	want := compile(t, s, wheels...)
	if len(want.Diagnostics) != 1 {
		t.Fatalf("diagnostics %v, want one collision", want.Diagnostics)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		rnd.Shuffle(len(wheels), func(i, j int) { wheels[i], wheels[j] = wheels[j], wheels[i] })
		fresh := newMemory() // tables are made in another order, too
		fresh.infos, fresh.blobs = s.infos, s.blobs
		got := compile(t, fresh, wheels...)
		if !bytes.Equal(got.Tree, want.Tree) || got.Diagnostics[0].String() != want.Diagnostics[0].String() {
			t.Fatal("another order of wheels gives another tree")
		}
	}
}

func TestCollisions(t *testing.T) {
	exec := func(f wheel.File) wheel.File { f.Exec = true; return f }
	s := newMemory()
	tests := []struct {
		name     string
		a, b     []wheel.File
		requires map[string]string // of a or b
		want     string            // owner of the path that is served, by the wheel's name
		says     string
		err      string
	}{
		{
			name: "the alphabetically first wins",
			a:    []wheel.File{s.lib("x.py", "a")}, b: []wheel.File{s.lib("x.py", "b")},
			want: "a", says: `"` + site + `x.py" differs between distributions: a's is used, as pip would, not that of b`,
		},
		{
			name: "a dependant wins",
			a:    []wheel.File{s.lib("x.py", "a")}, b: []wheel.File{s.lib("x.py", "b")},
			requires: map[string]string{"b": "a>=1"},
			want:     "b", says: "b's is used",
		},
		{
			name: "a requirement for elsewhere is none",
			a:    []wheel.File{s.lib("x.py", "a")}, b: []wheel.File{s.lib("x.py", "b")},
			requires: map[string]string{"b": `a; sys_platform == "win32"`},
			want:     "a", says: "a's is used",
		},
		{
			name: "same bytes",
			a:    []wheel.File{s.lib("x.py", "same")}, b: []wheel.File{s.lib("x.py", "same")},
			want: "same",
		},
		{
			name: "same bytes, two modes",
			a:    []wheel.File{s.lib("x.py", "same")}, b: []wheel.File{exec(s.lib("x.py", "same"))},
			want: "same", says: "differs between distributions",
		},
		{
			name: "namespace",
			a:    []wheel.File{s.lib("ns/a.py", "a")}, b: []wheel.File{s.lib("ns/b.py", "b"), s.lib("x.py", "b")},
			want: "b",
		},
		{
			name: "case twins",
			a:    []wheel.File{s.lib("x.py", "a")}, b: []wheel.File{s.lib("X.py", "b")},
			want: "a", says: "differ only by case",
		},
		{
			name: "composed and decomposed",
			a:    []wheel.File{s.lib("x.py", "a"), s.lib("\u00e9.txt", "a")}, b: []wheel.File{s.lib("e\u0301.txt", "b")},
			want: "a", says: "Unicode form",
		},
		{
			name: "file against directory",
			a:    []wheel.File{s.lib("x.py", "a")}, b: []wheel.File{s.lib("x.py/y", "b")},
			err: "a directory in one distribution and a file in another",
		},
		{
			name: "file deep against directory",
			a:    []wheel.File{s.lib("n/m/x.py", "a")}, b: []wheel.File{s.lib("n/m", "b")},
			err: "a directory in one distribution and a file in another",
		},
		{
			name: "a file for the site directory",
			a:    []wheel.File{s.file(wheel.Data, "lib/python3.12", "a")},
			err:  "another file of the wheel takes the place of a directory",
		},
		{
			name: "a file for the interpreter",
			a:    []wheel.File{s.file(wheel.Scripts, "python3.12", "a")},
			err:  `a brings "bin/python3.12", which every virtual environment has of its own`,
		},
		{
			name: "a directory for pyvenv.cfg",
			a:    []wheel.File{s.file(wheel.Data, "pyvenv.cfg/x", "a")},
			err:  `a brings "pyvenv.cfg"`,
		},
		{
			name: "lib64",
			a:    []wheel.File{s.file(wheel.Data, "lib64/x", "a")},
			err:  `a brings "lib64"`,
		},
		{
			name: "two schemes, one place",
			a:    []wheel.File{s.lib("x.py", "a"), s.file(wheel.Data, site+"x.py", "b")},
			err:  "twice",
		},
		{
			name: "two schemes, one content",
			a:    []wheel.File{s.lib("x.py", "a"), s.file(wheel.Data, site+"x.py", "a")},
			want: "a",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requires := func(info *wheel.Info) {
				if r := tt.requires[info.Name]; r != "" {
					info.RequiresDist = []string{r}
				}
			}
			wheels := []Wheel{s.add("b", tt.b, requires), s.add("a", tt.a, requires)}
			r, err := Compile(&Manifest{Python: PythonOf(cpython(12)), Wheels: wheels}, cpython(12), s, now)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			tr := open(t, s, r, "/srv/venv")
			if got := read(t, s, tr, site+"x.py"); got != tt.want {
				t.Errorf("x.py is %q, want %q", got, tt.want)
			}
			switch {
			case tt.says == "" && len(r.Diagnostics) > 0, tt.says != "" && len(r.Diagnostics) != 1:
				t.Errorf("diagnostics %v, want %q", r.Diagnostics, tt.says)
			case tt.says != "" && !strings.Contains(r.Diagnostics[0].String(), tt.says):
				t.Errorf("diagnostic %q, want %q in it", r.Diagnostics[0], tt.says)
			}
			for _, name := range []string{"a", "b"} {
				own := slices.ContainsFunc(map[string][]wheel.File{"a": tt.a, "b": tt.b}[name], func(f wheel.File) bool { return f.Path == "x.py" })
				if rec := read(t, s, tr, site+name+"-1.dist-info/RECORD"); strings.Contains(rec, "\nx.py,") != own {
					t.Errorf("RECORD of %s lists x.py: %t, want %t", name, !own, own)
				}
			}
		})
	}
}

// TestTwinsOnMacOS shows that what its file systems can't hold is an error there.
func TestTwinsOnMacOS(t *testing.T) {
	s := newMemory()
	wheels := []Wheel{s.add("a", []wheel.File{s.lib("x.py", "a")}, nil), s.add("b", []wheel.File{s.lib("X.py", "b")}, nil)}
	py := cpython(12)
	py.Markers.SysPlatform = "darwin"
	_, err := Compile(&Manifest{Python: PythonOf(py), Wheels: wheels}, py, s, now)
	if err == nil || !strings.Contains(err.Error(), "differ only by case") {
		t.Errorf("error %v, want the two names", err)
	}
}

func TestRefused(t *testing.T) {
	s := newMemory()
	one := demo(s)
	other := s.add("demo", nil, nil)
	misnamed := one
	misnamed.Name = "another"
	newer, spelled := one, one
	newer.Version, spelled.Version = "1.1", "v1.0"
	tests := []struct {
		name string
		m    Manifest
		want string
	}{
		{"one distribution twice", Manifest{Python: PythonOf(cpython(12)), Wheels: []Wheel{one, other}}, "demo is there twice"},
		{"another Python", Manifest{Python: PythonOf(cpython(11)), Wheels: []Wheel{one}}, "3.11"},
		{"a wheel of another name", Manifest{Python: PythonOf(cpython(12)), Wheels: []Wheel{misnamed}}, "is demo 1, not another 1"},
		{"a wheel of another version", Manifest{Python: PythonOf(cpython(12)), Wheels: []Wheel{newer}}, "is demo 1, not demo 1.1"},
		{"a wheel that the store lacks", Manifest{Python: PythonOf(cpython(12)), Wheels: []Wheel{{Name: "gone"}}}, "gone"},
		{"a prompt of two lines", Manifest{Python: PythonOf(cpython(12)), Prompt: "a\nhome = /x"}, "more than one line"},
	}
	for _, tt := range tests {
		if _, err := Compile(&tt.m, cpython(12), s, now); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q in it", tt.name, err, tt.want)
		}
	}
	compile(t, s, spelled) // the same version
}

// TestKnownWheels shows that of a known wheel nothing but its table is read.
func TestKnownWheels(t *testing.T) {
	s := newMemory()
	w := demo(s)
	first := compile(t, s, w)
	s.infos, s.blobs = nil, nil
	if r := compile(t, s, w); !bytes.Equal(r.Tree, first.Tree) || s.puts != 1 {
		t.Errorf("compiled again: %d puts, want 1 and the same tree", s.puts)
	}
	if _, err := Compile(&Manifest{Python: PythonOf(cpython(11)), Wheels: []Wheel{w}}, cpython(11), s, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("for another layout: %v, want the wheel to be read anew", err)
	}
}

// TestNoEmptyDirectory holds invariant 5, and 4 as far as a tree has modes: no
// wheel brings a symlink.
func TestNoEmptyDirectory(t *testing.T) {
	s := newMemory()
	for name, wheels := range map[string][]Wheel{"no wheel": nil, "demo": {demo(s)}} {
		tr := open(t, s, compile(t, s, wheels...), "/srv/venv")
		err := tr.Walk(func(path string, id tree.ID, a tree.Attr) error {
			children := tree.Children{}
			var err error
			if a.Kind == tree.Dir {
				children, err = tr.Children(id)
			}
			needed := name == "no wheel" && path+"/" == site
			if a.Kind == tree.Dir && children.Len() == 0 && !needed {
				t.Errorf("%s: %q is empty", name, path)
			}
			if a.Kind == tree.Symlink && id>>32 != 0 {
				t.Errorf("%s: %q is a symlink of a wheel", name, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLayouts(t *testing.T) {
	names := make(map[string]int)
	for minor := 8; minor < 15; minor++ {
		names[newVenv(cpython(minor)).layout()] = minor
	}
	if len(names) != 7 {
		t.Errorf("7 Pythons have %d layouts: %v", len(names), names)
	}
	for name, minor := range names {
		if want := fmt.Sprintf("lib-python3.%d-", minor); !strings.HasPrefix(name, want) || strings.ContainsAny(name, "/ ") {
			t.Errorf("layout %q, want a file name that starts with %q", name, want)
		}
	}
	other := cpython(12)
	other.Layout.Headers = "include/elsewhere"
	if newVenv(other).layout() == newVenv(cpython(12)).layout() {
		t.Error("two header directories, one layout name")
	}
}

func TestInterpreterNames(t *testing.T) {
	threaded, pypy := cpython(13), cpython(10)
	threaded.GILDisabled = true
	pypy.Implementation = "pypy"
	tests := []struct {
		py   *interp.Python
		want string
	}{
		{cpython(12), "python3 python3.12"},
		{threaded, "python3 python3.13 python3.13t"},
		{pypy, "python3 python3.10 pypy pypy3 pypy3.10"},
	}
	for _, tt := range tests {
		if got := strings.Join(newVenv(tt.py).interpreterNames(), " "); got != tt.want {
			t.Errorf("names of %s: %q, want %q", tt.py.CacheTag, got, tt.want)
		}
	}
}

func TestLib64(t *testing.T) {
	for platform, want := range map[string]bool{
		"linux-x86_64": true, "linux-aarch64": true, "linux-s390x": true, "linux-ppc64le": true,
		"linux-i686": false, "linux-armv7l": false, "macosx-14.0-arm64": false,
	} {
		py := cpython(12)
		py.Platform = platform
		if strings.HasPrefix(platform, "macosx") {
			py.Markers.SysPlatform = "darwin"
		}
		if got := newVenv(py).hasLib64(); got != want {
			t.Errorf("lib64 on %s: %t, want %t", platform, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	got := newVenv(cpython(13)).config(&Manifest{Prompt: "my env", SystemSitePackages: true, Relocatable: true})
	want := "home = /usr/bin\nimplementation = CPython\nversion_info = 3.13.1\ninclude-system-site-packages = true\nsitefs = 1\nrelocatable = true\nprompt = my env\n"
	if got != want {
		t.Errorf("pyvenv.cfg is\n%s, want\n%s", got, want)
	}
}

func TestEncode(t *testing.T) {
	m := &Manifest{
		Python: PythonOf(cpython(12)),
		Wheels: []Wheel{{Name: "b", Version: "2", DirectURL: "<x&y>"}, {Name: "a", Version: "1", Requested: true}},
	}
	got, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	zero := digest.Digest{}.String()
	want := `{"Python":{"Implementation":"cpython","Version":"3.12","CacheTag":"cpython-312"},` +
		`"Wheels":[{"Digest":"` + zero + `","Name":"a","Version":"1","Requested":true},` +
		`{"Digest":"` + zero + `","Name":"b","Version":"2","DirectURL":"<x&y>"}]}` + "\n"
	if string(got) != want {
		t.Errorf("encoded\n%s, want\n%s", got, want)
	}
	back, err := Decode(got)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, got) {
		t.Errorf("encoded again: %s, %v", again, err)
	}
	if m.Wheels[0].Name != "b" {
		t.Error("Encode sorted the caller's wheels")
	}
}
