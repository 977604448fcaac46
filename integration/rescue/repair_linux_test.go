package rescue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/faults"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// TestKilledRepair: a repair that is killed, or that a system call fails, leaves
// each file as it was or as it should be, and the next one ends it.
func TestKilledRepair(t *testing.T) {
	h := newHome(t)
	h.Write(t, "requirements.in", "pkg0\npkg1\npkg2\n")
	h.Must(t, "uv", "pip", "compile", "--quiet", "--python", python, "--format", "pylock.toml", "-o", "pylock.toml", "requirements.in")
	for _, installer := range []string{"sitefs", "uv"} {
		t.Run(installer, func(t *testing.T) {
			broken := filepath.Join(h.Dir, "broken-"+installer)
			if installer == "uv" {
				h.Must(t, "uv", "venv", "--quiet", "--python", python, broken)
				h.Must(t, "uv", "pip", "install", "--quiet", "--python", broken+"/bin/python", "-r", "requirements.in")
			} else {
				h.Must(t, "sitefs", "materialize", "--quiet", "--python", python, "-r", "pylock.toml", "--link-mode", "copy", broken)
			}
			breakVenv(t, broken)
			before := h.Run(t, "sitefs", "verify", "--deep", broken).Stdout
			if strings.Count(before, "\n") != 6 {
				t.Fatalf("found\n%s", before)
			}
			dry := repair(t, h, clone(t, h, broken, "dry-"+installer), faults.Answer{}, 0)
			verify(t, h, "--deep", filepath.Join(h.Dir, "dry-"+installer))
			for i, answer := range []faults.Answer{{Kill: true}, {Errno: syscall.EIO}, {Kill: true}, {Errno: syscall.ENOSPC}} {
				const trials = 2
				for j := range trials {
					at := 1 + (j*4+i)*len(dry)/(4*trials)
					dir := clone(t, h, broken, fmt.Sprintf("%s-%d-%d", installer, i, j))
					repair(t, h, dir, answer, at)
					for line := range strings.Lines(h.Run(t, "sitefs", "verify", "--deep", dir).Stdout) {
						if !strings.Contains(before, line) {
							t.Errorf("after %+v at call %d, %v: %s", answer, at, dry[at-1], line)
						}
					}
					h.Must(t, "sitefs", "verify", "--repair", dir)
					h.Must(t, "sitefs", "verify", "--deep", dir)
					if _, err := os.Lstat(filepath.Join(dir, ".sitefs-repair")); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("after %+v at call %d: the folder of the repair is left, %v", answer, at, err)
					}
				}
			}
		})
	}
}

// breakVenv removes, cuts off and locks files of the environment at dir.
func breakVenv(t *testing.T, dir string) {
	t.Helper()
	site, err := filepath.Glob(filepath.Join(dir, "lib/python*/site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatalf("site-packages %q, %v", site, err)
	}
	in := func(p string) string { return filepath.Join(site[0], p) }
	for _, p := range []string{in("pkg0/sub0/m0.py"), in("pkg0/sub0/m3.py"), in("pkg1/__init__.py"), filepath.Join(dir, "bin/pkg2")} {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"pkg1/sub1/m1.py", "pkg2/sub2/m2.py"} {
		// Not in place: uv's files are its cache's too.
		if err := errors.Join(os.Remove(in(p)), os.WriteFile(in(p), []byte("va"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// clone copies an environment, times and all, and returns the path of the copy. The
// scripts in it run the first one's Python: nothing here runs them.
func clone(t *testing.T, h *sandbox.Home, dir, name string) string {
	t.Helper()
	h.Must(t, "cp", "-a", dir, name)
	return filepath.Join(h.Dir, name)
}

// repair repairs the environment at dir and gives the answer to call number at, if
// that isn't 0. It returns the calls.
func repair(t *testing.T, h *sandbox.Home, dir string, answer faults.Answer, at int) []faults.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n := 0
	calls, err := faults.Run(ctx, h.Command(ctx, h.Dir, "sitefs", "verify", "--repair", dir), []string{dir}, func(faults.Call) faults.Answer {
		if n++; n != at {
			return faults.Answer{}
		}
		return answer
	})
	if at == 0 && err != nil {
		t.Fatal(err)
	}
	return calls
}
