package wheelhouse

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// TestMakeValid opens a made wheel with the reader it is made for and reads every
// file of it.
func TestMakeValid(t *testing.T) {
	data, err := Make(demoSpec)
	if err != nil {
		t.Fatal(err)
	}
	w, err := wheel.Open(bytes.NewReader(data), int64(len(data)), demoSpec.Filename(), wheel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range w.Info().Files {
		if _, err := w.Extract(i, io.Discard); err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
	}
	if got := w.Info().Warnings; len(got) > 0 {
		t.Errorf("warnings %q, want none", got)
	}
	if got, want := len(w.Info().EntryPoints), 3; got != want {
		t.Errorf("%d entry points, want %d", got, want)
	}
}

// TestPylockValid reads both forms of a lock as sitefs does.
func TestPylockValid(t *testing.T) {
	wheels := []Wheel{{"b-1-py3-none-any.whl", someDigest, 2}}
	url, err := PylockURL(wheels, "http://127.0.0.1:8000")
	if err != nil {
		t.Fatal(err)
	}
	path, err := PylockPath(wheels, "../w")
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{url, path} {
		if _, err := lock.ReadPylock(data, t.TempDir()); err != nil {
			t.Errorf("%v of\n%s", err, data)
		}
	}
}

// TestCacheValid opens every wheel of the lists that is in the cache: what real
// build tools write is what sitefs must read.
func TestCacheValid(t *testing.T) {
	opened := 0
	for _, name := range []string{"bench.txt", "compare.txt"} {
		list, err := ReadList(filepath.Join("..", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			f, err := os.Open(w.Path())
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := wheel.Open(f, w.Size, w.Filename, wheel.Options{}); err != nil {
				t.Error(err)
			}
			f.Close()
			opened++
		}
	}
	if opened == 0 {
		t.Skip("needs wheels: go run ./integration/wheelhouse/fetch integration/testdata/*.txt")
	}
}
