package materialize

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// mountFS mounts a new file system of a type in a new directory.
func mountFS(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	dir := t.TempDir()
	switch kind {
	case "ext4", "xfs", "btrfs":
		program := "mkfs." + kind
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
		image := filepath.Join(t.TempDir(), "image")
		check(t, os.WriteFile(image, nil, 0o600))
		check(t, os.Truncate(image, 320<<20)) // XFS wants 300 MB
		command(t, program, "-q", image)
		command(t, "mount", "-o", "loop", image, dir)
	case "overlay":
		base := mountFS(t, "tmpfs")
		options := "userxattr"
		for _, layer := range []string{"lowerdir", "upperdir", "workdir"} {
			check(t, os.Mkdir(filepath.Join(base, layer), 0o755))
			options += "," + layer + "=" + filepath.Join(base, layer)
		}
		command(t, "mount", "-t", "overlay", "-o", options, "overlay", dir)
	default:
		command(t, "mount", "-t", kind, kind, dir)
	}
	t.Cleanup(func() { command(t, "umount", dir) })
	return dir
}

// command runs a program. A kernel that lacks what it asks for skips the test; a
// comma in a path (of the test's name) is one that mount takes for its own.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err == nil {
		return
	}
	if name == "mount" {
		t.Skipf("%s %q: %v: %s", name, args, err, out)
	}
	t.Fatalf("%s %q: %v: %s", name, args, err, out)
}

// newStoreIn makes a store in a folder of dir.
func newStoreIn(t *testing.T, dir string) *fakeStore {
	t.Helper()
	s := &fakeStore{dir: filepath.Join(dir, "store"), trees: map[digest.Digest][]byte{}}
	s.create(t)
	return s
}

// used returns how much of a file system is in use, in bytes.
func used(t *testing.T, dir string) int64 {
	t.Helper()
	check(t, durable(dir))
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// TestClone: a clone shares its blocks, and is a file of its own.
func TestClone(t *testing.T) {
	const size = 32 << 20
	large := files{"lib/site/a/large.bin": strings.Repeat("x", size), "lib/site/a/two.bin": strings.Repeat("x", size)}
	for path, text := range demo {
		large[path] = text
	}
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			base := mountFS(t, kind)
			s := newStoreIn(t, base)
			tr := s.tree(t, large)
			before := used(t, base)
			dir := filepath.Join(base, "venv")
			var r Report
			check(t, build(context.Background(), kernel, tr, s, dir, nil, Options{}, &r))
			expectTree(t, s, tr, dir)
			if r.Mode != "clone" || r.Cloned != 7 {
				t.Errorf("%d files cloned in mode %s: %s", r.Cloned, r.Mode, r.Reason)
			}
			if more := used(t, base) - before; more > size/2 {
				t.Errorf("%d bytes more are in use, for clones of %d", more, 2*size)
			}
			path := filepath.Join(dir, "lib/site/a/mod.py")
			check(t, os.WriteFile(path, []byte("x = 2\n"), 0o644))
			if b, err := os.ReadFile(s.BlobPath(digest.Of([]byte(demo["lib/site/a/mod.py"])))); err != nil || string(b) != "x = 1\n" {
				t.Errorf("after a write to the clone the blob holds %q, %v", b, err)
			}
		})
	}
}

// TestPairs: what can be done between two real places, and how it is said.
func TestPairs(t *testing.T) {
	bind := func(t *testing.T, dir string) string {
		point := t.TempDir()
		command(t, "mount", "--bind", dir, point)
		t.Cleanup(func() { command(t, "umount", point) })
		return point
	}
	same := func(_ *testing.T, dir string) string { return dir }
	another := func(kind string) func(*testing.T, string) string {
		return func(t *testing.T, _ string) string { return mountFS(t, kind) }
	}
	tests := []struct {
		name, kind string
		target     func(t *testing.T, dir string) string
		want       Mode
		used       Mode     // 0 is an error
		says       []string // in the reason, or the error
	}{
		{"tmpfs", "tmpfs", same, Auto, Copy, []string{"copy: clone from the store (tmpfs, device 0:", "EOPNOTSUPP", "XFS"}},
		{"tmpfs, clone by name", "tmpfs", same, Clone, 0, []string{"EOPNOTSUPP", "btrfs, XFS"}},
		{"tmpfs, hardlink", "tmpfs", same, Hardlink, Hardlink, []string{"hardlink: as asked for"}},
		{"ext4", "ext4", same, Auto, Copy, []string{"ext4, device 7:", "EOPNOTSUPP"}},
		{"two file systems", "xfs", another("tmpfs"), Auto, Copy, []string{"EXDEV", "two file systems", "SITEFS_STORE"}},
		{"two file systems, hardlink", "tmpfs", another("tmpfs"), Hardlink, 0, []string{"EXDEV", "two file systems"}},
		{"two file systems, symlink", "tmpfs", another("tmpfs"), Symlink, Symlink, []string{"symlink: as asked for"}},
		{"two mounts", "xfs", bind, Auto, Clone, []string{"xfs, device 7:"}},
		{"two mounts, hardlink", "xfs", bind, Hardlink, 0, []string{"EXDEV", "two mounts"}},
		{"overlay", "overlay", same, Auto, Copy, []string{"overlay, device 0:"}},
		{"hardlink on an overlay", "overlay", same, Hardlink, 0, []string{"copies each file that is linked"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			base := mountFS(t, test.kind)
			s := newStoreIn(t, base)
			tr := s.tree(t, demo)
			dir := filepath.Join(test.target(t, base), "venv")
			var r Report
			err := build(context.Background(), kernel, tr, s, dir, nil, Options{Mode: test.want}, &r)
			said := r.Reason
			if test.used == 0 {
				if !errors.Is(err, ErrMode) {
					t.Fatalf("%v, want %v", err, ErrMode)
				}
				said = err.Error()
			} else {
				check(t, err)
				expectTree(t, s, tr, dir)
				if r.Mode != test.used.String() {
					t.Errorf("mode %s, want %v", r.Mode, test.used)
				}
			}
			for _, part := range test.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q lacks %q", said, part)
				}
			}
		})
	}
}

// TestProbe: a doctor is told all at once, and nothing stays behind.
func TestProbe(t *testing.T) {
	base := mountFS(t, "xfs")
	s := newStoreIn(t, base)
	target := t.TempDir()
	got, err := Probe(s.dir, base)
	check(t, err)
	if got.Clone != 0 || got.Hardlink != 0 || got.CopyRange != 0 || got.Store.Type != "xfs" || got.Target.Path != base {
		t.Errorf("on one XFS: %+v", got)
	}
	got, err = Probe(s.dir, target)
	check(t, err)
	if got.Clone != unix.EXDEV || got.Hardlink != unix.EXDEV {
		t.Errorf("between two file systems: %+v", got)
	}
	expectEmpty(t, target)
}
