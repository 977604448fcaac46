package materialize

import (
	"context"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// fakeCode has bytecode of these sources at these levels: a header and a word.
type fakeCode struct {
	dir   string
	level map[digest.Digest]int
}

func (c fakeCode) OpenCode(source digest.Digest, size, mtime int64, optimize int) (int, int64, error) {
	if level, ok := c.level[source]; !ok || level != optimize {
		return -1, 0, fs.ErrNotExist
	}
	code := codeOf(size, mtime)
	path := filepath.Join(c.dir, source.String())
	if err := os.WriteFile(path, append(code, "a trailer"...), 0o600); err != nil {
		return -1, 0, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	return fd, int64(len(code)), err
}

func (c fakeCode) CodeName(stem string, optimize int) string {
	return stem + []string{".tag.pyc", ".tag.opt-1.pyc", ".tag.opt-2.pyc"}[optimize]
}

func codeOf(size, mtime int64) []byte {
	h := binary.LittleEndian.AppendUint32([]byte("\xcb\x0d\r\n\x00\x00\x00\x00"), uint32(mtime))
	return append(binary.LittleEndian.AppendUint32(h, uint32(size)), "code"...)
}

func TestBytecode(t *testing.T) {
	const one, two = "lib/site/a/__init__.py", "lib/site/a/mod.py"
	for _, mode := range []Mode{Copy, Clone, Hardlink, Symlink} {
		t.Run(mode.String(), func(t *testing.T) {
			s := newStore(t)
			tr := s.tree(t, demo)
			code := fakeCode{t.TempDir(), map[digest.Digest]int{digest.Of([]byte(demo[one])): 1, digest.Of([]byte(demo[two])): 0}}
			dir := filepath.Join(t.TempDir(), "venv")
			var r Report
			check(t, build(context.Background(), copyClone(), tr, s, dir, nil, Options{Mode: mode, Bytecode: code}, &r))
			expectTree(t, s, tr, dir)
			if r.Bytecode != 2 {
				t.Errorf("%d files of bytecode, want 2", r.Bytecode)
			}
			for pyc, source := range map[string]string{"__init__.tag.opt-1.pyc": one, "mod.tag.pyc": two} {
				info, err := os.Stat(filepath.Join(dir, source)) // as Python does
				check(t, err)
				got, err := os.ReadFile(filepath.Join(dir, "lib/site/a/__pycache__", pyc))
				if want := codeOf(info.Size(), info.ModTime().Unix()); err != nil || string(got) != string(want) {
					t.Errorf("%s holds %q, %v, want %q", pyc, got, err, want)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, "lib/site/b/deep/__pycache__")); err == nil {
				t.Error("a directory without sources has a __pycache__")
			}
		})
	}
}

// TestMaterializeCompiled: who asks for bytecode gets it back when it was removed, or
// when it is of another source.
func TestMaterializeCompiled(t *testing.T) {
	const source, pyc = "lib/site/a/mod.py", "lib/site/a/__pycache__/mod.tag.pyc"
	s := newSpot(t)
	tr := s.store.tree(t, demo)
	o := Options{Compiled: true, Bytecode: fakeCode{t.TempDir(), map[digest.Digest]int{digest.Of([]byte(demo[source])): 0}}}
	s.mustPut(tr, o)
	want := s.read(pyc)
	if r := s.mustPut(tr, o); !r.Unchanged {
		t.Errorf("again: %+v, want unchanged", r)
	}
	for name, spoil := range map[string]func(){
		"one file":   func() { check(t, os.Remove(filepath.Join(s.dest, pyc))) },
		"the folder": func() { check(t, os.RemoveAll(filepath.Join(s.dest, filepath.Dir(pyc)))) },
		"stale":      func() { s.write(filepath.Dir(pyc)+"/mod.cpython-312.pyc", string(codeOf(1, 1))) },
	} {
		spoil()
		if r := s.mustPut(tr, Options{}); !r.Unchanged {
			t.Errorf("%s, not asked for: %+v, want unchanged", name, r)
		}
		if r := s.mustPut(tr, o); r.Unchanged || s.read(pyc) != want {
			t.Errorf("%s: %+v, want bytecode again", name, r)
		}
	}
	s.expect(tr)
}
