package repair

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestUsualHeads holds what scripts begin with to what uv 0.13 and pip 23 wrote.
func TestUsualHeads(t *testing.T) {
	long := "/" + strings.Repeat("x", 130)
	tests := []struct {
		bin  string
		uv   bool
		want string // the first one
	}{
		{"/venv/bin", true, "#!/venv/bin/python"},
		{"/venv/bin", false, "#!/venv/bin/python"},
		{"/a b/bin", true, "#!/bin/sh\n'''exec' '/a b/bin/python' \"$0\" \"$@\"\n' '''"},
		{"/a b/bin", false, "#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''"},
		{long, true, "#!/bin/sh\n'''exec' '" + long + "/python' \"$0\" \"$@\"\n' '''"},
		{long, false, "#!/bin/sh\n'''exec' " + long + "/python \"$0\" \"$@\"\n' '''"},
	}
	for _, test := range tests {
		r := &rescue{uv: test.uv}
		heads := r.usualHeads(test.bin)
		if heads[0] != test.want {
			t.Errorf("%s, uv %t: %q, want %q", test.bin, test.uv, heads[0], test.want)
		}
		// What is written is read.
		dir := t.TempDir()
		put(t, dir, "script", heads[0]+"\nimport sys\nprint()\n")
		if got := headOf(filepath.Join(dir, "script")); got != test.want {
			t.Errorf("headOf = %q, want %q", got, test.want)
		}
		if !slices.Contains(heads, "#!"+test.bin+"/python3") {
			t.Errorf("no python3 in %q", heads)
		}
	}
}
