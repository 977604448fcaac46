package view

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestNodePathAndPlaceAndFindAgree(t *testing.T) {
	for _, dir := range []string{"", "lib/site"} {
		t.Run("serving "+dir, func(t *testing.T) {
			f := newFixture(t, Options{Dir: dir, Bytecode: newCompiler(t, always)})
			paths := []string{"pkg", "pkg/tool.sh", "mod.py", "__pycache__", "__pycache__/mod.cpython-312.opt-1.pyc"}
			if dir == "" {
				for i, p := range paths {
					paths[i] = "lib/site/" + p
				}
				paths = append(paths, "lib64", "lib", "bin/activate")
			}
			for _, p := range paths {
				node := f.find(t, p).NodeId
				if got, err := f.NodePath(node); err != nil || got != p {
					t.Errorf("path of node %d: %q, %v, want %q", node, got, err, p)
				}
				if got, err := f.Find(p); err != nil || got != node {
					t.Errorf("finding %q: %d, %v, want %d", p, got, err, node)
				}
				parent, name, err := f.Place(node)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.Child(parent, name); err != nil || got != node {
					t.Errorf("child %q of %d: %d, %v, want %d", name, parent, got, err, node)
				}
			}
			cache := f.find(t, paths[3])
			if parent, _, err := f.Place(cache.NodeId); err != nil || f.SourceDir(cache.NodeId) != parent {
				t.Errorf("sources of __pycache__ are in %d, not in %d, %v", f.SourceDir(cache.NodeId), parent, err)
			}
			if _, _, err := f.Place(fuse.FUSE_ROOT_ID); err == nil {
				t.Error("the served directory has a place")
			}
			if _, err := f.Find("absent"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("finding what isn't there: %v", err)
			}
		})
	}
}

func TestEntriesGoOnFromANumber(t *testing.T) {
	f := newFixture(t, Options{})
	dir := f.find(t, "lib/site").NodeId
	var all []string
	err := f.Entries(dir, 0, func(i int, name []byte, node uint64, a *fuse.Attr) bool {
		if i != len(all) || a.Ino != node {
			t.Errorf("entry %d of %d: node %d, inode %d", i, len(all), node, a.Ino)
		}
		all = append(all, string(name))
		return true
	})
	if err != nil || len(all) != 7 || !slices.IsSorted(all) {
		t.Fatalf("%q, %v", all, err)
	}
	var rest []string
	err = f.Entries(dir, 3, func(i int, name []byte, _ uint64, _ *fuse.Attr) bool {
		rest = append(rest, string(name))
		return i < 4
	})
	if err != nil || !slices.Equal(rest, all[3:5]) {
		t.Errorf("entries 3 and 4: %q, %v, want %q", rest, err, all[3:5])
	}
}

func TestContent(t *testing.T) {
	f := newFixture(t, Options{})
	for path, want := range map[string]string{
		"lib/site/mod.py": "x = 1\n",
		"lib/site/inline": "inline bytes",
		"lib/site/empty":  "",
		"bin/activate":    "P=" + prefix + "\n",
	} {
		fd, data, size, err := f.Content(f.find(t, path).NodeId)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if fd >= 0 {
			data = make([]byte, size)
			if _, err := preadFull(fd, data, 0); err != nil {
				t.Fatal(err)
			}
			syscall.Close(fd)
		}
		if string(data) != want || size != int64(len(want)) {
			t.Errorf("%s: %q, %d bytes, want %q", path, data, size, want)
		}
	}
	for _, path := range []string{"lib", "lib64", "lib/site/gone.txt"} {
		if fd, _, _, err := f.Content(f.find(t, path).NodeId); err == nil || fd != -1 {
			t.Errorf("%s has content: fd %d, %v", path, fd, err)
		}
	}
}

func TestBytecodeNames(t *testing.T) {
	f := newFixture(t, Options{Bytecode: newCompiler(t, always)})
	names := f.CodeNames("mod.py")
	if want := []string{"mod.cpython-312.pyc", "mod.cpython-312.opt-1.pyc", "mod.cpython-312.opt-2.pyc"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	for _, n := range names {
		if source, ok := f.SourceName(n); !ok || source != "mod.py" {
			t.Errorf("source of %q: %q, %v", n, source, ok)
		}
	}
	if names := f.CodeNames("mod.txt"); names != nil {
		t.Errorf("bytecode of a text: %q", names)
	}
	if source, ok := f.SourceName("mod.cpython-311.pyc"); ok {
		t.Errorf("another interpreter's bytecode is of %q", source)
	}
}
