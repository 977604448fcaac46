package upper

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDirLimit(t *testing.T) {
	for descriptors, want := range map[uint64]int{0: 1, 7: 1, 256: 32, 1024: maxDirs, math.MaxUint64: maxDirs} {
		if got := dirLimit(descriptors); got != want {
			t.Errorf("%d of %d descriptors, want %d", got, descriptors, want)
		}
	}
}

func TestDirsKeepTheirLimit(t *testing.T) {
	top := t.TempDir()
	root, err := unix.Open(top, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dirs := newDirs(root)
	defer dirs.close()
	dirs.limit = 3
	for i := range 10 {
		name := strconv.Itoa(i)
		if err := os.Mkdir(filepath.Join(top, name), 0o700); err != nil {
			t.Fatal(err)
		}
		d, err := dirs.acquire(name)
		if err != nil {
			t.Fatal(err)
		}
		dirs.release(d)
		if len(dirs.open) > dirs.limit {
			t.Fatalf("%d are kept, want at most %d", len(dirs.open), dirs.limit)
		}
	}
}
