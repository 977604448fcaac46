package crash

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

var (
	kills    = flag.Int("kills", 30, "how many workers each test of TestKills kills")
	killSeed = flag.Uint64("killseed", uint64(time.Now().UnixNano()), "what decides when TestKills kills")
)

const (
	// killPause is the most that TestKills lets a worker live: some die before they
	// have begun.
	killPause = 200 * time.Millisecond

	// longestCall is what no call may take, whoever is killed.
	longestCall = 2 * time.Second
)

// Workers that are killed at any moment are noticed by nobody: not by those who
// import, walk, read and map the environment, and not in the counters.
func TestKills(t *testing.T) {
	t.Parallel() // with TestHang, which waits
	t.Logf("-killseed %d", *killSeed)
	t.Run("root", func(t *testing.T) {
		sandbox.NeedRoot(t, "for mount(2)")
		e := newEnvironment(t, published)
		e.surviveKills(t, "mount(2)", published, rand.New(rand.NewPCG(*killSeed, 0)))
	})
	t.Run("user", func(t *testing.T) {
		sandbox.NeedOrdinaryUser(t)
		python, err := filepath.EvalSymlinks(sandbox.SystemPython)
		if err != nil {
			t.Skipf("needs an interpreter that every user can run: %v", err)
		}
		e := newEnvironmentFor(t, python, nil, numbered(300), large)
		e.GiveTo(t, sandbox.Nobody)
		e.surviveKills(t, "fusermount3", []string{"numbered", "large"}, rand.New(rand.NewPCG(*killSeed, 1)))
	})
}

// published are the wheels of a load: files of any size, and a shared object.
var published = []string{"numpy", "h11", "certifi"}

// large is a wheel of files that take many requests to read.
var large = wheelhouse.Spec{Name: "large", Version: "1.0", Files: map[string]string{
	"large/__init__.py": "",
	"large/one.bin":     strings.Repeat("one\n", 2<<20),
	"large/two.bin":     strings.Repeat("two\n", 4<<20),
}}

// surviveKills has the workers of the environment's mount killed under load. The
// mount is to be made in the way that rung names.
func (e *environment) surviveKills(t *testing.T, rung string, modules []string, random *rand.Rand) {
	t.Helper()
	venv := e.mount(t, ".venv")
	load := e.load(t, venv, modules...)
	before := e.status(t, venv)
	if before.Rung != rung {
		t.Errorf("mounted by %s, want %s", before.Rung, rung)
	}
	confined := confinement(t, &before)
	var waits []time.Duration
	for i := range *kills {
		<-time.After(time.Duration(random.Int64N(int64(killPause))))
		worker := workerOf(t, before.PID)
		begin := time.Now()
		sandbox.Kill(t, worker)
		if len(e.As) == 0 { // to others the mount is shut
			e.checkAbsent(t, venv, i)
			waits = append(waits, time.Since(begin))
		}
		dropCaches(t, venv)
		now := e.status(t, venv)
		checkCounters(t, &before, &now)
		before = now
	}
	load.end(t, longestCall)
	if n := len(waits); n > 0 {
		slices.Sort(waits)
		t.Logf("%d kills, from each until a name was looked up: median %v, longest %v", n, waits[n/2], waits[n-1])
	}
	sandbox.Eventually(t, func() string {
		if n := e.status(t, venv).Restarts; n != int64(*kills) {
			return fmt.Sprintf("%d restarts, want %d", n, *kills)
		}
		return ""
	})
	now := e.status(t, venv)
	if now.Errors != 0 {
		t.Errorf("%d requests were answered with an I/O error", now.Errors)
	}
	checkConfined(t, confined, &now)
}

// checkAbsent looks up a name that there is not, and that nobody has looked up: only
// a worker can answer.
func (e *environment) checkAbsent(t *testing.T, venv string, i int) {
	t.Helper()
	name := filepath.Join(e.sitePackages(venv), fmt.Sprintf("absent-%d", i))
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
}

// confinement returns what holds the worker of a mount back, as its supervisor and
// the kernel say.
func confinement(t *testing.T, s *mount.Status) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.WorkerPID))
	if err != nil {
		t.Fatal(err)
	}
	held := fmt.Sprintln(s.Confined)
	for line := range strings.Lines(string(status)) {
		name, _, _ := strings.Cut(line, ":")
		if strings.HasPrefix(name, "Cap") || name == "NoNewPrivs" || name == "Seccomp" {
			held += line
		}
	}
	return held
}

// checkConfined holds that the worker of a mount is confined as an earlier one was.
func checkConfined(t *testing.T, want string, s *mount.Status) {
	t.Helper()
	if got := confinement(t, s); got != want {
		t.Errorf("the worker is confined by\n%s, an earlier one was by\n%s", got, want)
	}
}

// checkCounters holds that no counter of a mount went back.
func checkCounters(t *testing.T, before, now *mount.Status) {
	t.Helper()
	for op, n := range before.Requests {
		if now.Requests[op] < n {
			t.Errorf("%s requests went from %d to %d", op, n, now.Requests[op])
		}
	}
	if now.BytesRead < before.BytesRead {
		t.Errorf("bytes read went from %d to %d", before.BytesRead, now.BytesRead)
	}
	if now.PID != before.PID {
		t.Errorf("the supervisor is %d, was %d", now.PID, before.PID)
	}
}

// workerOf returns the worker of a supervisor, whatever it is at. The status would
// tell of one that serves, and only then.
func workerOf(t *testing.T, supervisor int) int {
	t.Helper()
	var worker int
	sandbox.Eventually(t, func() string {
		all, err := sandbox.Processes()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(p sandbox.Process) bool { return p.Parent == supervisor && p.Is("mount-worker") })
		if i < 0 {
			return fmt.Sprintf("supervisor %d has no worker", supervisor)
		}
		worker = all[i].PID
		return ""
	})
	return worker
}

// dropCaches has the kernel forget what nobody has open in a mount, so that it asks
// again: that is what a remount does on its way. Without the right to, there is
// enough that it doesn't know.
func dropCaches(t *testing.T, venv string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := unix.Mount("", venv, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Errorf("remounting: %v", err)
	}
}
