package materialize

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMaterializeKeepsAnything: whatever the user put into an environment is the
// same thing afterwards, not a copy of it.
func TestMaterializeKeepsAnything(t *testing.T) {
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	path := func(name string) string { return filepath.Join(s.dest, name) }
	s.write("lib/site/a/private", "no one may read this")
	check(t, os.Chmod(path("lib/site/a/private"), 0))
	s.write("lib/site/a/twin", "linked from elsewhere")
	check(t, os.Link(path("lib/site/a/twin"), filepath.Join(t.TempDir(), "twin")))
	check(t, unix.Mkfifo(path("lib/site/pipe"), 0o600))
	check(t, os.Symlink("/nowhere", path("lib/site/a/dangling")))
	t.Chdir(s.dest) // the path of a socket is short
	l, err := net.Listen("unix", "socket")
	check(t, err)
	defer l.Close()
	names := []string{"lib/site/a/dangling", "lib/site/a/private", "lib/site/a/twin", "lib/site/pipe", "socket"}
	before := make([]fs.FileInfo, len(names))
	for i, name := range names {
		before[i], err = os.Lstat(path(name))
		check(t, err)
	}
	if r := s.mustPut(two, Options{}); !slices.Equal(r.Kept, names) {
		t.Errorf("kept %q, want %q", r.Kept, names)
	}
	s.expect(two, names...)
	for i, name := range names {
		after, err := os.Lstat(path(name))
		check(t, err)
		if !os.SameFile(before[i], after) || before[i].Mode() != after.Mode() {
			t.Errorf("%s is another file of mode %v, want the same one of %v", name, after.Mode(), before[i].Mode())
		}
	}
}

// TestMaterializeKeepsInVanished: where the new environment has no folder for what
// was added there is one made, and where it has a file the user decides.
func TestMaterializeKeepsInVanished(t *testing.T) {
	s := newSpot(t)
	flat := with(files{"lib/site/a": "not a package any more\n"})
	for name := range demo {
		if strings.HasPrefix(name, "lib/site/a/") {
			delete(flat, name)
		}
	}
	gone := with(nil)
	for name := range gone {
		if strings.HasPrefix(name, "lib/site/a/") {
			delete(gone, name)
		}
	}
	one := s.store.tree(t, demo)
	s.mustPut(one, Options{})
	s.write("lib/site/a/mine.txt", "mine")
	if _, err := s.put(s.store.tree(t, flat), Options{}); !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), "lib/site/a/mine.txt") {
		t.Errorf("error %v, want ErrDest that names the file", err)
	}
	s.expect(one, "lib/site/a/mine.txt")
	s.mustPut(s.store.tree(t, gone), Options{})
	if got := s.read("lib/site/a/mine.txt"); got != "mine" {
		t.Errorf("it reads %q", got)
	}
}

// TestMaterializeKeepsOwner: a folder that root makes anew is still its owner's.
func TestMaterializeKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes folders of other users")
	}
	const user = 12345
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	s.mustPut(one, Options{})
	s.write("notes/today", "")
	folder := filepath.Join(s.dest, "notes")
	check(t, os.Chown(folder, user, user))
	check(t, os.Chmod(folder, fs.ModeSetgid|0o770))
	s.mustPut(two, Options{})
	info, err := os.Stat(folder)
	check(t, err)
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != user || st.Gid != user || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 {
		t.Errorf("owner %d:%d, mode %v, want %d:%d, dgrwxrwx---", st.Uid, st.Gid, info.Mode(), user, user)
	}
}

// TestKeeperGone: what the user removes meanwhile is not missed.
func TestKeeperGone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	root, err := os.OpenRoot(dir)
	check(t, err)
	defer root.Close()
	k := &keeper{ctx: t.Context(), root: root, link: root.Link, from: "old", to: "new"}
	check(t, k.extra("gone"))
}
