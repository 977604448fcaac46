package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Children of a test are the test binary itself, told by these variables what
// to be.
const (
	childDir  = "SITEFS_TEST_STORE" // the store to ingest into
	childStep = "SITEFS_TEST_STEP"  // where to die
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := ingestChild(dir, os.Getenv(childStep)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ingestChild puts the wheel on standard input into the store and kills itself
// on the way.
func ingestChild(dir, step string) error {
	s, err := Open(dir, Options{Warn: func(m string) { fmt.Fprintln(os.Stderr, m) }})
	if err != nil {
		return err
	}
	die := func(at string) {
		if at == step {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	s.step = die
	var data bytes.Buffer
	if _, err := data.ReadFrom(os.Stdin); err != nil {
		return err
	}
	i, err := s.NewIngest(context.Background())
	if err != nil {
		return err
	}
	die("begun")
	w := testWheel{"many-1.0-py3-none-any.whl", data.Bytes()}
	if _, err := add(i, w, AddOptions{Progress: func(int64) { die("unpacking") }}); err != nil {
		return err
	}
	return i.Commit()
}

// child returns a process that ingests w into the store.
func child(t *testing.T, s *Store, w testWheel, step string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+s.Dir(), childStep+"="+step)
	cmd.Stdin = bytes.NewReader(w.data)
	cmd.Stderr = &stderr
	return cmd, &stderr
}

// TestKill kills an ingest with SIGKILL at every step. What was not committed
// does not exist, and the next ingest cleans up and succeeds.
func TestKill(t *testing.T) {
	w := makeWheel(t, "many", manyFiles(50), nil)
	tests := []struct {
		step      string
		committed bool
	}{
		{"begun", false},
		{"unpacking", false},
		{"staged", false},
		{"synced", false},
		{"blobs placed", false},
		{"wheels placed", true},
	}
	for _, test := range tests {
		t.Run(test.step, func(t *testing.T) {
			s := newStore(t)
			cmd, stderr := child(t, s, w, test.step)
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
				t.Fatalf("child: %v, want it killed\n%s", err, stderr)
			}
			if got := s.HasWheel(w.digest()); got != test.committed {
				t.Errorf("the wheel is there: %v, want %v", got, test.committed)
			}
			wheels, _ := listings(t, s)
			if got := len(wheels) == 1; got != test.committed {
				t.Errorf("the wheel is listed: %v, want %v", got, test.committed)
			}
			if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) != 1 {
				t.Errorf("tmp holds %v, %v, want what the child left", entries, err)
			}
			ingest(t, s, w)
			expectWheel(t, s, w)
			expectNoTmp(t, s)
			expectFiles(t, s, "wheels", 1)
			expectFiles(t, s, "blobs", 52)
		})
	}
}

// TestTwoProcesses ingests one wheel from several processes at once: all
// succeed, and it is stored once.
func TestTwoProcesses(t *testing.T) {
	w := makeWheel(t, "many", manyFiles(200), nil)
	s := newStore(t)
	var children []*exec.Cmd
	var outputs []*bytes.Buffer
	for range 4 {
		cmd, stderr := child(t, s, w, "")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		children, outputs = append(children, cmd), append(outputs, stderr)
	}
	for n, cmd := range children {
		if err := cmd.Wait(); err != nil || outputs[n].Len() > 0 {
			t.Errorf("child: %v\n%s", err, outputs[n])
		}
	}
	expectWheel(t, s, w)
	expectFiles(t, s, "wheels", 1)
	expectFiles(t, s, "blobs", 202)
	expectNoTmp(t, s)
	if wheels, _ := listings(t, s); len(wheels) != 1 {
		t.Errorf("listed %d wheels, want 1", len(wheels))
	}
}

// TestTwoCreators opens a store that is not there from several processes at
// once.
func TestTwoCreators(t *testing.T) {
	w := makeWheel(t, "many", manyFiles(5), nil)
	parent := t.TempDir()
	for n := range 5 {
		s := &Store{dir: fmt.Sprintf("%s/%d", parent, n)}
		var children []*exec.Cmd
		var outputs []*bytes.Buffer
		for range 3 {
			cmd, stderr := child(t, s, w, "")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			children, outputs = append(children, cmd), append(outputs, stderr)
		}
		for n, cmd := range children {
			if err := cmd.Wait(); err != nil || outputs[n].Len() > 0 {
				t.Errorf("child: %v\n%s", err, outputs[n])
			}
		}
		expectWheel(t, openStore(t, s.dir), w)
	}
}

// TestLivingIngest shows that an ingest leaves alone what another one writes.
func TestLivingIngest(t *testing.T) {
	s := newStore(t)
	first := newIngest(t, s)
	if _, err := add(first, demoWheel(t), AddOptions{}); err != nil {
		t.Fatal(err)
	}
	ingest(t, openStore(t, s.Dir()), makeWheel(t, "other", manyFiles(3), nil))
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	expectWheel(t, s, demoWheel(t))
}
