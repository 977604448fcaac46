package overlay

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/sandbox"
)

var many = flag.Int("files", 3000, "make and remove a folder of `N` files; 1000000 is the long form")

// Names that mean something in a layer can't be made; one in the lower layer is an
// ordinary file.
func TestWhiteoutNames(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	o := newOverlay(t, 0, spec("model", map[string]string{"file": "x", "dir/inner": "y", ".wh.lower": "ordinary", "dir/.wh..wh..opq": "ordinary"}))
	o.mount(t)
	w := newWorld(filepath.Join(o.site, "model"))
	for _, name := range []string{".wh.file", ".wh.new", ".wh..wh..opq", ".wh..wh.sitefs", ".wh."} {
		for _, kind := range []op{
			{Kind: "create", A: name}, {Kind: "mkdir", A: name}, {Kind: "symlink", A: "x", B: name}, {Kind: "fifo", A: name},
			{Kind: "link", A: "file", B: name}, {Kind: "rename", A: "file", B: name}, {Kind: "rename", A: "dir", B: name}, {Kind: "exchange", A: "file", B: name},
		} {
			want := "EPERM"
			if got := w.do(kind); got != want && !(kind.Kind == "exchange" && got == "ENOENT") {
				t.Errorf("%v answers %s, want %s", kind, got, want)
			}
		}
		if _, err := os.Lstat(w.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want nothing there", name, err)
		}
	}
	for _, name := range []string{".wh.lower", "dir/.wh..wh..opq"} {
		for _, kind := range []op{{Kind: "read", A: name}, {Kind: "chmod", A: name, N: 1}, {Kind: "utimes", A: name, N: 1}} {
			if got := w.do(kind); got[:2] != "ok" {
				t.Errorf("%v answers %s", kind, got)
			}
		}
		// Its content would need the name in the upper layer.
		if got := w.do(op{Kind: "append", A: name, N: 1, M: 7}); got != "EPERM" {
			t.Errorf("a write of %s answers %s", name, got)
		}
	}
	for _, kind := range []op{{Kind: "rename", A: ".wh.lower", B: "away"}, {Kind: "append", A: "away", N: 1, M: 7}, {Kind: "unlink", A: "dir/.wh..wh..opq"}} {
		if got := w.do(kind); got[:2] != "ok" {
			t.Errorf("%v answers %s", kind, got)
		}
	}
	o.remount(t)
	for _, name := range []string{".wh.lower", "dir/.wh..wh..opq", ".wh..wh.sitefs"} {
		if _, err := os.Lstat(w.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want nothing there", name, err)
		}
	}
	if _, err := os.Lstat(w.path("dir/inner")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(o.venv, ".wh..wh.sitefs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the side area is seen through the mount: %v", err)
	}
}

// A folder of very many files is made, listed, kept and removed.
func TestManyFiles(t *testing.T) {
	sandbox.NeedRoot(t, "to mount as the user that runs the tests")
	o := newOverlay(t, 0)
	o.mount(t)
	dir := filepath.Join(o.venv, "many")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range *many {
		fd, err := unix.Open(filepath.Join(dir, fmt.Sprintf("file%07d", i)), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	check := func(want int) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != want {
			t.Fatalf("%d entries, want %d; %v", len(entries), want, err)
		}
	}
	check(*many)
	o.remount(t)
	check(*many)
	for i := 0; i < *many; i += 2 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("file%07d", i))); err != nil {
			t.Fatal(err)
		}
	}
	check(*many / 2)
	o.Must(t, "rm", "-r", dir)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want nothing there", err)
	}
}
