package known

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A rule is something that a second start must not do.
type rule struct {
	name  string
	match *regexp.Regexp
}

var rules = []rule{
	{"takes a lock that others may hold", regexp.MustCompile(`\bflock\(|F_SETLKW?\b|F_OFD_SETLKW?\b`)},
	{"opens the catalog", regexp.MustCompile(`open(at2?)?\(.*/catalog`)},
	{"reaches for the network", regexp.MustCompile(`connect\(\d+, \{sa_family=AF_(INET|NETLINK)|socket\(AF_(INET|NETLINK)`)},
	{"reads a wheel", regexp.MustCompile(`open(at2?)?\(.*\.whl"`)},
	{"writes", regexp.MustCompile(`open(at2?)?\(.*O_(WRONLY|RDWR|CREAT)`)},
	{"starts a server", regexp.MustCompile(`mount-server`)},
}

// writable are what a Go program opens for writing wherever it runs.
var writable = regexp.MustCompile(`"/dev/null"`)

// TestStartsAtOnceWaitForNothing traces the system calls of starts on a warm
// mount, and of one for which nothing is mounted.
func TestStartsAtOnceWaitForNothing(t *testing.T) {
	sandbox.NeedProgram(t, "strace")
	m := newMachine(t)
	m.lock("pylock.toml", m.wheel("wheels", "alpha", "1.0", ""))
	m.write("fake/uv", "#!/bin/sh\nexit 1\n")
	args := []string{"run", "-r", "pylock.toml", "--with", "./wheels", "--", "true"}
	if out, err := m.command(args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.write("traces/README", "")
	const starts = 16
	var wg sync.WaitGroup
	for i := range starts {
		wg.Go(func() {
			cmd := m.command(args...)
			cmd.Args = append([]string{"strace", "--follow-forks", "--string-limit=500", "--output=" + m.trace(i)}, cmd.Args...)
			var err error
			if cmd.Path, err = exec.LookPath("strace"); err != nil {
				t.Error(err)
				return
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("start %d: %v\n%s", i, err, out)
			} else if len(out) > 0 {
				t.Errorf("start %d says %q, want nothing", i, out)
			}
		})
	}
	wg.Wait()
	for i := range starts {
		m.checkTrace(m.trace(i))
	}
}

func (m *machine) trace(i int) string { return m.path(fmt.Sprintf("work/traces/%d", i)) }

// checkTrace holds a trace against the rules, up to the command.
func (m *machine) checkTrace(file string) {
	m.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	programs := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "execve(") {
			if programs++; programs == 2 {
				if !strings.Contains(line, `/true"`) {
					m.t.Errorf("%s: runs something before the command: %s", filepath.Base(file), line)
				}
				break // the rest is the command's own
			}
		}
		for _, r := range rules {
			if r.match.MatchString(line) && !writable.MatchString(line) {
				m.t.Errorf("%s: a second start %s: %s", filepath.Base(file), r.name, line)
			}
		}
	}
	if programs != 2 {
		m.t.Errorf("%s: %d programs ran, want sitefs and the command", filepath.Base(file), programs)
	}
}
