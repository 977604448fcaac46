package lock

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/tag"
)

const sha = "c75a69e28a550a7e93789579c22aa26b0f5b83b75dc4e08fe092980051e1090a"

// python312 is CPython 3.12 on x86-64 Linux with glibc 2.36.
func python312(t testing.TB) *interp.Python {
	t.Helper()
	platforms := tag.LinuxPlatforms("x86_64", false, tag.Libc{Name: "glibc", Major: 2, Minor: 36})
	version := []int{3, 12}
	return &interp.Python{
		Executable:     "/usr/bin/python3.12",
		Implementation: "cpython",
		FullVersion:    "3.12.1",
		VersionInfo:    "3.12.1",
		Tags:           append(tag.CPython(version, []string{"cp312"}, platforms), tag.Compatible(version, "cp312", platforms)...),
		Markers: marker.Environment{
			OSName: "posix", SysPlatform: "linux", PlatformMachine: "x86_64", PlatformPythonImplementation: "CPython",
			PlatformRelease: "6.1", PlatformSystem: "Linux", PlatformVersion: "#1", PythonVersion: "3.12",
			PythonFullVersion: "3.12.1", ImplementationName: "cpython", ImplementationVersion: "3.12.1",
		},
	}
}

// pylockText is a lock file with these lines after its head.
func pylockText(lines ...string) []byte {
	return []byte("lock-version = \"1.0\"\ncreated-by = \"test\"\n" + strings.Join(lines, "\n") + "\n")
}

// wheelLine is a package with one wheel.
func wheelLine(name, filename, rest string) string {
	return fmt.Sprintf("[[packages]]\nname = %q\nwheels = [{url = \"https://example.com/%s\", hashes = {sha256 = %q}}]\n%s", name, filename, sha, rest)
}

func TestReadPylockErrors(t *testing.T) {
	tests := []struct {
		name string
		data string
		want string
	}{
		{"not TOML", "lock-version = \n", "line 1, column 16"},
		{"not UTF-8", "lock-version = \"\xff\"", "not a TOML file"},
		{"a key twice", "lock-version = \"1.0\"\nlock-version = \"1.0\"", "not a TOML file"},
		{"empty", "", "lock-version: missing, want a string"},
		{"version of a later format", "lock-version = \"2.0\"", `found lock-version "2.0", want 1.0`},
		{"version isn't one", "lock-version = \"one\"", "lock-version: "},
		{"no packages", "lock-version = \"1.0\"\ncreated-by = \"x\"", "packages: missing, want an array"},
		{"name not normalized", string(pylockText(wheelLine("Foo_Bar", "foo_bar-1-py3-none-any.whl", ""))), `packages[0].name: found "Foo_Bar", want a normalized name such as "foo-bar"`},
		{"extra not normalized", string(pylockText(`extras = ["A"]`, "packages = []")), `extras[0]: found "A"`},
		{"marker", string(pylockText(wheelLine("foo", "foo-1-py3-none-any.whl", `marker = "python == 3"`))), "packages[0].marker: "},
		{"environment marker", string(pylockText(`environments = ["os_name == 'posix'", "nonsense"]`, "packages = []")), "environments[1]: "},
		{"no source", string(pylockText("[[packages]]\nname = \"foo\"")), "packages[0]: no source"},
		{"two sources", string(pylockText(wheelLine("foo", "foo-1-py3-none-any.whl", `directory = {path = "."}`))), "packages[0]: found wheels or sdist, directory side by side"},
		{"neither url nor path", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{name = \"foo-1-py3-none-any.whl\", hashes = {sha256 = \"a\"}}]")), "packages[0].wheels[0]: neither url nor path"},
		{"no hashes", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\"}]")), "packages[0].wheels[0].hashes: missing, and a file without a hash can't be checked"},
		{"empty hashes", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", hashes = {}}]")), "packages[0].wheels[0].hashes: empty"},
		{"negative size", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", size = -1, hashes = {sha256 = \"a\"}}]")), "packages[0].wheels[0].size: found -1"},
		{"hash not a string", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", hashes = {sha256 = 1}}]")), "packages[0].wheels[0].hashes.sha256: found an integer, want a string"},
		{"upload-time", string(pylockText("[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", upload-time = \"now\", hashes = {sha256 = \"a\"}}]")), "packages[0].wheels[0].upload-time: found a string, want a date and time"},
		{"wheel of another package", string(pylockText(wheelLine("foo", "bar-1-py3-none-any.whl", ""))), `packages[0].wheels[0]: file name "bar-1-py3-none-any.whl": found package "bar", want "foo"`},
		{"wheel of another version", string(pylockText(wheelLine("foo", "foo-1-py3-none-any.whl", `version = "2"`))), `found version "1", want "2"`},
		{"archive is a wheel of another package", string(pylockText("[[packages]]\nname = \"foo\"\narchive = {path = \"bar-1-py3-none-any.whl\", hashes = {sha256 = \"a\"}}")), `packages[0].archive: file name "bar-1-py3-none-any.whl": found package "bar"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := ReadPylock([]byte(test.data), "/project")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("found error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestReadPylockTolerates(t *testing.T) {
	l, err := ReadPylock(append([]byte("\ufeff"), []byte("lock-version = \"1.7\"\r\ncreated-by = \"x\"\r\npackages = []\r\nunknown = 1\r\n")...), "/project")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], `"1.7"`) {
		t.Errorf("found warnings %q, want one about lock-version 1.7", l.Warnings)
	}
}

func TestSelectPins(t *testing.T) {
	tests := []struct {
		name  string
		lines string
		want  Pin
	}{
		{
			"url", wheelLine("foo", "a/foo-1.0-py3-none-any.whl?x=1#frag", "version = \"1.0\"\nindex = \"https://example.com/simple\""),
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", URL: "https://example.com/a/foo-1.0-py3-none-any.whl?x=1#frag", Index: "https://example.com/simple"},
		},
		{
			"url is percent-encoded", wheelLine("foo", "foo-1.0%2Blocal.1-py3-none-any.whl", ""),
			Pin{Version: "1.0+local.1", Filename: "foo-1.0+local.1-py3-none-any.whl", URL: "https://example.com/foo-1.0%2Blocal.1-py3-none-any.whl"},
		},
		{
			"relative path", "[[packages]]\nname = \"foo\"\nversion = \"1.0\"\nwheels = [{path = \"../w/foo-1.0-py3-none-any.whl\", size = 7, hashes = {sha256 = \"" + sha + "\"}}]",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/w/foo-1.0-py3-none-any.whl", Size: 7},
		},
		{
			"file URL", "[[packages]]\nname = \"foo\"\nversion = \"1.0\"\nwheels = [{url = \"file:///w%20w/foo-1.0-py3-none-any.whl\", hashes = {sha256 = \"" + sha + "\"}}]",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/w w/foo-1.0-py3-none-any.whl"},
		},
		{
			"path and url", "[[packages]]\nname = \"foo\"\nversion = \"1.0\"\nwheels = [{path = \"/w/foo-1.0-py3-none-any.whl\", url = \"https://example.com/foo-1.0-py3-none-any.whl\", hashes = {sha256 = \"" + sha + "\"}}]",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/w/foo-1.0-py3-none-any.whl", URL: "https://example.com/foo-1.0-py3-none-any.whl"},
		},
		{
			"name beats path", "[[packages]]\nname = \"foo\"\nwheels = [{name = \"foo-1.0-py3-none-any.whl\", path = \"/w/blob\", hashes = {sha256 = \"" + sha + "\"}}]",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/w/blob"},
		},
		{
			"archive that is a wheel", "[[packages]]\nname = \"foo\"\narchive = {path = \"foo-1.0-py3-none-any.whl\", hashes = {sha256 = \"" + sha + "\"}}",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/project/foo-1.0-py3-none-any.whl", Direct: true},
		},
		{
			"upper-case and weak hashes", "[[packages]]\nname = \"foo\"\nwheels = [{path = \"/w/foo-1.0-py3-none-any.whl\", hashes = {SHA256 = \"" + strings.ToUpper(sha) + "\", md5 = \"x\", new = \"y\"}}]",
			Pin{Version: "1.0", Filename: "foo-1.0-py3-none-any.whl", Path: "/w/foo-1.0-py3-none-any.whl"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l, err := ReadPylock(pylockText(test.lines), "/project")
			if err != nil {
				t.Fatal(err)
			}
			pins, err := l.Select(python312(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.Name, want.Hashes = "foo", map[string]string{"sha256": sha}
			if got := fmt.Sprintf("%+v", pins); got != fmt.Sprintf("%+v", []Pin{want}) {
				t.Errorf("found %s, want %+v", got, want)
			}
		})
	}
}

func TestSelectBestWheel(t *testing.T) {
	tests := []struct {
		name   string
		wheels []string
		want   string
	}{
		{"platform over pure", []string{"foo-1-py3-none-any.whl", "foo-1-cp312-cp312-manylinux_2_17_x86_64.whl"}, "foo-1-cp312-cp312-manylinux_2_17_x86_64.whl"},
		{"newest manylinux", []string{"foo-1-cp312-cp312-manylinux_2_17_x86_64.whl", "foo-1-cp312-cp312-manylinux_2_28_x86_64.whl", "foo-1-cp312-cp312-manylinux_2_39_x86_64.whl"}, "foo-1-cp312-cp312-manylinux_2_28_x86_64.whl"},
		{"one tag of many", []string{"foo-1-cp311-cp311-linux_x86_64.whl", "foo-1-cp39.cp312-abi3.cp312-win_amd64.manylinux2014_x86_64.whl"}, "foo-1-cp39.cp312-abi3.cp312-win_amd64.manylinux2014_x86_64.whl"},
		{"higher build tag", []string{"foo-1-2-py3-none-any.whl", "foo-1-10-py3-none-any.whl", "foo-1-py3-none-any.whl"}, "foo-1-10-py3-none-any.whl"},
		{"tag before build tag", []string{"foo-1-9-py3-none-any.whl", "foo-1-1-cp312-none-any.whl"}, "foo-1-1-cp312-none-any.whl"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var wheels []string
			for _, name := range test.wheels {
				wheels = append(wheels, fmt.Sprintf("{path = %q, hashes = {sha256 = %q}}", name, sha))
			}
			l, err := ReadPylock(pylockText("[[packages]]\nname = \"foo\"", "wheels = ["+strings.Join(wheels, ",")+"]"), "/project")
			if err != nil {
				t.Fatal(err)
			}
			pins, err := l.Select(python312(t), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if pins[0].Filename != test.want {
				t.Errorf("found %q, want %q", pins[0].Filename, test.want)
			}
		})
	}
}

func TestSelectErrors(t *testing.T) {
	good := wheelLine("good", "good-1-py3-none-any.whl", "")
	tests := []struct {
		name  string
		lines string
		kind  error
		want  []string
	}{
		{"requires-python", "requires-python = \">=3.13\"\npackages = []", ErrPython, []string{"for Python >=3.13", "CPython 3.12.1 (/usr/bin/python3.12)", "--python"}},
		{"environments", "environments = [\"sys_platform == 'win32'\", \"sys_platform == 'darwin'\"]\npackages = []", ErrPython, []string{`sys_platform == "win32" or sys_platform == "darwin"`, "lock again"}},
		{"package's requires-python", good + "requires-python = \">=3.13\"", ErrPython, []string{"packages[0]: good is for Python >=3.13"}},
		{"package twice", good + "\n" + good, nil, []string{`packages[0] and packages[1] are both "good"`}},
		{"another platform", good + "\n" + wheelLine("foo", "foo-1-cp311-cp311-win_amd64.whl", "version = \"1\""), ErrNoWheel, []string{"foo 1: the lock file offers cp311-cp311-win_amd64", "takes cp312-cp312-linux_x86_64, cp312-cp312-manylinux_2_36_x86_64 … py30-none-any", "--python"}},
		{"sdist", "[[packages]]\nname = \"foo\"\nversion = \"1\"\nsdist = {path = \"foo-1.tar.gz\", hashes = {sha256 = \"a\"}}", ErrNoWheel, []string{"foo 1: an sdist (foo-1.tar.gz), which must be built", "pip wheel, uv build"}},
		{"archive", "[[packages]]\nname = \"foo\"\narchive = {url = \"https://u:secret@example.com/foo.zip\", hashes = {sha256 = \"a\"}}", ErrNoWheel, []string{"foo: an archive of sources (https://example.com/foo.zip)"}},
		{"directory", "[[packages]]\nname = \"foo\"\ndirectory = {path = \"./foo\", editable = true}", ErrNoWheel, []string{"foo: a directory of sources (./foo; uv export --no-emit-project"}},
		{"vcs", "[[packages]]\nname = \"foo\"\nvcs = {type = \"git\", url = \"https://u:secret@example.com/foo\", commit-id = \"1\"}", ErrNoWheel, []string{"foo: a version control checkout (https://example.com/foo)"}},
		{"all of them at once", wheelLine("foo", "foo-1-cp311-cp311-win_amd64.whl", "") + "\n[[packages]]\nname = \"bar\"\ndirectory = {path = \".\"}", ErrNoWheel, []string{"foo: the lock file offers", "bar: a directory"}},
		{"md5 alone", "[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", hashes = {md5 = \"a\", sha1 = \"b\"}}]", nil, []string{"foo-1-py3-none-any.whl: found hashes by md5, sha1 only, want one of sha256, sha512, sha384, blake2b"}},
		{"short hash", "[[packages]]\nname = \"foo\"\nwheels = [{path = \"foo-1-py3-none-any.whl\", hashes = {sha256 = \"0fd\"}}]", nil, []string{`sha256 hash "0fd": found 3 characters, want 64 hexadecimal digits`}},
		{"scheme", "[[packages]]\nname = \"foo\"\nwheels = [{url = \"ftp://u:secret@example.com/foo-1-py3-none-any.whl\", hashes = {sha256 = \"" + sha + "\"}}]", nil, []string{`url "ftp://example.com/foo-1-py3-none-any.whl" isn't one to fetch`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l, err := ReadPylock(pylockText(test.lines), "/project")
			if err != nil {
				t.Fatal(err)
			}
			pins, err := l.Select(python312(t), Options{})
			if err == nil {
				t.Fatalf("found %v, want an error", pins)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want one with %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q tells a password", err)
			}
			for _, kind := range []error{ErrPython, ErrNoWheel} {
				if errors.Is(err, kind) != (kind == test.kind) {
					t.Errorf("error is %q: %v", kind, errors.Is(err, kind))
				}
			}
		})
	}
}

func TestSelectExtrasAndGroups(t *testing.T) {
	l, err := ReadPylock(pylockText(
		`extras = ["http2", "my-cli"]`, `dependency-groups = ["dev", "Docs"]`, `default-groups = ["dev", "internal"]`,
		wheelLine("base", "base-1-py3-none-any.whl", ""),
		wheelLine("h2", "h2-1-py3-none-any.whl", `marker = "'http2' in extras"`),
		wheelLine("click", "click-1-py3-none-any.whl", `marker = "'my-cli' in extras"`),
		wheelLine("pytest", "pytest-1-py3-none-any.whl", `marker = "'dev' in dependency_groups"`),
		wheelLine("sphinx", "sphinx-1-py3-none-any.whl", `marker = "'docs' in dependency_groups"`),
		wheelLine("own", "own-1-py3-none-any.whl", `marker = "'internal' in dependency_groups"`),
	), "/project")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		opt  Options
		want string // names, or the error
	}{
		{"default", Options{}, "base pytest own"},
		{"extra in another spelling", Options{Extras: []string{"My_CLI"}}, "base click pytest own"},
		{"all extras", Options{AllExtras: true}, "base h2 click pytest own"},
		{"group", Options{Groups: []string{"docs"}}, "base pytest sphinx own"},
		{"all groups", Options{AllGroups: true}, "base pytest sphinx own"},
		{"no dev", Options{NoGroups: []string{"dev"}}, "base own"},
		{"no default groups", Options{NoDefaultGroups: true}, "base"},
		{"one group only", Options{NoDefaultGroups: true, Groups: []string{"dev"}}, "base pytest"},
		{"all but one", Options{AllGroups: true, NoGroups: []string{"DOCS"}}, "base pytest own"},
		{"unknown extra", Options{Extras: []string{"http3"}}, `the lock file has no extra "http3", it has http2, my-cli`},
		{"unknown group", Options{Groups: []string{"test"}}, `the lock file has no dependency group "test", it has Docs, dev, internal`},
		{"requested", Options{NoDefaultGroups: true, Requested: []string{"BASE"}}, "base!"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pins, err := l.Select(python312(t), test.opt)
			var found []string
			for _, p := range pins {
				if p.Requested {
					p.Name += "!"
				}
				found = append(found, p.Name)
			}
			if err != nil {
				found = []string{err.Error()}
			}
			if got := strings.Join(found, " "); got != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}

// BenchmarkPylock reads and selects from a lock file like a large project's:
// 250 packages, 20 wheels each, 1.6 MB.
func BenchmarkPylock(b *testing.B) {
	var s strings.Builder
	s.Write(pylockText(`requires-python = ">=3.12"`))
	for i := range 250 {
		fmt.Fprintf(&s, "[[packages]]\nname = \"package-%d\"\nversion = \"1.2.3\"\nmarker = \"python_version < '3.14'\"\nwheels = [\n", i)
		for _, python := range []string{"cp310", "cp311", "cp312", "cp313"} {
			for _, platform := range []string{"macosx_10_12_x86_64", "macosx_11_0_arm64", "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_17_aarch64.manylinux2014_aarch64", "win_amd64"} {
				fmt.Fprintf(&s, "  {url = \"https://example.com/packages/c7/5a/%s/package_%d-1.2.3-%s-%s-%s.whl\", upload-time = 2025-01-25T11:30:10Z, size = 63152, hashes = {sha256 = %q}},\n", sha, i, python, python, platform, sha)
			}
		}
		s.WriteString("]\n")
	}
	data, py := []byte(s.String()), python312(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		l, err := ReadPylock(data, "/project")
		if err != nil {
			b.Fatal(err)
		}
		if pins, err := l.Select(py, Options{}); err != nil || len(pins) != 250 {
			b.Fatalf("%d pins, %v", len(pins), err)
		}
	}
}
