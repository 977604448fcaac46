package tag

import (
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"py3-none", "2 parts"},
		{"py3-none-", "empty name"},
		{"py3.9-none-any", "not a name such as"},
		{strings.Repeat("py3.", 40) + "py3-" + strings.Repeat("a.", 40) + "a-any", "stands for 1681 tags"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, err := Parse(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func TestParseWheelNameErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"demo-1.0-py3-none-any.zip", "no .whl"},
		{"demo-1.0-py3-none.whl", "4 parts"},
		{"a-b-1.0-1-py3-none-any.whl", "7 parts"},
		{"a__b-1.0-py3-none-any.whl", "single underscores"},
		{"demo-1_x-py3-none-any.whl", `version "1_x"`},
		{"demo-1.0-x1-py3-none-any.whl", `build tag "x1"`},
		{"demo-1.0-99999999999999999999-py3-none-any.whl", "fits 64 bits"},
	} {
		t.Run(c.in, func(t *testing.T) {
			_, err := ParseWheelName(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseWheelName(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func TestParseWheelNameKeepsTheSpelling(t *testing.T) {
	w, err := ParseWheelName("Zope.Interface-v1.0-1a-CP312-abi3-Linux_x86_64.whl")
	if err != nil {
		t.Fatal(err)
	}
	if w.Name != "zope-interface" || w.RawName != "Zope.Interface" || w.RawVersion != "v1.0" || w.Build.String() != "1a" {
		t.Errorf("%+v", w)
	}
	if w.Tags[0] != (Tag{"cp312", "abi3", "linux_x86_64"}) {
		t.Errorf("tags %v, want lower case", w.Tags)
	}
}

func TestBuildCompare(t *testing.T) {
	ascending := []Build{{}, {0, "", true}, {2, "", true}, {2, "a", true}, {10, "", true}}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := a.Compare(b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%q compared with %q: %d", a, b, got)
			}
		}
	}
}

func TestSet(t *testing.T) {
	a, b, c := Tag{"cp312", "cp312", "any"}, Tag{"py3", "none", "any"}, Tag{"py2", "none", "any"}
	s := NewSet([]Tag{a, b, a})
	if r, ok := s.Rank(a); r != 0 || !ok {
		t.Errorf("Rank(%v) = %d, %v: the first place counts", a, r, ok)
	}
	if r, ok := s.Best([]Tag{c, b, a}); r != 0 || !ok {
		t.Errorf("Best = %d, %v", r, ok)
	}
	if _, ok := s.Best([]Tag{c}); ok {
		t.Error("Best has a tag that is not in the set")
	}
	if _, ok := NewSet(nil).Best([]Tag{a}); ok {
		t.Error("the empty set has a tag")
	}
}

func TestLinuxPlatformsOfOtherMachines(t *testing.T) {
	for _, c := range []struct {
		machine string
		libc    Libc
		want    string
	}{
		{"sparc64", Libc{"glibc", 2, 36}, "linux_sparc64"},
		{"armv7l", Libc{}, "linux_armv7l"},
		{"x86_64", Libc{"glibc", 2, 4}, "linux_x86_64"},
	} {
		if got := strings.Join(LinuxPlatforms(c.machine, false, c.libc), " "); got != c.want {
			t.Errorf("LinuxPlatforms(%q, %v) = %q, want %q", c.machine, c.libc, got, c.want)
		}
	}
	if got := LinuxPlatforms("x86_64", false, Libc{"glibc", 3, 1}); got[1] != "manylinux_3_1_x86_64" || got[3] != "manylinux_2_50_x86_64" {
		t.Errorf("glibc 3.1: %q…", got[:5])
	}
}
