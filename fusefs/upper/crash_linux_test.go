package upper

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A scenario is a mutation of the directory that populate makes.
type scenario struct {
	name  string
	user  bool // as an ordinary user, who is bound by modes
	steps func(t testing.TB, d *Dir) []Step
}

// A fault has the steps fail from one on: not at all if it is negative.
const noFault = -1

var scenarios = []scenario{
	{name: "create", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{
			MakeDir("new", 0o750).KeepTime(), MakeDir("new/deeper", 0o700).Mtime(Time{42, 7}),
			MakeFile("new/deeper/f", 0o4755), MakeNode("new/p", unix.S_IFIFO|0o640),
		}
	}},
	{name: "exchange at once", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Exchange("a", "dir"), MakeFile("new", 0o600)}
	}},
	{name: "exchange where it can't be at once", steps: func(t testing.TB, d *Dir) []Step {
		d.renameExchange = func(int, string, int, string) error { return unix.EINVAL }
		return []Step{Exchange("a", "dir").KeepTime(), MakeFile("new", 0o600)}
	}},
	{name: "replace by exchange", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Exchange("a", "b"), Move("a", OrphanPath(NodeID(77))), whiteoutStep(t, d, ".", "a"), Exchange("dir/c", "b")}
	}},
	{name: "exchange", steps: func(t testing.TB, d *Dir) []Step {
		aside := d.TrashPath()
		return []Step{Move("a", aside), Move("dir", "a"), Move(aside, "dir")}
	}},
	{name: "replace", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Move("b", OrphanPath(NodeID(77))), Move("a", "b"), whiteoutStep(t, d, ".", "a")}
	}},
	{name: "unlink", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Move("dir/full", d.TrashPath()), whiteoutStep(t, d, "dir", "full")}
	}},
	{name: "long whiteout", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Move("a", d.TrashPath()), whiteoutStep(t, d, ".", strings.Repeat("n", 255))}
	}},
	{name: "link", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Hardlink("a", "dir/again"), Hardlink("a", "third")}
	}},
	{name: "copy up", steps: func(t testing.TB, d *Dir) []Step {
		fd, staged, err := d.StageFile(0o444)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, []byte("copied")); err != nil {
			t.Fatal(err)
		}
		return []Step{MakeDir("pkg", 0o755).KeepTime(), Move(staged, "pkg/data").KeepTime()}
	}},
	{name: "record", steps: func(t testing.TB, d *Dir) []Step {
		mode := uint32(0o600)
		staged, err := d.StageRecord(Record{Name: "a", Lower: "x/y", Mode: &mode})
		if err != nil {
			t.Fatal(err)
		}
		at := RecordPath("dir", "a")
		return []Step{Move(at, d.TrashPath()).KeepTime(), Move(staged, at).KeepTime()}
	}},
	{name: "rename a directory", steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Move("dir/full", "full").KeepTime(), whiteoutStep(t, d, "dir", "full"), Move("full/deep", "deep"), Move("a", "full/a")}
	}},
	{name: "exchange of forbidden directories", user: true, steps: func(t testing.TB, d *Dir) []Step {
		return []Step{Exchange("shut/in", "dir/full"), Exchange("a", "dir/full/g"), MakeFile("shut/in/f", 0o444)}
	}},
	{name: "forbidden directory", user: true, steps: func(t testing.TB, d *Dir) []Step {
		return []Step{MakeFile("shut/in/f", 0o444), Move("shut/in/g", "g"), Move("shut/in", d.TrashPath())}
	}},
}

func whiteoutStep(t testing.TB, d *Dir, dir, name string) Step {
	s, err := d.Whiteout(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// epoch is the time of all that populate makes.
var epoch = time.Unix(1e9, 1)

// populate makes a directory to change.
func populate(t *testing.T, user bool) string {
	t.Helper()
	dir := filepath.Join(publicDir(t), "upper")
	if err := os.MkdirAll(filepath.Join(dir, sideDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "dir/c", "dir/full/d", "dir/full/deep/e", "dir/" + filepath.Base(RecordPath("", "a")), "shut/in/g"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	walk(t, dir, func(name string, _ fs.FileInfo) { names = append(names, name) })
	names = append(names, sideDir)
	for _, name := range names {
		if err := os.Chtimes(filepath.Join(dir, name), epoch, epoch); err != nil {
			t.Fatal(err)
		}
		if user && os.Getuid() == 0 {
			if err := os.Lchown(filepath.Join(dir, name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	if user {
		for _, name := range []string{"shut/in", "shut"} {
			if err := os.Chmod(filepath.Join(dir, name), 0o111); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// publicDir returns a temporary directory that every user can reach, which
// t.TempDir's is not.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "upper")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		chmodAll(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// chmodAll lets an ordinary user remove what a test has shut.
func chmodAll(dir string) {
	_ = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return err
	})
}

// walk visits all of the upper but its side area. What it may not enter it opens
// meanwhile.
func walk(t *testing.T, dir string, visit func(name string, info fs.FileInfo)) {
	t.Helper()
	shut := make(map[string]fs.FileMode)
	defer func() {
		for _, p := range slices.Backward(slices.Sorted(maps.Keys(shut))) { // what is below first
			if err := os.Chmod(p, shut[p]); err != nil {
				t.Error(err)
			}
		}
	}()
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if name == sideDir {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		visit(name, info)
		if info.IsDir() && info.Mode()&0o700 != 0o700 {
			shut[p] = info.Mode()
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// state describes an upper: types, modes, links and content of all in it, orphans
// too, and with times which times are as they were.
func state(t *testing.T, dir string, times bool) map[string]string {
	t.Helper()
	all := make(map[string]string)
	describe := func(name string, info fs.FileInfo) {
		st := info.Sys().(*syscall.Stat_t)
		s := fmt.Sprint(info.Mode())
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			s += fmt.Sprintf(" %q %d links", b, st.Nlink)
		}
		if times && info.ModTime().Equal(epoch) {
			s += " old"
		}
		all[name] = s
	}
	walk(t, dir, describe)
	orphans, err := os.ReadDir(filepath.Join(dir, orphansDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, o := range orphans {
		info, err := o.Info()
		if err != nil {
			t.Fatal(err)
		}
		describe(orphansDir+"/"+o.Name(), info)
	}
	return all
}

func sameState(t *testing.T, what string, have, want map[string]string) {
	t.Helper()
	for _, name := range differing(have, want) {
		t.Errorf("%s: %q is %q, want %q", what, name, have[name], want[name])
	}
}

func differing(a, b map[string]string) []string {
	var names []string
	for name := range a {
		if a[name] != b[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// nobody is an ordinary user.
const nobody = 65534

// asUser makes this goroutine's thread an ordinary user's until the test ends.
func asUser(t testing.TB) {
	if os.Getuid() != 0 {
		return
	}
	runtime.LockOSThread()
	setEUID(t, nobody)
	t.Cleanup(func() { setEUID(t, 0); runtime.UnlockOSThread() })
}

// setEUID changes the thread alone: unix.Setresuid would change them all.
func setEUID(t testing.TB, uid int) {
	keep := ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); e != 0 {
		t.Fatal(e)
	}
}

// mutationID is the FUSE request that the scenarios answer.
const mutationID = 4242

// failAfter returns a hook that fails the given step, and calls die at the n-th
// moment.
func failAfter(fault, n int, die func()) func(string) error {
	return func(moment string) error {
		if n == 0 {
			die()
		}
		n--
		if moment == "before "+strconv.Itoa(fault) {
			return unix.ENOSPC
		}
		return nil
	}
}

// TestChild is what the crash tests run: it opens a directory and mutates it, and
// dies at a moment.
func TestChild(t *testing.T) {
	args := strings.Fields(os.Getenv("UPPER_TEST_CHILD"))
	if len(args) != 5 {
		t.Skip("runs as the child of other tests")
	}
	dir := args[0]
	number, _ := strconv.Atoi(args[1])
	fault, _ := strconv.Atoi(args[2])
	moment, _ := strconv.Atoi(args[3])
	recovery, _ := strconv.Atoi(args[4])
	s := scenarios[number]
	if s.user {
		asUser(t)
	}
	kill := func() {
		if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {} // until the signal is here
	}
	hook := failAfter(noFault, recovery, kill)
	d, err := Open(dir, Options{Area: mapArea(t, dir), At: func(m string) { _ = hook(m) }})
	if err != nil {
		t.Fatal(err)
	}
	if moment >= 0 {
		d.hook = nil
		steps := s.steps(t, d)
		d.hook = failAfter(fault, moment, kill)
		err = d.Do(mutationID, func() uint64 { return 99 }, steps...)
		if fault == noFault && err != nil || fault != noFault && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	os.Exit(0) // a process that ends without Close, but alive
}

// mapArea maps the memory of a mount, here a file beside the directory.
func mapArea(t *testing.T, dir string) []byte {
	t.Helper()
	f, err := os.OpenFile(dir+".area", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(AreaSize); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, AreaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runChild runs TestChild and reports whether it was killed.
func runChild(t *testing.T, dir string, scenario, fault, moment, recovery int) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("UPPER_TEST_CHILD=%s %d %d %d %d", dir, scenario, fault, moment, recovery))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return false
}

// openArea prepares what asUser's child needs to open too.
func openArea(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Munmap(mapArea(t, dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+".area", 0o666); err != nil {
		t.Fatal(err)
	}
}

// reopen opens the directory as a successor in the session does, and returns how
// the request ended.
func reopen(t *testing.T, dir string, user bool) (r Result, ok bool) {
	t.Helper()
	done := make(chan struct{})
	go func() { // asUser is the thread's for the life of a test
		defer close(done)
		if user && os.Getuid() == 0 {
			runtime.LockOSThread() // never unlocked: the thread ends
			setEUID(t, nobody)
		}
		area := mapArea(t, dir)
		defer func() { _ = unix.Munmap(area) }()
		d, err := Open(dir, Options{Area: area})
		if err != nil {
			t.Error(err)
			return
		}
		r, ok = d.Done(mutationID)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-done
	return r, ok
}

// done returns the state after a scenario that nobody kills.
func done(t *testing.T, number int) map[string]string {
	t.Helper()
	user := scenarios[number].user
	dir := populate(t, user)
	openArea(t, dir)
	runChild(t, dir, number, noFault, 1000, 1000)
	reopen(t, dir, user)
	return state(t, dir, true)
}

// TestKill kills a process at every moment of every scenario: what the successor
// finds is the state before or after, and the answer to the request says which.
func TestKill(t *testing.T) {
	for number, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want := done(t, number)
			for moment := 0; ; moment++ {
				dir := populate(t, s.user)
				openArea(t, dir)
				before := state(t, dir, true)
				killed := runChild(t, dir, number, noFault, moment, 1000)
				r, ok := reopen(t, dir, s.user)
				have := state(t, dir, true)
				what := fmt.Sprintf("killed at moment %d", moment)
				if ok {
					if r.Errno != 0 {
						t.Errorf("%s: the result is %v", what, r.Errno)
					}
					sameState(t, what, have, want)
				} else {
					sameState(t, what, have, before)
				}
				checkTmp(t, dir)
				if !killed {
					if moment < 2*len(s.steps(t, open(t, populate(t, false), Options{}))) {
						t.Errorf("there were %d moments only", moment)
					}
					return
				}
			}
		})
	}
}

// TestKillUndo kills a process at every moment of a mutation whose last step
// fails: all is as before.
func TestKillUndo(t *testing.T) {
	for number, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for moment := 0; ; moment++ {
				dir := populate(t, s.user)
				openArea(t, dir)
				before := state(t, dir, false)
				steps := len(s.steps(t, open(t, populate(t, false), Options{})))
				killed := runChild(t, dir, number, steps-1, moment, 1000)
				r, ok := reopen(t, dir, s.user)
				if ok && r.Errno == 0 {
					// Killed before the step failed: nothing fails the successor's.
					if have := state(t, dir, false); maps.Equal(have, before) {
						t.Errorf("killed at moment %d: said to be done, and nothing has changed", moment)
					}
				} else {
					sameState(t, fmt.Sprintf("killed at moment %d, result %v", moment, r.Errno), state(t, dir, false), before)
				}
				if !killed {
					if !ok || r.Errno != unix.ENOSPC {
						t.Errorf("result %v, %v, want ENOSPC", r, ok)
					}
					return
				}
			}
		})
	}
}

// TestKillRecovery kills the successor too, at every moment of what it finishes.
func TestKillRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundred processes")
	}
	for number, s := range scenarios {
		if !strings.HasPrefix(s.name, "exchange") && s.name != "forbidden directory" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			want := done(t, number)
			for moment := 1; ; moment++ {
				for recovery := 0; ; recovery++ {
					dir := populate(t, s.user)
					openArea(t, dir)
					if !runChild(t, dir, number, noFault, moment, 1000) {
						return
					}
					killed := runChild(t, dir, number, noFault, -1, recovery)
					reopen(t, dir, s.user)
					sameState(t, fmt.Sprintf("killed at moment %d and in recovery at %d", moment, recovery), state(t, dir, true), want)
					if !killed {
						break
					}
				}
			}
		})
	}
}

// checkTmp finds what should have been removed.
func checkTmp(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(dir, tmpDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("%s is left in tmp/", e.Name())
	}
}
