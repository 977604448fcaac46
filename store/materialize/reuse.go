package materialize

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

// A previous is the environment that is being replaced.
type previous struct {
	tree *tree.Tree // what it was made from
	dir  string
	mode Mode // how it was made, never [Auto]
}

// reusable reports whether the files of an environment of that mode are its own:
// then a file that hasn't changed becomes the new environment's by a hard link,
// and the new one's alone when the old one is removed. A link to an inode of mode
// hardlink would share an edit with environments that know nothing of it.
func reusable(m Mode) bool { return m == Clone || m == Copy }

// An oldDir is the directory of the previous environment that has the path of one
// that is being filled. The zero value is none.
type oldDir struct {
	id tree.ID // 0 if there is none
	fd int
}

func (d oldDir) close() {
	if d.id != 0 {
		unix.Close(d.fd)
	}
}

// openOld opens the previous environment.
func (b *builder) openOld() (oldDir, error) {
	if b.from == nil {
		return oldDir{}, nil
	}
	fd, err := openDir(unix.AT_FDCWD, b.from.dir)
	if err != nil {
		return oldDir{}, &fs.PathError{Op: "open", Path: b.from.dir, Err: err}
	}
	return oldDir{tree.Root, fd}, nil
}

// oldChild opens a directory in an old one. One that the old tree has and the disk
// hasn't, or as something else, is none.
func (b *builder) oldChild(d oldDir, name string) (oldDir, error) {
	if d.id == 0 {
		return oldDir{}, nil
	}
	id, a, err := b.from.tree.Lookup(d.id, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && a.Kind != tree.Dir {
		return oldDir{}, nil
	}
	if err != nil {
		return oldDir{}, err
	}
	fd, err := openDir(d.fd, name)
	switch err {
	case nil:
		return oldDir{id, fd}, nil
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EACCES:
		return oldDir{}, nil
	}
	return oldDir{}, err
}

// reuse links a file of the old environment into the new directory dir if it is
// what the new tree has under that name, and reports whether it has done so.
func (w *worker) reuse(dir int, name string, a tree.Attr, old oldDir) (bool, error) {
	if old.id == 0 {
		return false, nil
	}
	_, was, err := w.from.tree.Lookup(old.id, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (was.Kind != tree.File || contentOf(was) != contentOf(a)) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstatat(old.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == unix.ENOENT || err == nil && !untouched(&st, a) {
		return false, nil
	}
	if err == nil {
		err = retry(func() error { return unix.Linkat(old.fd, name, dir, name, 0) })
	}
	if err != nil {
		return false, err
	}
	w.counts.Reused++
	return true, nil
}

// untouched reports whether a file is as it was written: every edit leaves a time
// that isn't a whole second, unless somebody sets it. A second link is another
// environment, made by cp -l.
func untouched(st *unix.Stat_t, a tree.Attr) bool {
	return uint32(st.Mode) == unix.S_IFREG|modeOf(a) && st.Size == a.Size && st.Nlink == 1 &&
		st.Mtim.Sec == a.Mtime && st.Mtim.Nsec == 0 && int(st.Uid) == os.Geteuid()
}
