package materialize

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMaterializeMountPoint: neither a mount point nor what holds one is replaced.
func TestMaterializeMountPoint(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	for _, below := range []string{"", `data \ here`} {
		t.Run(below, func(t *testing.T) {
			s := newSpot(t)
			tr := s.store.tree(t, demo)
			s.mustPut(tr, Options{})
			point := filepath.Join(s.dest, below)
			check(t, os.MkdirAll(point, 0o755))
			if err := unix.Mount("tmpfs", point, "tmpfs", 0, ""); err != nil {
				t.Skipf("mount: %v", err)
			}
			t.Cleanup(func() { check(t, unix.Unmount(point, 0)) })
			_, err := s.put(tr, Options{Force: true, Compiled: true})
			if !errors.Is(err, ErrDest) || !strings.Contains(err.Error(), "mount point") {
				t.Errorf("error %v, want ErrDest that says mount point", err)
			}
		})
	}
}

// TestMaterializeStuckLeftover: what can't be removed is said, and keeps nobody from an
// environment.
func TestMaterializeStuckLeftover(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	stuck := filepath.Join(filepath.Dir(s.dest), ".venv.sitefs-0123456789")
	check(t, os.Mkdir(stuck, 0o755))
	if err := unix.Mount("tmpfs", stuck, "tmpfs", 0, ""); err != nil {
		t.Skipf("mount: %v", err)
	}
	s.mustPut(tr, Options{})
	if got := strings.Join(s.warned, "\n"); !strings.Contains(got, stuck) {
		t.Errorf("warnings %q, want one of %q", got, stuck)
	}
	check(t, unix.Unmount(stuck, 0))
	s.mustPut(tr, Options{})
	s.expect(tr)
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`/a\040b`:     "/a b",
		`/a\134\011b`: "/a\\\tb",
		`/a\9`:        `/a\9`,
		`\`:           `\`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestMaterializeOverlay: an environment of the lower layer, as that of a container's
// image, whose name the overlay can't change.
func TestMaterializeOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	base := t.TempDir()
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil { // an overlay can't be the upper layer of one
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(base, 0)) })
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		check(t, os.Mkdir(filepath.Join(base, name), 0o755))
	}
	s := newSpot(t)
	one, two := s.store.tree(t, demo), s.store.tree(t, other)
	merged := filepath.Join(base, "merged")
	s.dest = filepath.Join(base, "lower", "venv")
	s.mustPut(one, Options{Prefix: filepath.Join(merged, "venv")})
	options := strings.NewReplacer("BASE", base).Replace("lowerdir=BASE/lower,upperdir=BASE/upper,workdir=BASE/work,redirect_dir=off")
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("mount an overlay: %v", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(merged, 0)) })

	s.dest = filepath.Join(merged, "venv")
	if r := s.mustPut(one, Options{}); !r.Unchanged {
		t.Errorf("%+v, want unchanged", r)
	}
	s.write("mine.txt", "mine")
	if _, err := s.put(one, Options{Mode: Hardlink}); !errors.Is(err, ErrMode) {
		t.Errorf("by hard links: %v, want ErrMode", err)
	}
	s.mustPut(two, Options{})
	s.expect(two, "mine.txt")
	if got := strings.Join(s.warned, "\n"); !strings.Contains(got, "lower layer of an overlay") {
		t.Errorf("warnings %q, want one of the lower layer", got)
	}
	s.warned = nil
	s.mustPut(one, Options{})
	s.expect(one, "mine.txt")
	if len(s.warned) > 0 {
		t.Errorf("in the upper layer: warnings %q", s.warned)
	}
}
