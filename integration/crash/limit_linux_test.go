package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A server at its limit of descriptors serves on, and who wants a lease waits
// until another gives one back.
func TestFewDescriptors(t *testing.T) {
	const limit, users, files = "64", 80, 200
	e := newEnvironment(t, nil, numbered(files))
	e.Must(t, append([]string{"sh", "-c", "ulimit -n " + limit + `; exec "$@"`, "sh"}, inProject("--keep", "1m", "true")...)...)
	dir := e.only(t).Dir
	var commands []*command
	for range users {
		commands = append(commands, e.start(t, e.Dir, inProject("--keep", "1m", "cat")...))
	}
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() { checkServes(t, dir, i) })
	}
	wg.Wait()
	for i, c := range commands {
		if err := c.end(); err != nil {
			t.Errorf("command %d: %v\n%s", i, err, &c.said)
		}
	}
	if s := e.only(t); len(s.Leases) != 0 {
		t.Errorf("leases %+v, want none", s.Leases)
	}
}

// nobody is an account without any rights (Debian's number).
const nobody = 65534

// The control socket is its user's, even where the folder lets others in.
func TestStranger(t *testing.T) {
	sandbox.NeedRoot(t, "to become somebody else")
	e := newEnvironment(t, nil, numbered(1))
	venv := e.mount(t, ".venv")
	if out, err := exec.Command("chmod", "-R", "a+rwX", filepath.Join(e.Dir, "state")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(e.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"status", "umount", "reload"} {
		t.Run(verb, func(t *testing.T) {
			c := exec.Command(filepath.Join(bin, "sitefs"), verb, venv)
			c.Env, c.Dir = e.Env, "/"
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := c.CombinedOutput()
			if err == nil {
				t.Errorf("%s by another user succeeds", verb)
			}
			if !strings.HasPrefix(string(out), "sitefs: error: ") || strings.Contains(string(out), "requests") {
				t.Errorf("%s by another user says %q, want an error alone", verb, out)
			}
		})
	}
	checkServes(t, venv, 0)
}
