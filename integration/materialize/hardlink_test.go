package materialize

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/digest"
)

var shared = flag.Int("environments", 5, "how many environments share files by hard links")

// TestSharedEmptyFile: a distribution of 1,435 empty files, as large environments
// have them, in many environments by hard links. Were all of them links to one inode,
// ext4 would take no more after 65,000 (EXT4_LINK_MAX), in the 46th.
func TestSharedEmptyFile(t *testing.T) {
	const empty = 1435
	sandbox.NeedSitefs(t)
	h := sandbox.NewHome(t, bin, python)
	s := wheelhouse.Spec{Name: "packages", Version: "1.0", Files: map[string]string{}}
	for i := range empty {
		s.Files[fmt.Sprintf("packages/p%d/__init__.py", i)] = ""
	}
	for i := range 5 {
		s.Files[fmt.Sprintf("packages/m%d.py", i)] = fmt.Sprintf("number = %d\n", i)
		s.Files[fmt.Sprintf("packages/same%d.so", i)] = "\x7fELF, the same in each\n"
	}
	writeLock(t, h, s)

	var first sandbox.Snapshot
	for i := range *shared {
		now, err := sandbox.TakeSnapshot(linked(t, h, fmt.Sprint("venv", i)), isOwn)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = now
		}
		if diff := now.Differ(first); diff != "" {
			t.Fatalf("environment %d: %s", i, diff)
		}
	}
	venv := filepath.Join(h.Dir, "venv0")
	h.Must(t, "sitefs", "verify", "--deep", venv)
	wantOwnInodes(t, venv)

	// Root can write into all of it, and so can the owner.
	for _, path := range regular(t, venv) {
		if err := overwrite(path); err != nil {
			t.Fatal(err)
		}
	}
	wantCleanBlobs(t, h.Store())
	h.Must(t, "sitefs", "verify", "--deep", linked(t, h, "after"))
}

// linked makes an environment of hard links and returns its path.
func linked(t *testing.T, h *sandbox.Home, name string) string {
	t.Helper()
	venv := filepath.Join(h.Dir, name)
	h.Must(t, "sitefs", "materialize", "--quiet", "--link-mode", "hardlink", "-r", "pylock.toml", venv)
	return venv
}

// wantOwnInodes holds that files are linked, and no two of one environment have an
// inode in common, as dlopen would take them for one.
func wantOwnInodes(t *testing.T, venv string) {
	t.Helper()
	seen := map[uint64]string{}
	linked := 0
	for _, path := range regular(t, venv) {
		st := stat(t, path)
		if other, ok := seen[st.Ino]; ok {
			t.Errorf("%s and %s have one inode", other, path)
		}
		seen[st.Ino] = path
		if st.Nlink > 1 {
			linked++
		}
	}
	if linked == 0 {
		t.Error("no file is linked")
	}
}

// isOwn: the mark, and what names the directory of its environment.
func isOwn(path string) bool {
	return isMark(path) || strings.HasPrefix(path, "bin/") || path == "pyvenv.cfg"
}

// writeLock writes a lock of one wheel, and the wheel.
func writeLock(t *testing.T, h *sandbox.Home, s wheelhouse.Spec) {
	t.Helper()
	w, err := wheelhouse.Write(h.Dir, s)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := wheelhouse.PylockPath([]wheelhouse.Wheel{w}, h.Dir)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(t, "pylock.toml", string(lock))
}

// overwrite changes a file's first byte, or gives it one, where it stands.
func overwrite(path string) error {
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{'!'}, 0)
	return errors.Join(err, f.Close())
}

// wantCleanBlobs holds that every blob of a store has the content that its name
// promises.
func wantCleanBlobs(t *testing.T, store string) {
	t.Helper()
	blobs := filepath.Join(store, "blobs")
	all := regular(t, blobs)
	if len(all) == 0 {
		t.Error("the store has no blobs")
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path)) + filepath.Base(path)
		if found := digest.Of(content).String(); found != name {
			t.Errorf("blob %s has the digest %s", name, found)
		}
	}
}

// regular returns the paths of all regular files beneath dir.
func regular(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t)
}
