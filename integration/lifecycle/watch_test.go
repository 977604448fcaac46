package lifecycle

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A watcher is a `sitefs mount --watch` that runs.
type watcher struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func follow(t *testing.T, h *sandbox.Home, file string) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sitefs"), "mount", "--watch", "-r", file)
	cmd.Dir, cmd.Env = h.Dir, h.Env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	w := &watcher{t, cmd, bufio.NewScanner(stderr)}
	w.expect("Ctrl-C")
	return w
}

// expect waits for a line with a text in it, of which every one before is about
// fetching wheels.
func (w *watcher) expect(want string) {
	w.t.Helper()
	for w.lines.Scan() {
		line := w.lines.Text()
		switch {
		case strings.Contains(line, want):
			return
		case !strings.HasPrefix(line, "sitefs: fetching") && !strings.HasPrefix(line, "sitefs: stored"):
			w.t.Fatalf("it says %q, want %q", line, want)
		}
	}
	w.t.Fatalf("it said nothing more, want %q", want)
}

func TestWatch(t *testing.T) {
	h := newHome(t, python)
	one, two := lock(t, h, "1.0"), lock(t, h, "2.0")
	path := h.Write(t, "project/pylock.toml", string(one))
	if err := os.Symlink("project/pylock.toml", filepath.Join(h.Dir, "pylock.toml")); err != nil {
		t.Fatal(err)
	}
	w := follow(t, h, "pylock.toml")
	expect(t, h, ".venv", "1.0")

	h.Write(t, "project/pylock.toml", string(two)) // in place
	w.expect("in place of")
	expect(t, h, ".venv", "2.0")

	h.Write(t, "project/.pylock.toml.swp", string(one)) // as editors do
	if err := os.Rename(filepath.Join(h.Dir, "project/.pylock.toml.swp"), path); err != nil {
		t.Fatal(err)
	}
	w.expect("in place of")
	expect(t, h, ".venv", "1.0")

	h.Write(t, "project/pylock.toml", "half a l")
	w.expect(".venv stays as it was")
	expect(t, h, ".venv", "1.0")

	h.Write(t, "project/other.toml", "") // nobody's business
	h.Write(t, "project/pylock.toml", string(two))
	w.expect("in place of")
	expect(t, h, ".venv", "2.0")

	if err := w.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if w.lines.Scan() {
		t.Errorf("at the end it says %q", w.lines.Text())
	}
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v, want success", err)
	}
	expect(t, h, ".venv", "2.0")
}

func TestWatchEnds(t *testing.T) {
	h := newHome(t, python)
	h.Write(t, "project/pylock.toml", string(lock(t, h, "1.0")))
	w := follow(t, h, "project/pylock.toml")
	if err := os.RemoveAll(filepath.Join(h.Dir, "project")); err != nil {
		t.Fatal(err)
	}
	w.expect("the folder of a lock file was moved or removed")
	if err := w.cmd.Wait(); err == nil {
		t.Error("it ended with success")
	}
	expect(t, h, ".venv", "1.0")
}
