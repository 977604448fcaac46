package tag

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/internal/vectors"
	"github.com/sitefs/sitefs/manifest/pyver"
)

// section returns one section of testdata/tags.json: inputs and results of the
// packaging library's own test suite, and its answers for many interpreters and
// platforms.
func section[In, Out any](t *testing.T, name string) []vectors.Vector[In, Out] {
	t.Helper()
	return vectors.Section[In, Out](t, "testdata/tags.json", name)
}

type tagsOut struct {
	Error string
	Tags  []string
}

func texts(tags []Tag) []string {
	var s []string
	for _, t := range tags {
		s = append(s, t.String())
	}
	return s
}

func sorted(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s }

func TestVectorsParseTag(t *testing.T) {
	type in struct {
		Tag           string
		ValidateOrder bool `json:"validate_order"`
	}
	for _, v := range section[in, tagsOut](t, "parse_tag") {
		tags, err := Parse(v.Input.Tag)
		if err == nil && v.Input.ValidateOrder {
			ok, err := Sorted(v.Input.Tag)
			if err != nil || ok != (v.Expected.Error == "") {
				t.Errorf("Sorted(%q) = %v, %v, want %+v", v.Input.Tag, ok, err, v.Expected)
			}
			continue
		}
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("Parse(%q): error %v, want %q", v.Input.Tag, err, v.Expected.Error)
		}
		if got := sorted(texts(tags)); !slices.Equal(got, v.Expected.Tags) {
			t.Errorf("Parse(%q) = %q, want %q", v.Input.Tag, got, v.Expected.Tags)
		}
	}
}

type build Build

func (b *build) UnmarshalJSON(data []byte) error {
	parts := []any{&b.Number, &b.Suffix}
	b.Set = string(data) != "[]"
	return json.Unmarshal(data, &parts)
}

func TestVectorsWheelFilename(t *testing.T) {
	type in struct {
		Filename      string
		ValidateOrder bool `json:"validate_order"`
	}
	type out struct {
		Error, Name, Version string
		Build                build
		Tags                 []string
	}
	for _, v := range section[in, out](t, "wheel_filename") {
		got, err := ParseWheelName(v.Input.Filename)
		if err == nil && v.Input.ValidateOrder {
			parts := strings.Split(strings.TrimSuffix(v.Input.Filename, ".whl"), "-")
			ok, err := Sorted(strings.Join(parts[len(parts)-3:], "-"))
			if err != nil || ok != (v.Expected.Error == "") {
				t.Errorf("Sorted(%q) = %v, %v, want %+v", v.Input.Filename, ok, err, v.Expected)
			}
			continue
		}
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("ParseWheelName(%q): error %v, want %q", v.Input.Filename, err, v.Expected.Error)
		}
		if err != nil {
			continue
		}
		w := v.Expected
		if got.Name != w.Name || got.Version.String() != w.Version || got.Build != Build(w.Build) || !slices.Equal(sorted(texts(got.Tags)), w.Tags) {
			t.Errorf("ParseWheelName(%q) = %+v, want %+v", v.Input.Filename, got, w)
		}
	}
}

func TestVectorsSdistFilename(t *testing.T) {
	type in struct{ Filename string }
	type out struct{ Error, Name, Version string }
	for _, v := range section[in, out](t, "sdist_filename") {
		got, err := ParseSdistName(v.Input.Filename)
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("ParseSdistName(%q): error %v, want %q", v.Input.Filename, err, v.Expected.Error)
		}
		if err == nil && (got.Name != v.Expected.Name || got.Version.String() != v.Expected.Version) {
			t.Errorf("ParseSdistName(%q) = %+v, want %+v", v.Input.Filename, got, v.Expected)
		}
	}
}

func TestVectorsNames(t *testing.T) {
	type in struct {
		Name     string
		Validate bool
	}
	type out struct {
		Error, Name string
		Result      bool
	}
	for _, v := range section[in, out](t, "canonicalize_name") {
		if v.Input.Validate && pyver.ValidName(v.Input.Name) != (v.Expected.Error == "") {
			t.Errorf("ValidName(%q), want %q", v.Input.Name, v.Expected.Error)
		}
		if got := pyver.CanonicalName(v.Input.Name); v.Expected.Error == "" && got != v.Expected.Name {
			t.Errorf("CanonicalName(%q) = %q, want %q", v.Input.Name, got, v.Expected.Name)
		}
	}
	for _, v := range section[in, out](t, "is_normalized_name") {
		if got := pyver.IsCanonicalName(v.Input.Name); got != v.Expected.Result {
			t.Errorf("IsCanonicalName(%q) = %v", v.Input.Name, got)
		}
	}
}

func TestVectorsGenerators(t *testing.T) {
	type in struct {
		PythonVersion   []int `json:"python_version"`
		ABIs, Platforms []string
		Interpreter     string
		Version         [2]int
		Arch, Multiarch string
		APILevel        int `json:"api_level"`
		ABI             string
	}
	for _, c := range []struct {
		section  string
		generate func(in) []string
	}{
		{"cpython_tags", func(i in) []string { return texts(CPython(i.PythonVersion, i.ABIs, i.Platforms)) }},
		{"generic_tags", func(i in) []string { return texts(Generic(i.Interpreter, i.ABIs, i.Platforms)) }},
		{"compatible_tags", func(i in) []string { return texts(Compatible(i.PythonVersion, i.Interpreter, i.Platforms)) }},
		{"mac_platforms", func(i in) []string { return MacPlatforms(i.Version[0], i.Version[1], i.Arch) }},
		{"ios_platforms", func(i in) []string { return IOSPlatforms(i.Version[0], i.Version[1], i.Multiarch) }},
		{"android_platforms", func(i in) []string { return AndroidPlatforms(i.APILevel, i.ABI) }},
	} {
		t.Run(c.section, func(t *testing.T) {
			for _, v := range section[in, tagsOut](t, c.section) {
				if got := c.generate(v.Input); !slices.Equal(got, v.Expected.Tags) {
					t.Errorf("%+v: %q, want %q", v.Input, got, v.Expected.Tags)
				}
			}
		})
	}
}

// platformIn is how the oracle sections describe a machine.
type platformIn struct {
	OS, Machine, Libc, Platform string
	Version                     [2]int
	LibcVersion                 [2]int `json:"libc_version"`
	Is32Bit                     bool   `json:"is_32bit_interpreter"`
}

func (p platformIn) platforms() []string {
	switch p.OS {
	case "linux":
		return LinuxPlatforms(p.Machine, p.Is32Bit, Libc{p.Libc, p.LibcVersion[0], p.LibcVersion[1]})
	case "macos":
		return MacPlatforms(p.Version[0], p.Version[1], p.Machine)
	}
	return []string{p.Platform}
}

func TestVectorsPlatformTagsOracle(t *testing.T) {
	type out struct{ Platforms []string }
	for _, v := range section[platformIn, out](t, "platform_tags_oracle") {
		if got := v.Input.platforms(); !slices.Equal(got, v.Expected.Platforms) {
			t.Errorf("%+v: %q, want %q", v.Input, got, v.Expected.Platforms)
		}
	}
}

func TestVectorsSupportedTagsOracle(t *testing.T) {
	type in struct {
		Interpreter struct {
			Version []int
			ABIs    []string
		}
		Platform platformIn
	}
	type out struct {
		Count int
		Sum   string   `json:"sha256_newline_joined"`
		First []string `json:"first_20"`
		Last  []string `json:"last_5"`
		Tags  []string
	}
	for _, v := range section[in, out](t, "supported_tags_oracle") {
		i, platforms := v.Input.Interpreter, v.Input.Platform.platforms()
		got := texts(CPython(i.Version, i.ABIs, platforms))
		got = append(got, texts(Compatible(i.Version, "cp"+noDot(i.Version), platforms))...)
		sum := sha256.Sum256([]byte(strings.Join(got, "\n")))
		if len(got) != v.Expected.Count || hex.EncodeToString(sum[:]) != v.Expected.Sum {
			t.Errorf("%+v: %d tags, want %d: %q…, want %q%q…", v.Input, len(got), v.Expected.Count, got[:min(20, len(got))], v.Expected.First, v.Expected.Tags)
		}
	}
}
