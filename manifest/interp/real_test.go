package interp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/tag"
)

// realPythons returns every interpreter of this machine that pyenv, uv or the
// system put there, whatever its version.
func realPythons(t *testing.T) []string {
	t.Helper()
	f, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for path := range f.candidates(context.Background()) {
		if _, shim := shimRoot(path); !shim {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Skip("this machine has no Python")
	}
	return paths
}

// sysTags prints what a packaging library says of the interpreter that runs it;
// the path of the library is an argument. Releases before 26.3 have the native
// platform last, so it is put in front.
const sysTags = `
import sys
sys.path.insert(0, sys.argv[1])
try:
    from packaging import tags, markers
except ImportError:
    sys.path.insert(0, sys.argv[1] + "/pip/_vendor")
    from packaging import tags, markers
import json
platforms = list(tags._linux_platforms()) if hasattr(tags, "_linux_platforms") else list(tags._platform_tags())
native = [p for p in platforms if p.startswith("linux_")]
ordered = native + [p for p in platforms if p not in native]
found = list(tags.cpython_tags(platforms=ordered))
found += tags.compatible_tags(interpreter="cp" + tags.interpreter_version(), platforms=ordered)
print(json.dumps({"tags": [str(t) for t in found], "markers": markers.default_environment()}))
`

func TestRealPythons(t *testing.T) {
	for _, path := range realPythons(t) {
		t.Run(path, func(t *testing.T) {
			p, err := Probe(context.Background(), path, nil)
			if err != nil {
				if strings.Contains(err.Error(), "sitefs needs 3.8 or newer") {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			checkPaths(t, p)
			if p.Implementation == "cpython" && p.Markers.SysPlatform == "linux" {
				checkPackaging(t, p)
			}
		})
	}
}

// checkPaths compares the layout with a virtual environment that the
// interpreter makes itself.
func checkPaths(t *testing.T, p *Python) {
	dir := t.TempDir()
	if out, err := exec.Command(p.Executable, "-m", "venv", "--without-pip", dir).CombinedOutput(); err != nil {
		t.Skipf("%s makes no virtual environment: %s", p, out)
	}
	out, err := exec.Command(filepath.Join(dir, "bin", "python"), "-c",
		"import sysconfig; print(sysconfig.get_path('purelib'), sysconfig.get_path('platlib'), sysconfig.get_path('scripts'))").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(filepath.Join(dir, p.Layout.Purelib), filepath.Join(dir, p.Layout.Platlib), filepath.Join(dir, p.Layout.Scripts))
	if got != string(out) {
		t.Errorf("layout %q, want %q", got, out)
	}
	base, err := Probe(context.Background(), filepath.Join(dir, "bin", "python"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(base.Executable) != p.Home || base.VersionInfo != p.VersionInfo {
		t.Errorf("the environment leads to %s, want %s", base, p)
	}
}

// checkPackaging compares tags and markers with what the packaging library says
// in the interpreter, its own or the one that its pip carries.
func checkPackaging(t *testing.T, p *Python) {
	site := filepath.Join(filepath.Dir(p.Home), p.Layout.Purelib)
	if filepath.Dir(p.Home) == "/usr" {
		site = "/usr/lib/python3/dist-packages"
	}
	out, err := exec.Command(p.Executable, "-I", "-S", "-B", "-c", sysTags, site).CombinedOutput()
	if err != nil {
		t.Skipf("%s has no packaging library in %s: %.300s", p, site, out)
	}
	var want struct {
		Tags    []string
		Markers map[string]string
	}
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := make([]string, len(p.Tags))
	for i, tg := range p.Tags {
		got[i] = tg.String()
	}
	if !slices.Equal(got, want.Tags) {
		t.Errorf("%d tags, want %d: %q…, want %q…", len(got), len(want.Tags), got[:5], want.Tags[:5])
	}
	m := p.Markers
	for name, value := range map[string]string{
		"implementation_name": m.ImplementationName, "implementation_version": m.ImplementationVersion,
		"os_name": m.OSName, "platform_machine": m.PlatformMachine,
		"platform_release": m.PlatformRelease, "platform_system": m.PlatformSystem, "platform_version": m.PlatformVersion,
		"python_full_version": m.PythonFullVersion, "python_version": m.PythonVersion, "sys_platform": m.SysPlatform,
		"platform_python_implementation": m.PlatformPythonImplementation,
	} {
		if value != want.Markers[name] {
			t.Errorf("marker %s is %q, want %q", name, value, want.Markers[name])
		}
	}
	if _, ok := tag.NewSet(p.Tags).Rank(tag.Tag{Python: "py3", ABI: "none", Platform: "any"}); !ok {
		t.Error("it takes no pure wheel")
	}
}

func TestRealPyenvShim(t *testing.T) {
	root := os.Getenv("PYENV_ROOT")
	if root == "" {
		root = filepath.Join(os.Getenv("HOME"), ".pyenv")
	}
	shim := filepath.Join(root, "shims", "python3")
	if !exists(shim) {
		t.Skip("this machine has no pyenv")
	}
	out, err := exec.Command(shim, "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Skipf("pyenv's own shim fails here: %v", err)
	}
	p, err := Probe(context.Background(), shim, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(out)); p.Executable != want {
		t.Errorf("the shim leads to %q, want %q", p.Executable, want)
	}
}

func BenchmarkKey(b *testing.B) {
	path, err := exec.LookPath("python3")
	if err != nil {
		b.Skip("no python3 in PATH")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Key(path); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKnown is what a run with known inputs pays for its interpreter.
func BenchmarkKnown(b *testing.B) {
	f, err := New(make(memory))
	if err != nil {
		b.Fatal(err)
	}
	p, err := f.Find(context.Background(), Request{})
	if err != nil {
		b.Skip(err)
	}
	b.Run("inputs", func(b *testing.B) {
		for b.Loop() {
			f.Inputs(Request{})
		}
	})
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			if again, err := f.Find(context.Background(), Request{}); err != nil || again.Key != p.Key {
				b.Fatal(again, err)
			}
		}
	})
}
