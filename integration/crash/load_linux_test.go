package crash

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// load is what goes on in a mount while its workers die.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup
	readers []*sandbox.Command
}

// load starts it. The names are modules of the environment.
func (e *environment) load(t *testing.T, venv string, names ...string) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	site := e.sitePackages(venv)
	sums := e.Write(t, "sums", e.record(t))
	reader, err := os.ReadFile("testdata/read.py")
	if err != nil {
		t.Fatal(err)
	}
	script := e.Write(t, "read.py", string(reader)) // where every user can read it
	for _, how := range []string{"read", "map", "look"} {
		l.readers = append(l.readers, e.Start(t, site, e.python, script, how, sums))
	}
	all := strings.Join(names, ", ")
	l.repeat(t, e, site, interpreter(venv), "-c", fmt.Sprintf("import %s; print([len(dir(m)) for m in (%[1]s)])", all))
	l.repeat(t, e, venv, "find", ".", "-printf", `%P %y %m %s %i %T@ %l\n`)
	l.repeat(t, e, site, "sha256sum", "--check", "--quiet", "--strict", sums)
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
	out, err := e.Command(ctx, dir, argv...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// end ends the load, and holds that it went well all the time and that no call
// took longer than most.
func (l *load) end(t *testing.T, most time.Duration) {
	t.Helper()
	close(l.stop)
	l.running.Wait()
	for _, c := range l.readers {
		if err := c.End(); err != nil {
			t.Errorf("%q: %v\n%s", c.Args, err, &c.Said)
			continue
		}
		var longest float64
		var calls int
		if _, err := fmt.Sscan(c.Said.String(), &longest, &calls); err != nil || calls == 0 {
			t.Errorf("%q says %q, %v, want the longest of its calls", c.Args, &c.Said, err)
		}
		t.Logf("longest call, calls, which: %s", &c.Said)
		if longest > most.Seconds() {
			t.Errorf("a call took %.3f s, want at most %v", longest, most)
		}
	}
}
