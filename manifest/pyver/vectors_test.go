package pyver

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/internal/vectors"
)

// section returns one section of testdata/specifiers.json: inputs and results of
// the packaging library's own test suite and of generated pairs.
func section[In, Out any](t *testing.T, name string) []vectors.Vector[In, Out] {
	t.Helper()
	return vectors.Section[In, Out](t, "testdata/specifiers.json", name)
}

type pair struct {
	Letter string
	N      int
}

func (p *pair) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &[]any{&p.Letter, &p.N}) }

func TestVectorsVersionParse(t *testing.T) {
	type in struct{ Version string }
	type out struct {
		Error                                     string
		Canonical, Public                         string
		BaseVersion                               string `json:"base_version"`
		Epoch                                     int
		Release                                   []int
		Pre                                       *pair
		Post, Dev                                 *int
		Local                                     *string
		IsPrerelease, IsPostrelease, IsDevrelease bool
	}
	for _, v := range section[in, out](t, "version_parse") {
		got, err := Parse(v.Input.Version)
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("Parse(%q): error %v, want %q", v.Input.Version, err, v.Expected.Error)
		}
		if err != nil {
			continue
		}
		w := v.Expected
		letter, n, isPre := got.Pre()
		if isPre != (w.Pre != nil) || isPre && (pair{letter, n}) != *w.Pre {
			t.Errorf("Parse(%q).Pre() = %q, %d, %v, want %v", v.Input.Version, letter, n, isPre, w.Pre)
		}
		checkNumber(t, v.Input.Version, "Post", w.Post, got.Post)
		checkNumber(t, v.Input.Version, "Dev", w.Dev, got.Dev)
		if w.Local == nil {
			w.Local = new(string)
		}
		for _, c := range []struct{ what, got, want string }{
			{"String", got.String(), w.Canonical},
			{"Public", got.Public().String(), w.Public},
			{"Base", got.Base().String(), w.BaseVersion},
			{"Local", got.Local(), *w.Local},
		} {
			if c.got != c.want {
				t.Errorf("Parse(%q).%s() = %q, want %q", v.Input.Version, c.what, c.got, c.want)
			}
		}
		if got.Epoch() != w.Epoch || !slices.Equal(got.Release(), w.Release) {
			t.Errorf("Parse(%q) = epoch %d release %v, want %d %v", v.Input.Version, got.Epoch(), got.Release(), w.Epoch, w.Release)
		}
		if want := w.Pre != nil || w.Dev != nil; got.IsPrerelease() != want {
			t.Errorf("Parse(%q).IsPrerelease() = %v", v.Input.Version, !want)
		}
	}
}

func checkNumber(t *testing.T, version, what string, want *int, get func() (int, bool)) {
	t.Helper()
	if n, ok := get(); ok != (want != nil) || ok && n != *want {
		t.Errorf("Parse(%q).%s() = %d, %v", version, what, n, ok)
	}
}

func TestVectorsVersionCompare(t *testing.T) {
	type in struct{ Left, Op, Right string }
	type out struct{ Result bool }
	for _, v := range section[in, out](t, "version_compare") {
		c := mustParse(t, v.Input.Left).Compare(mustParse(t, v.Input.Right))
		got := map[string]bool{"<": c < 0, "<=": c <= 0, "==": c == 0, "!=": c != 0, ">=": c >= 0, ">": c > 0}[v.Input.Op]
		if got != v.Expected.Result {
			t.Errorf("%s %s %s: %v, want %v", v.Input.Left, v.Input.Op, v.Input.Right, got, v.Expected.Result)
		}
	}
}

func TestVectorsTotalOrder(t *testing.T) {
	type in struct{ Versions []string }
	type out struct {
		StrictlyAscending bool `json:"strictly_ascending"`
	}
	for _, v := range section[in, out](t, "version_total_order") {
		for i, a := range v.Input.Versions {
			for j, b := range v.Input.Versions {
				want := sign(i - j)
				if got := mustParse(t, a).Compare(mustParse(t, b)); got != want {
					t.Errorf("%s compared with %s: %d, want %d", a, b, got, want)
				}
			}
		}
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func TestVectorsSpecifierParse(t *testing.T) {
	type in struct{ Specifier string }
	type out struct{ Error, Operator, Version string }
	for _, v := range section[in, out](t, "specifier_parse") {
		got, err := ParseSpecifier(v.Input.Specifier)
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("ParseSpecifier(%q): error %v, want %q", v.Input.Specifier, err, v.Expected.Error)
		}
		if err == nil && (got.Operator() != v.Expected.Operator || got.Version() != v.Expected.Version) {
			t.Errorf("ParseSpecifier(%q) = %q %q, want %+v", v.Input.Specifier, got.Operator(), got.Version(), v.Expected)
		}
	}
}

// oversized reports whether the text holds a number that packaging keeps as
// text and fails on with a ValueError when it is first used. Here the number is
// refused when the text is read, so that Contains needs no error.
func oversized(s string) bool { return strings.Contains(s, strings.Repeat("1", 5000)) }

func TestVectorsSpecifierSetParse(t *testing.T) {
	type in struct {
		Set string `json:"specifier_set"`
	}
	type out struct{ Error, Canonical string }
	for _, v := range section[in, out](t, "specifier_set_parse") {
		got, err := ParseSpecifiers(v.Input.Set)
		wantErr := v.Expected.Error != "" || oversized(v.Input.Set)
		if (err != nil) != wantErr {
			t.Errorf("ParseSpecifiers(%.40q): error %v, want %v", v.Input.Set, err, wantErr)
		}
		if err == nil && got.String() != v.Expected.Canonical {
			t.Errorf("ParseSpecifiers(%q).String() = %q, want %q", v.Input.Set, got, v.Expected.Canonical)
		}
	}
}

// prereleases translates packaging's argument: the first value that is not None.
func prereleases(values ...*bool) Prereleases {
	for _, v := range values {
		if v != nil && *v {
			return Allow
		}
		if v != nil {
			return Forbid
		}
	}
	return Auto
}

func TestVectorsSpecifierContains(t *testing.T) {
	type in struct {
		Specifier, Version   string
		Prereleases          *bool
		SpecifierPrereleases *bool `json:"specifier_prereleases"`
	}
	type out struct{ Result bool }
	for _, v := range section[in, out](t, "specifier_contains") {
		s, err := ParseSpecifier(v.Input.Specifier)
		if err != nil {
			t.Fatal(err)
		}
		p := prereleases(v.Input.Prereleases, v.Input.SpecifierPrereleases)
		if got := s.ContainsString(v.Input.Version, p); got != v.Expected.Result {
			t.Errorf("%s contains %s (%d): %v, want %v", s, v.Input.Version, p, got, v.Expected.Result)
		}
	}
}

func TestVectorsSpecifierSetContains(t *testing.T) {
	type in struct {
		Set            string `json:"specifier_set"`
		Version        string
		Prereleases    *bool
		SetPrereleases *bool `json:"set_prereleases"`
		Installed      *bool
	}
	type out struct {
		Error  string
		Result bool
	}
	for _, v := range section[in, out](t, "specifier_set_contains") {
		s, err := ParseSpecifiers(v.Input.Set)
		if (err != nil) != (v.Expected.Error != "") {
			t.Errorf("ParseSpecifiers(%.40q): error %v, want %q", v.Input.Set, err, v.Expected.Error)
		}
		if err != nil {
			continue
		}
		p := prereleases(v.Input.Prereleases, v.Input.SetPrereleases)
		if parsed, err := Parse(v.Input.Version); err == nil && parsed.IsPrerelease() && prereleases(v.Input.Installed) == Allow {
			p = Allow
		}
		if got := s.ContainsString(v.Input.Version, p); got != v.Expected.Result {
			t.Errorf("%s contains %s (%d): %v, want %v", s, v.Input.Version, p, got, v.Expected.Result)
		}
		arbitrary := strings.Contains(v.Input.Set, "===")
		if parsed, err := Parse(v.Input.Version); err == nil && !arbitrary {
			if got := s.Contains(parsed, p); got != v.Expected.Result {
				t.Errorf("%s contains version %s (%d): %v, want %v", s, parsed, p, got, v.Expected.Result)
			}
		}
	}
}

func TestVectorsSpecifierSetFilter(t *testing.T) {
	type in struct {
		Specifiers     string
		Versions       []string
		Prereleases    *bool
		SetPrereleases *bool `json:"set_prereleases"`
	}
	type out struct{ Versions []string }
	for _, v := range section[in, out](t, "specifier_set_filter") {
		s, err := ParseSpecifiers(v.Input.Specifiers)
		if err != nil {
			t.Fatal(err)
		}
		p := prereleases(v.Input.Prereleases, v.Input.SetPrereleases)
		got := Filter(s, p, v.Input.Versions, func(v string) string { return v })
		if !slices.Equal(got, v.Expected.Versions) {
			t.Errorf("%q filters %q (%d): %q, want %q", v.Input.Specifiers, v.Input.Versions, p, got, v.Expected.Versions)
		}
	}
}

func TestVectorsCanonicalizeVersion(t *testing.T) {
	type in struct{ Version string }
	type out struct{ Version string }
	for _, v := range section[in, out](t, "canonicalize_version") {
		parsed, err := Parse(v.Input.Version)
		if err != nil {
			if v.Expected.Version != v.Input.Version {
				t.Errorf("Parse(%q): %v, want %q", v.Input.Version, err, v.Expected.Version)
			}
			continue
		}
		if got := parsed.Canonical(); got != v.Expected.Version {
			t.Errorf("Parse(%q).Canonical() = %q, want %q", v.Input.Version, got, v.Expected.Version)
		}
	}
}

func mustParse(t testing.TB, s string) Version {
	t.Helper()
	v, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
