package marker

import (
	"errors"
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "want a marker variable"},
		{"python_version", "want one of <="},
		{"python == '3'", "want a marker variable"},
		{"os_name == 'posix", "no closing quote"},
		{"(os_name == 'posix'", "want the closing parenthesis"},
		{"os_name == 'posix')", "want and, or, or the end"},
		{"os_name == 'posix' xor os_name == 'nt'", "want and, or, or the end"},
		{`os_name == "\x"`, "needs 2 hexadecimal digits"},
		{`os_name == "\ud800"`, "not the number of a character"},
		{"os_name == 'a\nb'", "line break"},
		{strings.Repeat("(", 100) + "os_name == 'a'" + strings.Repeat(")", 100), "nested parentheses"},
	} {
		t.Run(c.in, func(t *testing.T) {
			_, err := Parse(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Parse(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func TestStringIsReadBack(t *testing.T) {
	for _, in := range []string{
		`os_name == 'a"b'`,
		`os_name == "a'b"`,
		`os_name == "\x22'"`,
		`os_name == "C:\\dir\q"`,
		`os_name == "line\nend\0"`,
		`((os_name == "a"))`,
		`(os_name == "a" or os_name == "b") and (os_name == "c")`,
	} {
		m, err := Parse(in)
		if err != nil {
			t.Errorf("Parse(%q): %v", in, err)
			continue
		}
		again, err := Parse(m.String())
		if err != nil || again.String() != m.String() {
			t.Errorf("%q is spelled %q, which parses as %v, %v", in, m, again, err)
		}
	}
}

func TestEscapes(t *testing.T) {
	m, err := Parse(`"a\t\101\x41\u0041\U00000041\'\q" == os_name`)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := m.Eval(Environment{OSName: "a\tAAAA'\\q"}); !ok || err != nil {
		t.Errorf("%s: %v, %v", m, ok, err)
	}
}

func TestEval(t *testing.T) {
	env := Environment{OSName: "posix", SysPlatform: "posix", PythonVersion: "3.12", PlatformRelease: "6.1.0-generic"}
	for _, c := range []struct {
		marker string
		want   bool
		err    error
	}{
		{`os_name == sys_platform`, true, nil},
		{`os_name == "nt" or python_version > "3.9"`, true, nil},
		{`os_name == "nt" and (python_version > "3.9" or os_name == "posix")`, false, nil},
		{`platform_release === "6.1.0-GENERIC"`, true, nil},
		{`platform_release >= "6"`, false, nil},
		{`python_version in "3.11 3.12"`, true, nil},
		{`python_version not in "3.11 3.12"`, false, nil},
		{`"x" in extras`, false, ErrUndefined},
		{`"x" in dependency_groups or python_version > "3"`, false, ErrUndefined},
		{`os_name ~= "1.0"`, false, ErrComparison},
	} {
		t.Run(c.marker, func(t *testing.T) {
			m, err := Parse(c.marker)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Eval(env)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%v, %v, want %v, %v", got, err, c.want, c.err)
			}
		})
	}
	lock := Environment{Context: LockFile}
	for _, text := range []string{`"x" == extras`, `extras == "x"`, `dependency_groups >= "x"`} {
		m, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Eval(lock); !errors.Is(err, ErrComparison) {
			t.Errorf("%s: %v, want ErrComparison", text, err)
		}
	}
}

func TestRequirementErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "want a name"},
		{"name_>=1", "want a name"},
		{"name[a b]", "want a comma"},
		{"name[a,]", "want a name"},
		{"name[a", "closing bracket"},
		{"name @", "no URL"},
		{"name ,>=1", "want a version specifier"},
		{"name (>=1", "closing parenthesis"},
		{"name >=1)", `unexpected ")"`},
		{"name >=1\n", "want a version specifier"},
		{"name @ https://example.com/a.whl os_name == 'a'", "want a semicolon"},
		{"name; os_name == 'a' b", "after the marker"},
	} {
		t.Run(c.in, func(t *testing.T) {
			_, err := ParseRequirement(c.in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseRequirement(%q): %v, want an error that says %q", c.in, err, c.want)
			}
		})
	}
}

func FuzzParseRequirement(f *testing.F) {
	for _, s := range []string{
		"name", "name[a,b]>=1.0,<2; os_name == 'a'", "name @ https://example.com/a;b ; extra == \"x\"",
		"name (==1.*) ; (python_version in '3' or \"a\\x41\" not in extras) and os.name != 'b'",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRequirement(s)
		if err != nil {
			return
		}
		again, err := ParseRequirement(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is spelled %q, which parses as %q, %v", s, r, again, err)
		}
	})
}
