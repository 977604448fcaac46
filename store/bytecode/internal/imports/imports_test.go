package imports

import (
	"slices"
	"strings"
	"testing"
)

func TestScan(t *testing.T) {
	tests := []struct {
		name, source, want string
	}{
		{"import", "import a\nimport b.c\n", "a b.c"},
		{"list", "import a as b, c.d\t, e as f\n", "a c.d e"},
		{"from", "from a.b import c, d as e\n", "a.b a.b.c a.b.d"},
		{"star", "from a import *\nimport b\n", "a b"},
		{"relative", "from .x import a\nfrom . import b\nfrom .. import c\nfrom ...y.z import d\n", ".x .x.a . .b .. ..c ...y.z ...y.z.d"},
		{"dots apart", "from . . x . y import a\nimport b . c\n", "..x.y ..x.y.a b.c"},
		{"ellipsis against import", "from ...import a\nfrom .import b\n", "... ...a . .b"},
		{"parentheses", "from a import (b, c)\nimport d\n", "a a.b a.c d"},
		{"parentheses over lines", "from a import (  # why\n    b as x,  # )\n\n    c,\n)\nimport d\n", "a a.b a.c d"},
		{"parentheses against import", "from a import(b)\n", "a a.b"},
		{"parentheses left open", "from a import (b,\nimport c\n", "a a.b a.import"},
		{"backslash", "from a \\\n    import b, \\\n    c\nimport \\\r\n d\n", "a a.b a.c d"},
		{"backslash in a statement", "x = 1 + \\\nimport_a\nimport b\n", "b"},
		{"semicolons", "import a; import b ;from c import d; x = 1; import e\nimport f\n", "a b c c.d f"},
		{"comment", "# import a\nimport b # import c\n#\\\nimport d\n", "b d"},
		{"tabs", "import\ta,\tb\nfrom\tc\timport\td\n", "a b c c.d"},
		{"form feed", "x = 1\n\fimport a\n\f\f\nimport b\n", "a b"},
		{"byte order mark", "\ufeffimport a\n", "a"},
		{"lines of Windows", "import a\r\nfrom b import (c,\r\n d)\r\nimport e\r\n", "a b b.c b.d e"},
		{"lines of old Macintosh", "import a\rimport b\r# x\rimport c", "a b c"},
		{"no last line end", "import a", "a"},
		{"indented", "try:\n    import a\nexcept ImportError:\n\timport b\nif x: import c\n", ""},
		{"words that begin like it", "important = 1\nimport_a\nfrom_a = 2\nfromage\nimportlib.x\n", ""},
		{"the word alone", "import\nfrom\nfrom a\nimport ,\nfrom import a\nfrom a import\nimport b", "a b"},
		{"long string", "'''\nimport a\n'''\nimport b\n", "b"},
		{"long string, the other quotes", "\"\"\"\nimport a\n'''\nimport b\n\"\"\"\nimport c\n", "c"},
		{"long string with quotes inside", "x = '''a''\nimport a\n\\'''\nimport b\n''''\nimport c\n", "c"},
		{"long string, prefixed", "x = rb'''\nimport a\n\\\\'''\nf\"\"\"\nimport b\n{x!r:>{y}}\n\"\"\"\nimport c\n", "c"},
		{"long string in a call", "f(1, '''\nimport a\n''', '#', \"\"\"\nimport b\n\"\"\")\nimport c\n", "c"},
		{"long string left open", "'''\nimport a\n", ""},
		{"string", "x = '\"\"\"'\nimport a\ny = \"'''\"\nimport b\nz = ''\nimport c\n", "a b c"},
		{"string over lines", "x = 'a\\\nimport b'\ny = 'a\\\r\nimport c'\nimport d\n", "d"},
		{"string left open", "x = 'a\nimport b\n", "b"},
		{"quote after a backslash", "x = '\\''\nimport a\ny = '\\\\'\nimport b\n", "a b"},
		{"quote in a comment", "# don't '''\nimport a\n", "a"},
		{"strings in a 3.12 f-string", "x = f'{d['a']}'\nimport a\n", "a"},
		{"letters of other alphabets", "import häuser, 数\n", "häuser 数"},
		{"no text", "\x00import a\nimport b\x00\n\xff\xfe\nimport c", "b c"},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Scan([]byte(tt.source)); !slices.Equal(got, strings.Fields(tt.want)) {
				t.Errorf("Scan(%q) = %q, want %q", tt.source, got, strings.Fields(tt.want))
			}
		})
	}
}

func TestScanIsBounded(t *testing.T) {
	long := strings.Repeat("a", maxName+1)
	tests := []struct {
		name, source string
		want         int
	}{
		{"names", strings.Repeat("import a\n", maxNames+1), maxNames},
		{"names of one statement", "from a import " + strings.Repeat("b,", maxNames+1), maxNames},
		{"long names", "import " + long + "\nfrom " + long + " import b\nfrom b import " + long + "\nimport c\n", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Scan([]byte(tt.source)); len(got) != tt.want {
				t.Errorf("Scan returns %d names, want %d", len(got), tt.want)
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte("from a import (b, # c\n d)\nimport e\\\n.f; import g\n'''\nimport h\n'''"))
	f.Fuzz(func(t *testing.T, source []byte) {
		for _, name := range Scan(source) {
			if name == "" || strings.ContainsAny(name, " \t\f\r\n\\/;#'\"(),") {
				t.Errorf("Scan(%q) returns %q", source, name)
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	source := []byte(strings.Repeat(`"""A module.

It does what a module does, and says so at some length.
"""
from __future__ import annotations

import os.path as p, sys
from .sub import (
    first,  # a comment
    second as other,
)


class Thing:
    '''What it is.'''

    def method(self, x: "int | None" = None) -> dict[str, int]:
        # not obvious
        return {"a": x or self.default, 'b': 2}
`, 100))
	b.SetBytes(int64(len(source)))
	for b.Loop() {
		Scan(source)
	}
}
