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
