// Package known tests that the second time is instant and never wrong: the same
// inputs give the same tree with no network, no resolver and no catalog, and a
// change of any input is noticed.
package known

import (
	"bytes"
	"context"
	"errors"
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

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

// patience is how long a test waits for a command.
const patience = time.Minute

// A machine is a home with a working directory in it, and variables.
type machine struct {
	t       *testing.T
	home    string
	environ []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	sandbox.NeedSitefs(t)
	home := t.TempDir()
	m := &machine{t: t, home: home, environ: sandbox.Environ(home, bin, python)}
	if err := os.Mkdir(m.path("work"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := m.command("umount", "--all", "--detach").CombinedOutput(); err != nil {
			t.Errorf("umount --all: %v\n%s", err, out)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(home) }); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.home, name) }

// setenv sets a variable of the commands that follow.
func (m *machine) setenv(name, value string) {
	m.environ = append(m.environ, name+"="+value)
}

// write writes a file in the working directory.
func (m *machine) write(name, text string) {
	m.t.Helper()
	file := m.path("work/" + name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// link makes name in the working directory a link to target, whatever it was.
func (m *machine) link(target, name string) {
	m.t.Helper()
	file := m.path("work/" + name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, file); err != nil {
		m.t.Fatal(err)
	}
}

// wheel puts a wheel into a folder of the working directory. The text is a
// module's.
func (m *machine) wheel(dir, name, version, text string) wheelhouse.Wheel {
	m.t.Helper()
	dir = m.path("work/" + dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	w, err := wheelhouse.Write(dir, wheelhouse.Spec{Name: name, Version: version, Files: map[string]string{name + ".py": text}})
	if err != nil {
		m.t.Fatal(err)
	}
	return w
}

// lock writes a lock file for wheels of the folder "wheels".
func (m *machine) lock(file string, wheels ...wheelhouse.Wheel) {
	m.t.Helper()
	data, err := wheelhouse.PylockPath(wheels, m.path("work/wheels"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(file, string(data))
}

// command returns a sitefs in the working directory.
func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(bin, "sitefs"), args...)
	cmd.Dir = m.path("work")
	cmd.Env = m.environ
	return cmd
}

var noteOfTree = regexp.MustCompile(`: tree ([0-9a-f]{64})\n`)

// tree returns the digest of what `sitefs run` runs in, or what it failed with.
func (m *machine) tree(args ...string) string {
	m.t.Helper()
	cmd := m.command(append(append([]string{"run", "-v"}, args...), "--", "true")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		_, message, found := strings.Cut(stderr.String(), "sitefs: error: ")
		if !found {
			m.t.Fatalf("%q: %v\n%s", args, err, &stderr)
		}
		return "error: " + message
	}
	match := noteOfTree.FindStringSubmatch(stderr.String())
	if match == nil {
		m.t.Fatalf("%q names no tree:\n%s", args, &stderr)
	}
	return match[1]
}

// good returns the digest of a tree of a run that must succeed.
func (m *machine) good(args ...string) string {
	m.t.Helper()
	tree := m.tree(args...)
	if strings.HasPrefix(tree, "error: ") {
		m.t.Fatalf("%q: %s", args, tree)
	}
	return tree
}
