package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// newHomeOnCopy returns a home whose interpreter, own, may be replaced and removed.
func newHomeOnCopy(t *testing.T) (h *sandbox.Home, own string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(sandbox.SystemPython)
	if err != nil {
		t.Skipf("needs a Python that finds its library from wherever it lies: %v", err)
	}
	text, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	h = newHome(t, python)
	own = h.Write(t, filepath.Join("python", filepath.Base(real)), string(text))
	if err := os.Chmod(own, 0o755); err != nil {
		t.Fatal(err)
	}
	h.Setenv("SITEFS_PYTHON", own)
	return h, own
}

// reinstall does what an upgrade of the interpreter does to its file.
func reinstall(t *testing.T, own string) {
	t.Helper()
	later := time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(own, later, later); err != nil {
		t.Fatal(err)
	}
}

func TestInterpreterReplacedUnderMount(t *testing.T) {
	h, own := newHomeOnCopy(t)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	if out := h.Must(t, "sitefs", "status", ".venv"); strings.Contains(out, "replaced") {
		t.Fatalf("status before:\n%s", out)
	}
	reinstall(t, own)
	const found = "2099-01-02 03:04:05, want "
	for _, argv := range [][]string{{"sitefs", "status", ".venv"}, {"sitefs", "status"}, {"sitefs", "status", ".venv", "--json"}} {
		r := h.Run(t, argv...)
		if text := r.Stdout + r.Stderr; r.Code != 0 || !strings.Contains(text, own+" was replaced: found ") || !strings.Contains(text, found) {
			t.Errorf("%q: exit code %d:\n%s", argv, r.Code, text)
		}
	}
	r := h.Run(t, "sitefs", "mount", "-r", "one.toml")
	if r.Code != 0 || !strings.Contains(r.Stderr, own+" was replaced: found ") {
		t.Errorf("mount: exit code %d, %q", r.Code, r.Stderr)
	}
	expect(t, h, ".venv", "1.0")
	if out := h.Must(t, "sitefs", "status", ".venv"); strings.Contains(out, "replaced") {
		t.Errorf("status after it was mounted again:\n%s", out)
	}
	if r := h.Run(t, "sitefs", "mount", "-r", "one.toml"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("mount, the third time: exit code %d, %q", r.Code, r.Stderr)
	}
}

func TestInterpreterRemovedUnderMount(t *testing.T) {
	h, own := newHomeOnCopy(t)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	run := []string{"sitefs", "run", "-r", "one.toml", "--", "python", "-c", show}
	h.Must(t, run...)
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if out := h.Must(t, "sitefs", "status", ".venv"); !strings.Contains(out, own+" is gone, and nothing starts in this environment: install it again") {
		t.Errorf("status:\n%s", out)
	}
	for _, argv := range [][]string{run, {"sitefs", "mount", "-r", "one.toml"}} {
		if r := h.Run(t, argv...); r.Code == 0 || !strings.Contains(r.Stderr, own+" is gone") {
			t.Errorf("%q: exit code %d, %q", argv, r.Code, r.Stderr)
		}
	}
	h.Setenv("SITEFS_PYTHON", python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	expect(t, h, ".venv", "1.0")
}

// TestInterpreterAfterRestart: what is mounted again was made for what there was.
func TestInterpreterAfterRestart(t *testing.T) {
	h, own := newHomeOnCopy(t)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	restart(t, h, ".venv")
	reinstall(t, own)
	r := h.Run(t, "sitefs", "mount", "--all")
	if r.Code != 0 || !strings.Contains(r.Stderr, own+" was replaced") {
		t.Errorf("mount --all: exit code %d, %q", r.Code, r.Stderr)
	}
	expect(t, h, ".venv", "1.0")
	restart(t, h, ".venv")
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if r := h.Run(t, "sitefs", "mount", "--all"); r.Code != 1 || !strings.Contains(r.Stderr, own+" is gone: install it again, or run `") {
		t.Errorf("mount --all: exit code %d, %q", r.Code, r.Stderr)
	}
}
