package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// NeedSitefs is the first thing of a test that drives the built program: it skips
// the test in a short run, and where nothing can be mounted.
//
// go test takes an earlier result for a test binary and files that are the same.
// The program is in neither, so its sources are looked at here.
func NeedSitefs(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("drives the built program, for some ten seconds in all")
	}
	NeedFUSE(t)
	if err := seen(); err != nil {
		t.Fatal(err)
	}
}

// seen looks at the program's sources, once: go test notes what a running test
// opens, and a folder for all that is in it.
var seen = sync.OnceValue(func() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	for _, room := range []string{"cmd", "fusefs", "manifest", "store"} {
		err := filepath.WalkDir(filepath.Join(root, room), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			return err
		}
	}
	return nil
})

// moduleRoot returns the folder of go.mod, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = above
	}
}

// NeedFUSE skips a test where nothing can be mounted.
func NeedFUSE(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs FUSE: %v", err)
	}
	f.Close()
	if os.Getuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skipf("needs root or fusermount3: %v", err)
		}
	}
}

// NeedRoot skips a test that only root can run, for the reason given.
func NeedRoot(t testing.TB, reason string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skipf("needs root, %s", reason)
	}
}

// NeedProgram skips a test that needs a program which is not on PATH.
func NeedProgram(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
}

// NeedOrdinaryUser skips a test in which root becomes a user who mounts with
// fusermount3.
func NeedOrdinaryUser(t testing.TB) {
	t.Helper()
	NeedRoot(t, "to become somebody else")
	NeedProgram(t, "setpriv")
	NeedProgram(t, "fusermount3")
	if fi, err := os.Stat("/dev/fuse"); err != nil || fi.Mode()&0o006 != 0o006 {
		t.Skip("needs /dev/fuse open to all users: chmod 666 /dev/fuse")
	}
}
