package pyver

import (
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "no release number"},
		{"1.0.", `unexpected "."`},
		{"1.0+", "letters and digits between dots"},
		{"1.0+ubuntu_", `unexpected "_"`},
		{"1!", "no release number"},
		{"99999999999999999999", "20 digits is too large"},
		{"1.0.po\u017ft1", "unexpected"},
	} {
		t.Run(c.in, func(t *testing.T) {
			_, err := Parse(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func TestCanonicalIsAKey(t *testing.T) {
	for _, pair := range [][2]string{{"1.0", "1"}, {"1.0.0", "v1.0"}, {"0", "0.0"}, {"1!1.0a0", "1!1a"}, {"1+001.A", "1.0+1.a"}} {
		a, b := mustParse(t, pair[0]), mustParse(t, pair[1])
		if a.Canonical() != b.Canonical() || a.Compare(b) != 0 {
			t.Errorf("%q and %q: %q, %q, compare %d", pair[0], pair[1], a.Canonical(), b.Canonical(), a.Compare(b))
		}
	}
}

func TestZeroVersion(t *testing.T) {
	var zero Version
	if !zero.IsZero() || zero.Compare(mustParse(t, "0.dev0")) != -1 || zero.Compare(Version{}) != 0 {
		t.Error("the zero Version does not sort before every version")
	}
}

func TestSpecifierErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"1.0", "does not begin with one of"},
		{"==1.0a1.*", "may follow a release only"},
		{">=1.*", "with == and != only"},
		{">=1.0+local", "with == and != only"},
		{"~=1", "as in ~=1.0"},
		{"==", "no release number"},
		{"=== a b", "holds a space"},
	} {
		t.Run(c.in, func(t *testing.T) {
			_, err := ParseSpecifiers(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseSpecifiers(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func TestCanonicalName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Django", "django"}, {"zope.interface", "zope-interface"}, {"a-_.b", "a-b"},
		{"_private", "-private"}, {"already-there", "already-there"}, {"", ""},
	} {
		if got := CanonicalName(c.in); got != c.want {
			t.Errorf("CanonicalName(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	for _, name := range []string{"", "-a", "a-", "a--b", "A", "a_b", "é"} {
		if IsCanonicalName(name) {
			t.Errorf("IsCanonicalName(%q) = true", name)
		}
	}
	for _, name := range []string{"", ".a", "a_", "é", "a b"} {
		if ValidName(name) {
			t.Errorf("ValidName(%q) = true", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"1.0", "1!2.3rc4.post5.dev6+local.7", "v1-1", "1a.dev", "1.0post-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse(s)
		if err != nil {
			return
		}
		for _, spelling := range []string{v.String(), v.Canonical()} {
			again, err := Parse(spelling)
			if err != nil || again.Compare(v) != 0 {
				t.Errorf("%q is spelled %q, which parses as %v, %v", s, spelling, again, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, s := range []string{"1.26.4", "2.0.0rc1.post2.dev3+cu121"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustParse(b, s)
			}
		})
	}
}
