package upper

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Dir is an upper directory that is open. Its methods can be called by several
// goroutines at once; those that take a path follow no symbolic link anywhere in
// it, and return an *fs.PathError of a syscall.Errno.
type Dir struct {
	name     string // for errors
	base     Base
	dirs     dirs
	lock     *os.File // nil: the caller's
	readOnly bool
	resumed  bool
	statAll  bool // the inode numbers of getdents(2) are not those of stat(2)
	trash    trash
	stage    *stage

	mu      sync.Mutex // held by a mutation
	file    *os.File   // the journal
	journal journal    // maps file
	encoded []byte     // the steps of the last mutation
	broken  error      // set once a mutation could be neither finished nor undone

	lending sync.Mutex // held while modes are lent
	loans   journal    // the head of the journal again, which is never mapped anew

	renameExchange func(fromDir int, from string, toDir int, to string) error

	hook func(moment string) error // tests
}

// Lock makes dir an upper directory of nothing yet if it isn't one, dir itself
// included, and takes its lock, which ends with the last process that holds the
// file. Its error is ErrLocked if another session has it.
func Lock(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the overlay's directory: %w", err)
	}
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	if err := checkRoot(root, dir); err != nil {
		return nil, err
	}
	if err := unix.Mkdirat(root, sideDir, 0o700); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("overlay %q can't be written to: %w", dir, err)
	}
	side, err := openSide(root, dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(side)
	if err := checkOwner(side, dir); err != nil {
		return nil, err
	}
	f, err := openSideFile(side, lockFile, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, fmt.Errorf("lock overlay %q: %w", dir, err)
	}
	if err := flock(f, dir); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// flock takes the lock and says who has it.
func flock(f *os.File, dir string) error {
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0) // without a number the message says less
		if pid, err := strconv.Atoi(strings.TrimSpace(string(holder[:n]))); err == nil {
			return fmt.Errorf("overlay %q is %w, process %d", dir, ErrLocked, pid)
		}
		return fmt.Errorf("overlay %q is %w", dir, ErrLocked)
	case err != nil:
		return fmt.Errorf("lock overlay %q: %w", dir, err)
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("lock overlay %q: %w", dir, err)
	}
	if _, err := f.WriteAt(pid, 0); err != nil {
		return fmt.Errorf("lock overlay %q: %w", dir, err)
	}
	return nil
}

// Open opens an upper directory, which is made if it isn't there. It finishes or
// undoes the mutation that a killed process left behind, and empties tmp/; a new
// session empties orphans/ too. It refuses a directory of another user, of a newer
// format, on a file system that can't keep one, and (as a *BaseError) one that was
// made over another tree.
func Open(dir string, o Options) (_ *Dir, err error) {
	if o.Area != nil && len(o.Area) < AreaSize {
		return nil, fmt.Errorf("overlay %q: an area of %d bytes, want %d", dir, len(o.Area), AreaSize)
	}
	d := &Dir{name: dir, stage: newStage(), renameExchange: renameExchange}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if o.At != nil {
		d.hook = func(moment string) error { o.At(moment); return nil }
	}
	if o.Locked == nil {
		if d.lock, err = Lock(dir); err != nil {
			return nil, err
		}
	}
	if err := d.openDirs(o.Locked); err != nil {
		return nil, err
	}
	if err := d.openFormat(); err != nil {
		return nil, err
	}
	if err := d.openJournal(); err != nil {
		return nil, fmt.Errorf("journal of overlay %q: %w", dir, err)
	}
	if err := d.recover(); err != nil {
		return nil, fmt.Errorf("overlay %q: what a killed process began can be neither finished nor undone: %w; save what is in %s, then remove %s/%s", dir, err, tmpDir, sideDir, journalFile)
	}
	if err := d.openBase(o); err != nil { // which Reset changes
		return nil, err
	}
	if err := d.sweep(); err != nil {
		return nil, fmt.Errorf("overlay %q: %w", dir, err)
	}
	if err := d.begin(o.Area); err != nil {
		return nil, fmt.Errorf("overlay %q: %w", dir, err)
	}
	return d, nil
}

// OpenReadOnly opens an upper directory to look at, without its lock: a session may
// have it open, and what is read may be between two states of its. Mutations are
// EROFS, and the journal and tmp/ stay as they are.
func OpenReadOnly(dir string) (*Dir, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	d := &Dir{name: dir, dirs: newDirs(root), stage: newStage(), readOnly: true, statAll: statAll(root)}
	side, err := openSide(root, dir)
	if err == unix.ENOENT {
		return d, nil // a layer of others
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	d.dirs.pin(sideDir, side)
	if err := errors.Join(d.openFormat(), d.openBase(Options{})); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the session's use of the directory, after what was deleted is removed.
// Who unmounts for good needs nothing else; a successor finds everything.
func (d *Dir) Close() error {
	d.trash.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, j := range []*journal{&d.journal, &d.loans} {
		if j.b != nil {
			errs = append(errs, unix.Munmap(j.b))
			j.b = nil
		}
	}
	if d.broken == nil {
		d.broken = unix.EBADF
	}
	if d.file != nil {
		errs = append(errs, d.file.Close())
		d.file = nil
	}
	d.dirs.close()
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	return errors.Join(errs...)
}

// Resumed reports whether the session began in an earlier process, which has
// handed out node ids: how often is not known.
func (d *Dir) Resumed() bool { return d.resumed }

// Base returns what the layer was made over, zero if nobody has said.
func (d *Dir) Base() Base { return d.base }

// openRoot opens the top of an upper directory, as a place only.
func openRoot(dir string) (int, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return -1, err
	}
	root, err := unix.Open(abs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("overlay: %w", pathError("open", dir, err))
	}
	return root, nil
}

// checkRoot refuses a directory that can't be an upper.
func checkRoot(root int, dir string) error {
	if err := checkOwner(root, dir); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(root, &fs); err != nil {
		return fmt.Errorf("overlay %q: %w", dir, err)
	}
	return checkFilesystem(int64(fs.Type), int64(fs.Flags), dir)
}

// checkOwner refuses what another user can change, who would write through the
// mount with our rights.
func checkOwner(fd int, dir string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("overlay %q: %w", dir, err)
	}
	if uid := os.Geteuid(); int(st.Uid) != uid {
		return fmt.Errorf("overlay %q belongs to user %d, not to %d: name a directory of your own", dir, st.Uid, uid)
	}
	return nil
}

// refusedFilesystems lack what an upper is made of: links, sockets, modes, a lock that
// dies with its owner, or a mapped file that another machine doesn't change.
var refusedFilesystems = map[int64]string{
	unix.NFS_SUPER_MAGIC:   "NFS",
	unix.MSDOS_SUPER_MAGIC: "FAT",
	unix.EXFAT_SUPER_MAGIC: "exFAT",
	unix.SMB_SUPER_MAGIC:   "SMB",
	unix.SMB2_SUPER_MAGIC:  "SMB",
	unix.CIFS_SUPER_MAGIC:  "SMB",
}

// checkFilesystem refuses a file system by statfs(2)'s type and flags.
func checkFilesystem(magic, flags int64, dir string) error {
	if name, ok := refusedFilesystems[magic&0xffffffff]; ok {
		return fmt.Errorf("overlay %q is on %s, which can't keep one: name a directory on a local file system", dir, name)
	}
	if flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("overlay %q is on a file system that is mounted read-only: %w", dir, unix.EROFS)
	}
	return nil
}

// statAll reports whether getdents(2) may give other inode numbers than stat(2):
// on stacked and foreign file systems.
func statAll(root int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(root, &fs) != nil {
		return true
	}
	switch int64(fs.Type) & 0xffffffff {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return false
	}
	return true
}

// openSide opens the side area.
func openSide(root int, dir string) (int, error) {
	side, err := openBeneath(root, sideDir)
	if err == unix.ENOENT {
		return -1, err
	}
	if err != nil {
		return -1, fmt.Errorf("%q in overlay %q is not the directory it should be: %w", sideDir, dir, err)
	}
	return side, nil
}

// openSideFile opens a regular file of the side area.
func openSideFile(side int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(side, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, pathError("open", name, errors.Join(err, errors.New("not a regular file")))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openDirs opens the top and the side area, whose lock the caller may have.
func (d *Dir) openDirs(locked *os.File) error {
	root, err := openRoot(d.name)
	if err != nil {
		return err
	}
	d.dirs = newDirs(root)
	d.statAll = statAll(root)
	if err := checkRoot(root, d.name); err != nil {
		return err
	}
	side, err := openSide(root, d.name)
	if err != nil {
		return fmt.Errorf("overlay %q: %w", d.name, err)
	}
	d.dirs.pin(sideDir, side)
	if err := checkOwner(side, d.name); err != nil {
		return err
	}
	if err := d.checkLocked(side, locked); err != nil {
		return err
	}
	for _, name := range []string{tmpName, orphansName} {
		if err := unix.Mkdirat(side, name, 0o700); err != nil && err != unix.EEXIST {
			return fmt.Errorf("overlay %q: %w", d.name, pathError("mkdir", name, err))
		}
		fd, err := openBeneath(side, name)
		if err != nil {
			return fmt.Errorf("overlay %q: %w", d.name, pathError("open", name, err))
		}
		d.dirs.pin(sideDir+"/"+name, fd)
	}
	return nil
}

// checkLocked holds the lock that the caller brought against the directory's.
func (d *Dir) checkLocked(side int, locked *os.File) error {
	if locked == nil {
		return nil
	}
	var have, want unix.Stat_t
	if err := unix.Fstat(int(locked.Fd()), &have); err != nil {
		return fmt.Errorf("overlay %q: %w", d.name, err)
	}
	if err := unix.Fstatat(side, lockFile, &want, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("overlay %q: %w", d.name, pathError("stat", lockFile, err))
	}
	if have.Dev != want.Dev || have.Ino != want.Ino {
		return fmt.Errorf("overlay %q: the lock that is held is another directory's", d.name)
	}
	return nil
}

// openFormat reads FORMAT, and writes it in a new directory.
func (d *Dir) openFormat() error {
	have, err := d.readSide(formatFile)
	switch {
	case errors.Is(err, unix.ENOENT) && !d.readOnly:
		err = d.writeSide(formatFile, []byte(format))
	case errors.Is(err, unix.ENOENT):
		err = nil
	case err == nil && string(have) != format:
		return fmt.Errorf("overlay %q has format %q, this sitefs reads %q: use a newer sitefs", d.name, bytes.TrimSpace(have), strings.TrimSpace(format))
	}
	if err != nil {
		return fmt.Errorf("overlay %q: %w", d.name, err)
	}
	return nil
}

// openBase reads base, and writes it in a new directory.
func (d *Dir) openBase(o Options) error {
	have, err := d.readSide(baseFile)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("overlay %q: %w", d.name, err)
	}
	if err == nil {
		if err := json.Unmarshal(have, &d.base); err != nil {
			return fmt.Errorf("overlay %q: what it was made over can't be read from %s/%s: %w", d.name, sideDir, baseFile, err)
		}
	}
	return d.checkBase(o)
}

// checkBase holds the layer's base against the wanted one, and brings it up to date.
func (d *Dir) checkBase(o Options) error {
	if o.Base == (Base{}) || o.Base == d.base {
		return nil
	}
	if d.base.Tree != "" && d.base.Tree != o.Base.Tree && !o.Rebase {
		return &BaseError{d.name, d.base, o.Base}
	}
	b, err := json.Marshal(o.Base)
	if err != nil {
		return err
	}
	if d.base.Tree != o.Base.Tree {
		err = d.removeSide(committedFile) // it was over the other tree
	}
	if err == nil {
		err = d.writeSide(baseFile, append(b, '\n'))
	}
	if err == nil {
		err = d.SyncDir(sideDir) // FORMAT too: what is fsynced in the layer must not outlive what it is over
	}
	if err != nil {
		return fmt.Errorf("overlay %q: %w", d.name, err)
	}
	d.base = o.Base
	return nil
}

// maxSideFile bounds what FORMAT and base can be.
const maxSideFile = 64 << 10

// readSide reads a small file of the side area.
func (d *Dir) readSide(name string) ([]byte, error) {
	side, err := d.dirs.acquire(sideDir)
	if err != nil {
		return nil, err
	}
	defer d.dirs.release(side)
	f, err := openSideFile(side.fd, name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSideFile+1))
	if err == nil && len(b) > maxSideFile {
		return nil, pathError("read", name, unix.EFBIG)
	}
	return b, err
}

// writeSide puts a small file into the side area, whole or not at all. Its bytes are
// synced, its name is once [Dir.SyncDir] was called.
func (d *Dir) writeSide(name string, b []byte) error {
	side, err := d.dirs.acquire(sideDir)
	if err != nil {
		return err
	}
	defer d.dirs.release(side)
	for {
		staged := tmpName + "/" + d.stage.next()
		if err := writeFile(side.fd, staged, b); err != nil {
			return err
		}
		err := unix.Renameat(side.fd, staged, side.fd, name)
		if err == unix.ENOENT {
			continue // a session that began meanwhile has emptied tmp/
		}
		if err != nil {
			return pathError("rename", staged, err)
		}
		return nil
	}
}

// removeSide removes a file of the side area, if it is there.
func (d *Dir) removeSide(name string) error {
	side, err := d.dirs.acquire(sideDir)
	if err != nil {
		return err
	}
	defer d.dirs.release(side)
	return pathError("remove", name, removeOne(side.fd, name))
}

// writeFile makes a file and syncs it.
func writeFile(dir int, name string, b []byte) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return pathError("create", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// openJournal maps the journal.
func (d *Dir) openJournal() error {
	side, err := d.dirs.acquire(sideDir)
	if err != nil {
		return err
	}
	defer d.dirs.release(side)
	if d.file, err = openSideFile(side.fd, journalFile, unix.O_RDWR|unix.O_CREAT); err != nil {
		return err
	}
	if err := d.mapJournal(minJournal); err != nil {
		return err
	}
	if d.loans.b, err = mapFile(d.file, stepsAt); err != nil {
		return err
	}
	if err := d.journal.check(); err != nil {
		return fmt.Errorf("%w: if no sitefs wrote it, remove %s/%s", err, sideDir, journalFile)
	}
	return nil
}

// mapJournal makes the journal at least size bytes long and maps it whole.
func (d *Dir) mapJournal(size int) error {
	st, err := d.file.Stat()
	if err != nil {
		return err
	}
	if st.Size() > maxJournal {
		return fmt.Errorf("has %d bytes, want at most %d", st.Size(), maxJournal)
	}
	size = max(size, int(st.Size()))
	if err := reserve(d.file, size); err != nil {
		return err
	}
	b, err := mapFile(d.file, size)
	if err != nil {
		return err
	}
	if d.journal.b != nil {
		if err := unix.Munmap(d.journal.b); err != nil {
			return err
		}
	}
	d.journal = journal{b}
	return nil
}

// mapFile maps the beginning of a file.
func mapFile(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// reserve gives the file size bytes of disk: a store to a mapped hole of a full
// disk would kill the process.
func reserve(f *os.File, size int) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	if err != unix.EOPNOTSUPP {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, int64(size)-st.Size()), st.Size())
	return err
}

// begin goes on with the session that area knows, or begins a new one.
func (d *Dir) begin(area []byte) error {
	if area != nil {
		if s := session(area); s != (session{}) && s == d.journal.session() {
			d.resumed = true
			return nil
		}
	}
	if err := d.sweepOrphans(); err != nil {
		return err
	}
	var s session
	if _, err := rand.Read(s[:]); err != nil {
		return err
	}
	d.journal.begin(s)
	copy(area, s[:])
	return nil
}
