package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

var (
	kills    = flag.Int("kills", 40, "how many workers TestKills kills")
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
	t.Logf("-killseed %d", *killSeed)
	lockCaches(t, unix.LOCK_EX)
	random := rand.New(rand.NewPCG(*killSeed, 0))
	e := newEnvironment(t, []string{"numpy", "h11", "certifi"})
	venv := e.mount(t, ".venv")
	load := e.load(t, venv)
	before := e.status(t, venv)
	for range *kills {
		<-time.After(time.Duration(random.Int64N(int64(killPause))))
		killWorker(t, before.PID)
		dropCaches(t)
		now := e.status(t, venv)
		checkCounters(t, &before, &now)
		before = now
	}
	load.end(t)
	await(t, func() string {
		if n := e.status(t, venv).Restarts; n != int64(*kills) {
			return fmt.Sprintf("%d restarts, want %d", n, *kills)
		}
		return ""
	})
	if n := e.status(t, venv).Errors; n != 0 {
		t.Errorf("%d requests were answered with an I/O error", n)
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

// killWorker kills the worker of a supervisor, at whatever it is, and waits until
// it is dead.
func killWorker(t *testing.T, supervisor int) {
	t.Helper()
	var pid int
	await(t, func() string {
		var err error
		if pid, err = workerOf(supervisor); err != nil {
			return err.Error()
		}
		return ""
	})
	kill(t, pid)
}

// workerOf returns the living worker of a supervisor. The status would tell of one
// that serves, and only then.
func workerOf(supervisor int) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p := processOf(pid)
		if p.parent != supervisor || p.state == "Z" {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), "\x00mount-worker\x00") {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("supervisor %d has no worker", supervisor)
}

// A process as proc_pid_stat(5) has it; one that is gone is zero.
type process struct {
	state  string // Z: it has ended and nobody has asked how
	parent int
}

func processOf(pid int) (p process) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	if _, err := fmt.Sscan(fields, &p.state, &p.parent); err != nil {
		return process{}
	}
	return p
}

// kill kills a process and waits until it has ended.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("killing %d: %v", pid, err)
	}
	await(t, func() string {
		if s := processOf(pid).state; s != "" && s != "Z" {
			return fmt.Sprintf("process %d was killed and is in state %s", pid, s)
		}
		return ""
	})
}

// lockCaches has the tests that drop the kernel's caches
// not run while others do the opposite: packages are tested at the same time, on
// one kernel.
func lockCaches(t *testing.T, how int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "sitefs-test-caches.lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		t.Fatal(err)
	}
}

// dropCaches has the kernel forget names and attributes, so that it asks again.
// Without the right to, there is enough that it doesn't know.
func dropCaches(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	const namesAndInodes = "2"
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte(namesAndInodes), 0o200); err != nil {
		t.Error(err)
	}
}

// load is what goes on in a mount while its workers die.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup
	readers []*command
	probe   probe
}

// load starts it.
func (e *environment) load(t *testing.T, venv string) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	site := sitePackages(venv)
	sums := e.Write(t, "sums", e.record(t))
	reader, err := filepath.Abs("testdata/read.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"read", "map"} {
		l.readers = append(l.readers, e.start(t, site, "python3.12", reader, how, sums))
	}
	l.repeat(t, e, site, interpreter(venv), "-c", "import numpy, h11, certifi; print(numpy.arange(5).sum(), len(certifi.contents()) > 100_000)")
	l.repeat(t, e, venv, "find", ".", "-printf", `%P %y %m %s %i %T@ %l\n`)
	l.repeat(t, e, site, "sha256sum", "--check", "--quiet", "--strict", sums)
	l.running.Go(func() { l.probe.run(t, site, l.stop) })
	return l
}

// repeat runs a command over and over, which must say the same each time.
func (l *load) repeat(t *testing.T, e *environment, dir string, argv ...string) {
	l.running.Go(func() {
		first, passes := "", 0
		for ; ; passes++ {
			out, err := e.run(dir, argv...)
			if err != nil {
				t.Errorf("%.40q: %v", argv, err)
				return
			}
			if passes == 0 {
				first = out
			}
			if out != first {
				t.Errorf("%.40q says\n%s\nand said\n%s", argv, out, first)
				return
			}
			select {
			case <-l.stop:
				t.Logf("%.40q: %d times", argv, passes+1)
				return
			default:
			}
		}
	})
}

// run runs a command and returns what it says.
func (e *environment) run(dir string, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir, c.Env = dir, e.Env
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// end ends the load, and holds that it went well all the time.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.running.Wait()
	for _, c := range l.readers {
		if err := c.end(); err != nil {
			t.Errorf("%q: %v\n%s", c.Args, err, &c.said)
			continue
		}
		var longest float64
		if _, err := fmt.Sscan(c.said.String(), &longest); err != nil {
			t.Errorf("%q says %q: %v", c.Args, &c.said, err)
		}
		t.Logf("longest call, files, which: %s", &c.said)
		if longest > longestCall.Seconds() {
			t.Errorf("a call took %.3f s, want at most %v", longest, longestCall)
		}
	}
	t.Logf("%d look-ups, the longest %v", l.probe.count, l.probe.longest)
	if l.probe.longest > longestCall {
		t.Errorf("a look-up took %v, want at most %v", l.probe.longest, longestCall)
	}
}

// probe looks up names that nobody has asked for: only the worker can answer.
type probe struct {
	count   int
	longest time.Duration
}

// probePause leaves the worker time for others.
const probePause = time.Millisecond

func (p *probe) run(t *testing.T, dir string, stop <-chan struct{}) {
	tick := time.NewTicker(probePause)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		begin := time.Now()
		_, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("no-such-%d", p.count)))
		p.longest = max(p.longest, time.Since(begin))
		p.count++
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a name that there is not: %v, want none", err)
			return
		}
	}
}
