package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// newBatch returns a batch in a new directory with a folder of blobs.
func newBatch(t *testing.T) (root string, b *Batch) {
	t.Helper()
	root = t.TempDir()
	for _, name := range []string{"blobs", "stage"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root, NewBatch(open(t, root), open(t, filepath.Join(root, "stage")))
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t *testing.T, b *Batch, data string) string {
	t.Helper()
	staged, err := b.Put([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return staged
}

func TestPath(t *testing.T) {
	got, want := Path(digest.Of(nil)), "e3/b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if got != want {
		t.Errorf("Path of nothing's digest is %q, want %q", got, want)
	}
}

func TestBatch(t *testing.T) {
	root, b := newBatch(t)
	const content = "import sys\n"
	sum := digest.Of([]byte(content))
	staged := put(t, b, content)

	blobs, err := OpenDir(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	if _, err := blobs.Read(sum); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before Place: Read gives %v, want %v", err, fs.ErrNotExist)
	}
	if _, ok, err := blobs.Size(sum); ok || err != nil {
		t.Fatalf("before Place: Size gives %v, %v", ok, err)
	}
	if err := b.Sync([]string{staged}); err != nil {
		t.Fatal(err)
	}
	if err := b.Place(Step{Place: []Placement{{Staged: staged, Name: "blobs/" + Path(sum)}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := blobs.Read(sum); err != nil || string(got) != content {
		t.Errorf("Read gives %q, %v, want %q", got, err, content)
	}
	if size, ok, err := blobs.Size(sum); size != int64(len(content)) || !ok || err != nil {
		t.Errorf("Size gives %d, %v, %v, want %d", size, ok, err, len(content))
	}
	info, err := os.Stat(filepath.Join(root, "blobs", Path(sum)))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o333 != 0 {
		t.Errorf("mode is %v, %v, want a regular file that nobody may write", info.Mode(), err)
	}
	fd, err := blobs.Open(sum)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags are %#x, %v, want close-on-exec", flags, err)
	}
	expectEmpty(t, filepath.Join(root, "stage"))
}

// TestExisting shows that a name is not given twice, unless a placement says
// so, and that the file that came too late is gone.
func TestExisting(t *testing.T) {
	for _, replace := range []bool{false, true} {
		t.Run(fmt.Sprintf("replace=%v", replace), func(t *testing.T) {
			root, b := newBatch(t)
			var before os.FileInfo
			for i, content := range []string{"first", "second"} {
				staged := put(t, b, content)
				if err := b.Place(Step{Place: []Placement{{Staged: staged, Name: "blobs/x", Replace: replace}}}); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					before, _ = os.Stat(filepath.Join(root, "blobs/x"))
				}
			}
			after, err := os.Stat(filepath.Join(root, "blobs/x"))
			if err != nil {
				t.Fatal(err)
			}
			if os.SameFile(before, after) == replace {
				t.Errorf("same file: %v, want %v", !replace, replace)
			}
			expectEmpty(t, filepath.Join(root, "stage"))
		})
	}
}

// TestRenameByLink shows that the fallback for file systems without a rename
// that refuses to replace keeps the same promise.
func TestRenameByLink(t *testing.T) {
	root, b := newBatch(t)
	dir := int(b.root.Fd())
	a, c := "stage/"+put(t, b, "a"), "stage/"+put(t, b, "c")
	if err := renameByLink(dir, a, dir, "blobs/x"); err != nil {
		t.Fatal(err)
	}
	if err := renameByLink(dir, c, dir, "blobs/x"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto a name that exists: %v, want %v", err, fs.ErrExist)
	}
	if got, err := os.ReadFile(filepath.Join(root, "blobs/x")); string(got) != "a" {
		t.Errorf("content is %q, %v, want %q", got, err, "a")
	}
	if _, err := os.Stat(filepath.Join(root, a)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old name: %v, want %v", err, fs.ErrNotExist)
	}
}

// TestLarge takes the ways that only large batches take: one sync of the file
// system, and the disk set to work ahead.
func TestLarge(t *testing.T) {
	root, b := newBatch(t)
	b.ahead.bytes.Store(aheadEvery)
	const n = syncEach + 1
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		step   Step
		staged []string
	)
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < n; i += 4 {
				content := fmt.Sprintf("file %d\n", i)
				name, err := b.Put([]byte(content))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				staged = append(staged, name)
				step.Place = append(step.Place, Placement{Staged: name, Name: "blobs/" + Path(digest.Of([]byte(content)))})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := b.Sync(staged); err != nil {
		t.Fatal(err)
	}
	if err := b.Place(step); err != nil {
		t.Fatal(err)
	}
	b.Close()
	blobs, err := OpenDir(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	for i := range n {
		content := fmt.Sprintf("file %d\n", i)
		if got, err := blobs.Read(digest.Of([]byte(content))); err != nil || string(got) != content {
			t.Fatalf("blob %d is %q, %v", i, got, err)
		}
	}
	expectEmpty(t, filepath.Join(root, "stage"))
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name string
		do   func(b *Batch) error
		want string // in the message
	}{
		{"sync of nothing", func(b *Batch) error { return b.Sync([]string{"none"}) }, "stage/none"},
		{"place of nothing", func(b *Batch) error { return b.Place(Step{Place: []Placement{{Staged: "none", Name: "blobs/ab/c"}}}) }, "stage/none"},
		{"remove of nothing", func(b *Batch) error { return b.Remove("none") }, "stage/none"},
		{"reused name's folder is gone", func(b *Batch) error { return b.Place(Step{Reused: []string{"blobs/ab/c"}}) }, "blobs/ab"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, b := newBatch(t)
			err := test.do(b)
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one of %q", err, test.want)
			}
		})
	}
}

func TestDamagedBlob(t *testing.T) {
	root, _ := newBatch(t)
	sum := digest.Of([]byte("abc"))
	path := filepath.Join(root, "blobs", Path(sum))
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("a"), 0o444); err != nil {
		t.Fatal(err)
	}
	blobs, err := OpenDir(filepath.Join(root, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	if size, ok, err := blobs.Size(sum); size != 1 || !ok || err != nil {
		t.Errorf("Size gives %d, %v, %v, want what is on disk", size, ok, err)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	f := open(t, dir)
	if names, err := f.Readdirnames(-1); err != nil && err != io.EOF || len(names) > 0 {
		t.Errorf("%q holds %q, %v, want nothing", dir, names, err)
	}
}

// TestWriteAheadBesideSync: files are written while others are synced: the disk may be set to work again
// in the moment in which a Sync sees the end of the last time.
func TestWriteAheadBesideSync(t *testing.T) {
	b := &Batch{ahead: writeAhead{dir: t.TempDir() + "/none"}} // no disk: the switching alone
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20_000 {
				b.ahead.wrote(aheadEvery)
			}
		})
		wg.Go(func() {
			for range 20_000 {
				b.ahead.wait()
			}
		})
	}
	wg.Wait()
	b.Close()
}

// TestCopy copies by the kernel, and from where it can't.
func TestCopy(t *testing.T) {
	content := strings.Repeat("0123456789", 20_000)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	from, pipe := open(t, file), pipeOf(t, content)
	for name, from := range map[string]*os.File{"file": from, "pipe": pipe, "empty": open(t, os.DevNull)} {
		t.Run(name, func(t *testing.T) {
			want := content
			if name == "empty" {
				want = ""
			}
			root, b := newBatch(t)
			f, err := b.Create()
			if err != nil {
				t.Fatal(err)
			}
			n, err := f.Copy(int(from.Fd()))
			if err != nil || n != int64(len(want)) {
				t.Errorf("copied %d bytes, %v, want %d", n, err, len(want))
			}
			if err := f.SetAttr(0o755, 1_600_000_000); err != nil {
				t.Error(err)
			}
			staged, err := f.Close()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, "stage", staged)
			got, err := os.ReadFile(path)
			if err != nil || string(got) != want {
				t.Errorf("the file holds %d bytes, %v, want %d", len(got), err, len(want))
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o755 || info.ModTime().Unix() != 1_600_000_000 {
				t.Errorf("the file has mode %v and time %v, %v", info.Mode(), info.ModTime(), err)
			}
		})
	}
}

// pipeOf returns the end of a pipe that content comes from.
func pipeOf(t *testing.T, content string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		defer w.Close()
		_, _ = io.WriteString(w, content) // what is missing is found by the reader
	}()
	return r
}
