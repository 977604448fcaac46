package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A server at its limit of descriptors serves on, also when its worker is killed,
// and who wants one lease too many is told so.
func TestFewDescriptors(t *testing.T) {
	const limit, users, files = 64, 80, 200
	e := newEnvironment(t, nil, numbered(files))
	e.Must(t, append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, limit), "sh"}, inProject("--keep", "1m", "true")...)...)
	server := e.only(t)
	var commands []*sandbox.Command
	for range users {
		commands = append(commands, e.Start(t, e.Dir, inProject("--keep", "1m", "cat")...))
	}
	sandbox.Eventually(t, func() string {
		if n := descriptors(t, server.PID); n < limit-acceptMargin {
			return fmt.Sprintf("the server has %d descriptors, want nearly %d", n, limit)
		}
		return ""
	})
	sandbox.Kill(t, workerOf(t, server.PID))
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() { e.checkServes(t, server.Dir, i) })
	}
	wg.Wait()
	refused := 0
	for i, c := range commands {
		if err := c.End(); err == nil {
			continue
		}
		if refused++; !strings.Contains(c.Said.String(), "ulimit -n") {
			t.Errorf("command %d says %q, want the limit", i, &c.Said)
		}
	}
	if refused == 0 || refused == users {
		t.Errorf("%d commands of %d were refused", refused, users)
	}
	if s := e.only(t); len(s.Leases) != 0 {
		t.Errorf("leases %+v, want none", s.Leases)
	}
}

// acceptMargin is what a server keeps back for itself, at most.
const acceptMargin = 24

// descriptors returns how many a process has.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

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
	stranger := *e.Home
	stranger.As = sandbox.As(sandbox.Nobody)
	for _, argv := range [][]string{{"status"}, {"status", "--json"}, {"umount", "--all"}, {"umount", "--all", "--detach"}, {"reload", "--all"}} {
		t.Run(strings.Join(argv, " "), func(t *testing.T) {
			r := stranger.Run(t, append([]string{"sitefs"}, argv...)...)
			if r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "it is user 0's") {
				t.Errorf("exit code %d, %q, %q, want an error alone that says whose the mount is", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
	e.checkServes(t, venv, 0)
}
