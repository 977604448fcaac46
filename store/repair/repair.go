// Package repair puts right what package verify found in a virtual environment:
// from the store where the environment is one of ours, and from the wheels that
// its metadata name where pip or uv made it.
//
// A file is written whole in a folder of the environment that nobody looks into,
// made durable, and renamed into its place: whoever opens it sees the old bytes or
// the right ones. What is in the way and may be somebody's work is left alone and
// named. Nothing outside of the environment is written, whatever its symlinks say.
//
// A kill leaves a mixture of what was repaired and what was not, which is no worse
// than before; another repair goes on from there.
package repair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// ErrBusy is wrapped when another repair of the environment is under way.
var ErrBusy = errors.New("another repair is under way")

// Stage is the folder in an environment that holds what is being written.
const Stage = ".sitefs-repair"

// A Source has the bytes of files.
type Source interface {
	// OpenBlob opens the bytes of a file; the caller closes the descriptor.
	OpenBlob(d digest.Digest) (fd int, err error)
}

// A Report says what was done. Paths are slash-separated, relative to the
// environment and sorted.
type Report struct {
	Restored []string `json:"restored,omitempty"`
	Removed  []string `json:"removed,omitempty"` // bytecode of other sources
	Kept     []string `json:"kept,omitempty"`    // edited files that were left alone
	Failed   []Reason `json:"failed,omitempty"`  // what couldn't be repaired
	Notes    []Reason `json:"notes,omitempty"`   // what the user should know of a package
}

// A Reason says something of a path or a package.
type Reason struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (r Reason) String() string { return r.Name + ": " + r.Reason }

func (r *Report) fail(name string, err error) {
	r.Failed = append(r.Failed, Reason{name, err.Error()})
}

func (r *Report) sort() {
	for _, list := range [][]string{r.Restored, r.Removed, r.Kept} {
		slices.Sort(list)
	}
	for _, list := range [][]Reason{r.Failed, r.Notes} {
		slices.SortFunc(list, func(a, b Reason) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Reason, b.Reason)) })
	}
}

// Interrupted reports whether a repair of the environment at dir is under way, or
// was killed and left something behind: another one sweeps it up.
func Interrupted(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, Stage))
	return err == nil
}

// A file is one to be put into its place.
type file struct {
	path   string // in the environment
	mode   fs.FileMode
	mtime  time.Time              // zero for the time of writing
	target string                 // of a symlink; then there is no content
	write  func(w *os.File) error // writes the content
	staged string                 // where it is until then
}

// A workshop is an environment under repair.
type workshop struct {
	root   *os.Root
	lock   *os.File // on the folder
	report *Report
	files  []*file
}

// open returns the environment at dir as a workshop, which what an earlier repair
// left has been swept out of.
func open(dir string) (*workshop, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	w := &workshop{root: root, report: new(Report)}
	if err := w.takeStage(); err != nil {
		return nil, errors.Join(fmt.Errorf("repair %q: %w", dir, err), root.Close())
	}
	return w, nil
}

// takeStage makes the folder if it isn't there, locks it and empties it.
func (w *workshop) takeStage() error {
	if err := w.root.Mkdir(Stage, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := w.root.Lstat(Stage)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is no folder: remove it", Stage)
	}
	w.lock, err = w.root.Open(Stage)
	if err != nil {
		return err
	}
	err = unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err == nil {
		err = w.sweep()
	}
	if err != nil {
		return errors.Join(err, w.lock.Close())
	}
	return nil
}

func (w *workshop) sweep() error {
	names, err := w.lock.Readdirnames(-1)
	for _, name := range names {
		err = errors.Join(err, w.root.RemoveAll(path.Join(Stage, name)))
	}
	return err
}

// clear removes the folder. The lock on it holds until close.
func (w *workshop) clear() error { return w.root.RemoveAll(Stage) }

// close lets go of the environment.
func (w *workshop) close() error { return errors.Join(w.lock.Close(), w.root.Close()) }

// writers is how many files are written and synced at a time: a sync waits for
// the disk, which takes many at once.
const writers = 8

// finish writes what was planned and puts it into its place.
func (w *workshop) finish(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(writers)
	for i, f := range w.files {
		f.staged = path.Join(Stage, strconv.Itoa(i))
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := w.stage(f); err != nil {
				return fmt.Errorf("%q: %w", f.path, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	folders := map[string]bool{}
	for _, f := range w.files {
		if err := w.place(f); err != nil {
			w.report.fail(f.path, err)
			continue
		}
		w.report.Restored = append(w.report.Restored, f.path)
		folders[path.Dir(f.path)] = true
		w.removeCode(f.path)
	}
	for folder := range folders {
		if err := w.syncFolder(folder); err != nil {
			return err
		}
	}
	return nil
}

// stage writes f where nobody looks.
func (w *workshop) stage(f *file) error {
	if f.target != "" {
		return w.root.Symlink(f.target, f.staged)
	}
	out, err := w.root.OpenFile(f.staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = f.write(out)
	if err == nil {
		err = out.Chmod(f.mode) // not at the opening, where the umask has its say
	}
	if err == nil && !f.mtime.IsZero() {
		err = w.root.Chtimes(f.staged, f.mtime, f.mtime)
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// place renames f into its place. What is no directory there is replaced.
func (w *workshop) place(f *file) error {
	if info, err := w.root.Lstat(f.path); err == nil && info.IsDir() {
		return errors.New("a folder is in its place: move it away and repair again")
	}
	if err := w.folder(path.Dir(f.path)); err != nil {
		return err
	}
	return w.root.Rename(f.staged, f.path)
}

// folder makes a directory and those above it. A file or symlink in the place of
// one is in the way.
func (w *workshop) folder(p string) error {
	info, err := w.root.Lstat(p)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return inTheWay(p)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return err
	}
	if err := w.folder(path.Dir(p)); err != nil {
		return err
	}
	if err := w.root.Mkdir(p, 0o755); err != nil {
		return err
	}
	return w.root.Chmod(p, 0o755)
}

func inTheWay(p string) error {
	return fmt.Errorf("%q is in the way, which is no folder: move it away and repair again", p)
}

// blocked returns the error that names what is at p, or above it, and is no folder.
func (w *workshop) blocked(p string) error {
	for ; p != "."; p = path.Dir(p) {
		if info, err := w.root.Lstat(p); err == nil && !info.IsDir() {
			return inTheWay(p)
		}
	}
	return unix.ENOTDIR // it was there a moment ago
}

func (w *workshop) syncFolder(p string) error {
	d, err := w.root.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeCode removes the bytecode of what was at p before, if that is a source.
func (w *workshop) removeCode(p string) {
	stem, ok := strings.CutSuffix(path.Base(p), ".py")
	if !ok {
		return
	}
	cache := path.Join(path.Dir(p), "__pycache__")
	entries, err := fs.ReadDir(w.root.FS(), cache)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.report.fail(cache, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stem+".") && strings.HasSuffix(e.Name(), ".pyc") {
			w.remove(path.Join(cache, e.Name()))
		}
	}
}

// remove removes a file, if it is there, and notes it.
func (w *workshop) remove(p string) {
	err := w.root.Remove(p)
	switch {
	case err == nil:
		w.report.Removed = append(w.report.Removed, p)
	case !errors.Is(err, fs.ErrNotExist):
		w.report.fail(p, err)
	}
}

// copyBlob writes the bytes of a blob, of which there must be size. They share the
// disk with the store's where the file systems can.
func copyBlob(out *os.File, src Source, d digest.Digest, size int64) error {
	fd, err := src.OpenBlob(d)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), d.String())
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != size {
		err = fmt.Errorf("blob %s has %d bytes, want %d: the store is damaged", d, n, size)
	}
	return err
}
