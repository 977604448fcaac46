package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// limit is how long a command of a Home may run: far more than any needs on a
// loaded machine, so that one that hangs is told as such.
const limit = 2 * time.Minute

// A Home is a user's home directory in which sitefs was never used, and the
// environment of the commands run in it.
type Home struct {
	Dir string
	Env []string

	// As is what the command lines begin with, such as a program that runs them as
	// another user.
	As []string
}

// NewHome returns a home for commands that find the program in bin. When the test
// ends, all that is mounted in the home is unmounted, and what is left then fails
// the test.
func NewHome(t testing.TB, bin, python string) *Home {
	t.Helper()
	dir, err := os.MkdirTemp("", "sitefs-home-") // short: shebangs name paths in it
	if err != nil {
		t.Fatal(err)
	}
	h := &Home{Dir: dir, Env: Environ(dir, bin, python)}
	t.Cleanup(func() {
		h.Run(t, "sitefs", "umount", "--all")
		if err := await(limit, func() string { return Leaks(dir) }); err != nil {
			t.Error(err)
			h.detach(t)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return h
}

// detach takes away what must not be walked into when the home is removed.
func (h *Home) detach(t testing.TB) {
	mounts, err := Mounts(h.Dir)
	if err != nil {
		t.Error(err)
	}
	for _, m := range mounts {
		if out, err := exec.Command("umount", "-l", m).CombinedOutput(); err != nil {
			t.Errorf("detaching %s: %v\n%s", m, err, out)
		}
	}
}

// Setenv sets a variable for later commands.
func (h *Home) Setenv(name, value string) {
	h.Unsetenv(name)
	h.Env = append(h.Env, name+"="+value)
}

// Unsetenv removes a variable for later commands.
func (h *Home) Unsetenv(name string) {
	h.Env = slices.DeleteFunc(h.Env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

// UseIndex has the resolvers ask the index of that URL.
func (h *Home) UseIndex(url string) {
	h.Unsetenv("UV_OFFLINE")
	h.Unsetenv("PIP_NO_INDEX")
	h.Setenv("UV_DEFAULT_INDEX", url)
	h.Setenv("PIP_INDEX_URL", url)
}

// A Result is what a command did.
type Result struct {
	Code   int
	Stdout string
	Stderr string
}

// Command returns a command of the home's user in a directory, which need not be one
// that the test itself may enter. What it is called is looked up on the PATH of the
// home.
func (h *Home) Command(ctx context.Context, dir string, argv ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/usr/bin/env", slices.Concat(h.As, []string{"env", "-C", dir}, argv)...)
	c.Env = append(slices.Clone(h.Env), "PWD="+dir)
	c.WaitDelay = time.Second // what the command started may hold the pipes
	return c
}

// Run runs a command in the home directory and waits for it.
func (h *Home) Run(t testing.TB, argv ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	c := h.Command(ctx, h.Dir, argv...)
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v\n%s", argv, err, &stderr)
	}
	return Result{c.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// Must is Run of a command that has to succeed, and returns its standard output.
func (h *Home) Must(t testing.TB, argv ...string) string {
	t.Helper()
	r := h.Run(t, argv...)
	if r.Code != 0 {
		t.Fatalf("%q: exit code %d\n%s%s", argv, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// Write writes a file of the home and returns its path.
func (h *Home) Write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(h.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// Store returns the folder of the store.
func (h *Home) Store() string { return filepath.Join(h.Dir, "store") }

// Stored returns the files in a store that belong to wheels and trees, or are on
// their way to be one, relative to the store. What its other folders keep is true
// whatever failed.
func Stored(t testing.TB, store string) []string {
	t.Helper()
	var files []string
	for _, folder := range []string{"blobs", "wheels", "trees", "known", "leases", "tmp"} {
		err := filepath.WalkDir(filepath.Join(store, folder), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(store, path)
			files = append(files, rel)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// PythonVersion returns the path of an interpreter of a version such as "3.12",
// or skips the test where there is none.
func PythonVersion(t testing.TB, version string) string {
	t.Helper()
	user, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	found, err := filepath.Glob(filepath.Join(user, ".pyenv", "versions", version+"*", "bin", "python"+version))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return found[0]
	}
	path, err := exec.LookPath("python" + version)
	if err != nil {
		t.Skipf("needs Python %s: %v", version, err)
	}
	return path
}

// SystemPython is an interpreter that is in nobody's home.
const SystemPython = "/usr/bin/python3"

// Nobody is an account without any rights, and its group (Debian's numbers).
const Nobody = 65534

// As is the start of a command line that the user of a number runs, in the group of
// that number.
func As(uid int) []string {
	id := strconv.Itoa(uid)
	return []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--"}
}

// GiveTo makes the home and all in it a user's, who runs its commands from then on.
func (h *Home) GiveTo(t testing.TB, uid int) {
	t.Helper()
	err := filepath.WalkDir(h.Dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
	h.As = As(uid)
}
