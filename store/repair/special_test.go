package repair

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is no file where one is looked for is neither waited for nor read whole, and
// stays where it is.
func TestSpecial(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		path   string // that stays
		failed string // a reason, "" for none
	}{
		{"file for a folder", func(t *testing.T, dir string) {
			drop(t, dir, site+"pkg")
			put(t, dir, site+"pkg", "mine")
		}, site + "pkg", `"` + site + `pkg" is in the way`},
		{"pipe for a script", func(t *testing.T, dir string) {
			drop(t, dir, "bin/pkg")
			check(t, unix.Mkfifo(filepath.Join(dir, "bin/pkg"), 0o600))
		}, "bin/pkg", ""},
		{"huge script", func(t *testing.T, dir string) {
			check(t, os.Truncate(filepath.Join(dir, "bin/pkg"), 1<<40))
		}, "bin/pkg", ""},
		{"pipe for pyvenv.cfg", func(t *testing.T, dir string) {
			drop(t, dir, "pyvenv.cfg", site+"pkg/core.py")
			check(t, unix.Mkfifo(filepath.Join(dir, "pyvenv.cfg"), 0o600))
		}, "pyvenv.cfg", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := install(t, "uv")
			c.change(t, dir)
			before, err := os.Lstat(filepath.Join(dir, c.path))
			check(t, err)
			report, _ := rescueIt(t, dir, blobs(t.TempDir()), Options{})
			after, err := os.Lstat(filepath.Join(dir, c.path))
			check(t, err)
			if !os.SameFile(before, after) || before.Size() != after.Size() {
				t.Errorf("%s was replaced: found %v, want %v", c.path, after, before)
			}
			var reasons []string
			for _, r := range report.Failed {
				reasons = append(reasons, r.Reason)
			}
			if got := strings.Join(reasons, "\n"); !strings.Contains(got, c.failed) || c.failed == "" && got != "" {
				t.Errorf("failed with %q, want %q", got, c.failed)
			}
		})
	}
}
