// Package verify compares a virtual environment on disk with what it should be:
// with the tree that it was made from, or with the RECORD files that pip and uv
// leave behind.
//
// It only looks. Nothing is written, moved or opened for writing, no symlink is
// followed, and what can't be read is a finding like any other, so that one bad
// sector doesn't hide the rest. Two looks at a directory that nobody changes give
// the same [Result].
//
// A file is held to its kind, mode and size. Its content is read where there is a
// reason: [Options.Deep] asks for it, or the file of a tree has another
// modification time than the tree gave it, which every edit changes. With
// [Options.Times] that is a difference already.
package verify

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// Options is what a comparison can be told. The zero value is fine.
type Options struct {
	// Deep reads every file and compares its hash.
	Deep bool

	// Times has another modification time than a tree's be a change of the file.
	Times bool

	// Workers is how many directories are compared at a time, and how many files
	// are read; 0 means as many as there are processors.
	Workers int

	// Ignore reports whether nothing is to be said of the path, which is relative
	// to the directory, if nothing wants it. It may be nil.
	Ignore func(path string) bool

	// BlobPath says where the content of a digest is. In an environment of symlinks
	// a link to there is as good as the file. Nil means that files are files.
	BlobPath func(d digest.Digest) string
}

// A Result is what was found. Paths are slash-separated, relative to the directory
// and sorted; those of Extra and Conflict end in a slash if they name a directory,
// which stands for all that is in it.
type Result struct {
	Files int   `json:"files"` // compared: regular files and symlinks
	Bytes int64 `json:"bytes"` // their sizes

	Missing  []string     `json:"missing,omitempty"`
	Changed  []Difference `json:"changed,omitempty"`  // in kind, size, content or time
	Mode     []Difference `json:"mode,omitempty"`     // permission bits
	Bytecode []Difference `json:"bytecode,omitempty"` // .pyc files that don't match their source
	Conflict []string     `json:"conflict,omitempty"` // copies that a syncing folder made
	Extra    []string     `json:"extra,omitempty"`    // all else that nothing wants

	// Unknown is what can't be compared, with the reason: the packages of an
	// environment of pip or uv that left no usable RECORD.
	Unknown []Difference `json:"unknown,omitempty"`
}

// A Difference says how what is at a path differs from what should be there.
type Difference struct {
	Path   string `json:"path"`
	Found  string `json:"found"`
	Wanted string `json:"wanted"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s, want %s", d.Path, d.Found, d.Wanted)
}

// Whole reports whether everything that should be there is there as it should be.
// What else there is doesn't count.
func (r *Result) Whole() bool { return len(r.Missing)+len(r.Changed)+len(r.Mode) == 0 }

func (r *Result) sort() {
	byPath := func(a, b Difference) int { return strings.Compare(a.Path, b.Path) }
	for _, list := range [][]string{r.Missing, r.Conflict, r.Extra} {
		slices.Sort(list)
	}
	for _, list := range [][]Difference{r.Changed, r.Mode, r.Bytecode, r.Unknown} {
		slices.SortFunc(list, byPath)
	}
}

// Tree compares the directory dir with t. The error says that dir can't be looked
// at, that t can't be read, or that ctx ended; findings are no error.
func Tree(ctx context.Context, t *tree.Tree, dir string, o Options) (*Result, error) {
	return compare(ctx, dir, o, &treeFolder{t, tree.Root, o.BlobPath})
}

// compare compares the directory dir with what top wants of it.
func compare(ctx context.Context, dir string, o Options, top folder) (*Result, error) {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	c := &comparison{Options: o, result: new(Result), root: root, host: hostname()}
	workers := o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	c.pool.push(func() error { return c.directory(".", &entry{kind: directory, below: top}) })
	if err := c.pool.run(ctx, workers); err != nil {
		return nil, fmt.Errorf("verify %q: %w", dir, err)
	}
	c.result.sort()
	return c.result, nil
}

// hostname returns the name by which OneDrive tells this machine's conflict copies.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // one pattern of several goes unused
	}
	short, _, _ := strings.Cut(name, ".")
	return short
}

// A comparison is one under way.
type comparison struct {
	Options
	root int // descriptor of the directory
	host string
	pool pool

	mu     sync.Mutex // guards result
	result *Result
}

// join returns the path of a name in a directory.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func (c *comparison) missing(p string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Missing = append(c.result.Missing, p)
}

func (c *comparison) differs(list *[]Difference, p, found, wanted string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*list = append(*list, Difference{p, found, wanted})
}

func (c *comparison) changed(p, found, wanted string) {
	c.differs(&c.result.Changed, p, found, wanted)
}

// count adds to what was compared.
func (c *comparison) count(files int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Files += files
	c.result.Bytes += bytes
}
