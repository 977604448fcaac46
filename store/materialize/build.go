package materialize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

// The modes of everything in a tree. See package tree.
const (
	dirMode  = 0o755
	fileMode = 0o644
	execMode = 0o755
)

// A builder writes one tree into one new directory.
type builder struct {
	tree *tree.Tree
	src  Source
	sys  system
	code Bytecode
	dir  string
	from *previous // nil if there is nothing to reuse

	mode      Mode
	copyRange bool          // the kernel can copy from the store to here
	shares    bool          // and shares the blocks
	direct    bool          // large files are faster written past the page cache
	large     *directWriter // which does that
	chmod     bool          // what is made here doesn't get the mode that it is made with
	progress  Progress      // may be nil

	group  errgroup.Group  // directories that are filled by another goroutine
	ctx    context.Context // ends with the first failure
	cancel context.CancelFunc
	mu     sync.Mutex // guards report and linked
	report *Report
	linked map[content]int // how many paths of each have an inode
	making sync.Mutex      // held while the store makes inodes
	made   bool            // guarded by making: it has made all that were missing
}

// build writes t into the new directory dir, with modes and times, and adds to r
// what it wrote, the mode and its reason. From, the environment that dir will
// replace, may be nil. Nothing is synced; see [durable]. When build fails, what it
// has written stays.
func build(ctx context.Context, sys system, t *tree.Tree, src Source, dir string, from *previous, o Options, r *Report) error {
	if err := retry(func() error { return unix.Mkdir(dir, dirMode) }); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	b := &builder{tree: t, src: src, sys: sys, code: o.Bytecode, progress: o.Progress, dir: dir, report: r, linked: make(map[content]int)}
	if err := b.prepare(from, o.Mode); err != nil {
		return err
	}
	return b.write(ctx, o.Workers)
}

// prepare finds out, in the new directory, what can be done there.
func (b *builder) prepare(from *previous, want Mode) error {
	p, err := newProbe(b.sys, b.src.Dir(), b.dir)
	if err != nil {
		return err
	}
	defer p.close()
	if b.mode, b.report.Reason, err = p.choose(want); err != nil {
		return err
	}
	b.report.Mode = b.mode.String()
	if err := p.copyRange(); err != nil {
		return err
	}
	b.copyRange = p.found.CopyRange == 0
	b.shares = b.copyRange && b.mode == Copy && p.found.Clone == 0
	if b.mode == Copy && !b.shares {
		if b.direct, err = p.direct(); err != nil {
			return err
		}
	}
	if b.chmod, err = p.losesModes(); err != nil {
		return err
	}
	if from != nil && reusable(from.mode) && reusable(b.mode) {
		b.from = from
	}
	return nil
}

// write fills the new directory.
func (b *builder) write(ctx context.Context, workers int) error {
	fd, err := openDir(unix.AT_FDCWD, b.dir)
	if err != nil {
		return &fs.PathError{Op: "open", Path: b.dir, Err: err}
	}
	defer unix.Close(fd)
	if b.chmod {
		if err := retry(func() error { return unix.Fchmod(fd, dirMode) }); err != nil {
			return b.pathError(tree.Root, err)
		}
	}
	root, err := b.tree.Stat(tree.Root)
	if err != nil {
		return err
	}
	old, err := b.openOld()
	if err != nil {
		return err
	}
	defer old.close()
	if workers == 0 {
		workers = b.mode.workers()
	}
	if b.direct {
		if b.large, err = newDirectWriter(); err != nil {
			return err
		}
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	defer b.cancel()
	b.group.SetLimit(workers - 1)
	err = b.work(func(w *worker) error { return w.directory(fd, tree.Root, root, old) })
	for _, wait := range []func() error{b.group.Wait, b.large.close} {
		// The first failure is the one to tell of; another one may only say that the
		// context has ended.
		if other := wait(); other != nil && (err == nil || errors.Is(err, context.Canceled)) {
			err = other
		}
	}
	return err
}

// workers returns how many directories are filled at a time. Cloning scales. The
// rest takes turns in the kernel's journal: a second worker uses what the first one
// leaves of the processors, and four were slower than one (ext4). A hard link writes
// so little that a directory is often full before the next one is made: it takes
// eight directories under way to have two processors busy, and with two workers they
// were idle for a quarter of the time. One that copies waits for large files as well.
func (m Mode) workers() int {
	switch m {
	case Clone:
		return min(4, runtime.GOMAXPROCS(0))
	case Copy:
		return 2 * min(2, runtime.GOMAXPROCS(0))
	case Hardlink:
		return 4 * min(2, runtime.GOMAXPROCS(0))
	}
	return min(2, runtime.GOMAXPROCS(0))
}

// A worker is what one goroutine fills directories with.
type worker struct {
	*builder
	counts Report
	buf    []byte
}

// bufferSize holds nine in ten files of a wheel whole.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// work does something with a worker of its own.
func (b *builder) work(do func(*worker) error) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	w := &worker{builder: b, buf: buf[:]}
	err := do(w)
	if err != nil {
		b.cancel()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.report.add(&w.counts)
	return err
}

// directory fills the new, empty directory that is open as fd.
func (w *worker) directory(fd int, id tree.ID, a tree.Attr, old oldDir) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.counts.Dirs++
	children, err := w.tree.Children(id)
	if err != nil {
		return err
	}
	var code codeDir
	for i := range children.Len() {
		name, child, ca, err := children.At(i)
		if err != nil {
			return err
		}
		err = w.entry(fd, string(name), child, ca, old)
		if err == nil && w.code != nil && isSource(name, ca) {
			err = w.exportCode(&code, fd, string(name), ca)
		}
		if err != nil {
			code.close()
			return w.pathError(child, err)
		}
		if w.progress != nil && ca.Kind != tree.Dir {
			w.progress.Wrote(ca.Size)
		}
	}
	code.close()
	// What is written below a subdirectory doesn't change this one's time.
	if err := setTime(fd, ".", a.Mtime); err != nil {
		return w.pathError(id, err)
	}
	if a.Subdirs == 0 {
		return nil
	}
	for i := range children.Len() {
		name, child, ca, err := children.At(i)
		if err == nil && ca.Kind == tree.Dir {
			err = w.descend(fd, string(name), child, ca, old)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// descend fills a directory that entry has made, by another goroutine if one is to
// be had.
func (w *worker) descend(parent int, name string, id tree.ID, a tree.Attr, old oldDir) error {
	fd, err := openDir(parent, name)
	if err != nil {
		return w.pathError(id, err)
	}
	below, err := w.oldChild(old, name)
	if err != nil {
		unix.Close(fd)
		return w.pathError(id, err)
	}
	fill := func(w *worker) error {
		defer unix.Close(fd)
		defer below.close()
		return w.directory(fd, id, a, below)
	}
	if w.group.TryGo(func() error { return w.work(fill) }) {
		return nil
	}
	return fill(w)
}

// entry makes one name of the directory dir.
func (w *worker) entry(dir int, name string, id tree.ID, a tree.Attr, old oldDir) error {
	switch a.Kind {
	case tree.Dir:
		return w.mkdir(dir, name)
	case tree.Symlink:
		w.counts.Files++
		target, err := w.tree.Link(id)
		if err != nil {
			return err
		}
		return symlink(dir, name, string(target), a.Mtime)
	}
	w.counts.Files++
	w.counts.Bytes += a.Size
	if a.Kind == tree.File && w.mode == Hardlink {
		return w.linkFile(dir, name, a)
	}
	if a.Kind != tree.File || a.Size == 0 {
		return w.copyFile(dir, name, id, a)
	}
	if done, err := w.reuse(dir, name, a, old); done || err != nil {
		return err
	}
	switch {
	case w.mode == Clone:
		return w.cloneFile(dir, name, a)
	case w.mode == Symlink && !a.Exec: // a blob is never executable
		w.counts.Symlinked++
		return symlink(dir, name, w.src.BlobPath(a.Digest), a.Mtime)
	}
	return w.copyFile(dir, name, id, a)
}

func (w *worker) mkdir(dir int, name string) error {
	err := retry(func() error { return unix.Mkdirat(dir, name, dirMode) })
	if err == nil && w.chmod {
		err = retry(func() error { return unix.Fchmodat(dir, name, dirMode, 0) })
	}
	return err
}

func symlink(dir int, name, target string, mtime int64) error {
	if err := retry(func() error { return unix.Symlinkat(target, dir, name) }); err != nil {
		return err
	}
	return setTime(dir, name, mtime)
}

func modeOf(a tree.Attr) uint32 {
	if a.Exec {
		return execMode
	}
	return fileMode
}

// cloneFile writes a regular file that shares the blocks of its blob.
func (w *worker) cloneFile(dir int, name string, a tree.Attr) error {
	from, err := w.src.OpenBlob(a.Digest)
	if err != nil {
		return err
	}
	err = w.sys.clone(from, dir, name, modeOf(a))
	unix.Close(from)
	if err == nil && (w.chmod || w.sys.keepsMode) {
		err = retry(func() error { return unix.Fchmodat(dir, name, modeOf(a), 0) })
	}
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	w.counts.Cloned++
	return setTime(dir, name, a.Mtime)
}

// copyFile writes a regular file with bytes of its own.
func (w *worker) copyFile(dir int, name string, id tree.ID, a tree.Attr) error {
	fd, err := w.create(dir, name, modeOf(a))
	if err != nil {
		return err
	}
	w.counts.Copied++
	if w.isLarge(a) {
		w.copyLarge(fd, id, a)
		return nil
	}
	if err := closeAfter(fd, w.fill(fd, id, a)); err != nil {
		return err
	}
	return setTime(dir, name, a.Mtime)
}

// create makes an empty file.
func (w *worker) create(dir int, name string, mode uint32) (fd int, err error) {
	fd, err = createFile(dir, name, mode)
	if err == nil && w.chmod {
		if err = retry(func() error { return unix.Fchmod(fd, mode) }); err != nil {
			unix.Close(fd)
		}
	}
	return fd, err
}

// fill writes the bytes of a regular file.
func (w *worker) fill(fd int, id tree.ID, a tree.Attr) error {
	if a.Kind != tree.File {
		text, err := w.tree.Bytes(id)
		if err != nil {
			return err
		}
		return writeAll(fd, text)
	}
	if a.Size == 0 {
		return nil
	}
	from, err := w.src.OpenBlob(a.Digest)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return w.copyBytes(fd, from, a.Size)
}

// copyBytes copies size bytes between two files that are open at their beginning.
func (w *worker) copyBytes(to, from int, size int64) error {
	if w.copyRange && (w.shares || size > bufferSize) {
		return w.copyBy(w.sys.copyRange, to, from, size)
	}
	return w.copyBy(w.readWrite, to, from, size)
}

// copyBy is copyBytes by a function that copies one piece, of at most so many bytes.
func (w *worker) copyBy(step func(to, from int, most int64) (int64, error), to, from int, size int64) error {
	for left := size; left > 0; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		n, err := step(to, from, left)
		if err != nil {
			return fmt.Errorf("copy from the store: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("the store's file has %d bytes, want %d: the store is damaged", size-left, size)
		}
		left -= n
	}
	return nil
}

// readWrite copies one buffer, or less.
func (w *worker) readWrite(to, from int, most int64) (int64, error) {
	n, err := w.read(from, most)
	if err != nil {
		return 0, err
	}
	return int64(n), writeAll(to, w.buf[:n])
}

// read reads one buffer, or less.
func (w *worker) read(from int, most int64) (n int, err error) {
	err = retry(func() (err error) {
		n, err = unix.Read(from, w.buf[:min(int64(len(w.buf)), most)])
		return err
	})
	return n, err
}

// pathError says at which node of the tree err came up.
func (b *builder) pathError(id tree.ID, err error) error {
	name, pathErr := b.tree.Path(id)
	if pathErr != nil {
		return errors.Join(err, pathErr)
	}
	if isOf(err, full) {
		err = fmt.Errorf("%w: free some space or inodes there, or choose a directory elsewhere", err)
	}
	return fmt.Errorf("write %q: %w", filepath.Join(b.dir, filepath.FromSlash(name)), err)
}
