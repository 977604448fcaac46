package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents is what the files of the test's tree hold, by digest.
var contents = map[digest.Digest]string{}

// newTree returns a tree whose files are in contents.
func newTree(t testing.TB, prefix string) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder("lib-python3.12")
	for path, text := range map[string]string{
		"lib/site/a/__init__.py": "",
		"lib/site/a/mod.py":      "x = 1\n",
		"lib/site/a/data.bin":    "0123456789",
		"lib/site/b/tool.so":     "elf",
	} {
		d := digest.Of([]byte(text))
		contents[d] = text
		check(t, b.File(path, strings.HasSuffix(path, ".so"), int64(len(text)), d))
	}
	check(t, b.Inline("pyvenv.cfg", false, []byte("home = /usr\n")))
	check(t, b.Template("bin/tool", true, append([]byte(tree.MarkScript), "import a\n"...)))
	check(t, b.Symlink("lib64", "lib"))
	built, err := b.Build(1e9)
	check(t, err)
	open, err := tree.Open(built, prefix, nil)
	check(t, err)
	return open
}

// write writes t to dir as package materialize does.
func write(t testing.TB, tr *tree.Tree, dir string) {
	t.Helper()
	check(t, tr.Walk(func(path string, id tree.ID, a tree.Attr) error {
		path = filepath.Join(dir, path)
		mode, text := fs.FileMode(0o644), []byte(contents[a.Digest])
		if a.Exec {
			mode = 0o755
		}
		switch a.Kind {
		case tree.Dir:
			return errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, 0o755))
		case tree.Symlink:
			target, err := tr.Link(id)
			return errors.Join(err, os.Symlink(string(target), path))
		case tree.Inline, tree.Template:
			var err error
			if text, err = tr.Bytes(id); err != nil {
				return err
			}
		}
		at := time.Unix(a.Mtime, 0)
		return errors.Join(os.WriteFile(path, text, mode), os.Chmod(path, mode), os.Chtimes(path, at, at))
	}))
}

// put writes a file of today beneath dir.
func put(t testing.TB, dir, path, text string) {
	t.Helper()
	path = filepath.Join(dir, path)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(text), 0o644))
}

// pyc returns a .pyc file of Python 3.12 for the source at path.
func pyc(t testing.TB, path string, later int) string {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	h := []byte("\xcb\x0d\r\n\x00\x00\x00\x00")
	h = binary.LittleEndian.AppendUint32(h, uint32(info.ModTime().Unix()+int64(later)))
	return string(binary.LittleEndian.AppendUint32(h, uint32(info.Size()))) + "code"
}

func TestTree(t *testing.T) {
	const whole = "lib/site/a/"
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		deep   bool
		want   Result
	}{
		{"nothing", func(*testing.T, string) {}, false, Result{}},
		{"nothing, deep", func(*testing.T, string) {}, true, Result{}},
		{"missing", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, whole+"mod.py")))
			check(t, os.Remove(filepath.Join(dir, "lib64")))
			check(t, os.RemoveAll(filepath.Join(dir, "lib/site/b")))
		}, false, Result{Missing: []string{whole + "mod.py", "lib/site/b", "lib64"}}},
		{"size", func(t *testing.T, dir string) {
			put(t, dir, whole+"data.bin", "012345678")
		}, false, Result{Changed: []Difference{{whole + "data.bin", "9 bytes", "10 bytes"}}}},
		{"an edit of the same size is seen by its time", func(t *testing.T, dir string) {
			put(t, dir, whole+"data.bin", "012345678!")
		}, false, Result{Changed: []Difference{{
			whole + "data.bin", "hash " + digest.Of([]byte("012345678!")).String(), digest.Of([]byte("0123456789")).String(),
		}}}},
		{"a touched file is the same file", func(t *testing.T, dir string) {
			put(t, dir, whole+"data.bin", "0123456789")
		}, false, Result{}},
		{"rotten bytes need a deep look", func(t *testing.T, dir string) {
			rot(t, filepath.Join(dir, whole+"data.bin"))
		}, false, Result{}},
		{"rotten bytes", func(t *testing.T, dir string) {
			rot(t, filepath.Join(dir, whole+"data.bin"))
		}, true, Result{Changed: []Difference{{
			whole + "data.bin", "hash " + digest.Of([]byte("X123456789")).String(), digest.Of([]byte("0123456789")).String(),
		}}}},
		{"a script", func(t *testing.T, dir string) {
			rot(t, filepath.Join(dir, "bin/tool"))
		}, true, Result{Changed: []Difference{{
			"bin/tool", "hash " + digest.Of([]byte("X!/venv/bin/python\nimport a\n")).String(), digest.Of([]byte("#!/venv/bin/python\nimport a\n")).String(),
		}}}},
		{"mode", func(t *testing.T, dir string) {
			check(t, os.Chmod(filepath.Join(dir, "bin/tool"), 0o644))
			check(t, os.Chmod(filepath.Join(dir, "lib/site/b"), 0o700))
		}, false, Result{Mode: []Difference{{"bin/tool", "0644", "0755"}, {"lib/site/b", "0700", "0755"}}}},
		{"kinds", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "lib64")))
			check(t, os.Mkdir(filepath.Join(dir, "lib64"), 0o755))
			check(t, os.Remove(filepath.Join(dir, "bin/tool")))
			check(t, os.Symlink("python", filepath.Join(dir, "bin/tool")))
			check(t, os.RemoveAll(filepath.Join(dir, "lib/site/b")))
			check(t, unix.Mkfifo(filepath.Join(dir, "lib/site/b"), 0o644))
		}, false, Result{Changed: []Difference{
			{"bin/tool", "a symlink", "a file"}, {"lib/site/b", "a special file of mode 010644", "a directory"}, {"lib64", "a directory", "a symlink"},
		}}},
		{"a link to elsewhere", func(t *testing.T, dir string) {
			check(t, os.Remove(filepath.Join(dir, "lib64")))
			check(t, os.Symlink("/usr/lib", filepath.Join(dir, "lib64")))
		}, false, Result{Changed: []Difference{{"lib64", `a symlink to "/usr/lib"`, `one to "lib"`}}}},
		{"extra", func(t *testing.T, dir string) {
			put(t, dir, "lib/site/a/mine.py", "")
			put(t, dir, "lib/site/c/mine.py", "")
			put(t, dir, "ignored/mine.py", "")
			put(t, dir, "lib/site/a/__pycache__/numba.nbi", "")
		}, false, Result{Extra: []string{"lib/site/a/mine.py", "lib/site/c/"}}},
		{"conflict copies", func(t *testing.T, dir string) {
			put(t, dir, "lib/site/a/mod 2.py", "")
			put(t, dir, "lib/site/a/mod (1).py", "")
			put(t, dir, "lib/site/a/mine 2.py", "") // a copy of nothing
			check(t, os.Mkdir(filepath.Join(dir, "bin 2"), 0o755))
		}, false, Result{
			Conflict: []string{"bin 2/", "lib/site/a/mod (1).py", "lib/site/a/mod 2.py"},
			Extra:    []string{"lib/site/a/mine 2.py"},
		}},
		{"bytecode that matches", func(t *testing.T, dir string) {
			put(t, dir, whole+"__pycache__/mod.cpython-312.pyc", pyc(t, filepath.Join(dir, whole+"mod.py"), 0))
			put(t, dir, whole+"__pycache__/mod.cpython-312.opt-2.pyc", pyc(t, filepath.Join(dir, whole+"mod.py"), 0))
			put(t, dir, whole+"__pycache__/mod.cpython-312-pytest-8.3.pyc", "")
		}, false, Result{}},
		{"bytecode that doesn't", func(t *testing.T, dir string) {
			put(t, dir, whole+"__pycache__/mod.cpython-312.pyc", pyc(t, filepath.Join(dir, whole+"mod.py"), 1))
			put(t, dir, whole+"__pycache__/gone.cpython-312.pyc", "")
			put(t, dir, whole+"__pycache__/__init__.cpython-312.pyc", "")
		}, false, Result{Bytecode: []Difference{
			{whole + "__pycache__/__init__.cpython-312.pyc", "no header of a .pyc file", "one of 16 bytes"},
			{whole + "__pycache__/gone.cpython-312.pyc", "no gone.py to go with it", "its source"},
			{whole + "__pycache__/mod.cpython-312.pyc", "for a source of 6 bytes and time " + stamp("x = 1\n", 1), "6 bytes and time " + stamp("x = 1\n", 0)},
		}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			tr := newTree(t, "/venv")
			write(t, tr, dir)
			test.change(t, dir)
			got, err := Tree(context.Background(), tr, dir, Options{
				Deep:   test.deep,
				Ignore: func(path string) bool { return path == "ignored" },
			})
			check(t, err)
			if (got.Err() == nil) != test.want.isEmpty() {
				t.Errorf("Err() = %v", got.Err())
			}
			if test.want.isEmpty() && (got.Files != 7 || got.Bytes != 59) {
				t.Errorf("%d files of %d bytes, want 7 of 59", got.Files, got.Bytes)
			}
			got.Files, got.Bytes = 0, 0
			if !reflect.DeepEqual(got, &test.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, &test.want)
			}
		})
	}
}

func (r *Result) isEmpty() bool { return reflect.DeepEqual(r, new(Result)) }

// stamp is the time of a source with that content, moved by so many seconds.
func stamp(text string, later int64) string {
	return strconv.FormatInt(tree.SourceTime(digest.Of([]byte(text)))+later, 10)
}

// rot changes the first byte of a file and leaves its time.
func rot(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	text, err := os.ReadFile(path)
	check(t, err)
	text[0] = 'X'
	check(t, os.WriteFile(path, text, 0))
	check(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

func TestTreeOfNothing(t *testing.T) {
	_, err := Tree(context.Background(), newTree(t, "/venv"), filepath.Join(t.TempDir(), "none"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
}

func TestTreeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Tree(ctx, newTree(t, "/venv"), t.TempDir(), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// TestSymlinks: in an environment of symlinks a link to the content is the file.
func TestSymlinks(t *testing.T) {
	dir, blobs := t.TempDir(), t.TempDir()
	tr := newTree(t, "/venv")
	write(t, tr, dir)
	blobPath := func(d digest.Digest) string { return filepath.Join(blobs, d.String()) }
	for d, text := range contents {
		check(t, os.WriteFile(blobPath(d), []byte(text), 0o444))
	}
	link := func(path, target string) {
		path = filepath.Join(dir, path)
		check(t, os.Remove(path))
		check(t, os.Symlink(target, path))
	}
	link("lib/site/a/mod.py", blobPath(digest.Of([]byte("x = 1\n"))))
	o := Options{Deep: true, BlobPath: blobPath}
	got, err := Tree(context.Background(), tr, dir, o)
	check(t, err)
	if got.Err() != nil {
		t.Errorf("found %+v", got)
	}
	link("lib/site/a/data.bin", blobPath(digest.Of([]byte("elf"))))
	gone := blobPath(digest.Of([]byte("elf")))
	link("lib/site/b/tool.so", gone)
	check(t, os.Remove(gone))
	rot(t, blobPath(digest.Of([]byte("x = 1\n"))))
	got, err = Tree(context.Background(), tr, dir, o)
	check(t, err)
	if len(got.Changed) != 3 {
		t.Errorf("found %+v, want three changed files", got)
	}
}

// TestTimes: another time is a difference where it is asked for, of a file that the
// tree has the bytes of as well.
func TestTimes(t *testing.T) {
	dir := t.TempDir()
	tr := newTree(t, "/venv")
	write(t, tr, dir)
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, path := range []string{"lib/site/a/mod.py", "pyvenv.cfg"} {
		check(t, os.Chtimes(filepath.Join(dir, path), at, at))
	}
	got, err := Tree(context.Background(), tr, dir, Options{Times: true})
	check(t, err)
	if len(got.Changed) != 2 || got.Changed[0].Path != "lib/site/a/mod.py" || got.Changed[0].Found != "modified 2026-01-02T03:04:05.0000006Z" {
		t.Errorf("found %+v, want two changed files", got)
	}
}

func TestErr(t *testing.T) {
	r := &Result{Missing: []string{"a", "b"}, Extra: []string{"c"}}
	err := r.Err()
	if want := "2 missing, 1 extra"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if !errors.Is(err, ErrMissing) || !errors.Is(err, ErrExtra) || errors.Is(err, ErrChanged) {
		t.Errorf("error %v wraps the wrong kinds", err)
	}
}
