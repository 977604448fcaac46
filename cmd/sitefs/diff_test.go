package main

import "testing"

func TestOneLine(t *testing.T) {
	for p, want := range map[string]string{
		"lib/a b/ö.py":    "lib/a b/ö.py",
		"two\nlines":      `"two\nlines"`,
		"\x1b[2Jcleared":  `"\x1b[2Jcleared"`,
		"not \xff UTF-8":  `"not \xff UTF-8"`,
		"left\u202eright": `"left\u202eright"`,
	} {
		if have := oneLine(p); have != want {
			t.Errorf("%q is shown as %s, want %s", p, have, want)
		}
	}
}
