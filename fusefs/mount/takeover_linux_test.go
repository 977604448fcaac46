package mount_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// worker returns the pid of the mount's worker when it is another than the given.
func worker(t *testing.T, w mount.Want, not int) int {
	t.Helper()
	var pid int
	eventually(t, testContext(t), func() string {
		if pid = status(t, w).WorkerPID; pid == not {
			return fmt.Sprintf("worker %d has no successor", not)
		}
		return ""
	})
	return pid
}

func serverLog(t *testing.T, w mount.Want) string {
	t.Helper()
	state, err := mount.StateDir(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(state, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dropCaches has the kernel ask again for what it knows of the mount: a remount
// drops what nobody has open.
func dropCaches(t *testing.T, w mount.Want) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to drop what the kernel has cached")
	}
	if err := unix.Mount("", w.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Fatalf("remounting: %v", err)
	}
}

// A worker is killed at random moments while several processes read; none of
// them notices.
func TestKillsAreNotNoticed(t *testing.T) {
	src := source(t)
	w := newWant(t, serverConfig{Source: src})
	lease(t, w)
	const kills = 25
	readers := make([]*exec.Cmd, 3)
	output := make([]bytes.Buffer, len(readers))
	stop := filepath.Join(t.TempDir(), "stop")
	for i := range readers {
		readers[i] = exec.Command("sh", "-c", `while ! [ -e "$2" ]; do diff -r "$0" "$1" && ls -lR "$1" >/dev/null || exit 1; done`,
			filepath.Join(src, "lib/pkg"), filepath.Join(w.Dir, "lib/pkg"), stop)
		readers[i].Stdout, readers[i].Stderr = &output[i], &output[i]
		if err := readers[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	var before map[string]int64
	pid := 0
	for range kills {
		pid = worker(t, w, pid)
		for range rand.IntN(4) {
			dropCaches(t, w)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		now := status(t, w).Requests
		for kind, n := range before {
			if now[kind] < n {
				t.Errorf("%d %s requests, %d before", now[kind], kind, n)
			}
		}
		before = now
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, r := range readers {
		if err := r.Wait(); err != nil {
			t.Errorf("%v: %s", err, &output[i])
		}
	}
	worker(t, w, pid)
	s := status(t, w)
	if s.Restarts != kills || len(s.LastRestarts) != 5 || s.LastRestarts[4].Reason != "signal: killed" || s.Errors != 0 {
		t.Errorf("restarts %d, want %d; %v; %d errors", s.Restarts, kills, s.LastRestarts, s.Errors)
	}
}

// Killed before it and the kernel have agreed, a worker leaves it to the next.
func TestKilledDuringInit(t *testing.T) {
	for _, moment := range []string{"before INIT is kept", "before INIT is answered"} {
		t.Run(moment, func(t *testing.T) {
			marker := filepath.Join(t.TempDir(), "killed")
			w := newWant(t, serverConfig{DieAt: moment, Marker: marker})
			lease(t, w)
			if b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil || string(b) != "x = 1\n" {
				t.Errorf("%q, %v", b, err)
			}
			if s := status(t, w); s.Restarts != 1 {
				t.Errorf("%d restarts, want 1", s.Restarts)
			}
			if _, err := os.Stat(marker); err != nil {
				t.Error(err)
			}
		})
	}
}

// Only the request that kills worker after worker fails, not those beside it.
func TestKillerIsAnsweredAlone(t *testing.T) {
	src := source(t)
	w := newWant(t, serverConfig{Source: src, Poison: true})
	lease(t, w)
	beside := exec.Command("diff", "-r", filepath.Join(src, "lib/pkg"), filepath.Join(w.Dir, "lib/pkg"))
	if err := beside.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(w.Dir, "killer")); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	if err := beside.Wait(); err != nil {
		t.Errorf("beside it: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if s := status(t, w); s.Errors != 1 || s.Restarts != 3 {
		t.Errorf("%d errors, %d restarts, want 1 and 3", s.Errors, s.Restarts)
	}
	if log := serverLog(t, w); !strings.Contains(log, `LOOKUP of "node 1/killer"`) {
		t.Errorf("the log does not name the request:\n%s", log)
	}
}

// A mount needs its program on disk as little as any process does.
func TestProgramIsRemoved(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	copyFile(t, exe, program)
	w := newWant(t, serverConfig{})
	w.Server[0] = program
	lease(t, w)
	pid := worker(t, w, 0)
	for _, replace := range []func() error{
		func() error { return os.Remove(program) },
		func() error { return os.WriteFile(program, []byte("#!/bin/false\n"), 0o755) },
	} {
		if err := replace(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pid = worker(t, w, pid)
		dropCaches(t, w)
		if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
			t.Error(err)
		}
	}
	if err := reload(t, w); err == nil || !strings.Contains(err.Error(), "goes on as it was") {
		t.Errorf("a reload with a program that can't serve: %v", err)
	}
}

// Where the kernel sends no request again, a mount ends with its worker, as any
// other mount does, and the next to come makes it anew. Without a crash all is as
// elsewhere.
func TestWithoutResend(t *testing.T) {
	w := newWant(t, serverConfig{NoResend: true, Poison: true})
	lease(t, w)
	f, err := os.Open(filepath.Join(w.Dir, "hello.py"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unread, err := os.Open(filepath.Join(w.Dir, "bin/activate"))
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	before := status(t, w)
	if before.Resend {
		t.Error("the status tells that requests are sent again")
	}
	waits := exec.Command("stat", filepath.Join(w.Dir, "wait"))
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, w); err != nil {
		t.Error(err)
	}
	if s := status(t, w); s.WorkerPID == before.WorkerPID {
		t.Errorf("worker %d is still there after a reload", s.WorkerPID)
	}
	if err := waits.Process.Kill(); err != nil { // where it has asked the successor
		t.Error(err)
	}
	_ = waits.Wait()
	dropCaches(t, w)
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil {
		t.Errorf("after a reload: %v", err)
	}

	if err := syscall.Kill(status(t, w).WorkerPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	checkGone(t, w, before.PID)
	if _, err := unread.Read(make([]byte, 1)); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("%v from an open file, want %v", err, syscall.ENOTCONN)
	}
	lease(t, w)
	if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Error(err)
	}
}

// running names a thread of a process that was stopped which goes on yet, "" when
// none does: it may answer one more request.
func running(t *testing.T, pid int) string {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue
		}
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return thread + " is not stopped"
		}
	}
	return ""
}

func TestWorkerThatHangs(t *testing.T) {
	const patience = 300 * time.Millisecond
	t.Run("a handler", func(t *testing.T) {
		w := newWant(t, serverConfig{Poison: true, Patience: patience})
		lease(t, w)
		if _, err := os.Lstat(filepath.Join(w.Dir, "hangs")); !errors.Is(err, syscall.EIO) {
			t.Errorf("%v, want EIO", err)
		}
		if log := serverLog(t, w); !strings.Contains(log, "goroutine ") || !strings.Contains(log, "poisoned") {
			t.Errorf("the log does not say what the worker was at:\n%s", log)
		}
	})
	t.Run("all of it", func(t *testing.T) {
		w := newWant(t, serverConfig{Patience: patience})
		lease(t, w)
		pid := worker(t, w, 0)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		eventually(t, testContext(t), func() string { return running(t, pid) })
		if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
			t.Error(err)
		}
		if alive(pid) {
			t.Error("it is left")
		}
	})
	t.Run("at the end of the mount", func(t *testing.T) {
		w := newWant(t, serverConfig{Patience: patience})
		lease(t, w)
		s := status(t, w)
		if err := syscall.Kill(s.WorkerPID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := mount.Unmount(testContext(t), w.Dir, true); err != nil {
			t.Fatal(err)
		}
		checkGone(t, w, s.PID)
		if alive(s.WorkerPID) {
			t.Error("it is left")
		}
	})
}

// A successor that can't serve is tried again; what waits is answered then.
func TestSuccessorRefuses(t *testing.T) {
	refuse := filepath.Join(t.TempDir(), "refuse")
	w := newWant(t, serverConfig{Refuse: refuse})
	lease(t, w)
	pid := worker(t, w, 0)
	if err := os.WriteFile(refuse, []byte("the store is away"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, testContext(t), func() string {
		for _, r := range status(t, w).LastRestarts {
			if r.Reason == "the store is away" {
				return ""
			}
		}
		return "the refusal is not in the status"
	})
	if err := os.Remove(refuse); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Error(err)
	}
}

// While no worker can serve, requests fail and the status says why. When one can,
// it does.
func TestNothingCanBeServed(t *testing.T) {
	const reason = "the store is away"
	refuse := filepath.Join(t.TempDir(), "refuse")
	w := newWant(t, serverConfig{Refuse: refuse})
	lease(t, w)
	pid := worker(t, w, 0)
	if err := os.WriteFile(refuse, []byte(reason), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	hello := filepath.Join(w.Dir, "hello.py")
	if _, err := os.ReadFile(hello); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	s := status(t, w)
	if s.LastError != "nothing can be served: "+reason || s.Errors == 0 {
		t.Errorf("the status has %d errors, the last %q", s.Errors, s.LastError)
	}
	if err := syscall.Kill(s.WorkerPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(w.Dir, "bin")); !errors.Is(err, syscall.EIO) {
		t.Errorf("when the one that serves nothing was killed: %v, want EIO", err)
	}
	if err := os.Remove(refuse); err != nil {
		t.Fatal(err)
	}
	eventually(t, testContext(t), func() string {
		if _, err := os.ReadFile(hello); err != nil {
			return err.Error()
		}
		return ""
	})
	if s := status(t, w); s.LastError != "" {
		t.Errorf("it is served again, and the last error is %q", s.LastError)
	}
}

// A worker whose place is gone is replaced by one that finds what is there later,
// with no more than a request that fails in between.
func TestPlaceIsLost(t *testing.T) {
	place := filepath.Join(t.TempDir(), "place")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(place, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("first")
	w := newWant(t, serverConfig{Place: place})
	lease(t, w)
	pid := worker(t, w, 0)
	if _, err := os.Lstat(filepath.Join(w.Dir, "kept in the place")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want %v", err, os.ErrNotExist)
	}
	put("")
	for i := range 3 {
		if _, err := os.Lstat(filepath.Join(w.Dir, fmt.Sprint("kept in the place ", i))); !errors.Is(err, syscall.EIO) {
			t.Errorf("%v, want EIO", err)
		}
	}
	if s := status(t, w); s.WorkerPID != pid {
		t.Errorf("worker %d was replaced by %d, with nothing to serve", pid, s.WorkerPID)
	}
	put("second")
	worker(t, w, pid)
	if _, err := os.Lstat(filepath.Join(w.Dir, "kept in the place")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want %v", err, os.ErrNotExist)
	}
	if s := status(t, w); s.Restarts != 1 {
		t.Errorf("%d restarts, want 1: %v", s.Restarts, s.LastRestarts)
	}
}

// The companion that has open what was in the place goes with the worker.
func TestPlaceIsLostToTheCompanion(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	place := filepath.Join(dir, "place")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(place, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("first")
	w := newWant(t, serverConfig{Place: place, Companion: []string{exe, "companion", filepath.Join(dir, "starts")}})
	lease(t, w)
	pid := worker(t, w, 0)
	before, _ := companionOf(t, w)
	put("second")
	if _, err := os.Lstat(filepath.Join(w.Dir, "kept in the place")); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	worker(t, w, pid)
	checkEnded(t, before)
	eventually(t, testContext(t), func() string {
		var after report
		if err := json.Unmarshal(status(t, w).Bytecode, &after); err != nil {
			return err.Error() // the worker has yet to hear that the old one is lost
		}
		if after.PID == 0 || after.PID == before.PID {
			return fmt.Sprintf("the companion is %d, and was %d", after.PID, before.PID)
		}
		return ""
	})
}

func TestFirstWorkerRefuses(t *testing.T) {
	refuse := filepath.Join(t.TempDir(), "refuse")
	if err := os.WriteFile(refuse, []byte("the store is away"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWant(t, serverConfig{Refuse: refuse})
	if _, err := mount.Lease(testContext(t), w); err == nil || !strings.Contains(err.Error(), "the store is away") {
		t.Errorf("%v, want the reason", err)
	}
	checkGone(t, w, 0)
}

func TestStatusOfTheWorker(t *testing.T) {
	w := newWant(t, serverConfig{Source: source(t), Poison: true})
	lease(t, w)
	run(t, w.Dir, "sh", "-c", "cat lib/pkg/data/large.bin >/dev/null")
	waits := exec.Command("stat", filepath.Join(w.Dir, "waits"))
	if err := waits.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := waits.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = waits.Wait() // it was killed
	}()
	eventually(t, testContext(t), func() string {
		s := status(t, w)
		if len(s.InFlight) != 1 {
			return "nothing is in flight"
		}
		if f := s.InFlight[0]; f.Op != "LOOKUP" || f.PID != waits.Process.Pid || f.Age < 1000 || !strings.HasSuffix(f.Path, "waits") {
			t.Errorf("in flight: %+v", f)
		}
		return ""
	})
	s := status(t, w)
	if s.BytesRead < 6<<20 || s.Latency["READ"].N == 0 || s.Latency["READ"].P99 < s.Latency["READ"].P50 || s.Latency["READ"].P50 <= 0 {
		t.Errorf("%d bytes, %+v", s.BytesRead, s.Latency)
	}
	if s.Memory.Supervisor < 1<<20 || s.Memory.Worker < 1<<20 || s.Memory.Companion != 0 {
		t.Errorf("memory %+v", s.Memory)
	}
	if s.Rung != mount.RungMount || !s.Resend {
		t.Errorf("rung %q, resend %v", s.Rung, s.Resend)
	}
}

// A worker serves on when its supervisor is killed, and the next command that
// comes finds the mount as it was.
func TestSupervisorKilled(t *testing.T) {
	kill := func(t *testing.T, w mount.Want) mount.Status {
		t.Helper()
		s := status(t, w)
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, testContext(t), func() string {
			if alive(s.PID) {
				return "the supervisor is alive"
			}
			return ""
		})
		dropCaches(t, w)
		if b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil || string(b) != "x = 1\n" {
			t.Errorf("without a supervisor: %q, %v", b, err)
		}
		return s
	}
	check := func(t *testing.T, w mount.Want, old mount.Status) {
		t.Helper()
		s := status(t, w)
		if s.PID == old.PID || s.WorkerPID == old.WorkerPID {
			t.Errorf("supervisor %d, worker %d, want others than %d and %d", s.PID, s.WorkerPID, old.PID, old.WorkerPID)
		}
		eventually(t, testContext(t), func() string {
			if alive(old.WorkerPID) {
				return fmt.Sprintf("worker %d is left", old.WorkerPID)
			}
			return ""
		})
		if s.Restarts != old.Restarts+1 || s.Requests["INIT"] != 1 {
			t.Errorf("%d restarts, %d INITs: the counters are lost", s.Restarts, s.Requests["INIT"])
		}
		dropCaches(t, w)
		if b, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil || string(b) != "x = 1\n" {
			t.Errorf("with the next: %q, %v", b, err)
		}
	}
	t.Run("a lease", func(t *testing.T) {
		w := newWant(t, serverConfig{})
		lease(t, w)
		f, err := os.Open(filepath.Join(w.Dir, "hello.py"))
		if err != nil {
			t.Fatal(err)
		}
		old := kill(t, w)
		l := lease(t, w)
		check(t, w, old)
		next := status(t, w).PID
		f.Close()
		l.Close()
		checkGone(t, w, next)
	})
	t.Run("status of a held mount", func(t *testing.T) {
		w := newWant(t, serverConfig{})
		if err := mount.Hold(testContext(t), w); err != nil {
			t.Fatal(err)
		}
		old := kill(t, w)
		s, err := mount.Look(testContext(t), w.Dir)
		if err != nil || s.State != mount.StateHeld {
			t.Errorf("%s, %v, want it held", s.State, err)
		}
		check(t, w, old)
	})
	t.Run("unmount", func(t *testing.T) {
		w := newWant(t, serverConfig{})
		lease(t, w)
		old := kill(t, w)
		if err := mount.Unmount(testContext(t), w.Dir, false); err != nil {
			t.Error(err)
		}
		checkGone(t, w, old.WorkerPID)
	})
	t.Run("again and again", func(t *testing.T) {
		w := newWant(t, serverConfig{})
		if err := mount.Hold(testContext(t), w); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			check(t, w, kill(t, w))
		}
	})
	t.Run("the next can't", func(t *testing.T) {
		refuse := filepath.Join(t.TempDir(), "refuse")
		w := newWant(t, serverConfig{Refuse: refuse})
		if err := mount.Hold(testContext(t), w); err != nil {
			t.Fatal(err)
		}
		old := kill(t, w)
		if err := os.WriteFile(refuse, []byte("the store is away"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := mount.Look(testContext(t), w.Dir); err == nil || !strings.Contains(err.Error(), "the store is away") {
			t.Errorf("%v, want the reason", err)
		}
		dropCaches(t, w)
		if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
			t.Error(err)
		}
		if err := os.Remove(refuse); err != nil {
			t.Fatal(err)
		}
		check(t, w, old)
	})
}

func reload(t *testing.T, w mount.Want) error {
	t.Helper()
	c, err := mount.Dial(testContext(t), w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Reload(testContext(t))
}

// Processes that read do not notice that another program serves.
func TestReload(t *testing.T) {
	src := source(t)
	w := newWant(t, serverConfig{Source: src})
	l := lease(t, w)
	beside := exec.Command("sh", "-c", `for i in 1 2 3 4 5; do diff -r "$0" "$1" || exit 1; done`,
		filepath.Join(src, "lib/pkg"), filepath.Join(w.Dir, "lib/pkg"))
	if err := beside.Start(); err != nil {
		t.Fatal(err)
	}
	first := status(t, w)
	for n := range int64(3) {
		old := status(t, w)
		dropCaches(t, w)
		if err := reload(t, w); err != nil {
			t.Fatal(err)
		}
		s := status(t, w)
		if s.PID != first.PID || s.WorkerPID == old.WorkerPID || alive(old.WorkerPID) || len(s.Leases) != 1 || s.State != mount.StateUsed {
			t.Errorf("%+v, before %+v", s, old)
		}
		if s.Restarts != n+1 || s.LastRestarts[n].Reason != "reload" || s.Requests["LOOKUP"] < old.Requests["LOOKUP"] {
			t.Errorf("%d restarts, %+v, %v", s.Restarts, s.LastRestarts, s.Requests)
		}
	}
	if err := beside.Wait(); err != nil {
		t.Error(err)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", first.PID))
	if err != nil || !strings.Contains(string(env), "SITEFS_SERVER_STAGE=replaced-") {
		t.Errorf("the supervisor is the old program: %q, %v", env, err)
	}
	l.Close()
	checkGone(t, w, first.PID)
}

func TestReloadKeepsTheCompanion(t *testing.T) {
	w, starts := companionWant(t, "starts")
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	r, _ := companionOf(t, w)
	if err := reload(t, w); err != nil {
		t.Fatal(err)
	}
	if alive(r.PID) {
		t.Error("the companion of the old supervisor is left")
	}
	if s := status(t, w); s.State != mount.StateHeld {
		t.Errorf("the mount is %s, want it held", s.State)
	}
	if again, _ := companionOf(t, w); again.PID == r.PID {
		t.Error("it answers after its end")
	}
	if b, err := os.ReadFile(starts); err != nil || strings.Count(string(b), "started") != 2 {
		t.Errorf("%q, %v, want two starts", b, err)
	}
}

func TestReloadRefused(t *testing.T) {
	refuse := filepath.Join(t.TempDir(), "refuse")
	w := newWant(t, serverConfig{Refuse: refuse})
	lease(t, w)
	old := status(t, w)
	if err := os.WriteFile(refuse, []byte("the store is of another version"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reload(t, w); err == nil || !strings.Contains(err.Error(), "of another version") {
		t.Errorf("%v, want the reason", err)
	}
	if s := status(t, w); s.PID != old.PID || s.WorkerPID != old.WorkerPID || s.Restarts != 0 {
		t.Errorf("%+v, before %+v", s, old)
	}
	dropCaches(t, w)
	if _, err := os.ReadFile(filepath.Join(w.Dir, "hello.py")); err != nil {
		t.Error(err)
	}
}

// Who wants a mount that somebody has just unmounted waits for the end of its server,
// who need not know yet.
func TestUnmountedAMomentAgo(t *testing.T) {
	w := newWant(t, serverConfig{})
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	pid := worker(t, w, 0)
	c, err := mount.Dial(testContext(t), w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // so that its end tells nobody
		t.Fatal(err)
	}
	if err := unix.Unmount(w.Dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Hold(testContext(t), w.Tree); !errors.Is(err, mount.ErrNotMounted) {
		t.Errorf("%v, want %v", err, mount.ErrNotMounted)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Error(err)
	}
}
