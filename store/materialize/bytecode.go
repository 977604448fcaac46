package materialize

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

// pycache is the folder beside sources that Python keeps bytecode in (PEP 3147).
const pycache = "__pycache__"

// levels are the levels of optimisation that Python knows.
const levels = 3

// isSource reports whether a file of the tree may have bytecode.
func isSource(name []byte, a tree.Attr) bool {
	return a.Kind == tree.File && bytes.HasSuffix(name, []byte(".py"))
}

// A codeDir is the __pycache__ of one directory, made when it is first needed.
type codeDir struct {
	fd   int
	made bool
}

func (d *codeDir) close() {
	if d.made {
		unix.Close(d.fd)
	}
}

// open makes the __pycache__ of the directory parent.
func (d *codeDir) open(w *worker, parent int) error {
	if d.made {
		return nil
	}
	if err := w.mkdir(parent, pycache); err != nil {
		return err
	}
	fd, err := openDir(parent, pycache)
	if err != nil {
		return err
	}
	d.fd, d.made = fd, true
	return nil
}

// exportCode writes the .pyc files that the store has of a source. Those that come
// in between are left to Python.
func (w *worker) exportCode(d *codeDir, dir int, name string, a tree.Attr) error {
	stem := strings.TrimSuffix(name, ".py")
	for level := range levels {
		from, size, err := w.code.OpenCode(a.Digest, a.Size, a.Mtime, level)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = d.open(w, dir)
		if err == nil {
			err = w.writeCode(d.fd, w.code.CodeName(stem, level), from, size, dir, name)
		}
		unix.Close(from)
		if err != nil {
			return err
		}
		w.counts.Bytecode++
	}
	return nil
}

// writeCode writes one .pyc file of the source in dir.
func (w *worker) writeCode(cache int, name string, from int, size int64, dir int, source string) error {
	fd, err := w.create(cache, name, fileMode)
	if err != nil {
		return err
	}
	err = w.copyBytes(fd, from, size)
	if err == nil && w.mode == Symlink {
		err = stampCode(fd, dir, source)
	}
	return closeAfter(fd, err)
}

// stampCode makes the header of a .pyc file fit a source that is a symlink: Python
// looks at the time of the blob that it leads to.
func stampCode(fd, dir int, source string) error {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(dir, source, &st, 0) }); err != nil {
		return err
	}
	const mtimeAt = 8 // PEP 552
	var mtime [4]byte
	binary.LittleEndian.PutUint32(mtime[:], uint32(st.Mtim.Sec))
	return retry(func() error {
		_, err := unix.Pwrite(fd, mtime[:], mtimeAt)
		return err
	})
}

// hasCode reports whether each source in the environment dir has its .pyc file, if
// there is one to be had: of no optimisation, as Python wants it unless told.
func hasCode(t *tree.Tree, code Bytecode, dir string) (bool, error) {
	has := true
	err := t.Walk(func(name string, _ tree.ID, a tree.Attr) error {
		stem, ok := strings.CutSuffix(path.Base(name), ".py")
		if !ok || a.Kind != tree.File || !has {
			return nil
		}
		if _, err := os.Lstat(filepath.Join(dir, path.Dir(name), pycache, code.CodeName(stem, 0))); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fd, _, err := code.OpenCode(a.Digest, a.Size, a.Mtime, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		has = false
		return unix.Close(fd)
	})
	return has, err
}
