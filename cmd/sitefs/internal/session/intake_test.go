package session

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/store"
)

// tiny returns a wheel with nothing but its metadata, and the pin of its download.
func tiny(t *testing.T, name string) (lock.Pin, []byte) {
	t.Helper()
	dir := name + "-1.dist-info/"
	members := [][2]string{
		{dir + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: 1\n"},
		{dir + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
	}
	record := dir + "RECORD,,\n"
	for _, m := range members {
		record += fmt.Sprintf("%s,sha256=%s,%d\n", m[0], digest.Of([]byte(m[1])).Record(), len(m[1]))
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range append(members, [2]string{dir + "RECORD", record}) {
		f, err := w.CreateHeader(&zip.FileHeader{Name: m[0], Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(m[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	pin := lock.Pin{Name: name, Version: "1", Filename: name + "-1-py3-none-any.whl", URL: "https://example.com/" + name}
	return pin, out.Bytes()
}

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestIntakePortions: a full portion is in the store before the rest has
// arrived, so that no more than a portion is lost to a kill.
func TestIntakePortions(t *testing.T) {
	s := open(t)
	in := intake{store: s, portion: 1}
	for _, name := range []string{"one", "two"} {
		pin, data := tiny(t, name)
		added, err := in.add(context.Background(), pin, bytes.NewReader(data), int64(len(data)), store.AddOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !s.HasWheel(added.Digest) {
			t.Errorf("%s is not in the store, want it there before close", name)
		}
	}
	if err := in.close(); err != nil {
		t.Error(err)
	}
}

// TestIntakeLocal: local wheels are committed together, at the end.
func TestIntakeLocal(t *testing.T) {
	s := open(t)
	in := intake{store: s, portion: 1}
	pin, data := tiny(t, "local")
	pin.Path, pin.URL = "/local.whl", ""
	added, err := in.add(context.Background(), pin, bytes.NewReader(data), int64(len(data)), store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.HasWheel(added.Digest) {
		t.Error("a local wheel is in the store before close, want one commit at the end")
	}
	if err := in.close(); err != nil {
		t.Fatal(err)
	}
	if !s.HasWheel(added.Digest) {
		t.Error("a local wheel is not in the store behind close")
	}
}

// TestIntakeRefused: what arrived whole stays when another wheel is refused.
func TestIntakeRefused(t *testing.T) {
	s := open(t)
	in := intake{store: s, portion: portion}
	pin, data := tiny(t, "good")
	good, err := in.add(context.Background(), pin, bytes.NewReader(data), int64(len(data)), store.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pin, data = tiny(t, "bad")
	data = data[:len(data)-1]
	if _, err := in.add(context.Background(), pin, bytes.NewReader(data), int64(len(data)), store.AddOptions{}); err == nil {
		t.Error("a truncated wheel was taken in")
	}
	if err := in.close(); err != nil {
		t.Fatal(err)
	}
	if !s.HasWheel(good.Digest) {
		t.Error("the good wheel is not in the store")
	}
}

func TestMergePins(t *testing.T) {
	a := lock.Pin{Name: "a", Version: "1"}
	requested := lock.Pin{Name: "a", Version: "1", Requested: true}
	pins, err := mergePins([]lock.Pin{a}, []lock.Pin{requested, {Name: "b", Version: "2"}}, "second.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 2 || !pins[0].Requested {
		t.Errorf("equal pins are %+v, want one, requested as either was", pins)
	}
	if _, err := mergePins(pins, []lock.Pin{{Name: "b", Version: "3"}}, "third.toml"); err == nil {
		t.Error("two versions of one package were merged")
	}
	file := func(sum string) []lock.Pin {
		return []lock.Pin{{Name: "c", Version: "1", Filename: "c.whl", Hashes: map[string]string{"sha256": sum}}}
	}
	if _, err := mergePins(file("00"), file("11"), "other.toml"); err == nil {
		t.Error("two files of one name were merged")
	}
	if pins, err := mergePins(file("00"), file("00"), "other.toml"); err != nil || len(pins) != 1 {
		t.Errorf("one file in two locks gives %v, %v, want one pin", pins, err)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		want error
	}{
		{"sh", nil},
		{"/bin/sh", nil},
		{"no-such-command", ErrNotFound},
		{"/no/such/file", ErrNotFound},
		{dir, ErrNotExecutable},
		{"/etc/passwd", ErrNotExecutable},
	} {
		if _, err := lookPath(tt.name, dir+":/bin:/usr/bin"); !errors.Is(err, tt.want) {
			t.Errorf("lookPath(%q) = %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestReadable(t *testing.T) {
	for name, want := range map[string]string{
		"my project":                     "my-project",
		"Übung.1":                        "bung.1",
		"…":                              "env",
		"a-name-that-is-much-too-long-x": "a-name-that-is-much-too",
	} {
		if got := readable(name); got != want {
			t.Errorf("readable(%q) = %q, want %q", name, got, want)
		}
	}
}
