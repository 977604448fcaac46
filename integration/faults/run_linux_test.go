package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// links is a program that links a file many times, in four threads, and says which
// links failed with what.
const links = `
import errno, os, threading
os.chdir(os.environ["DIR"])
open("file", "w").close()
def work(k):
    for i in range(25):
        try:
            os.link("file", f"link{k}.{i}")
        except OSError as e:
            print(errno.errorcode[e.errno], flush=True)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
for t in threads: t.start()
for t in threads: t.join()
`

// runLinks runs that program and returns what it said, and how many links it made.
func runLinks(t *testing.T, answer func(Call) Answer) (calls []Call, said string, made int, err error) {
	t.Helper()
	if _, e := exec.LookPath("python3"); e != nil {
		t.Skipf("needs a program of several threads: %v", e)
	}
	dir := t.TempDir()
	var out output
	c := exec.Command("python3", "-c", links)
	c.Env = append(os.Environ(), "DIR="+dir)
	c.Stdout, c.Stderr = &out, &out
	calls, err = Run(context.Background(), c, []string{dir}, answer)
	found, e := filepath.Glob(filepath.Join(dir, "link*"))
	if e != nil {
		t.Fatal(e)
	}
	for i := range calls {
		calls[i].Path = strings.TrimPrefix(calls[i].Path, dir+"/")
	}
	return calls, string(out), len(found), err
}

func isLink(c Call) bool { return strings.HasPrefix(c.Name, "link") }

// Every call is asked about, once, with what it changes.
func TestRunAsks(t *testing.T) {
	calls, said, made, err := runLinks(t, func(Call) Answer { return Answer{} })
	if err != nil || said != "" || made != 100 {
		t.Fatalf("%v, %d links\n%s", err, made, said)
	}
	if !strings.HasPrefix(calls[0].Name, "open") || calls[0].Path != "file" {
		t.Errorf("the first call is %v, want the making of the file", calls[0])
	}
	seen := map[string]bool{}
	for _, c := range calls[1:] {
		if !isLink(c) || seen[c.Path] {
			t.Errorf("%v, want 100 links once each", c)
		}
		seen[c.Path] = true
	}
	if len(seen) != 100 {
		t.Errorf("asked about %d links, want 100", len(seen))
	}
}

// One call of one thread fails, and no other.
func TestRunInjects(t *testing.T) {
	n := 0
	_, said, made, err := runLinks(t, func(c Call) Answer {
		if isLink(c) {
			if n++; n == 42 {
				return Answer{Errno: syscall.EMLINK}
			}
		}
		return Answer{}
	})
	if err != nil || said != "EMLINK\n" || made != 99 {
		t.Errorf("%v, %d links, want 99, and one that failed with EMLINK\n%s", err, made, said)
	}
}

// A kill comes before the call: of those before it each is done, but where another
// thread was about to.
func TestRunKills(t *testing.T) {
	n := 0
	_, said, made, err := runLinks(t, func(c Call) Answer {
		if isLink(c) {
			n++
		}
		return Answer{Kill: n == 42}
	})
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || said != "" {
		t.Fatalf("%v, want one that was killed\n%s", err, said)
	}
	if made > 41 || made < 41-3 {
		t.Errorf("%d links, want the 41 before the kill, or up to three less", made)
	}
}

// A call on what lies outside is not asked about.
func TestRunKeepsOut(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("sh", "-c", "mkdir inside; mkdir ../outside; : >inside/../../beside; mv inside moved")
	c.Dir = filepath.Join(dir, "here")
	if err := os.Mkdir(c.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	calls, err := Run(context.Background(), c, []string{c.Dir}, func(Call) Answer { return Answer{} })
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, c := range calls {
		paths = append(paths, strings.TrimPrefix(c.Path, dir+"/here/"))
	}
	if want := []string{"inside", "moved"}; !slices.Equal(paths, want) {
		t.Errorf("asked about %v, want %q", calls, want)
	}
}

// A command that can't be started, or fails by itself, is told as exec tells it.
func TestRunErrors(t *testing.T) {
	let := func(Call) Answer { return Answer{} }
	if _, err := Run(context.Background(), exec.Command("/no/such/program"), nil, let); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is none", err)
	}
	var exit *exec.ExitError
	if _, err := Run(context.Background(), exec.Command("sh", "-c", "exit 3"), nil, let); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%v, want exit code 3", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	dir := t.TempDir()
	c := exec.Command("sh", "-c", ": >file; sleep 1000")
	c.Dir = dir
	_, err := Run(ctx, c, []string{dir}, func(Call) Answer { cancel(); return Answer{} })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

// installer is a Subject in shell: two files behind a symlink, made by script.
func installer(t *testing.T, script string) *Subject {
	dir := t.TempDir()
	write := func(folder, text string) error {
		err := os.MkdirAll(filepath.Join(dir, folder), 0o777)
		for _, name := range []string{"one", "two"} {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, folder, name), []byte(text), 0o666))
		}
		return err
	}
	return &Subject{
		Dirs: []string{dir},
		Prepare: func(context.Context) error {
			for _, name := range []string{"target", "new", "temporary"} {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			return errors.Join(write("old", "old\n"), os.Symlink("old", filepath.Join(dir, "target")))
		},
		Command: func(ctx context.Context) *exec.Cmd {
			c := exec.CommandContext(ctx, "sh", "-ec", script)
			c.Dir = dir
			return c
		},
		State: func() (State, string, error) {
			one, err := os.ReadFile(filepath.Join(dir, "target", "one"))
			two, e := os.ReadFile(filepath.Join(dir, "target", "two"))
			switch both := string(one) + string(two); both {
			case "old\nold\n":
				return Old, "", nil
			case "new\nnew\n":
				return New, "", nil
			default:
				return Neither, fmt.Sprintf("%q, %v", both, errors.Join(err, e)), nil
			}
		},
		Leftovers: func() ([]string, error) { return filepath.Glob(filepath.Join(dir, "temp*")) },
	}
}

// The trials tell an installer that keeps its promise of all or nothing from
// those that can't.
func TestTry(t *testing.T) {
	const (
		write  = "echo new >new/one; echo new >new/two; "
		beside = "rm -rf new temporary; mkdir new; " + write + "ln -s new temporary; mv -T temporary target; "
	)
	for _, test := range []struct {
		name, script string
		want         bool
	}{
		{"beside, then switched", `[ "$(readlink target)" = new ] || { ` + beside + "}", true},
		{"switched, then filled", "rm -f target; mkdir -p new; ln -s new target; " + write, false},
		{"believes what is there", "[ -e target/one ] && [ -d new ] && exit; rm -f target; mkdir new; ln -s new target; " + write, false},
		{"leaves something", beside + ": >temporary", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := installer(t, test.script)
			calls, err := s.Calls(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			problems := 0
			for _, f := range append(Kills(calls), Injections(calls, []syscall.Errno{syscall.EIO})...) {
				trial, err := s.Try(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if p := trial.Problem(); p != "" {
					problems++
					if test.want {
						t.Errorf("%v: %s\n%s", f, p, trial.Said)
					}
				}
			}
			if !test.want && problems == 0 {
				t.Errorf("%d calls and no problem, want that some fault shows one", len(calls))
			}
		})
	}
}
