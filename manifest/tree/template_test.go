package tree

import (
	"bytes"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	const (
		besides = `"$(dirname -- "$(realpath -- "$0")")"/python`
		line    = "#!/usr/bin/env -S sh -c 'exec " + besides + " \"$0\" \"$@\"'\n"
	)
	long := "/" + strings.Repeat("x", maxShebang)
	exact := "/" + strings.Repeat("x", maxShebang-len("#!//bin/python\n"))
	tests := []struct {
		name        string
		prefix      string
		relocatable bool
		text, want  string
	}{
		{"literal", "/p", false, "no mark", "no mark"},
		{"nothing", "/p", false, "", ""},
		{"a NUL", "/p", false, "a\x00\x00b", "a\x00b"},
		{"prefix", "/it's $p", false, "<" + MarkPrefix + MarkPrefix + ">", "</it's $p/it's $p>"},
		{"shell", "/srv/venv", false, MarkShell, "/srv/venv"},
		{"shell quoted", "/it's $p", false, MarkShell, `'/it'"'"'s $p'`},
		{"fish quoted", `/it's \p`, false, MarkFish, `'/it\'s \\p'`},
		{"csh quoted", "/it's !p\n", false, MarkCsh, `'/it'\''s \!p` + "\\\n'"},
		{"script", "/srv/venv", false, MarkScript + "x", "#!/srv/venv/bin/python\nx"},
		{"script at the limit", exact, false, MarkScript, "#!" + exact + "/bin/python\n"},
		{"script beyond the limit", exact + "x", false, MarkScript, "#!/bin/sh\n'''exec' " + exact + "x/bin/python \"$0\" \"$@\"\n' '''\n"},
		{"script with a space, as pip writes it", "/a b", false, MarkScript, "#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n"},
		{"script with what sh expands", `/a $b'c\`, false, MarkScript, "#!/bin/sh\n'''exec' '/a $b'\"'\"'c\\''/bin/python' \"$0\" \"$@\"\n' '''\n"},
		{"script, relocatable", "/srv/venv", true, MarkScript, "#!/bin/sh\n'''exec' " + besides + " \"$0\" \"$@\"\n' '''\n"},
		{"source", "/srv/venv", false, MarkSource + "x", "#!/srv/venv/bin/python\nx"},
		{"source with a space", "/a b", false, MarkSource, line},
		{"source beyond the limit", long, false, MarkSource, line},
		{"source, relocatable", "/srv/venv", true, MarkSource, line},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMarks(tt.prefix, tt.relocatable)
			if err := checkMarks([]byte(tt.text)); err != nil {
				t.Error(err)
			}
			if got := string(m.render([]byte(tt.text))); got != tt.want {
				t.Errorf("rendered\n%q, want\n%q", got, tt.want)
			}
			if got := m.size([]byte(tt.text)); got != int64(len(tt.want)) {
				t.Errorf("size %d, want %d", got, len(tt.want))
			}
		})
	}
	if len(line) > maxShebang {
		t.Errorf("the line that replaces a long shebang has %d bytes, want at most %d", len(line), maxShebang)
	}
}

// TestBrokenMarks shows that text no builder lets through renders all the same.
func TestBrokenMarks(t *testing.T) {
	m := newMarks("/p", false)
	for _, text := range []string{"\x00", "a\x00", "\x00z", "\x00\xffb"} {
		if got := m.render([]byte(text)); int64(len(got)) != m.size([]byte(text)) {
			t.Errorf("%q renders to %q, its size is %d", text, got, m.size([]byte(text)))
		}
	}
}

func TestQuote(t *testing.T) {
	m := newMarks("/p", false)
	for _, content := range []string{"", "plain", "\x00", "a\x00P\x00", MarkScript} {
		if got := m.render(Quote([]byte(content))); !bytes.Equal(got, []byte(content)) {
			t.Errorf("%q quoted renders to %q", content, got)
		}
	}
}
