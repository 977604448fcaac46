package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A trial believes no program that only says that all is well.
func TestSelfDistrusts(t *testing.T) {
	for _, c := range []struct{ name, script, check, found string }{
		{"breaks", "echo no disk >&2; exit 1", "self: make", "no disk"},
		{"says nothing", "exit 0", "self: make", "unexpected end of JSON"},
		{"does nothing", `echo '{"mode": "clone", "files": 3}'`, "self: failure", "open the store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			program := filepath.Join(dir, "sitefs")
			if err := os.WriteFile(program, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			m := healthy("linux")
			m.Files, m.Dir = os.DirFS("/"), dir
			checks, err := m.Self(t.Context(), program)
			if err != nil {
				t.Fatal(err)
			}
			last := checks[len(checks)-1]
			if last.Name != c.check || last.Status != Failure || !strings.Contains(last.Found, c.found) || Verdict(checks) == nil {
				t.Errorf("found %+v, want %s to fail with %q", last, c.check, c.found)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".sitefs-*")); err != nil || left != nil {
				t.Errorf("left %q, %v", left, err)
			}
		})
	}
}
