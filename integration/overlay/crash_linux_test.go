package overlay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/faults"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// every thins the crash tests out: each kill takes its time.
var every = flag.Int("every", 8, "interrupt in front of each `N`-th system call only; 1 is the long form")

// mutations are the ops that are interrupted, each in a folder as start says.
var mutations = []op{
	{Kind: "create", A: "a/e", M: 100},
	{Kind: "append", A: "a/b/d", N: 1, M: 1000}, // within a page: it is one request
	{Kind: "overwrite", A: "a/b/d", N: 1, M: 100},
	{Kind: "truncate", A: "a/b/d", N: 77},
	{Kind: "chmod", A: "a/a", N: 1},
	{Kind: "utimes", A: "a/a", N: 1},
	{Kind: "setxattr", A: "a/a", M: 1},
	{Kind: "mkdir", A: "a/b/e"},
	{Kind: "symlink", A: "x", B: "a/b/e"},
	{Kind: "fifo", A: "a/b/e"},
	{Kind: "link", A: "a/a", B: "b/e"},
	{Kind: "unlink", A: "a/b/c"},
	{Kind: "rename", A: "a/a", B: "b/e"},
	{Kind: "rename", A: "a/a", B: "b/d/a"},
	{Kind: "rename", A: "a/b", B: "b/b"},
	{Kind: "exchange", A: "a/a", B: "b/d/e/a"},
	{Kind: "exchange", A: "a/b", B: "b/d"},
	{Kind: "exchange", A: "c", B: "b"},
}

// made are the ops that follow once: what was changed before is interrupted too.
var made = []op{
	{Kind: "rename", A: "b/b", B: "e"},
	{Kind: "exchange", A: "a/c", B: "b/a"},
	{Kind: "rm -r", A: "a"},
}

// An injected overlay's servers ask a test before each of their calls that changes
// something in the upper directory.
type injected struct {
	*overlay
	plain string
	next  int
	ended chan struct{} // closed when the servers have ended

	mu     sync.Mutex
	answer func(faults.Call) faults.Answer // nil: let be
}

func newInjected(t *testing.T) *injected {
	t.Helper()
	sandbox.NeedRoot(t, "to have servers without new privileges mount")
	o := &injected{overlay: newOverlay(t, 0, numbered("model", folders, start)), plain: t.TempDir()}
	o.mount(t)
	t.Cleanup(o.stop(t))
	return o
}

// mount mounts the overlay by servers that ask.
func (o *injected) mount(t *testing.T) {
	t.Helper()
	c := o.Command(context.Background(), o.Dir, o.words()...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		faults.Run(context.Background(), c, []string{o.upper}, o.ask) // the error is the command's, which the wait below sees fail
	}()
	o.ended = ended
	// The command itself is waited for when the servers have ended.
	sandbox.Eventually(t, func() string {
		running, err := sandbox.Processes()
		if err != nil {
			return err.Error()
		}
		mounting, serving := false, false
		for _, p := range running {
			mounting = mounting || p.Is("mount") && slices.Contains(p.Argv, o.venv)
			serving = serving || p.Is("mount-worker") && strings.Contains(strings.Join(p.Argv, " "), o.Dir)
		}
		if mounting || !serving {
			return fmt.Sprintf("a command mounts: %v, a worker serves: %v", mounting, serving)
		}
		_, err = os.Stat(o.site)
		if err != nil {
			return err.Error()
		}
		return ""
	})
	// The first that polls a file of the mount, which opening does in Go, has to ask the
	// servers; the kernel remembers the answer. The runtime does it in a way that no
	// collection can go by, and then nobody here would listen to the servers: so another
	// process is the first.
	o.Must(t, filepath.Join(o.venv, "bin", "python"), "-c", "import select, sys; select.epoll().register(open(sys.argv[1]))", filepath.Join(o.venv, "pyvenv.cfg"))
	// From here on an operation makes no folders but those that are its own.
	w := newWorld(filepath.Join(o.site, "model"))
	for _, kind := range []string{"create", "unlink"} {
		if said := w.do(op{Kind: kind, A: "warm"}); !strings.HasPrefix(said, "ok") {
			t.Fatalf("after mounting: %s answers %s", kind, said)
		}
	}
}

// stop ends the servers, and with them who listens to them.
func (o *injected) stop(t *testing.T) func() {
	return func() {
		o.set(nil)
		o.killAll(t)
		o.Run(t, "sitefs", "umount", "--detach", o.venv)
		<-o.ended
	}
}

func (o *injected) set(answer func(faults.Call) faults.Answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

func (o *injected) ask(c faults.Call) faults.Answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answer == nil {
		return faults.Answer{}
	}
	return o.answer(c)
}

// worlds returns a folder of the overlay that nothing was done in, and a plain one
// like it.
func (o *injected) worlds(t *testing.T) (over, plain *world) {
	t.Helper()
	name := fmt.Sprintf("%04d", o.next)
	o.next++
	over, plain = newWorld(filepath.Join(o.site, "model", name)), newWorld(filepath.Join(o.plain, name))
	for name, content := range start {
		path := plain.path(name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return over, plain
}

// tree reads a tree that must be readable. Times are left out: they tell when, not
// what.
func tree(t *testing.T, w *world) map[string]file {
	t.Helper()
	read, err := readTree(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range read {
		f.mtime = time.Time{}
		read[name] = f
	}
	return read
}

// differs is difference without times.
func differs(got, want map[string]file) string { return difference(got, want, time.Time{}) }

// sequences are what is interrupted: the last op of each.
func sequences() [][]op {
	var all [][]op
	for _, m := range mutations {
		all = append(all, []op{m})
	}
	before := []op{{Kind: "rename", A: "a/b", B: "b/b"}, {Kind: "append", A: "a/a", N: 1, M: 50}, {Kind: "append", A: "b/a", N: 1, M: 50}}
	for _, m := range made {
		all = append(all, append(slices.Clone(before), m))
	}
	return all
}

// calls returns which calls the last op of a sequence has the servers make.
func (o *injected) calls(t *testing.T, sequence []op) []faults.Call {
	t.Helper()
	over, _ := o.worlds(t)
	last := len(sequence) - 1
	for _, op := range sequence[:last] {
		over.do(op)
	}
	var calls []faults.Call
	o.set(func(c faults.Call) faults.Answer {
		calls = append(calls, c)
		return faults.Answer{}
	})
	defer o.set(nil)
	if said := over.do(sequence[last]); !strings.HasPrefix(said, "ok") {
		t.Fatalf("%v: %s", sequence[last], said)
	}
	return calls
}

// interrupt does a sequence in both worlds, and has its last op meet an answer in
// front of its n-th call. It returns what the overlay answered, its tree, and how
// the plain one was before and after.
func (o *injected) interrupt(t *testing.T, sequence []op, n int, answer func() faults.Answer) (said string, over *world, before, after map[string]file) {
	t.Helper()
	over, plain := o.worlds(t)
	last := len(sequence) - 1
	for _, op := range sequence[:last] {
		if got, want := over.do(op), plain.do(op); got != want {
			t.Fatalf("%v answers %q, want %q", op, got, want)
		}
	}
	before = tree(t, plain)
	if said := plain.do(sequence[last]); !strings.HasPrefix(said, "ok") {
		t.Fatalf("%v: %s", sequence[last], said)
	}
	after = tree(t, plain)
	seen := 0
	o.set(func(faults.Call) faults.Answer {
		if seen++; seen == n {
			return answer()
		}
		return faults.Answer{}
	})
	said = over.do(sequence[last])
	o.set(nil)
	return said, over, before, after
}

// A worker that is killed in front of any call of a mutation has another finish it:
// nobody notices.
func TestKillWorker(t *testing.T) {
	o := newInjected(t)
	for i, sequence := range sequences() {
		last := sequence[len(sequence)-1]
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			calls := o.calls(t, sequence)
			for n := range calls {
				if (n+i)%*every != 0 {
					continue
				}
				said, over, _, after := o.interrupt(t, sequence, n+1, func() faults.Answer {
					o.killWorker(t)
					return faults.Answer{}
				})
				if !strings.HasPrefix(said, "ok") {
					t.Errorf("a kill in front of call %d, %v: answers %q", n+1, calls[n], said)
				}
				if d := differs(tree(t, over), after); d != "" {
					t.Errorf("a kill in front of call %d, %v: %s", n+1, calls[n], d)
				}
			}
			o.restart(t)
		})
	}
}

// restart mounts the overlay anew, and empty when its folders are used up.
func (o *injected) restart(t *testing.T) {
	t.Helper()
	o.umount(t)
	<-o.ended
	if o.next > folders/2 {
		o.next = 0
		if err := errors.Join(os.RemoveAll(o.upper), os.RemoveAll(o.plain), os.Mkdir(o.plain, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	o.mount(t)
}

// When everything is killed in front of any call of a mutation, the next mount shows
// the tree from before it or from after it.
func TestKillAll(t *testing.T) {
	o := newInjected(t)
	for i, sequence := range sequences() {
		last := sequence[len(sequence)-1]
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			calls := o.calls(t, sequence)
			for n := range calls {
				if (n+i)%*every != 0 {
					continue
				}
				killed := false
				_, over, before, after := o.interrupt(t, sequence, n+1, func() faults.Answer {
					killed = true
					o.killAll(t)
					return faults.Answer{}
				})
				if !killed {
					continue // it can do with a call less where the one before has been
				}
				<-o.ended
				o.mount(t)
				got := tree(t, over)
				was, is := differs(got, before), differs(got, after)
				if was != "" && is != "" && !partly(last, got, before, after) {
					t.Errorf("a kill in front of call %d, %v: from before: %s; from after: %s", n+1, calls[n], was, is)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

// partly reports whether an op that is several calls of its program's may have been
// done in part: files are made and written, folders are removed one file after the
// other.
func partly(o op, got, before, after map[string]file) bool {
	switch o.Kind {
	case "create", "overwrite":
		f, ok := got[o.A]
		if !ok || f.size != 0 {
			return false
		}
		delete(got, o.A)
		delete(before, o.A)
		return differs(got, before) == ""
	case "rm -r":
		for name := range got {
			if _, ok := before[name]; !ok {
				return false
			}
		}
		for name := range after {
			if _, ok := got[name]; !ok {
				return false
			}
		}
		return true
	}
	return false
}

// A disk that is full or broken is told, and leaves what was there: the error of any
// call reaches who asked, and the tree is that from before.
func TestErrors(t *testing.T) {
	o := newInjected(t)
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO}
	for i, sequence := range sequences() {
		last := sequence[len(sequence)-1]
		t.Run(fmt.Sprint(last), func(t *testing.T) {
			calls := o.calls(t, sequence)
			for n := range calls {
				if (n+i)%*every != 0 {
					continue
				}
				errno := errnos[n%len(errnos)]
				said, over, before, after := o.interrupt(t, sequence, n+1, func() faults.Answer { return faults.Answer{Errno: errno} })
				got := tree(t, over)
				switch {
				case strings.HasPrefix(said, "ok"): // a call that it can do without
					if d := differs(got, after); d != "" {
						t.Errorf("%v at call %d, %v, is told to nobody: %s", errno, n+1, calls[n], d)
					}
				case said != unix.ErrnoName(errno):
					t.Errorf("%v at call %d, %v, is told as %q", errno, n+1, calls[n], said)
				default:
					if d := differs(got, before); d != "" && !partly(last, got, before, after) {
						t.Errorf("%v at call %d, %v: %s", errno, n+1, calls[n], d)
					}
				}
			}
			o.restart(t)
		})
	}
}

// An upper directory on a disk that fills up says so, keeps what is there, and
// takes more as soon as there is room.
func TestFull(t *testing.T) {
	o := newOverlay(t, 0, numbered("model", 1, start))
	o.upper = filepath.Join(sandbox.Tmpfs(t, "2m"), "upper")
	o.mount(t)
	t.Cleanup(func() { o.umount(t) }) // before the disk
	dir := filepath.Join(o.site, "model/0000")
	filler, err := os.Create(filepath.Join(o.venv, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	chunk := make([]byte, 4096)
	for err == nil {
		_, err = filler.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v, want ENOSPC", err)
	}
	w := newWorld(dir)
	for _, m := range []op{{Kind: "append", A: "a/b/d", N: 1, M: 50}, {Kind: "link", A: "a/b/d", B: "e"}} {
		if said := w.do(m); said != "ENOSPC" {
			t.Errorf("%v on a full disk: %s, want ENOSPC", m, said)
		}
	}
	if got, err := os.ReadFile(w.path("a/b/d")); err != nil || string(got) != start["a/b/d"] {
		t.Errorf("a file that could not be changed holds %.40q, %v", got, err)
	}
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
	for _, m := range []op{{Kind: "append", A: "a/b/d", N: 1, M: 50}, {Kind: "link", A: "a/b/d", B: "e"}} {
		if said := w.do(m); said != "ok " {
			t.Errorf("%v with room again: %s", m, said)
		}
	}
}

// What fsync has returned for is there after everything was killed.
func TestSynced(t *testing.T) {
	o := newOverlay(t, 0, numbered("model", 1, start))
	o.mount(t)
	dir := filepath.Join(o.site, "model/0000")
	for _, name := range []string{"new", "a/b/d"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("synced")
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	o.killAll(t)
	o.mount(t)
	for _, name := range []string{"new", "a/b/d"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != "synced" {
			t.Errorf("%s holds %q, %v, want what was synced", name, got, err)
		}
	}
}

// A file that was open and had no name when everything was killed is gone, and its
// space is given back.
func TestOrphans(t *testing.T) {
	o := newOverlay(t, 0, numbered("model", 1, start))
	o.mount(t)
	f, err := os.OpenFile(filepath.Join(o.site, "model/0000/a/b/d"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("changed")
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	orphans := func() string {
		found, err := filepath.Glob(filepath.Join(o.upper, ".wh..wh.sitefs/orphans/*"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(found, " ")
	}
	if orphans() == "" {
		t.Error("a file that is open was not kept when its name was removed")
	}
	o.killAll(t)
	f.Close()
	o.mount(t)
	if left := orphans(); left != "" {
		t.Errorf("after the next mount there are %s", left)
	}
	f, err = os.Create(filepath.Join(o.site, "model/0000/new"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	f.Close()
	sandbox.Eventually(t, orphans)
}
