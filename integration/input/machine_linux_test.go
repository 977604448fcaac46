package input

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

func TestStore(t *testing.T) {
	locked := func(name, content string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			s.lockWheel(t, s.wheel)
			s.Write(t, name, content)
		}
	}
	testRefusals(t, []refusal{
		{
			name:    "a newer format",
			setup:   locked("store/FORMAT", "sitefs store 99\n"),
			code:    7,
			message: `not a store that this sitefs can use: "HOME/store" has format 99, this sitefs knows up to 1: use the newer sitefs that made it, or set SITEFS_STORE to another place`,
		}, {
			name:    "another folder",
			setup:   locked("store/thesis.tex", ""),
			code:    7,
			message: `not a store that this sitefs can use: "HOME/store" has no FORMAT file and holds "thesis.tex": set SITEFS_STORE to an empty or a new directory`,
		}, {
			name: "no place for it",
			setup: func(t *testing.T, s *scene) {
				s.lockWheel(t, s.wheel)
				s.Unsetenv("SITEFS_STORE")
				s.Unsetenv("XDG_CACHE_HOME")
				s.Setenv("HOME", "")
			},
			code:    1,
			message: `where to keep the store: $HOME is not defined: set SITEFS_STORE`,
		},
	})
}

func TestStoreOfAnotherUser(t *testing.T) {
	sandbox.NeedRoot(t, "to give a store away")
	s := newScene(t)
	s.lockWheel(t, s.wheel)
	s.Must(t, "sitefs", "list")
	if err := os.Chown(s.Store(), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s.refuses(t, mount, 7, `store belongs to another user: "HOME/store" is of user 65534, this process runs as user 0: set SITEFS_STORE to a directory of your own`)
}

// nobody is the user and the group that own nothing.
const nobody = 65534

func TestReadOnlyStore(t *testing.T) {
	dir := sandbox.Tmpfs(t, "64m")
	s := newScene(t)
	s.lockWheel(t, s.wheel)
	s.Setenv("SITEFS_STORE", filepath.Join(dir, "store"))
	s.Setenv("SITEFS_KEEP", "0")
	run := []string{"sitefs", "run", "-r", "pylock.toml", "--", "python", "-c", "import demo; print(demo.answer)"}
	s.Must(t, run...)
	s.Must(t, "sitefs", "umount", "--all")
	// The mount is gone; its server has files of the store open until it ends.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(s.Dir) }); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}

	t.Run("serves what it has", func(t *testing.T) {
		if got := s.Must(t, run...); got != "42\n" {
			t.Errorf("printed %q, want 42", got)
		}
		s.Must(t, "sitefs", "umount", "--all")
	})
	t.Run("takes nothing", func(t *testing.T) {
		s.Write(t, "pylock.toml", "lock-version = \"1.0\"\ncreated-by = \"test\"\npackages = []\n")
		message := `…store is read-only: "` + dir + `/store": read-only file system: mount it for writing, or set SITEFS_STORE to another place`
		s.refuses(t, mount, 7, message)
		s.refuses(t, append(slices.Clone(mount), "--python", systemPython(t)), 7, message)
	})
	t.Run("can't be made", func(t *testing.T) {
		s.Setenv("SITEFS_STORE", filepath.Join(dir, "new"))
		s.refuses(t, mount, 1, `make the store: mkdir `+dir+`/new: read-only file system: set SITEFS_STORE to a directory that can be written to`)
	})
}

func TestFullDisk(t *testing.T) {
	const size = 8 << 20
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(noise)
	tests := []struct{ name, content, message string }{
		{
			name:    "the download fits, its files don't",
			content: strings.Repeat("\x00", size),
			message: `no space left in the store: wheel "demo-1.0-py3-none-any.whl" needs …, the file system at "DISK" has … free: free some space there, or set SITEFS_STORE to another place`,
		}, {
			name:    "the download doesn't fit",
			content: string(noise),
			message: `demo-1.0-py3-none-any.whl: …no space left on device; make room, or let SITEFS_STORE name a directory elsewhere`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := sandbox.Tmpfs(t, "4m")
			s := newScene(t)
			s.Setenv("SITEFS_STORE", filepath.Join(dir, "store"))
			spec := demo
			spec.Files = map[string]string{"demo.bin": test.content}
			wheel, err := wheelhouse.Write(filepath.Join(s.Dir, "index"), spec)
			if err != nil {
				t.Fatal(err)
			}
			s.lockWheel(t, wheel)
			s.refuses(t, mount, 8, strings.ReplaceAll(test.message, "DISK", dir))
			if left := sandbox.Stored(t, filepath.Join(dir, "store")); len(left) > 0 {
				t.Errorf("the store has %q, want nothing", left)
			}
		})
	}
}

// withoutFUSE runs a command in a mount namespace whose /dev has the usual
// devices but /dev/fuse.
const withoutFUSE = `
mount -t tmpfs sitefs-test "$0" &&
for d in null zero random urandom; do touch "$0/$d" && mount --bind "/dev/$d" "$0/$d" || exit; done &&
ln -s /proc/self/fd "$0/fd" &&
mount --bind "$0" /dev &&
exec "$@"`

// closedFUSE runs a command in a mount namespace where only root may open
// /dev/fuse, and as nobody.
const closedFUSE = `
mount -t tmpfs sitefs-test "$0" &&
cp -a /dev/fuse "$0/fuse" && chmod 600 "$0/fuse" &&
mount --bind "$0/fuse" /dev/fuse &&
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`

func TestNoFUSE(t *testing.T) {
	sandbox.NeedRoot(t, "to take /dev/fuse away")
	t.Run("no device", func(t *testing.T) {
		s := newScene(t)
		s.lockWheel(t, s.wheel)
		argv := append([]string{"unshare", "-m", "sh", "-c", withoutFUSE, t.TempDir()}, append(slices.Clone(mount), "a/b/.venv")...)
		s.fails(t, argv, 9, `cannot mount a FUSE file system: no /dev/fuse: load the kernel module with "modprobe fuse"; a container needs --device /dev/fuse`)
		if _, err := os.Lstat(filepath.Join(s.Dir, "a")); err == nil {
			t.Error("the folders above the mount point are left")
		}
	})
	t.Run("no permission", func(t *testing.T) {
		sandbox.NeedProgram(t, "fusermount3")
		s := newScene(t)
		s.lockWheel(t, s.wheel)
		s.Setenv("SITEFS_PYTHON", systemPython(t))
		for _, dir := range []string{s.Dir, bin} {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(s.Dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		argv := append([]string{"unshare", "-m", "sh", "-c", closedFUSE, t.TempDir()}, mount...)
		s.fails(t, argv, 9, `cannot mount a FUSE file system on "HOME/.venv": …fusermount3: failed to open /dev/fuse: Permission denied (exit status 1)`)
	})
}

// systemPython returns an interpreter that every user may run, or skips the test.
func systemPython(t *testing.T) string {
	t.Helper()
	const path = "/usr/bin/python3"
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs an interpreter that every user may run: %v", err)
	}
	return path
}
