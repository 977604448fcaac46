// Package process tests how sitefs lives among other processes: what the command
// inherits, what terminals and signals do, how long a mount lives and what is
// left when anything ends in any way.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, &python) }

// patience is how long a test waits for what takes milliseconds.
const patience = 30 * time.Second

// A user is somebody with a home, a project in it and a lock file of wheels.
// What the user's commands leave of their mounts fails the test.
type user struct {
	t       *testing.T
	ctx     context.Context
	home    string
	environ []string
	wheels  map[string]wheelhouse.Wheel
}

func newUser(t *testing.T) *user {
	t.Helper()
	sandbox.NeedSitefs(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	home := t.TempDir()
	u := &user{t: t, ctx: ctx, home: home, environ: sandbox.Environ(home, bin, python), wheels: map[string]wheelhouse.Wheel{}}
	for _, dir := range []string{"wheels", "project"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		cmd := exec.Command(filepath.Join(bin, "sitefs"), "umount", "--all", "--detach")
		cmd.Env = u.environ
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("umount --all: %v\n%s", err, out)
		}
		u.expectNothingLeft()
	})
	u.lock("alpha 1.0")
	return u
}

// lock writes the lock file of the project. A pin is a name and a version; its
// wheel is made.
func (u *user) lock(pins ...string) {
	u.t.Helper()
	var wheels []wheelhouse.Wheel
	for _, pin := range pins {
		name, version, _ := strings.Cut(pin, " ")
		w, made := u.wheels[pin]
		if !made {
			var err error
			w, err = wheelhouse.Write(filepath.Join(u.home, "wheels"), wheelhouse.Spec{
				Name: name, Version: version,
				Files: map[string]string{
					name + ".py":       fmt.Sprintf("version = %q\n", version),
					name + "_later.py": fmt.Sprintf("version = %q\n", version),
				},
			})
			if err != nil {
				u.t.Fatal(err)
			}
			u.wheels[pin] = w
		}
		wheels = append(wheels, w)
	}
	lock, err := wheelhouse.PylockPath(wheels, filepath.Join(u.home, "wheels"))
	if err == nil {
		err = os.WriteFile(u.path("project/pylock.toml"), lock, 0o644)
	}
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) path(name string) string { return filepath.Join(u.home, name) }

// write writes a file, for a command to run.
func (u *user) write(name, text string) {
	u.t.Helper()
	if err := os.WriteFile(u.path(name), []byte(text), 0o755); err != nil {
		u.t.Fatal(err)
	}
}

// fifo makes a named pipe.
func (u *user) fifo(name string) {
	u.t.Helper()
	if out, err := exec.Command("mkfifo", u.path(name)).CombinedOutput(); err != nil {
		u.t.Fatalf("mkfifo: %v\n%s", err, out)
	}
}

// command returns a command of the user's in the user's home.
func (u *user) command(argv ...string) *exec.Cmd {
	u.t.Helper()
	if argv[0] == "sitefs" {
		argv[0] = filepath.Join(bin, "sitefs")
	}
	cmd := exec.CommandContext(u.ctx, argv[0], argv[1:]...)
	cmd.Dir = u.home
	cmd.Env = u.environ
	cmd.WaitDelay = patience
	return cmd
}

// inProject is a `sitefs run` in the project's environment.
func inProject(words ...string) []string {
	return append([]string{"sitefs", "run", "-r", "project/pylock.toml"}, words...)
}

// output runs a command that must succeed and returns its standard output.
func (u *user) output(argv ...string) string {
	u.t.Helper()
	cmd := u.command(argv...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		u.t.Fatalf("%q: %v\n%s%s", argv, err, out, &stderr)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// exitCode runs a command and returns its exit code.
func (u *user) exitCode(argv ...string) int {
	u.t.Helper()
	out, err := u.command(argv...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	if err == nil {
		return 0
	}
	return exit.ExitCode()
}

// status returns what `sitefs status` knows.
func (u *user) status() []status {
	u.t.Helper()
	var all []status
	dec := json.NewDecoder(strings.NewReader(u.output("sitefs", "status", "--json")))
	for dec.More() {
		var s status
		if err := dec.Decode(&s); err != nil {
			u.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// only returns the status of the one mount that there is.
func (u *user) only() status {
	u.t.Helper()
	all := u.status()
	if len(all) != 1 {
		u.t.Fatalf("there are %d mounts, want 1: %+v", len(all), all)
	}
	return all[0]
}

// status is the part of a mount's status that the tests look at.
type status struct {
	Dir    string
	PID    int
	Worker int `json:"worker_pid"`
	State  string
	Leases []struct {
		PID  int
		Name string
	}
}

// awaitState waits until the states of the mounts are those.
func (u *user) awaitState(want ...string) {
	u.t.Helper()
	sandbox.Eventually(u.t, func() string {
		var got []string
		for _, s := range u.status() {
			got = append(got, s.State)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("the mounts are %q, want %q", got, want)
		}
		return ""
	})
}

// expectNothingLeft waits until no mount, server, state folder or mount point is there.
func (u *user) expectNothingLeft() {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(u.home) }); err != nil {
		u.t.Error(err)
	}
}

// contents returns a file's content once there is some.
func (u *user) contents(name string) string {
	u.t.Helper()
	var data []byte
	sandbox.Eventually(u.t, func() string {
		var err error
		if data, err = os.ReadFile(u.path(name)); err != nil {
			return err.Error()
		}
		if !bytes.HasSuffix(data, []byte("\n")) {
			return fmt.Sprintf("%s holds %q, want a line", name, data)
		}
		return ""
	})
	return strings.TrimSuffix(string(data), "\n")
}
