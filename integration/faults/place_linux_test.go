package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A place is a pair of directories for the store and for environments.
type place struct {
	name  string
	modes []string // link modes that work there, and flags
	make  func(t *testing.T) (home, target string)
}

var places = []place{
	{"ext4", []string{"copy", "hardlink", "symlink", "hardlink --compile"}, oneMount("ext4")},
	{"xfs", []string{"clone", "copy", "hardlink", "symlink"}, oneMount("xfs")},
	{"btrfs", []string{"clone", "copy", "hardlink"}, oneMount("btrfs")},
	{"tmpfs", []string{"copy", "hardlink"}, func(t *testing.T) (string, string) {
		dir := sandbox.Tmpfs(t, "300m")
		return dir, folder(t, dir, "target")
	}},
	{"overlayfs", []string{"copy"}, overlaid(func(t *testing.T) string { return sandbox.Tmpfs(t, "300m") })},
	{"overlayfs over xfs", []string{"clone"}, overlaid(func(t *testing.T) string { return loopMount(t, "xfs") })},
	{"overlayfs over btrfs", []string{"clone"}, overlaid(func(t *testing.T) string { return loopMount(t, "btrfs") })},
	{"two mounts of an xfs", []string{"clone"}, func(t *testing.T) (string, string) {
		dir, again := loopMount(t, "xfs"), t.TempDir()
		mount(t, again, "--bind", folder(t, dir, "bound"))
		return dir, again
	}},
	{"two file systems", []string{"copy"}, func(t *testing.T) (string, string) {
		return loopMount(t, "ext4"), sandbox.Tmpfs(t, "100m")
	}},
}

func oneMount(fs string) func(*testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		dir := loopMount(t, fs)
		return dir, folder(t, dir, "target")
	}
}

// overlaid has both on an overlayfs whose layers are on a file system, as in a
// container.
func overlaid(on func(t *testing.T) string) func(*testing.T) (string, string) {
	return func(t *testing.T) (string, string) {
		below, dir := on(t), t.TempDir()
		options := "lowerdir=" + folder(t, below, "lower") + ",upperdir=" + folder(t, below, "upper") + ",workdir=" + folder(t, below, "work")
		mount(t, dir, "-t", "overlay", "-o", options, "overlay")
		return dir, folder(t, dir, "target")
	}
}

// makeFS is how a file system is made in a file, and how large that is.
var makeFS = map[string]struct {
	size    int64
	command []string
}{
	"ext4":  {300 << 20, []string{"mkfs.ext4", "-q", "-F"}},
	"xfs":   {300 << 20, []string{"mkfs.xfs", "-q", "-m", "reflink=1"}},
	"btrfs": {300 << 20, []string{"mkfs.btrfs", "-q"}},

	"small ext4": {8 << 20, []string{"mkfs.ext4", "-q", "-F"}},
	// One room for data and metadata: it is full of both at once.
	"small btrfs": {64 << 20, []string{"mkfs.btrfs", "-q", "--mixed"}},
}

// loopMount mounts a new file system, or skips the test where it can't.
func loopMount(t *testing.T, fs string, options ...string) string {
	t.Helper()
	how := makeFS[fs]
	sandbox.NeedRoot(t, "for loop devices")
	sandbox.NeedProgram(t, how.command[0])
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, how.size); err != nil {
		t.Fatal(err)
	}
	must(t, append(append(how.command, options...), image)...)
	mount(t, dir, "-o", "loop", image)
	return dir
}

// mount has mount(8) mount something on dir until the test ends.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	must(t, append(append([]string{"mount"}, args...), dir)...)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

func folder(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}
