package verify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A pipe in the place of a file that is read is a finding: nobody is waited for to
// write into it.
func TestPipes(t *testing.T) {
	const (
		code = site + "pkg/__pycache__/core.cpython-312.pyc"
		info = site + "pkg-1.0.dist-info"
	)
	for _, c := range []struct {
		path string
		list func(*Result) []Difference
		want string
	}{
		{code, func(r *Result) []Difference { return r.Bytecode }, code},
		{site + "pkg/core.py", func(r *Result) []Difference { return r.Changed }, site + "pkg/core.py"},
		{info + "/RECORD", func(r *Result) []Difference { return r.Unknown }, info},
		{info + "/WHEEL", func(r *Result) []Difference { return r.Changed }, info + "/WHEEL"},
		{"pyvenv.cfg", func(r *Result) []Difference { return r.Changed }, "pyvenv.cfg"},
	} {
		t.Run(c.path, func(t *testing.T) {
			dir := install(t)
			pipe(t, filepath.Join(dir, c.path))
			r, err := Records(t.Context(), dir, Options{Deep: true})
			check(t, err)
			if !slices.ContainsFunc(c.list(r), func(d Difference) bool { return d.Path == c.want }) {
				t.Errorf("found %+v, want %s in it", r, c.want)
			}
		})
	}
}

// A .pyc that has the hash of its source makes that be read.
func TestPipeForHashedSource(t *testing.T) {
	dir := install(t)
	put(t, dir, site+"pkg/__pycache__/extra.cpython-312.pyc", "\xcb\r\r\n\x03\x00\x00\x0012345678")
	pipe(t, filepath.Join(dir, site+"pkg/extra.py"))
	r, err := Records(t.Context(), dir, Options{})
	check(t, err)
	if len(r.Bytecode) != 1 || !strings.Contains(r.Bytecode[0].Found, errSpecial.Error()) {
		t.Errorf("found %+v, want %v", r.Bytecode, errSpecial)
	}
}

// A RECORD of any size takes no more memory than a real one may.
func TestHugeRecord(t *testing.T) {
	dir := install(t)
	check(t, os.Truncate(filepath.Join(dir, site+"pkg-1.0.dist-info/RECORD"), maxMetadata+1))
	r, err := Records(t.Context(), dir, Options{})
	check(t, err)
	if len(r.Unknown) != 1 || !strings.Contains(r.Unknown[0].Found, "more than") {
		t.Errorf("found %+v, want one RECORD that is too large", r.Unknown)
	}
}

// A RECORD that can't be read names no flag of installing.
func TestBadRecord(t *testing.T) {
	dir := install(t)
	cutRecord(t, dir, func(text string) string { return text + "x,sha256=AAAA,1\n" })
	r, err := Records(t.Context(), dir, Options{})
	check(t, err)
	if len(r.Unknown) != 1 || !strings.HasSuffix(r.Unknown[0].Found, "of 32 bytes") {
		t.Errorf("found %+v, want the reason alone", r.Unknown)
	}
}

// pipe puts a pipe at path.
func pipe(t *testing.T, path string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.RemoveAll(path))
	check(t, unix.Mkfifo(path, 0o600))
}
