package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
)

var (
	demo = Wheel{
		Digest: digest.Of([]byte("demo")), Name: "demo", Version: "1.0", Filename: "demo-1.0-py3-none-any.whl",
		Size: 1000, Unpacked: 3000, Files: 7, Added: time.Unix(1_700_000_000, 0).UTC(),
		Hashes: map[string]string{"sha512": "abcd"},
	}
	other = Wheel{Digest: digest.Of([]byte("other")), Name: "other", Version: "2.0", Added: time.Unix(1_700_000_001, 0).UTC()}
	venv  = Tree{Digest: digest.Of([]byte("venv")), Layout: "lib-python3.12", Created: time.Unix(1_700_000_002, 0).UTC(), Wheels: 2, Size: 4096}
)

// at opens the catalog in dir, which must not be damaged, and closes it after do.
func at(t *testing.T, dir string, do func(c *Catalog)) {
	t.Helper()
	c, damage, err := Open(context.Background(), dir, time.Minute)
	if err != nil || damage != nil {
		t.Fatalf("open: %v, damage %v", err, damage)
	}
	do(c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func apply(t *testing.T, dir string, ch Change) {
	t.Helper()
	at(t, dir, func(c *Catalog) {
		if err := c.Apply(ch); err != nil {
			t.Fatal(err)
		}
	})
}

// expect holds the catalog, opened anew, to what it must list.
func expect(t *testing.T, dir string, wheels []Wheel, trees []Tree) {
	t.Helper()
	at(t, dir, func(c *Catalog) {
		if got, err := c.Wheels(); err != nil || !reflect.DeepEqual(got, wheels) {
			t.Errorf("wheels are %+v, %v, want %+v", got, err, wheels)
		}
		if got, err := c.Trees(); err != nil || !reflect.DeepEqual(got, trees) {
			t.Errorf("trees are %+v, %v, want %+v", got, err, trees)
		}
	})
}

func TestCatalog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	expect(t, dir, nil, nil)
	apply(t, dir, Change{PutWheels: []Wheel{demo, other}, PutTrees: []Tree{venv}})
	expect(t, dir, byDigest(demo, other), []Tree{venv})
	at(t, dir, func(c *Catalog) {
		if d, ok, err := c.WheelByHash("sha512", "abcd"); d != demo.Digest || !ok || err != nil {
			t.Errorf("by hash: %v, %v, %v, want %v", d, ok, err, demo.Digest)
		}
		if d, ok, err := c.WheelByHash("sha384", "abcd"); ok || err != nil {
			t.Errorf("by a hash of another kind: %v, %v, %v, want none", d, ok, err)
		}
	})
	apply(t, dir, Change{DropWheels: []Wheel{demo}, DropTrees: []Tree{venv}})
	expect(t, dir, []Wheel{other}, nil)
	at(t, dir, func(c *Catalog) {
		if d, ok, err := c.WheelByHash("sha512", "abcd"); ok || err != nil {
			t.Errorf("by the hash of a wheel that was dropped: %v, %v, %v, want none", d, ok, err)
		}
	})
}

func byDigest(a, b Wheel) []Wheel {
	if strings.Compare(a.Digest.String(), b.Digest.String()) > 0 {
		a, b = b, a
	}
	return []Wheel{a, b}
}

func TestBusy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	at(t, dir, func(*Catalog) {
		_, _, err := Open(context.Background(), dir, time.Millisecond)
		if pid := strconv.Itoa(os.Getpid()); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "process "+pid) {
			t.Errorf("error is %v, want %v by process %s", err, ErrBusy, pid)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, _, err := Open(ctx, dir, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("after a cancel: %v, want %v", err, context.Canceled)
		}
	})
	expect(t, dir, nil, nil)
}

// TestWaits shows that the lock is handed on: whoever waits gets it.
func TestWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "catalog")
	first, _, err := Open(context.Background(), dir, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() {
		c, _, err := Open(context.Background(), dir, time.Minute)
		if err == nil {
			err = c.Close()
		}
		second <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// TestDamage shows that a catalog whose files are not those that were closed
// is replaced before Badger sees them, and that this is said.
func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(dir string) error
		said   bool
	}{
		{"manifest is garbage", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte("no manifest, but long enough to be one"), 0o600)
		}, true},
		{"manifest is empty", func(dir string) error { return os.Truncate(filepath.Join(dir, "MANIFEST"), 0) }, true},
		{"tables are gone", func(dir string) error { return each(dir, "*.sst", os.Remove) }, true},
		{"tables are zeros", func(dir string) error { return each(dir, "*.sst", zero) }, true},
		{"value log is cut", func(dir string) error {
			return each(dir, "*.vlog", func(path string) error { return os.Truncate(path, 1) })
		}, true},
		{"a file too many", func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) }, true},
		{"it is a file", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}, true},
		{"removed", os.RemoveAll, false},
		{"removed with its lock", func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Remove(dir+".lock")) }, false},
		{"not closed", func(dir string) error { return os.WriteFile(dir+".lock", []byte("1\n"), 0o600) }, false},
		{"lock is gone", func(dir string) error { return os.Remove(dir + ".lock") }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "catalog")
			apply(t, dir, Change{PutWheels: []Wheel{demo}})
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			c, damage, err := Open(context.Background(), dir, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if said := damage != nil; said != test.said {
				t.Errorf("damage is %v, want some: %v", damage, test.said)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			expect(t, dir, nil, nil)
		})
	}
}

// each does something to every file of a pattern, of which there must be some.
func each(dir, pattern string, do func(path string) error) error {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no %q in %q", pattern, dir)
	}
	for _, p := range paths {
		err = errors.Join(err, do(p))
	}
	return err
}

func zero(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, len(b)), 0o600)
}
