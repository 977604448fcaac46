// Package readme runs what the README shows: every console block, in order, in
// one home, against an index on loopback with the wheels of the test cache.
package readme

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// A step is a command of the README and what it is said to print.
type step struct {
	line    int
	command string
	want    string
}

// steps returns the commands of the console blocks.
func steps(readme string) []step {
	var all []step
	console := false
	n := 0
	for line := range strings.Lines(readme) {
		n++
		command, prompted := strings.CutPrefix(line, "$ ")
		switch {
		case !console:
			console = line == "```console\n"
		case line == "```\n":
			console = false
		case prompted:
			all = append(all, step{line: n, command: strings.TrimSuffix(command, "\n")})
		case len(all) > 0:
			all[len(all)-1].want += line
		}
	}
	return all
}

// tests is the command that runs this test.
const tests = "go test ./..."

func TestREADME(t *testing.T) {
	sandbox.NeedSitefs(t)
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shell := newShell(t)
	ran := 0
	for _, s := range steps(string(text)) {
		if s.command == tests {
			continue
		}
		ran++
		if got := shell.run(t, s.command); !matches(got, s.want) {
			t.Fatalf("README.md:%d: $ %s\nprinted\n%swant\n%s", s.line, s.command, got, s.want)
		}
	}
	if ran == 0 {
		t.Error("README.md has no console block")
	}
}

// changing is what no two runs print alike. Of two of them, and of white space,
// any is as good as another; the README shows some that were.
var changing = []struct {
	text *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "DIGEST"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "TREE"},
	{regexp.MustCompile(`\b\d+\.\ds\b`), "SECONDS"},
	{regexp.MustCompile(`\bpid \d+`), "PID"},
	{regexp.MustCompile(`\brequests +\d+, [\d.]+/s`), "REQUESTS"},
	{regexp.MustCompile(`(?m)(^ +(\d+ .* [A-Z_]+|…)\n)+`), "KINDS\n"},
	{regexp.MustCompile(`(?m)^(read|memory) +.*\d [kMG]?B.*$`), "$1 SIZES"},
	{regexp.MustCompile(`\b\d+ sources?\b`), "SOURCES"}, // without what was compiled on the way here
	{regexp.MustCompile(`\bbytecode +\d+`), "BYTECODE"},
	{regexp.MustCompile(`\bPython 3\.12\.\d+`), "PYTHON"},
	{regexp.MustCompile(` +`), " "},
}

// matches reports whether text is want, in which "…" stands for any text of a line.
func matches(text, want string) bool {
	for _, c := range changing {
		text, want = c.text.ReplaceAllString(text, c.as), c.text.ReplaceAllString(want, c.as)
	}
	want = strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*")
	return regexp.MustCompile(`\A` + want + `\z`).MatchString(text)
}

// A shell runs one command after the other, each where the one before it ended.
type shell struct {
	*sandbox.Home
	dir   string
	shown *strings.Replacer // the README's paths for those of the test
}

// newShell returns a shell of a new user in the checkout, with an index that has
// the wheels the README names.
func newShell(t *testing.T) *shell {
	t.Helper()
	index, err := wheelhouse.Serve(wheels(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { index.Close() })
	bin := t.TempDir()
	if err := sandbox.Build(bin); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(bin, "uv")); err != nil {
		t.Skip("needs uv, which the README uses")
	}
	python := sandbox.PythonVersion(t, "3.12")
	h := sandbox.NewHome(t, bin, python)
	h.UseIndex(index.SimpleURL())
	h.Setenv("GOBIN", bin)
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	values := strings.Split(string(out), "\n")
	h.Setenv("GOMODCACHE", values[1])
	h.Setenv("GOCACHE", values[2])
	h.Setenv("GOFLAGS", "-buildvcs=false") // what is checked out may be another user's
	if err := os.Symlink(filepath.Join(values[0], "bin", "go"), filepath.Join(bin, "go")); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return &shell{h, root, strings.NewReplacer(h.Dir, "/home/ada", filepath.Dir(python), "/usr/bin")}
}

// wheels returns a folder of the wheels that the tour needs, or skips the test.
func wheels(t *testing.T) string {
	t.Helper()
	list, err := wheelhouse.ReadList("../testdata/compare.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, w := range list {
		if len(wheelhouse.Missing([]wheelhouse.Wheel{w})) > 0 {
			t.Skipf("needs %s in %s: run go run ./integration/wheelhouse/fetch integration/testdata/compare.txt", w.Filename, wheelhouse.Dir())
		}
		if err := os.Symlink(w.Path(), filepath.Join(dir, w.Filename)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run runs a command and returns what it printed, on either output.
func (s *shell) run(t *testing.T, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	where, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer where.Close()
	c := exec.CommandContext(ctx, "bash", "-c", command+"\npwd >&3")
	c.Dir = s.dir
	c.Env = append(s.Env, "PWD="+s.dir)
	c.ExtraFiles = []*os.File{w}
	c.WaitDelay = time.Second // what the command started may hold the pipe
	out, err := c.CombinedOutput()
	w.Close()
	if err != nil {
		t.Fatalf("$ %s\n%s%v", command, out, err)
	}
	dir, err := io.ReadAll(where)
	if err != nil {
		t.Fatal(err)
	}
	s.dir = strings.TrimSuffix(string(dir), "\n")
	return s.shown.Replace(string(out))
}
