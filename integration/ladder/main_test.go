// Package ladder tests the ways in which an environment appears: what each needs,
// what it says where that is missing, and which takes its place.
package ladder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program.
var bin string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, nil) }

// patience is how long a test waits for what takes a second at most.
const patience = time.Minute

// Who runs the commands. The ordinary user is not nobody, who in a user namespace
// owns all that nobody there has a name for.
const (
	root = 0
	user = 1     // uid and primary gid; daemon, since fusermount3 wants a name
	team = 12321 // a group that the user is in
)

// A person has a home with a lock file in it.
type person struct {
	t    *testing.T
	uid  int
	home string
	env  []string

	as []string // a command of root's that becomes the person, where it isn't nil
}

func newPerson(t *testing.T, uid int) *person {
	t.Helper()
	sandbox.NeedSitefs(t)
	sandbox.NeedRoot(t, "to become somebody else")
	if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode()&0o006 != 0o006 {
		t.Skip("needs /dev/fuse open to all users: chmod 666 /dev/fuse")
	}
	if _, err := os.Stat(sandbox.SystemPython); err != nil {
		t.Skipf("needs an interpreter that every user can run: %v", err)
	}
	// Out of the test's own directory, which is root's alone.
	home, err := os.MkdirTemp("", "sitefs-ladder-")
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, uid: uid, home: home, env: sandbox.Environ(home, bin, sandbox.SystemPython)}
	p.setenv("SITEFS_PYTHON", sandbox.SystemPython)
	p.setenv("SITEFS_KEEP", "0")
	t.Cleanup(func() {
		p.expectNothingLeft()
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	w, err := wheelhouse.Write(home, wheelhouse.Spec{Name: "alpha", Version: "1.0", Files: map[string]string{
		"alpha.py":       "version = '1.0'\n",
		"alpha/data.txt": strings.Repeat("some text\n", 1000),
	}})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := wheelhouse.PylockPath([]wheelhouse.Wheel{w}, home)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "pylock.toml"), lock, 0o644)
	}
	if err == nil {
		err = os.Chown(home, uid, uid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// setenv sets a variable for later commands.
func (p *person) setenv(name, value string) {
	p.env = slices.DeleteFunc(p.env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	p.env = append(p.env, name+"="+value)
}

// withoutHelper leaves fusermount3 out of the programs that commands find.
func (p *person) withoutHelper() {
	p.t.Helper()
	dir := filepath.Join(p.home, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"sh", "unshare", "cat", "stat", "id", "setpriv", "mount"} {
		path, err := exec.LookPath(name)
		if err != nil {
			p.t.Skip(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			p.t.Fatal(err)
		}
	}
	p.setenv("PATH", bin+":"+dir)
}

// givesIDs is a command of root's that gives ids to a user as in subuid(5), in a
// mount namespace, and becomes that user: the words are the file, uid and groups.
const givesIDs = `
for f in subuid subgid; do mount --bind "$0" /etc/$f || exit; done
uid=$1 groups=$2
shift 2
exec setpriv --reuid "$uid" --regid "$uid" --groups "$groups" -- "$@"`

// withSubIDs gives the person ids to map in a user namespace.
func (p *person) withSubIDs() {
	p.t.Helper()
	sandbox.NeedProgram(p.t, "newuidmap")
	u, err := osuser.LookupId(strconv.Itoa(p.uid))
	if err != nil {
		p.t.Skip(err)
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if _, err := os.Stat(file); err != nil {
			p.t.Skipf("needs %s, to lay another one over it", file)
		}
	}
	file := filepath.Join(p.home, "subids")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s:200000:65536\n", u.Username), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.as = []string{"unshare", "--mount", "sh", "-c", givesIDs, file, strconv.Itoa(p.uid), fmt.Sprintf("%d,%d", p.uid, team)}
}

// command returns a command of the person's.
func (p *person) command(argv ...string) *exec.Cmd {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	if argv[0] == "sitefs" {
		argv[0] = filepath.Join(bin, "sitefs")
	}
	argv = append(slices.Clone(p.as), argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = p.home, p.env
	cmd.WaitDelay = patience
	if p.uid != root && p.as == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{
			Uid: uint32(p.uid), Gid: uint32(p.uid), Groups: []uint32{uint32(p.uid), team},
		}}
	}
	return cmd
}

// A result is what a command did.
type result struct {
	code   int
	stdout string
	stderr string
}

func (p *person) run(argv ...string) result {
	p.t.Helper()
	cmd := p.command(argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("%q: %v", argv, err)
	}
	return result{cmd.ProcessState.ExitCode(), strings.TrimSpace(stdout.String()), stderr.String()}
}

// output is run of a command that must succeed.
func (p *person) output(argv ...string) string {
	p.t.Helper()
	r := p.run(argv...)
	if r.code != 0 {
		p.t.Fatalf("%q: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// inEnv is a `sitefs run` in the environment of the lock file.
func inEnv(words ...string) []string {
	return append([]string{"sitefs", "run", "-r", "pylock.toml", "--"}, words...)
}

// expectNothingLeft waits until no mount, server, state folder or mount point is there.
func (p *person) expectNothingLeft() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(p.home) }); err != nil {
		p.t.Error(err)
	}
}
