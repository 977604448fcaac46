package overlay

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/posix"
	"github.com/sitefs/sitefs/integration/sandbox"
)

var (
	runs   = flag.Int("runs", 12, "have TestModel do `N` sequences for each user")
	length = flag.Int("length", 150, "have each sequence of TestModel be `N` operations long")
)

// folders is how many sequences one mount is for: each has a folder of the lower
// layer for itself.
const folders = 300

// events are what happens between operations; "kill during" happens while the next
// one is done. Who has files open keeps them, but for those that end the mount.
var events = map[string]struct {
	ends bool
	do   func(t *testing.T, o *overlay)
}{
	"drop names":  {false, func(t *testing.T, o *overlay) { o.dropNames(t) }},
	"kill worker": {false, func(t *testing.T, o *overlay) { o.killWorker(t) }},
	"kill during": {false, nil},
	"reload":      {false, func(t *testing.T, o *overlay) { o.Must(t, "sitefs", "reload", o.venv) }},
	"remount":     {true, func(t *testing.T, o *overlay) { o.remount(t) }},
	"kill all": {true, func(t *testing.T, o *overlay) {
		o.killAll(t)
		o.mount(t)
	}},
}

// A model is an overlay beside plain folders, in which the same is done.
type model struct {
	t     *testing.T
	o     *overlay
	uid   int
	plain string // holds the plain folders
	next  int    // the folder of the lower layer to use next
}

// Whatever is done in an overlay, its tree is what it would be in a plain folder.
func TestModel(t *testing.T) {
	t.Logf("-seed %d", *seed)
	users(t, func(t *testing.T, uid int) {
		m := &model{t: t, o: newOverlay(t, uid, numbered("model", folders, start)), uid: uid, plain: t.TempDir()}
		if err := errors.Join(openWay(m.plain), os.Chown(m.plain, uid, uid)); err != nil {
			t.Fatal(err)
		}
		m.o.mount(t)
		for i := range *runs {
			r := rand.New(rand.NewPCG(*seed, uint64(i)))
			sequence := withEvents(r, randomOps(r, *length))
			if err := m.run(sequence); err != nil {
				t.Errorf("-seed %d, run %d: %v", *seed, i, err)
				m.shrink(sequence)
				return
			}
		}
	})
}

// Many who work at once, each in a folder of their own, don't disturb each other,
// and no worker that is killed meanwhile disturbs them.
func TestParallel(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	t.Logf("-seed %d", *seed)
	const workers = 6
	m := &model{t: t, o: newOverlay(t, 0, numbered("model", workers, start)), plain: t.TempDir()}
	m.o.mount(t)
	ended := make(chan error)
	for i := range workers {
		p := m.pair(i)
		sequence := randomOps(rand.New(rand.NewPCG(*seed, uint64(i))), 2**length)
		go func() { ended <- p.run(sequence) }()
	}
	for range workers {
		if err := <-ended; err != nil {
			t.Errorf("-seed %d: %v", *seed, err)
		}
		m.o.killWorker(t)
	}
}

// found are sequences that TestModel has found to go wrong once, and their like.
var found = map[string][]op{
	"a lower file is unlinked over a takeover": {
		{Kind: "open", A: "c"}, {Kind: "unlink", A: "c"}, {Kind: "kill during"}, {Kind: "stat open"}, {Kind: "read open"},
		{Kind: "write open", M: 30}, {Kind: "stat open"}, {Kind: "read open"}, {Kind: "list", A: "."}, {Kind: "remount"},
	},
	"a lower file in a removed folder over a takeover": {
		{Kind: "open", A: "b/d/e/a"}, {Kind: "rm -r", A: "b"}, {Kind: "kill worker"}, {Kind: "stat open"}, {Kind: "read open"},
		{Kind: "truncate open", N: 3}, {Kind: "read open"}, {Kind: "stat open"}, {Kind: "mkdir", A: "b"}, {Kind: "list", A: "b"}, {Kind: "remount"},
	},
	"a lower file is replaced over a takeover": {
		{Kind: "open", A: "c"}, {Kind: "rename", A: "d", B: "c"}, {Kind: "kill worker"}, {Kind: "stat open"}, {Kind: "write open", M: 30},
		{Kind: "read open"}, {Kind: "read", A: "c"}, {Kind: "remount"},
	},
	"a lower file is renamed over a takeover": {
		{Kind: "open", A: "a/b/c"}, {Kind: "rename", A: "a/b", B: "e"}, {Kind: "rename", A: "e/c", B: "b/e"}, {Kind: "kill worker"}, {Kind: "stat open"},
		{Kind: "write open", M: 30}, {Kind: "read open"}, {Kind: "read", A: "b/e"}, {Kind: "kill worker"}, {Kind: "unlink", A: "b/e"},
		{Kind: "kill worker"}, {Kind: "stat open"}, {Kind: "read open"}, {Kind: "remount"},
	},
	"a copied-up file is unlinked over two takeovers": {
		{Kind: "append", A: "c", M: 9}, {Kind: "open", A: "c"}, {Kind: "unlink", A: "c"}, {Kind: "kill worker"}, {Kind: "write open", M: 30},
		{Kind: "kill worker"}, {Kind: "read open"}, {Kind: "stat open"}, {Kind: "create", A: "c", M: 5}, {Kind: "read open"}, {Kind: "remount"},
	},
	"a linked file loses its first name over a takeover": {
		{Kind: "link", A: "c", B: "b/e"}, {Kind: "open", A: "c"}, {Kind: "unlink", A: "c"}, {Kind: "kill worker"}, {Kind: "stat open"},
		{Kind: "write open", M: 30}, {Kind: "read", A: "b/e"}, {Kind: "unlink", A: "b/e"}, {Kind: "kill worker"}, {Kind: "stat open"}, {Kind: "read open"}, {Kind: "remount"},
	},
	"a made file is unlinked over a takeover": {
		{Kind: "create", A: "e", M: 9}, {Kind: "open", A: "e"}, {Kind: "unlink", A: "e"}, {Kind: "reload"}, {Kind: "stat open"}, {Kind: "write open", M: 30}, {Kind: "read open"},
	},
	"everything is removed and made again": {
		{Kind: "rm -r", A: "a"}, {Kind: "rm -r", A: "b"}, {Kind: "unlink", A: "c"}, {Kind: "unlink", A: "d"}, {Kind: "list", A: "."}, {Kind: "kill worker"},
		{Kind: "mkdir", A: "a"}, {Kind: "mkdir", A: "c"}, {Kind: "create", A: "a/a", M: 8}, {Kind: "list", A: "a"}, {Kind: "kill all"}, {Kind: "rename", A: "a", B: "c"}, {Kind: "remount"},
	},
}

// What went wrong once goes right.
func TestFound(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	m := &model{t: t, o: newOverlay(t, 0, numbered("model", len(found), start)), plain: t.TempDir()}
	m.o.mount(t)
	for name, sequence := range found {
		t.Run(name, func(t *testing.T) {
			m.t = t
			if err := m.run(sequence); err != nil {
				t.Error(err)
			}
		})
	}
}

// openWay lets others into a folder of the test's.
func openWay(dir string) error {
	return errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755))
}

// withEvents puts an event behind some ops.
func withEvents(r *rand.Rand, ops []op) []op {
	names := slices.Sorted(maps.Keys(events))
	var all []op
	for _, o := range ops {
		all = append(all, o)
		if r.IntN(25) == 0 {
			all = append(all, op{Kind: names[r.IntN(len(names))]})
		}
	}
	return all
}

// run does a sequence in the overlay and in a plain folder, and compares.
func (m *model) run(sequence []op) error {
	if m.next == folders {
		m.fresh()
	}
	m.next++
	return m.pair(m.next - 1).run(sequence)
}

// pair returns the folders of a number.
func (m *model) pair(n int) *pair {
	name := fmt.Sprintf("%04d", n)
	return &pair{
		model: m, ids: identities{},
		over:  newWorld(filepath.Join(m.o.site, "model", name)),
		plain: newWorld(filepath.Join(m.plain, name)),
	}
}

// run does a sequence in both folders.
func (p *pair) run(sequence []op) error {
	defer p.over.close()
	defer p.plain.close()
	if err := p.as(p.begin); err != nil {
		return fmt.Errorf("before the first operation: %w", err)
	}
	for i, o := range sequence {
		if err := p.do(o, i%4 == 0 || i == len(sequence)-1); err != nil {
			return fmt.Errorf("operation %d, %v: %w", i, o, err)
		}
	}
	return nil
}

// fresh begins with an empty overlay.
func (m *model) fresh() {
	m.t.Helper()
	m.o.Run(m.t, "sitefs", "umount", "--detach", m.o.venv) // which may be broken
	old, err := os.ReadDir(m.plain)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range old {
		if err := os.RemoveAll(filepath.Join(m.plain, e.Name())); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := os.RemoveAll(m.o.upper); err != nil {
		m.t.Fatal(err)
	}
	m.next = 0
	m.o.mount(m.t)
}

// shrink leaves out of a failing sequence what it fails without, and says what is
// left.
func (m *model) shrink(sequence []op) {
	const attempts = 250
	m.t.Helper()
	err := error(nil)
	tries := 0
	for size := len(sequence) / 2; size > 0; size /= 2 {
		for at := 0; at < len(sequence) && tries < attempts; {
			shorter := slices.Delete(slices.Clone(sequence), at, min(at+size, len(sequence)))
			tries++
			m.next = folders // a mount without what went wrong before
			if e := m.run(shorter); e != nil {
				sequence, err = shorter, e
			} else {
				at += size
			}
		}
	}
	var b strings.Builder
	for _, o := range sequence {
		fmt.Fprintf(&b, "\t%v,\n", o)
	}
	m.t.Logf("%d operations suffice: %v\n%s", len(sequence), err, &b)
	m.fresh()
}

// A pair is a folder of the overlay and a plain one.
type pair struct {
	*model
	over, plain *world
	ids         identities
	began       time.Time
	during      bool // a worker is killed during the next operation
}

// as calls f as the mount's user.
func (p *pair) as(f func() error) error {
	var err error
	return errors.Join(posix.As(p.uid, p.uid, func() { err = f() }), err)
}

// begin makes the plain folder what the overlay's is.
func (p *pair) begin() error {
	for name, content := range start {
		path := p.plain.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	over, err := readTree(p.over.dir)
	if err != nil {
		return err
	}
	for name, f := range over {
		if err := os.Chtimes(p.plain.path(name), time.Time{}, f.mtime); err != nil {
			return err
		}
	}
	p.began = time.Now()
	if err := awaitClock(p.began); err != nil {
		return err
	}
	return p.compare()
}

// awaitClock waits until the clock that files get their times from, which has steps
// of some milliseconds, is past a time.
func awaitClock(past time.Time) error {
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return err
		}
		if time.Unix(now.Unix()).After(past) {
			return nil
		}
		runtime.Gosched()
	}
}

// do does one operation in both.
func (p *pair) do(o op, compare bool) error {
	if e, ok := events[o.Kind]; ok {
		if e.do == nil {
			p.during = true
			return nil
		}
		if e.ends {
			p.over.close()
			p.plain.close()
		}
		e.do(p.t, p.o)
		return p.as(p.compare)
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		if p.during {
			p.o.killWorker(p.t)
		}
	}()
	err := p.as(func() error {
		got, want := p.over.do(o), p.plain.do(o)
		if got != want {
			return fmt.Errorf("answers %.80q, want %.80q", got, want)
		}
		return nil
	})
	<-killed
	p.during = false
	if err == nil && compare {
		err = p.as(p.compare)
	}
	return err
}

// compare compares the trees.
func (p *pair) compare() error {
	got, err := readTree(p.over.dir)
	if err != nil {
		return err
	}
	want, err := readTree(p.plain.dir)
	if err != nil {
		return err
	}
	if said := difference(got, want, p.began); said != "" {
		return errors.New(said)
	}
	if said := p.ids.check(got, want); said != "" {
		return errors.New(said)
	}
	return nil
}

// The model finds nothing in a plain folder, and what overlayfs does otherwise.
func TestModelFails(t *testing.T) {
	for name, test := range map[string]struct {
		over func(t *testing.T, lower string) string
		want func(found int) bool
	}{
		"plain":     {func(_ *testing.T, lower string) string { return lower }, func(found int) bool { return found == 0 }},
		"overlayfs": {overlayfs, func(found int) bool { return found > 5 }},
	} {
		t.Run(name, func(t *testing.T) {
			found := 0
			for i := range 10 {
				lower := t.TempDir()
				for name, content := range start {
					path := filepath.Join(lower, "model/0000", name)
					if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
						t.Fatal(err)
					}
				}
				m := &model{t: t, o: &overlay{site: test.over(t, lower)}, uid: os.Getuid(), plain: t.TempDir()}
				if err := m.run(randomOps(rand.New(rand.NewPCG(1, uint64(i))), 300)); err != nil {
					t.Log(err)
					found++
				}
			}
			if !test.want(found) {
				t.Errorf("something is found in %d of 10 runs", found)
			}
		})
	}
}

// overlayfs mounts the kernel's own overlay over a folder.
func overlayfs(t *testing.T, lower string) string {
	sandbox.NeedRoot(t, "to mount overlayfs")
	upper, work, dir := t.TempDir(), t.TempDir(), t.TempDir()
	if err := unix.Mount("overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)); err != nil {
		t.Skipf("needs overlayfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
