package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/tag"
)

// A vector is a case of the packaging library's own tests, with what the
// library answers.
type vector struct {
	From  string
	Input struct {
		Pylock      map[string]any
		DirectURL   json.RawMessage `json:"direct_url"`
		Environment map[string]string
		Tags        []string
		Extras      []string
		Groups      []string `json:"dependency_groups"`
	}
	Expected struct {
		Valid    bool
		Error    string
		Context  string
		Selected []selected
	}
}

type selected struct {
	Name    string
	Version string
	Source  struct{ Kind, Filename, Path, URL string }
}

// vectors reads a section of a file of testdata. Numbers keep their kind, which
// TOML distinguishes.
func vectors(t testing.TB, file, section string) []vector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Sections map[string][]vector }
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if len(f.Sections[section]) == 0 {
		t.Fatalf("%s has no section %q", file, section)
	}
	return f.Sections[section]
}

// pylockTOML writes the lock file that a vector holds as JSON.
func pylockTOML(t testing.TB, v map[string]any) []byte {
	t.Helper()
	b, err := toml.Marshal(fromJSON(t, v))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fromJSON(t testing.TB, v any) any {
	t.Helper()
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			t.Fatal(err)
		}
		return f
	case []any:
		for i := range v {
			v[i] = fromJSON(t, v[i])
		}
	case map[string]any:
		if text, ok := v["__datetime__"].(string); ok {
			return dateTime(t, text)
		}
		for key := range v {
			v[key] = fromJSON(t, v[key])
		}
	}
	return v
}

func dateTime(t testing.TB, text string) any {
	t.Helper()
	if when, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return when
	}
	var local toml.LocalDateTime
	if err := local.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return local
}

// checkError holds an error against the vector's: there or not, and the same
// place of the file.
func checkError(t *testing.T, err error, v vector) {
	t.Helper()
	if v.Expected.Error == "" {
		if err != nil {
			t.Errorf("found error %q, want none", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("no error, want %s at %q", v.Expected.Error, v.Expected.Context)
	}
	var field *FieldError
	path := ""
	if errors.As(err, &field) {
		path = field.Path
	}
	if path != v.Expected.Context {
		t.Errorf("error %q is about %q, want %q", err, path, v.Expected.Context)
	}
}

func TestVectorsValidate(t *testing.T) {
	for _, v := range vectors(t, "pylock.json", "validate") {
		t.Run(v.From, func(t *testing.T) {
			_, err := ReadPylock(pylockTOML(t, v.Input.Pylock), "/project")
			checkError(t, err, v)
		})
	}
}

func TestVectorsSelect(t *testing.T) {
	for _, v := range vectors(t, "pylock.json", "select") {
		t.Run(v.From, func(t *testing.T) {
			l, err := ReadPylock(pylockTOML(t, v.Input.Pylock), "/project")
			if err != nil {
				t.Fatal(err)
			}
			groups := v.Input.Groups
			if groups == nil {
				groups = l.DefaultGroups
			}
			sources, err := l.sources(vectorTarget(t, v), v.Input.Extras, groups)
			if v.Expected.Error != "" {
				if err == nil {
					t.Fatalf("no error, want %s", v.Expected.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(sources) != len(v.Expected.Selected) {
				t.Fatalf("found %d packages, want %d", len(sources), len(v.Expected.Selected))
			}
			for i, want := range v.Expected.Selected {
				checkSource(t, sources[i], want)
			}
		})
	}
}

func checkSource(t *testing.T, s source, want selected) {
	t.Helper()
	if s.pkg.name != want.Name || s.pkg.version != want.Version {
		t.Errorf("found %s, want %s %s", s.pkg, want.Name, want.Version)
	}
	switch want.Source.Kind {
	case "wheel":
		if s.wheel == nil {
			t.Fatalf("%s: found no wheel, want %q", s.pkg, want.Source.Filename)
		}
		if s.wheel.name != want.Source.Filename || s.wheel.url != want.Source.URL {
			t.Errorf("found wheel %q of %q, want %q of %q", s.wheel.name, s.wheel.url, want.Source.Filename, want.Source.URL)
		}
	case "directory":
		if s.pkg.directory != want.Source.Path {
			t.Errorf("found directory %q, want %q", s.pkg.directory, want.Source.Path)
		}
	default:
		t.Fatalf("kind %q has no check", want.Source.Kind)
	}
}

func vectorTarget(t *testing.T, v vector) *target {
	t.Helper()
	e := v.Input.Environment
	env := marker.Environment{
		OSName: e["os_name"], SysPlatform: e["sys_platform"], PlatformMachine: e["platform_machine"],
		PlatformPythonImplementation: e["platform_python_implementation"], PlatformRelease: e["platform_release"],
		PlatformSystem: e["platform_system"], PlatformVersion: e["platform_version"],
		PythonVersion: e["python_version"], PythonFullVersion: e["python_full_version"],
		ImplementationName: e["implementation_name"], ImplementationVersion: e["implementation_version"],
	}
	var tags []tag.Tag
	for _, text := range v.Input.Tags {
		parsed, err := tag.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, parsed...)
	}
	full := env.PythonFullVersion
	release := full[:len(full)-len(strings.TrimLeft(full, "0123456789."))]
	return newTarget(&interp.Python{FullVersion: full, VersionInfo: release, Markers: env, Tags: tags})
}

func TestVectorsDirectURL(t *testing.T) {
	for _, v := range vectors(t, "direct_url.json", "validate") {
		t.Run(v.From, func(t *testing.T) {
			d, err := ParseDirectURL(v.Input.DirectURL)
			checkError(t, err, v)
			if err != nil {
				return
			}
			again, err := ParseDirectURL(d.Encode())
			if err != nil {
				t.Fatalf("what Encode wrote can't be read: %v", err)
			}
			if !bytes.Equal(again.Encode(), d.Encode()) {
				t.Errorf("%s became %s", d.Encode(), again.Encode())
			}
		})
	}
}
