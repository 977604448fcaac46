package repair

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// blobs is a folder of files by their digest.
type blobs string

func (b blobs) path(d digest.Digest) string { return filepath.Join(string(b), d.String()) }

func (b blobs) OpenBlob(d digest.Digest) (int, error) {
	return unix.Open(b.path(d), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func (b blobs) add(t testing.TB, text string) digest.Digest {
	t.Helper()
	d := digest.Of([]byte(text))
	check(t, os.WriteFile(b.path(d), []byte(text), 0o444))
	return d
}

func newTree(t testing.TB, src blobs) *tree.Tree {
	t.Helper()
	b := tree.NewBuilder("lib-python3.12")
	for path, text := range map[string]string{
		"lib/site/a/__init__.py": "",
		"lib/site/a/mod.py":      "x = 1\n",
		"lib/site/a/sub/deep.py": "y = 2\n",
		"lib/site/b/tool.so":     "elf",
	} {
		check(t, b.File(path, strings.HasSuffix(path, ".so"), int64(len(text)), src.add(t, text)))
	}
	check(t, b.Inline("pyvenv.cfg", false, []byte("home = /usr\n")))
	check(t, b.Template("bin/tool", true, append([]byte(tree.MarkScript), "import a\n"...)))
	check(t, b.Symlink("lib64", "lib"))
	built, err := b.Build(1e9)
	check(t, err)
	open, err := tree.Open(built, "/venv", nil)
	check(t, err)
	return open
}

// newVenv returns an environment that Tree has made out of an empty folder.
func newVenv(t testing.TB, tr *tree.Tree, src blobs) string {
	t.Helper()
	dir := t.TempDir()
	mend(t, tr, src, dir)
	return dir
}

// mend repairs dir and fails the test unless it is whole then.
func mend(t testing.TB, tr *tree.Tree, src blobs, dir string) *Report {
	t.Helper()
	found, err := verify.Tree(context.Background(), tr, dir, verify.Options{Deep: true})
	check(t, err)
	report, err := Tree(context.Background(), tr, src, dir, found, nil)
	check(t, err)
	if len(report.Failed) > 0 {
		t.Errorf("failed: %v", report.Failed)
	}
	left, err := verify.Tree(context.Background(), tr, dir, verify.Options{Deep: true})
	check(t, err)
	if !left.Whole() || len(left.Bytecode) > 0 {
		t.Errorf("after the repair: %+v", left)
	}
	check(t, tr.Walk(func(path string, _ tree.ID, a tree.Attr) error {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err == nil && a.Kind != tree.Symlink && info.ModTime() != time.Unix(a.Mtime, 0) {
			t.Errorf("%s is of %v, want %v", path, info.ModTime(), time.Unix(a.Mtime, 0))
		}
		return err
	}))
	if _, err := os.Lstat(filepath.Join(dir, Stage)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", Stage, err)
	}
	return report
}

func TestTree(t *testing.T) {
	src := blobs(t.TempDir())
	tr := newTree(t, src)
	dir := newVenv(t, tr, src)
	in := func(path string) string { return filepath.Join(dir, path) }

	check(t, os.RemoveAll(in("lib/site/a/sub")))
	check(t, os.Remove(in("lib64")))
	check(t, os.WriteFile(in("lib/site/a/mod.py"), []byte("x = 2\n"), 0o644))
	check(t, os.Chmod(in("lib/site/b/tool.so"), 0o600))
	check(t, os.Remove(in("bin/tool")))
	check(t, os.Symlink("/etc/passwd", in("bin/tool")))
	check(t, os.WriteFile(in("lib/site/a/mine.py"), nil, 0o644))
	check(t, os.Mkdir(in("lib/site/a/__pycache__"), 0o755))
	check(t, os.WriteFile(in("lib/site/a/__pycache__/mod.cpython-312.pyc"), []byte("old"), 0o644))
	// What a killed repair left.
	check(t, os.Mkdir(in(Stage), 0o700))
	check(t, os.WriteFile(in(Stage+"/0"), []byte("half"), 0o600))
	if !Interrupted(dir) {
		t.Error("the killed repair isn't seen")
	}

	report := mend(t, tr, src, dir)
	want := []string{"bin/tool", "lib/site/a/mod.py", "lib/site/a/sub", "lib/site/a/sub/deep.py", "lib/site/b/tool.so", "lib64"}
	if !slices.Equal(report.Restored, want) {
		t.Errorf("restored %q, want %q", report.Restored, want)
	}
	if want := []string{"lib/site/a/__pycache__/mod.cpython-312.pyc"}; !slices.Equal(report.Removed, want) {
		t.Errorf("removed %q, want %q", report.Removed, want)
	}
	if _, err := os.Lstat(in("lib/site/a/mine.py")); err != nil {
		t.Errorf("a file of the user: %v", err)
	}
}

// TestInTheWay: what may hold somebody's work is named and stays.
func TestInTheWay(t *testing.T) {
	src := blobs(t.TempDir())
	tr := newTree(t, src)
	dir := newVenv(t, tr, src)
	check(t, os.Remove(filepath.Join(dir, "pyvenv.cfg")))
	check(t, os.Mkdir(filepath.Join(dir, "pyvenv.cfg"), 0o755))
	check(t, os.RemoveAll(filepath.Join(dir, "lib/site/b")))
	check(t, os.WriteFile(filepath.Join(dir, "lib/site/b"), []byte("work"), 0o644))
	check(t, os.Remove(filepath.Join(dir, "bin/tool")))

	found, err := verify.Tree(context.Background(), tr, dir, verify.Options{})
	check(t, err)
	report, err := Tree(context.Background(), tr, src, dir, found, nil)
	check(t, err)
	if len(report.Failed) != 2 || report.Failed[0].Name != "lib/site/b" || report.Failed[1].Name != "pyvenv.cfg" {
		t.Errorf("failed: %v", report.Failed)
	}
	if want := []string{"bin/tool"}; !slices.Equal(report.Restored, want) {
		t.Errorf("restored %q, want %q", report.Restored, want)
	}
}

// TestNoBlob: without the bytes nothing is put into its place.
func TestNoBlob(t *testing.T) {
	src := blobs(t.TempDir())
	tr := newTree(t, src)
	dir := newVenv(t, tr, src)
	check(t, os.Remove(filepath.Join(dir, "lib/site/a/mod.py")))
	check(t, os.Remove(src.path(digest.Of([]byte("x = 1\n")))))
	found, err := verify.Tree(context.Background(), tr, dir, verify.Options{})
	check(t, err)
	if _, err := Tree(context.Background(), tr, src, dir, found, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := os.Lstat(filepath.Join(dir, Stage)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", Stage, err)
	}
}

func TestBusy(t *testing.T) {
	src := blobs(t.TempDir())
	tr := newTree(t, src)
	dir := newVenv(t, tr, src)
	w, err := open(dir)
	check(t, err)
	defer w.close()
	if _, err := Tree(context.Background(), tr, src, dir, new(verify.Result), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want %v", err, ErrBusy)
	}
}

// TestBeneath: a symlink leads no write out of the environment.
func TestBeneath(t *testing.T) {
	src := blobs(t.TempDir())
	tr := newTree(t, src)
	dir, outside := newVenv(t, tr, src), t.TempDir()
	check(t, os.RemoveAll(filepath.Join(dir, "lib/site/a")))
	found, err := verify.Tree(context.Background(), tr, dir, verify.Options{})
	check(t, err)
	check(t, os.Symlink(outside, filepath.Join(dir, "lib/site/a")))
	report, err := Tree(context.Background(), tr, src, dir, found, nil)
	check(t, err)
	if len(report.Failed) == 0 {
		t.Error("nothing failed")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside are %v, %v", entries, err)
	}
}
