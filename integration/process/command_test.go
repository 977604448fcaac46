package process

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inherited prints what a process has from its parent.
const inherited = `
import json, os, resource, sys
def status(*names):
    with open("/proc/self/status") as f:
        fields = dict(line.split(":", 1) for line in f)
    return [fields[n].strip() for n in names]
def kind(fd):
    return os.readlink("/proc/self/fd/%s" % fd).split(":")[0]
umask = os.umask(0)
print(json.dumps({
    "signals": status("SigBlk", "SigIgn"),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "umask": umask,
    "nice": os.nice(0),
    "parent": os.getppid(),
    "session": os.getsid(0),
    "group": os.getpgrp(),
    "cwd": os.getcwd(),
    "argv": sys.argv,
}))
`

// The command inherits what it would have without sitefs.
func TestCommandInherits(t *testing.T) {
	u := newUser(t)
	u.write("inherited.py", inherited)
	u.output(inProject("true")...)
	for _, warm := range []bool{true, false} {
		if !warm {
			u.output("sitefs", "umount", "--all")
		}
		plain := u.output(python, "inherited.py", "--x")
		ours := u.output(inProject("python", "inherited.py", "--x")...)
		if plain != ours {
			t.Errorf("warm %v: the command has\n%s\nwithout sitefs\n%s", warm, ours, plain)
		}
	}
}

// A child that the command didn't start would surprise whoever waits for all of
// them, as shells and supervisors do.
func TestCommandHasNoChildren(t *testing.T) {
	u := newUser(t)
	const script = "import os\ntry:\n    print(os.wait())\nexcept ChildProcessError:\n    print('none')"
	for _, start := range []string{"first", "warm"} {
		if got := u.output(inProject("python", "-c", script)...); got != "none" {
			t.Errorf("%s start: os.wait returned %s", start, got)
		}
	}
}

func TestCommandDescriptors(t *testing.T) {
	u := newUser(t)
	const script = `
import json, os
fds = {}
for fd in os.listdir("/proc/self/fd"):
    try:
        fds[int(fd)] = os.readlink("/proc/self/fd/" + fd)
    except OSError:
        pass  # that of listdir itself
print(json.dumps({fd: to for fd, to in fds.items() if fd > 2}))
`
	descriptors := func(argv ...string) map[int]string {
		t.Helper()
		var fds map[int]string
		if err := json.Unmarshal([]byte(u.output(append(argv, "-c", script)...)), &fds); err != nil {
			t.Fatal(err)
		}
		return fds
	}
	without := descriptors(python) // what the tests were started with
	for _, start := range []string{"first", "warm"} {
		fds := descriptors(inProject("python")...)
		for fd := range without {
			delete(fds, fd)
		}
		if len(fds) != 1 {
			t.Errorf("%s start: descriptors %v, want the lease alone", start, fds)
		}
		for fd, to := range fds {
			if fd < 60 || !strings.HasPrefix(to, "socket:") {
				t.Errorf("%s start: descriptor %d is %s, want a socket with a high number", start, fd, to)
			}
		}
	}
}

// What nohup(1) and a shell's background jobs ignore, the command ignores. Go's
// runtime keeps no other signal ignored through exec.
func TestIgnoredSignals(t *testing.T) {
	u := newUser(t)
	const show = "grep SigIgn /proc/self/status"
	plain := u.output("sh", "-c", "trap '' INT HUP; exec "+show)
	ours := u.output("sh", "-c", "trap '' INT HUP; exec "+strings.Join(inProject(show), " "))
	if plain != ours {
		t.Errorf("the command has %s, without sitefs %s", ours, plain)
	}
}

// A low limit of open files is the command's own affair.
func TestFewDescriptors(t *testing.T) {
	u := newUser(t)
	got := u.output("sh", "-c", "ulimit -n 64; exec "+strings.Join(inProject("sh", "-c", "'ulimit -n'"), " "))
	if got != "64" {
		t.Errorf("the command's limit is %s, want 64", got)
	}
}

// The lease stays open however much memory is collected on the way to the command:
// the variables make garbage, and GOGC has it collected at once.
func TestLeaseOutlivesACollection(t *testing.T) {
	u := newUser(t)
	u.environ = append(u.environ, "GOGC=1")
	for i := range 20_000 {
		u.environ = append(u.environ, fmt.Sprintf("V%d=", i))
	}
	for range 40 { // one in five lost it
		if fds := u.output(inProject("ls", "-l", "/proc/self/fd")...); !strings.Contains(fds, "socket:") {
			t.Fatalf("the command has no lease:\n%s", fds)
		}
	}
}

// The command is the process that was started, not a child of it.
func TestCommandKeepsPID(t *testing.T) {
	u := newUser(t)
	cmd := u.command(inProject("sh", "-c", "echo $$")...)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), fmt.Sprintln(cmd.Process.Pid); got != want {
		t.Errorf("the command's pid is %s, want %s", got, want)
	}
}

// A run inside a run has the inner environment, and then the outer one again.
func TestNested(t *testing.T) {
	u := newUser(t)
	inner := u.path("inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	u.lock("beta 2.0")
	if err := os.Rename(u.path("project/pylock.toml"), filepath.Join(inner, "pylock.toml")); err != nil {
		t.Fatal(err)
	}
	u.lock("alpha 1.0")
	const outer = "sitefs run -r inner/pylock.toml -- python -c 'import beta; print(beta.version)'; python -c 'import alpha; print(alpha.version)'"
	if got := u.output(inProject("sh", "-c", outer)...); got != "2.0\n1.0" {
		t.Errorf("got %q", got)
	}
}
