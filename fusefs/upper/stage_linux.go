package upper

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A stage gives out names in tmp/ that nothing has had: those of other processes
// begin otherwise, for their files may still be removed while new ones are made.
type stage struct {
	prefix string
	last   atomic.Uint64
}

func newStage() *stage { return &stage{prefix: rand.Text()[:8]} }

// next returns a fresh name.
func (s *stage) next() string { return s.prefix + "." + strconv.FormatUint(s.last.Add(1), 36) }

// StageFile makes an empty file in tmp/ with that mode (07777), open for reading
// and writing. The descriptor is the caller's to close.
func (d *Dir) StageFile(mode uint32) (fd int, path string, err error) {
	path, err = d.staged(sIFREG|mode&0o7777, "", &fd)
	return fd, path, err
}

// StageDir makes a directory in tmp/ with that mode (07777).
func (d *Dir) StageDir(mode uint32) (path string, err error) {
	return d.staged(sIFDIR|mode&0o7777, "", nil)
}

// StageSymlink makes a symbolic link in tmp/.
func (d *Dir) StageSymlink(target string) (path string, err error) {
	return d.staged(sIFLNK|0o777, target, nil)
}

// StageNode makes a fifo or a socket in tmp/, as the S_IFMT bits of mode say;
// others are EPERM.
func (d *Dir) StageNode(mode uint32) (path string, err error) {
	return d.staged(mode, "", nil)
}

// StageWhiteout makes an empty file in tmp/ to be moved to a WhiteoutPath that isn't long.
func (d *Dir) StageWhiteout() (path string, err error) {
	return d.staged(sIFREG|0o600, "", nil)
}

// StageRecord writes a record in tmp/ to be moved to its RecordPath.
func (d *Dir) StageRecord(r Record) (path string, err error) {
	b, err := encodeRecord(r)
	if err != nil {
		return "", pathError("record", r.Name, errors.Join(err, unix.EINVAL))
	}
	if path, err = d.stageBytes(b); err != nil {
		return "", pathError("record", r.Name, errno(err))
	}
	return path, nil
}

// stageBytes writes a file in tmp/.
func (d *Dir) stageBytes(b []byte) (staged string, err error) {
	fd, staged, err := d.StageFile(0o600)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), staged)
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		d.Discard(staged)
		return "", err
	}
	return staged, nil
}

// Whiteout returns the step that says that a name of the lower is gone. Of a long
// name it stages the record, to be discarded if the step isn't done.
func (d *Dir) Whiteout(dir, name string) (Step, error) {
	p, long := WhiteoutPath(dir, name)
	if !long {
		return MakeFile(p, 0o600), nil
	}
	staged, err := d.StageRecord(Record{Name: name, Whiteout: true})
	return Move(staged, p), err
}

// staged makes a step's entry in tmp/.
func (d *Dir) staged(mode uint32, target string, fd *int) (string, error) {
	s := makeNode(d.TrashPath(), mode)
	s.from, s.fd = target, fd
	if d.readOnly {
		return "", pathError(s.verb(), s.to, unix.EROFS)
	}
	if err := d.make(&s, false); err != nil {
		return "", pathError(s.verb(), s.to, err)
	}
	return s.to, nil
}

// Discard removes what was staged and never moved into its place.
func (d *Dir) Discard(staged string) {
	if path.Dir(staged) == tmpDir {
		d.remove(staged)
	}
}

// TrashPath returns a fresh name in tmp/. What a mutation moves there is deleted.
func (d *Dir) TrashPath() string { return tmpDir + "/" + d.stage.next() }

// removeTrash removes what the steps have moved to tmp/ and left there.
func (d *Dir) removeTrash(steps []Step) {
	for i := range steps {
		if steps[i].deletes() {
			d.remove(steps[i].to)
		}
	}
}

// remove removes a path of tmp/, directories with something in them a little
// later. What can't be removed stays for the next Open, which says so.
func (d *Dir) remove(path string) {
	_ = d.in(path, func(dir int, name string) error {
		err := removeOne(dir, name)
		if err != nil {
			d.trash.put(d, name)
		}
		return err
	})
}

// A trash removes directories of tmp/ in the background: they can be large, and
// nobody waits for them.
type trash struct {
	mu     sync.Mutex
	queue  []string
	busy   chan struct{} // closed when the queue has been worked off; nil: nobody works
	closed bool
}

// put has a name of tmp/ removed.
func (t *trash) put(d *Dir, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.queue = append(t.queue, name)
	if t.busy == nil {
		t.busy = make(chan struct{})
		go t.work(d, t.busy)
	}
}

// work removes until nothing is left.
func (t *trash) work(d *Dir, done chan struct{}) {
	defer close(done)
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.busy = nil
			t.mu.Unlock()
			return
		}
		name := t.queue[0]
		t.queue = t.queue[1:]
		t.mu.Unlock()
		_ = d.removeAll(tmpDir, name) // what stays is the next Open's
	}
}

// close waits for the queue to be worked off, and takes no more.
func (t *trash) close() {
	t.mu.Lock()
	t.closed = true
	busy := t.busy
	t.mu.Unlock()
	if busy != nil {
		<-busy
	}
}

// sweep has all of tmp/ removed that a killed process left there.
func (d *Dir) sweep() error {
	entries, err := d.readDir(tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		d.remove(tmpDir + "/" + e.Name)
	}
	return nil
}

// removeAll removes a name in a directory of the side area with all that is below
// it, whatever its modes are.
func (d *Dir) removeAll(dir, name string) error {
	at, err := d.dirs.acquire(dir)
	if err != nil {
		return pathError("remove", name, err)
	}
	defer d.dirs.release(at)
	return pathError("remove", name, removeTree(at.fd, name))
}

// removeTree removes a name and all below it. It holds no more than two directories
// open, so that the depth doesn't matter: it moves the directories it finds up
// into the top one, which is empty of files then.
func removeTree(dir int, name string) error {
	err := removeOne(dir, name)
	if err != unix.ENOTEMPTY {
		return err
	}
	top, err := openDirAt(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	for n := 0; ; {
		entries, err := readEntries(top)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		}
		for _, e := range entries {
			if err := flatten(top, e, &n); err != nil {
				return err
			}
		}
	}
}

// removeOne removes a file or an empty directory, if it is there.
func removeOne(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == unix.EISDIR || err == unix.EPERM { // POSIX has EPERM for directories
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	switch err {
	case unix.ENOENT:
		return nil
	case unix.EEXIST: // POSIX allows it for a directory that isn't empty
		return unix.ENOTEMPTY
	}
	return err
}

// flatten removes an entry of top, or of a directory that isn't empty, all that is
// in it, what are directories there becoming entries of top.
func flatten(top int, e Entry, n *int) error {
	if err := removeOne(top, e.Name); err != unix.ENOTEMPTY {
		return err
	}
	fd, err := openDirAt(top, e.Name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	entries, err := readEntries(fd)
	if err != nil {
		return err
	}
	for _, below := range entries {
		err := removeOne(fd, below.Name)
		if err == unix.ENOTEMPTY {
			err = moveUp(fd, below.Name, top, n)
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlinkat(top, e.Name, unix.AT_REMOVEDIR)
}

// moveUp moves a directory into top under a name that is free.
func moveUp(dir int, name string, top int, n *int) error {
	if err := chmodAt(dir, name, 0o700); err != nil {
		return err
	}
	for {
		*n++
		err := renameFree(dir, name, top, fmt.Sprint(*n))
		if err != unix.EEXIST {
			return err
		}
	}
}

// openDirAt opens a directory to read and empty it, whatever its mode.
func openDirAt(dir int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return -1, err
	}
	if st.Mode&0o700 != 0o700 {
		if err := chmodAt(dir, name, 0o700); err != nil {
			return -1, err
		}
	}
	return unix.Openat(dir, name, flags, 0)
}

// Orphans returns what was unlinked while somebody might have it open.
func (d *Dir) Orphans() ([]Orphan, error) {
	entries, err := d.readDir(orphansDir)
	if err != nil {
		return nil, err
	}
	var orphans []Orphan
	for _, e := range entries {
		if id, err := strconv.ParseUint(e.Name, 16, 64); err == nil {
			orphans = append(orphans, Orphan{id, e.Type, e.Ino})
		}
	}
	return orphans, nil
}

// RemoveOrphan removes an orphan for good, a directory with all that is in it.
func (d *Dir) RemoveOrphan(id uint64) error {
	p := OrphanPath(id)
	d.dirs.forget(p) // another may be there one day
	return d.removeAll(orphansDir, path.Base(p))
}

// sweepOrphans removes all orphans: of a session that is over nobody has one open.
func (d *Dir) sweepOrphans() error {
	entries, err := d.readDir(orphansDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.removeAll(orphansDir, e.Name); err != nil {
			return err
		}
	}
	return nil
}
