package lifecycle

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDeadMountIsMountedAgain(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	kill(t, h, ".venv")
	r := h.Run(t, "sitefs", "mount", "-r", "one.toml")
	if want := "the mount on " + filepath.Join(h.Dir, ".venv") + " was dead"; r.Code != 0 || strings.Count(r.Stderr, want) != 1 {
		t.Errorf("mount: exit code %d, %q, want once %q", r.Code, r.Stderr, want)
	}
	expect(t, h, ".venv", "1.0")
	if r := h.Run(t, "sitefs", "mount", "-r", "one.toml"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("mount again: exit code %d, %q", r.Code, r.Stderr)
	}
}

func TestDeadMountOfRun(t *testing.T) {
	h := newHome(t, python)
	run := []string{"sitefs", "run", "-r", "one.toml", "python", "-c", "import sys, alpha; print(sys.prefix)"}
	dir := strings.TrimSpace(h.Must(t, run...))
	rel, err := filepath.Rel(h.Dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, h, rel)
	r := h.Run(t, run...)
	if r.Code != 0 || strings.TrimSpace(r.Stdout) != dir || strings.Count(r.Stderr, "the mount on "+dir+" was dead") != 1 {
		t.Errorf("run: exit code %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
}

func TestDeadMountIsUnmounted(t *testing.T) {
	h := newHome(t, python)
	h.Must(t, "sitefs", "mount", "-r", "one.toml")
	kill(t, h, ".venv")
	if out := h.Must(t, "sitefs", "status", ".venv"); !strings.Contains(out, "dead: its server") {
		t.Errorf("status:\n%s", out)
	}
	want := "sitefs: warning: " + filepath.Join(h.Dir, ".venv") + ": dead: its server, pid "
	if r := h.Run(t, "sitefs", "status"); r.Code != 0 || strings.Count(r.Stderr, want) != 1 || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("status: exit code %d, %q, want one line with %q", r.Code, r.Stderr, want)
	}
	h.Must(t, "sitefs", "umount")
	if r := h.Run(t, "ls", ".venv"); r.Code == 0 {
		t.Errorf(".venv is left, with %q", r.Stdout)
	}
}
