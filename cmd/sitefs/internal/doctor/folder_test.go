package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What a killed trial leaves is swept up by the next; a trial under way, and whatever
// only has the name, stays.
func TestSweepFolders(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(t *testing.T, parent string) (left string)
		stays bool
	}{
		{"killed", func(t *testing.T, parent string) string {
			dir, lock := folder(t, parent)
			if err := lock.Close(); err != nil { // as the kernel does for the dead
				t.Fatal(err)
			}
			return dir
		}, false},
		{"under way", func(t *testing.T, parent string) string {
			dir, lock := folder(t, parent)
			t.Cleanup(func() { lock.Close() })
			return dir
		}, true},
		{"file", func(t *testing.T, parent string) string {
			name := filepath.Join(parent, trialPrefix+"1")
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return name
		}, true},
		{"symlink", func(t *testing.T, parent string) string {
			other := t.TempDir()
			if err := os.Symlink(other, filepath.Join(parent, trialPrefix+"1")); err != nil {
				t.Fatal(err)
			}
			return other
		}, true},
		{"another name", func(t *testing.T, parent string) string {
			name := filepath.Join(parent, "sitefs-self-1")
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
			return name
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			left := c.make(t, parent)
			if err := sweepFolders(parent); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(left); (err == nil) != c.stays {
				t.Errorf("found %v, want it to stay: %v", err, c.stays)
			}
		})
	}
}

// folder takes a folder for a trial and writes into it.
func folder(t *testing.T, parent string) (string, *os.File) {
	dir, lock, err := takeFolder(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, lock
}

// Another user's folder stays even where this one could remove it.
func TestSweepFolderOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	dir := filepath.Join(t.TempDir(), trialPrefix+"1")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := sweepFolder(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); err != nil {
		t.Error(err)
	}
}

func TestLockFolder(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lockFolder(dir); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("locked twice: %v", err)
	}
}
