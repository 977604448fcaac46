package bytecode

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// put makes an entry as a host does.
func put(t testing.TB, c *Cache, dir string, s *Source, opt int, kind kind, payload string) {
	t.Helper()
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if kind == kindCode {
		h := header(c.magic, s)
		payload = string(h[:]) + payload
	}
	if err := c.put(filepath.Join(dir, "aside"), key{s.Digest, opt}, kind, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

// TestFormat holds the format: what is in the caches of users must be found by
// every later version, or count as absent.
func TestFormat(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n"})
	c := e.cache(t)
	s := e.source(t, "demo.py")
	s.Mtime = 315705600 + 1<<32 // Python keeps the lower 32 bits
	put(t, c, e.scratch(0), &s, 0, kindCode, "code")
	put(t, c, e.scratch(0), &s, 2, kindFailure, "demo.py\x00SyntaxError")
	for name, want := range map[string]string{
		"": "cb0d0d0a" + "00000000" + "0049d112" + "06000000" + "636f6465" + "7366707963010100" +
			"0af083b17e03434ca02a210910dec5fd16011532a419daa8cdfa2b8c86785ff1",
		".opt-2": "64656d6f2e707900" + "53796e7461784572726f72" + "7366707963010202" +
			"549fef07a96c92f15dae29c06b16bb8b97b5bb1f52bd92a0b518d8e8945b0cee",
	} {
		d := s.Digest.String()
		b, err := os.ReadFile(filepath.Join(e.dir, "bytecode/cpython-312-cb0d0d0a", d[:2], d[2:]+name))
		if err != nil || hex.EncodeToString(b) != want {
			t.Errorf("entry %q: %x, %v, want %s", name, b, err, want)
		}
	}
}

// TestDamaged flips every bit of an entry's bytes and cuts it at every length. What
// is left of it is never found, and a new entry takes its place.
func TestDamaged(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n"})
	c := e.cache(t)
	s := e.source(t, "demo.py")
	for _, kind := range []kind{kindCode, kindFailure} {
		put(t, c, e.scratch(0), &s, 1, kind, "demo.py\x00reason")
		want, ok := c.find(&s, 1)
		if !ok {
			t.Fatal("a whole entry isn't found")
		}
		path := c.path(key{s.Digest, 1})
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := [][]byte{nil, append(bytes.Clone(whole), 0), make([]byte, len(whole))}
		for i := range whole {
			damaged = append(damaged, whole[:i])
			for bit := range 8 {
				b := bytes.Clone(whole)
				b[i] ^= 1 << bit
				damaged = append(damaged, b)
			}
		}
		for _, b := range damaged {
			replaceFile(t, path, b)
			if got, ok := c.find(&s, 1); ok {
				t.Fatalf("% x is found as %+v\nwhole: % x", b, got, whole)
			}
		}
		put(t, c, e.scratch(0), &s, 1, kind, "demo.py\x00reason")
		if got, ok := c.find(&s, 1); !ok || got != want {
			t.Errorf("after it was made again: %+v, %v, want %+v", got, ok, want)
		}
	}
}

func replaceFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o444); err != nil {
		t.Fatal(err)
	}
}

// TestForeign puts a whole entry where another one belongs.
func TestForeign(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n", "other.py": "x = 2\n"})
	c := e.cache(t)
	demo, other := e.source(t, "demo.py"), e.source(t, "other.py")
	later, longer := demo, demo
	later.Mtime++
	longer.Size++
	e.version = Version{Tag: "cpython-313", Magic: "f30d0d0a"}
	newer := e.cache(t)
	e.version = Version{Tag: "pypy310", Magic: testVersion.Magic}
	pypy := e.cache(t)
	tests := []struct {
		name   string
		cache  *Cache
		source *Source
		opt    int
		ok     bool
	}{
		{"itself", c, &demo, 0, true},
		{"other source", c, &other, 0, false},
		{"other time", c, &later, 0, false},
		{"other size", c, &longer, 0, false},
		{"other optimisation", c, &demo, 1, false},
		{"other magic number", newer, &demo, 0, false},
		{"other tag", pypy, &demo, 0, false},
	}
	for _, kind := range []kind{kindCode, kindFailure} {
		put(t, c, e.scratch(0), &demo, 0, kind, "demo.py\x00reason")
		b, err := os.ReadFile(c.path(key{demo.Digest, 0}))
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range tests {
			path := test.cache.path(key{test.source.Digest, test.opt})
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			// A failure says nothing of a time or size: they follow from the source.
			want := test.ok || kind == kindFailure && test.cache == c && test.source.Digest == demo.Digest && test.opt == 0
			if _, ok := test.cache.find(test.source, test.opt); ok != want {
				t.Errorf("kind %d, %s: found is %v", kind, test.name, ok)
			}
		}
	}
}

// TestQuarantined: what the store has no source of any more has no bytecode.
func TestQuarantined(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n"})
	c := e.cache(t)
	s := e.source(t, "demo.py")
	put(t, c, e.scratch(0), &s, 0, kindCode, "code")
	if err := os.Rename(e.blobs.path(s.Digest), filepath.Join(e.dir, "quarantine")); err != nil {
		t.Fatal(err)
	}
	if got, ok := c.find(&s, 0); ok {
		t.Errorf("%+v is found without its source", got)
	}
}

// TestLarge checks entries around the size of what is read at a time.
func TestLarge(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n"})
	c := e.cache(t)
	s := e.source(t, "demo.py")
	piece := len(checker{}.buf)
	for _, n := range []int{1, piece - headerSize - 1, piece - headerSize, piece - headerSize + 1, piece, 3*piece + 5} {
		put(t, c, e.scratch(0), &s, 0, kindCode, strings.Repeat("x", n))
		if got, ok := c.find(&s, 0); !ok || got.size != int64(n+headerSize) {
			t.Errorf("%d bytes of code: %+v, %v", n, got, ok)
		}
	}
}

func TestOpen(t *testing.T) {
	e := newEnv(t, map[string]string{"demo.py": "x = 1\n", "bad.py": "bad", "none.py": "none", "torn.py": "torn"})
	c := e.cache(t)
	s, bad, torn := e.source(t, "demo.py"), e.source(t, "bad.py"), e.source(t, "torn.py")
	put(t, c, e.scratch(0), &s, 2, kindCode, "code")
	put(t, c, e.scratch(0), &bad, 0, kindFailure, "bad.py\x00reason, and more than a header")
	put(t, c, e.scratch(0), &torn, 0, kindCode, "")
	replaceFile(t, c.path(key{torn.Digest, 0}), make([]byte, 20))
	found, ok := c.find(&s, 2)
	if !ok {
		t.Fatal("not found")
	}
	fd, size, err := c.open(key{s.Digest, 2}, found.stamp)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, size)
	if !readFull(fd, b, 0) || string(b[headerSize:]) != "code" {
		t.Errorf("open: %q", b)
	}
	for _, name := range []string{"bad.py", "none.py", "torn.py"} {
		if _, _, err := c.open(key{e.source(t, name).Digest, 0}, found.stamp); err == nil {
			t.Errorf("%q can be opened", name)
		}
	}
	put(t, c, e.scratch(0), &s, 2, kindCode, "cod2")
	if _, _, err := c.open(key{s.Digest, 2}, found.stamp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another compilation can be opened: %v", err)
	}
}

func TestVersion(t *testing.T) {
	for _, v := range []Version{
		{},
		{Tag: "cpython-312"},
		{Magic: "cb0d0d0a"},
		{Tag: "../cpython-312", Magic: "cb0d0d0a"},
		{Tag: "cpython-312", Magic: "cb0d0d0"},
		{Tag: "cpython-312", Magic: "cb0d0d0a0"},
		{Tag: "cpython-312", Magic: "cb0d0d0a00"},
		{Tag: "cpython-312", Magic: "cb0d0d0x"},
	} {
		if _, err := Open(t.TempDir(), v, dirBlobs("")); err == nil {
			t.Errorf("%+v is accepted", v)
		}
	}
}

// BenchmarkHit finds an entry of 10 kB, which is what a median one has.
func BenchmarkHit(b *testing.B) {
	e := newEnv(b, map[string]string{"demo.py": "x = 1\n"})
	c := e.cache(b)
	s := e.source(b, "demo.py")
	put(b, c, e.scratch(0), &s, 0, kindCode, strings.Repeat("x", 10_000))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.find(&s, 0); !ok {
			b.Fatal("not found")
		}
	}
}
