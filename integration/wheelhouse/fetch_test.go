package wheelhouse

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// fakePip puts a python3 on PATH whose "pip download" copies from a directory,
// and returns a file that gets a line for each download.
func fakePip(t *testing.T, from string) (log string) {
	t.Helper()
	bin := t.TempDir()
	log = filepath.Join(bin, "log")
	script := `#!/bin/sh
[ "$3" = --version ] && exit 0
echo "$*" >>"$FAKE_LOG"
while [ $# -gt 0 ]; do
	case $1 in
	--dest) dest=$2 ;;
	--requirement) requirements=$2 ;;
	esac
	shift
done
while read -r pin _; do
	name=${pin%%==*}
	cp "$FAKE_FROM/$name"-* "$dest" || { echo "no matching distribution for $pin" >&2; exit 1; }
done <"$requirements"
`
	if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("FAKE_LOG", log)
	t.Setenv("FAKE_FROM", from)
	return log
}

// made puts n small wheels into a new directory.
func made(t *testing.T, n int) (dir string, list []Wheel) {
	t.Helper()
	dir = t.TempDir()
	for i := range n {
		w, err := Write(dir, Spec{Name: "demo" + itoa(i), Version: "1.0"})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, w)
	}
	return dir, list
}

func TestFetch(t *testing.T) {
	from, list := made(t, 2*batch+1)
	log := fakePip(t, from)
	cache := filepath.Join(t.TempDir(), "not", "there")
	t.Setenv("SITEFS_TEST_WHEELS", cache)
	if got := len(Missing(list)); got != len(list) {
		t.Fatalf("%d wheels missing of an empty cache, want %d", got, len(list))
	}
	var said bytes.Buffer
	if err := Fetch(t.Context(), list, &said); err != nil {
		t.Fatal(err)
	}
	if m := Missing(list); len(m) > 0 {
		t.Errorf("missing after the fetch: %v", m)
	}
	for _, w := range list {
		if sum, err := digestFile(w.Path()); err != nil || sum != w.Digest {
			t.Errorf("%s has digest %s (error %v), want %s", w.Filename, sum, err, w.Digest)
		}
	}
	if got := downloads(t, log); got != 3 {
		t.Errorf("pip ran %d times, want 3", got)
	}
	checkClean(t, cache)

	said.Reset()
	if err := Fetch(t.Context(), list, &said); err != nil {
		t.Fatal(err)
	}
	if said.Len() > 0 || downloads(t, log) != 3 {
		t.Errorf("the second fetch said %q and pip ran %d times, want silence and 3", &said, downloads(t, log))
	}
}

func TestFetchTarget(t *testing.T) {
	log := fakePip(t, t.TempDir())
	t.Setenv("SITEFS_TEST_WHEELS", t.TempDir())
	list := []Wheel{
		{"a-1-cp312-cp312-manylinux_2_28_x86_64.manylinux2014_x86_64.whl", someDigest, 1},
		{"b-1-py3-none-any.whl", someDigest, 1},
	}
	if err := Fetch(t.Context(), list, new(bytes.Buffer)); err == nil {
		t.Error("a fetch of what is nowhere succeeded")
	}
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "--no-deps --require-hashes --only-binary :all: --implementation cp --python-version 3.12 --abi cp312" +
		" --platform any --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --dest "
	if !strings.Contains(string(got), want) {
		t.Errorf("pip was called with\n%s\nwant\n%s", got, want)
	}
}

func TestFetchRejects(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, from string, w *Wheel)
		want  string // part of the error
	}{
		{"wrong size", func(t *testing.T, _ string, w *Wheel) { w.Size++ }, "bytes, want"},
		{"wrong digest", func(t *testing.T, _ string, w *Wheel) { w.Digest = someDigest }, "has SHA-256"},
		{"pip fails", func(t *testing.T, from string, w *Wheel) {
			if err := os.Remove(filepath.Join(from, w.Filename)); err != nil {
				t.Fatal(err)
			}
		}, "no matching distribution for demo0==1.0"},
		{"another file", func(t *testing.T, from string, w *Wheel) {
			w.Filename = strings.Replace(w.Filename, "py3", "cp312", 1)
		}, "the index has another file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, list := made(t, 1)
			fakePip(t, from)
			cache := t.TempDir()
			t.Setenv("SITEFS_TEST_WHEELS", cache)
			tt.spoil(t, from, &list[0])
			err := Fetch(t.Context(), list, new(bytes.Buffer))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if len(Missing(list)) != 1 {
				t.Error("the wheel is in the cache")
			}
			checkClean(t, cache)
		})
	}
}

// TestFetchOnce has several fetches run at once: one downloads.
func TestFetchOnce(t *testing.T) {
	from, list := made(t, 3)
	log := fakePip(t, from)
	t.Setenv("SITEFS_TEST_WHEELS", t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := Fetch(t.Context(), list, new(bytes.Buffer)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := downloads(t, log); got != 1 {
		t.Errorf("pip ran %d times, want 1", got)
	}
}

func TestFetchWaits(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("SITEFS_TEST_WHEELS", cache)
	unlock, err := lockFile(t.Context(), filepath.Join(cache, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, list := made(t, 1)
	if err := Fetch(ctx, list, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestFetchNoPip(t *testing.T) {
	t.Setenv("SITEFS_TEST_WHEELS", t.TempDir())
	t.Setenv("PATH", t.TempDir())
	_, list := made(t, 1)
	if err := Fetch(t.Context(), list, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "no pip runs here") {
		t.Errorf("error %v, want one that says so", err)
	}
}

// TestFetchPip has the real pip fetch from a real index, on loopback.
func TestFetchPip(t *testing.T) {
	realPip(t)
	dir, list := made(t, 2)
	s := serve(t, dir)
	t.Setenv("PIP_INDEX_URL", s.SimpleURL())
	t.Setenv("SITEFS_TEST_WHEELS", t.TempDir())
	if err := Fetch(t.Context(), list, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	if m := Missing(list); len(m) > 0 {
		t.Errorf("missing after the fetch: %v", m)
	}
}

// downloads counts the runs of the fake pip.
func downloads(t *testing.T, log string) int {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

// checkClean fails if the cache holds more than wheels and its lock.
func checkClean(t *testing.T, cache string) {
	t.Helper()
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !isWheelName(e.Name()) && e.Name() != ".lock" {
			t.Errorf("left behind in the cache: %s", e.Name())
		}
	}
}
