package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A Batch is a number of new files that become durable together. It costs one
// wait for the disk, not one for each file.
//
// The files are written side by side in a staging folder, which keeps their
// inodes and blocks together too, and get their names by rename when all of
// them are on stable storage: [Batch.Create], [Batch.Sync], [Batch.Place], the
// last once for each group of names that must be durable before the next.
// What has not been placed has no name.
type Batch struct {
	root  *os.File // names are relative to it
	stage *os.File // a folder of this batch alone, on the same file system
	next  atomic.Uint64
	ahead writeAhead
}

// NewBatch returns a batch that writes into the empty folder stage and gives
// its files names beneath root. It closes neither.
func NewBatch(root, stage *os.File) *Batch {
	return &Batch{root: root, stage: stage, ahead: writeAhead{dir: stage.Name()}}
}

// A File is a file of a batch that is being written.
type File struct {
	batch *Batch
	name  string // in the staging folder
	fd    int
}

// Create starts a file. It may be called concurrently.
func (b *Batch) Create() (*File, error) {
	name := strconv.FormatUint(b.next.Add(1), 36)
	fd, err := unix.Openat(int(b.stage.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, fileMode)
	if err != nil {
		return nil, b.pathError("create", name, err)
	}
	return &File{b, name, fd}, nil
}

// Write appends p to the file.
func (f *File) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Write(f.fd, p[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, f.batch.pathError("write", f.name, err)
		}
		n += m
	}
	f.batch.ahead.wrote(n)
	return n, nil
}

// copyMost is what the kernel is asked to copy at a time.
const copyMost = 16 << 20

// Copy appends what the open file from has from its position on, and returns how
// many bytes that were. The two share blocks where the file system can do that.
func (f *File) Copy(from int) (n int64, err error) {
	for {
		m, err := copyRange(f.fd, from, copyMost)
		switch {
		case err == unix.EINTR:
			continue
		case n == 0 && (err == nil && m == 0 || slices.Contains(noCopyRange, err)):
			return f.copyBuffered(from)
		case err != nil:
			return n, f.batch.pathError("copy", f.name, err)
		case m == 0:
			return n, nil
		}
		n += int64(m)
		f.batch.ahead.wrote(m)
	}
}

// noCopyRange are the errors of a kernel or file system that has no copying of its
// own. A few old ones copy nothing without a word.
var noCopyRange = []error{unix.ENOSYS, unix.EXDEV, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOTSUP, unix.EPERM}

func (f *File) copyBuffered(from int) (n int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		m, err := unix.Read(from, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, f.batch.pathError("copy", f.name, err)
		}
		if m == 0 {
			return n, nil
		}
		if _, err := f.Write(buf[:m]); err != nil {
			return n, err
		}
		n += int64(m)
	}
}

// SetAttr gives the file a mode and a modification time in Unix seconds. Nothing
// may be written to it after that.
func (f *File) SetAttr(mode uint32, mtime int64) error {
	if err := unix.Fchmod(f.fd, mode); err != nil {
		return f.batch.pathError("chmod", f.name, err)
	}
	ts := []unix.Timespec{{Sec: mtime}, {Sec: mtime}}
	if err := unix.UtimesNanoAt(int(f.batch.stage.Fd()), f.name, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return f.batch.pathError("set the time of", f.name, err)
	}
	return nil
}

// Close ends the writing and returns the file's name for [Placement] and
// [Batch.Remove]. The file is neither durable nor visible yet.
func (f *File) Close() (staged string, err error) {
	if err := unix.Close(f.fd); err != nil && err != unix.EINTR {
		return f.name, f.batch.pathError("close", f.name, err)
	}
	return f.name, nil
}

// Put writes a whole file, a short one, and returns its name as Close does.
func (b *Batch) Put(data []byte) (staged string, err error) {
	f, err := b.Create()
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	staged, closeErr := f.Close()
	return staged, errors.Join(err, closeErr)
}

// Remove takes a staged file out of the batch.
func (b *Batch) Remove(staged string) error {
	if err := unix.Unlinkat(int(b.stage.Fd()), staged, 0); err != nil {
		return b.pathError("remove", staged, err)
	}
	return nil
}

func (b *Batch) pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: path.Join(b.stage.Name(), name), Err: err}
}

// A Placement gives a staged file its name, slash-separated and relative to the
// batch's root. Where the name exists already the file is dropped: names say
// what the bytes are, so both are the same.
type Placement struct {
	Staged, Name string
	// Replace puts the file in the place of one that has the name. It is for
	// names that do not come from a digest of all the bytes.
	Replace bool
}

// A Step is what gets its names at one moment of a commit.
type Step struct {
	Place []Placement
	// Reused are names that were there before and that later steps rely on.
	// Another process may have given them a moment ago, so their directory
	// entries are made durable as well.
	Reused []string
}

// Place gives staged files their names and makes these durable. Every file must
// have been through [Batch.Sync] before. When it fails, some files may have
// their names, and whichever has one is complete.
func (b *Batch) Place(s Step) error {
	dirs := make(map[string]bool)
	for _, p := range s.Place {
		if err := b.rename(p); err != nil {
			return err
		}
		addParents(dirs, p.Name)
	}
	for _, name := range s.Reused {
		addParents(dirs, name)
	}
	return b.syncDirs(dirs)
}

// addParents adds the directories that name's entry depends on.
func addParents(dirs map[string]bool, name string) {
	for dir := path.Dir(name); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
		dirs[dir] = true
	}
}

// rename gives one file its name, making the directory it is in.
func (b *Batch) rename(p Placement) error {
	err := b.renameOnce(p)
	if errors.Is(err, fs.ErrNotExist) {
		dir := path.Dir(p.Name)
		if err := unix.Mkdirat(int(b.root.Fd()), dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return &fs.PathError{Op: "mkdir", Path: path.Join(b.root.Name(), dir), Err: err}
		}
		err = b.renameOnce(p)
	}
	if errors.Is(err, fs.ErrExist) {
		return b.Remove(p.Staged)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: path.Join(b.stage.Name(), p.Staged), New: path.Join(b.root.Name(), p.Name), Err: err}
	}
	return nil
}

func (b *Batch) renameOnce(p Placement) error {
	if p.Replace {
		return unix.Renameat(int(b.stage.Fd()), p.Staged, int(b.root.Fd()), p.Name)
	}
	return renameNew(int(b.stage.Fd()), p.Staged, int(b.root.Fd()), p.Name)
}

// renameByLink is renameNew for file systems whose rename can't refuse to
// replace: NFS, some FUSE servers.
func renameByLink(fromDir int, from string, toDir int, to string) error {
	if err := unix.Linkat(fromDir, from, toDir, to, 0); err != nil {
		return err
	}
	return unix.Unlinkat(fromDir, from, 0)
}

const (
	// syncEach is the number of files up to which each is synced by itself.
	// Syncing the whole file system costs 17 µs for a file where fsync costs
	// 65, but waits for what all other processes have written: beside one that
	// writes 5 GB, that is seconds for a wheel of ten files.
	syncEach = 2000

	// syncWorkers is how many syncs wait for the disk at once. The block layer
	// joins the cache flushes of those that wait together, so this is about the
	// disk's queue, not about processors.
	syncWorkers = 32
)

// Sync makes the bytes of staged files durable.
func (b *Batch) Sync(staged []string) error {
	b.ahead.wait()
	if len(staged) > syncEach {
		done, err := syncAll(b.stage)
		if done || err != nil {
			return err
		}
	}
	return parallel(staged, func(name string) error {
		fd, err := unix.Openat(int(b.stage.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return b.pathError("open", name, err)
		}
		defer unix.Close(fd)
		if err := syncFile(fd); err != nil {
			return b.pathError("sync", name, err)
		}
		return nil
	})
}

// aheadEvery is how many bytes a batch writes before the disk is set to work on
// them: tenths of a second for a disk. Small batches never come to it.
const aheadEvery = 256 << 20

// writeAhead has the disk write while a large batch is still being unpacked, so
// that Sync finds little left to wait for.
type writeAhead struct {
	dir   string
	bytes atomic.Int64 // since it last began

	// mu is held while the disk is at it. A WaitGroup would not do: this may begin
	// again while a Sync is being told of the end.
	mu sync.Mutex
}

func (w *writeAhead) wrote(n int) {
	if w.bytes.Add(int64(n)) < aheadEvery || !w.mu.TryLock() {
		return
	}
	w.bytes.Store(0)
	go func() {
		defer w.mu.Unlock()
		// The kernel tells of a failed write once for each time a file is opened:
		// with a file of its own this leaves all errors for Sync to find.
		f, err := os.Open(w.dir)
		if err != nil {
			return
		}
		defer f.Close()
		_, _ = syncAll(f)
	}()
}

func (w *writeAhead) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

// Close waits for what the batch still does. It removes nothing.
func (b *Batch) Close() { b.ahead.wait() }

// syncDirs makes the entries of directories durable, given relative to the root.
func (b *Batch) syncDirs(dirs map[string]bool) error {
	names := make([]string, 0, len(dirs))
	for dir := range dirs {
		names = append(names, dir)
	}
	slices.Sort(names)
	return parallel(names, func(name string) error {
		fd, err := unix.Openat(int(b.root.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %q: %w", path.Join(b.root.Name(), name), err)
		}
		defer unix.Close(fd)
		err = syncFile(fd)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
			return nil // such a file system has no sync for directories and needs none
		}
		if err != nil {
			return fmt.Errorf("sync %q: %w", path.Join(b.root.Name(), name), err)
		}
		return nil
	})
}

func parallel(names []string, do func(name string) error) error {
	var g errgroup.Group
	g.SetLimit(syncWorkers)
	for _, name := range names {
		g.Go(func() error { return do(name) })
	}
	return g.Wait()
}
