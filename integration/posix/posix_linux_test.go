package posix

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// dir is where the suite is run, to hold another file system to it.
var dir = flag.String("dir", "", "run the cases in `DIR` instead of a temporary directory")

// newPlace returns a place of its own for a user, in -dir.
func newPlace(t *testing.T, uid int) Place {
	t.Helper()
	root, err := os.MkdirTemp(*dir, "posix-") // not the test's own, which is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(root, uid, uid); err != nil {
		t.Fatal(err)
	}
	return Place{Dir: root, UID: uid, GID: uid, Others: true}
}

// complain fails a test for what a case complains about.
func complain(t *testing.T, said []string) {
	t.Helper()
	for _, s := range said {
		t.Error(s)
	}
}

// On an ordinary file system every case passes.
func TestCases(t *testing.T) {
	users := []int{os.Getuid()}
	if users[0] == 0 {
		users = append(users, sandbox.Nobody)
	}
	for _, uid := range users {
		t.Run(fmt.Sprint("as ", uid), func(t *testing.T) {
			p := newPlace(t, uid)
			var shm unix.Statfs_t
			if unix.Statfs("/dev/shm", &shm) == nil && shm.Type == unix.TMPFS_MAGIC {
				p.Outside = "/dev/shm"
			}
			for _, k := range Cases() {
				if p.For(k, Made) && !(k.Large && uid != os.Getuid()) {
					t.Run(k.Name, func(t *testing.T) { complain(t, p.Try(k, Made)) })
				}
			}
		})
	}
}

// Names tell cases apart, in a folder's name too.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Cases() {
		folder := k.Folder(Lower)
		if seen[folder] {
			t.Errorf("two cases have the folder %q", folder)
		}
		seen[folder] = true
		if len(filepath.Base(folder))+len(before("")) > 100 {
			t.Errorf("%q is too long for an archive's name", folder)
		}
	}
}

// TestOverlayfs shows that the cases can fail. The kernel's own overlay is known
// not to rename folders of its lower layer, and to leave who has mapped a file
// before it was copied up with the old content.
func TestOverlayfs(t *testing.T) {
	sandbox.NeedRoot(t, "to mount overlayfs")
	failing := map[string]bool{
		"rename/a folder": true, "rename/a folder to and fro": true, "rename/EXCHANGE of folders": true, "mmap/read only sees later writes": true,
		"rename/a file": false, "mmap/shared and writable": false, "unlinked/is read and written": false,
	}
	cases := slices.DeleteFunc(Cases(), func(k Case) bool {
		_, ok := failing[k.Name]
		return !ok
	})
	if len(cases) != len(failing) {
		t.Fatalf("%d cases have the names of %d", len(cases), len(failing))
	}
	p := newPlace(t, 0)
	lower, upper, work, merged := p.Dir+"/lower", p.Dir+"/upper", p.Dir+"/work", p.Dir+"/merged"
	for _, d := range []string{lower, upper, work, merged} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFiles(lower, LowerFiles(cases)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)); err != nil {
		t.Skipf("needs overlayfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, 0); err != nil {
			t.Error(err)
		}
	})
	p.LowerDir, p.Dir = merged, merged+"/made"
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, k := range cases {
		for o, want := range map[Origin]bool{Made: false, Lower: failing[k.Name]} {
			if said := p.Try(k, o); len(said) > 0 != want {
				t.Errorf("%s, %s: fails: %v, want %v: %q", k.Name, o, len(said) > 0, want, said)
			}
		}
	}
}

// ops is how long the exercise is.
var ops = flag.Int("ops", 3000, "do `N` random operations on a file; 10000000 is the long form")

func TestExercise(t *testing.T) {
	path := newPlace(t, os.Getuid()).Dir + "/file"
	if err := os.WriteFile(path, []byte(big), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (Exercise{Path: path, Seed: 1, Ops: *ops}).Run(); err != nil {
		t.Error(err)
	}
}

// A change behind the exercise's back is found.
func TestExerciseFails(t *testing.T) {
	path := newPlace(t, os.Getuid()).Dir + "/file"
	if err := os.WriteFile(path, []byte(big), 0o644); err != nil {
		t.Fatal(err)
	}
	flip := func(*rand.Rand) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		p := make([]byte, fi.Size())
		if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
			return err
		}
		for i := range p {
			p[i]++
		}
		_, err = f.WriteAt(p, 0)
		return err
	}
	if err := (Exercise{Path: path, Seed: 2, Ops: 5000, Disturb: flip}).Run(); err == nil {
		t.Error("nothing is found wrong with a file that another changes")
	}
}
