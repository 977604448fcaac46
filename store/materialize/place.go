package materialize

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store/verify"
)

// ErrDest is wrapped by the refusal of a directory that can't be replaced, or not
// without a loss that the options don't allow.
var ErrDest = errors.New("not replaced")

// Materialize makes dest the environment of a tree of the store, in the place of
// an environment of ours that is there. When it returns nil, dest is on the disk;
// with an error dest is as it was, but for one that says that dest is in place.
//
// Another Materialize of dest that is under way is waited for.
func Materialize(ctx context.Context, src Source, id digest.Digest, dest string, o Options) (*Report, error) {
	return materializeOn(ctx, kernel, src, id, dest, o)
}

func materializeOn(ctx context.Context, sys system, src Source, id digest.Digest, dest string, o Options) (*Report, error) {
	dest, err := filepath.Abs(dest)
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = dest
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	t, err := src.OpenTree(id, o.Prefix)
	if err != nil {
		return nil, err
	}
	if err := checkPlace(dest, src.Dir(), o.InStore); err != nil {
		return nil, err
	}
	s, err := openSite(ctx, sys, dest, o.Warn)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p := &placement{site: s, ctx: ctx, src: src, tree: t, o: o, report: Report{Tree: id.String(), Dest: dest}}
	if err := p.run(); err != nil {
		return nil, err
	}
	return &p.report, nil
}

// checkPlace refuses paths at which there can be no environment, whichever symlinks
// lead there.
func checkPlace(dest, store string, inStore bool) error {
	at, err := resolve(dest)
	if err != nil {
		return err
	}
	if store, err = resolve(store); err != nil {
		return err
	}
	if within(store, at) {
		return fmt.Errorf("%w: %q holds the store %q: choose another directory", ErrDest, dest, store)
	}
	if within(at, store) && !inStore {
		return fmt.Errorf("%w: %q is in the store %q: choose another directory", ErrDest, dest, store)
	}
	return nil
}

// resolve returns path with what is there of it free of symlinks.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	parent, err := resolve(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// within reports whether path is dir or below it. Both are absolute.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// A placement is one run of [Materialize], with the lock of its directory held.
type placement struct {
	*site
	ctx    context.Context
	src    Source
	tree   *tree.Tree
	o      Options
	old    resident
	report Report
}

// A resident is what is at the directory before.
type resident struct {
	info  fs.FileInfo    // nil if nothing is there
	mark  *Mark          // nil if it isn't an environment of ours
	tree  *tree.Tree     // that it was made from, nil if the store has it no more
	found *verify.Result // how it differs from tree
}

func (p *placement) run() error {
	if err := p.recover(); err != nil {
		return err
	}
	if err := p.inspect(); err != nil {
		return err
	}
	if same, err := p.unchanged(); err != nil {
		return err
	} else if same {
		p.report.Unchanged = true
		p.report.Mode, p.report.Reason = p.old.mark.Mode.String(), "unchanged: it is that environment already"
		p.report.Files, p.report.Bytes, p.report.Kept = p.old.found.Files, p.old.found.Bytes, p.extra()
		return nil
	}
	made, err := p.make()
	if err == nil {
		err = p.put(made, p.old.info != nil)
	} else {
		err = p.notMade(err)
	}
	// What is left now is the old environment, or the new one that failed.
	p.sweepOrSay()
	if err == nil {
		p.tell()
	}
	return err
}

// notMade says what became of the directory when the new environment failed by err.
func (p *placement) notMade(err error) error {
	if p.ctx.Err() != nil && errors.Is(err, p.ctx.Err()) {
		err = fmt.Errorf("interrupted: %w", context.Cause(p.ctx)) // wherever that was noticed
	}
	if p.old.info != nil {
		return fmt.Errorf("%q is as it was: %w", p.dest, err)
	}
	return fmt.Errorf("%q was not made: %w", p.dest, err)
}

// inspect finds out what is at the directory, and refuses what must stay.
func (p *placement) inspect() error {
	info, err := os.Lstat(p.dest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(p.dest)
		return errors.Join(fmt.Errorf("%w: %q is a symbolic link to %q: name that directory, or remove the link", ErrDest, p.dest, target), err)
	case !info.IsDir():
		return fmt.Errorf("%w: %q is no directory: choose another path", ErrDest, p.dest)
	}
	p.old.info = info
	if err := p.refuseMounts(); err != nil {
		return err
	}
	mark, err := ReadMark(p.dest)
	if err != nil {
		return p.foreign(err)
	}
	p.old.mark = mark
	return p.compare()
}

// refuseMounts refuses a directory with other file systems in it: they would lose
// their place, or their files.
func (p *placement) refuseMounts() error {
	points, err := mountsBelow(p.dest)
	if err != nil {
		return fmt.Errorf("find out what is mounted below %q: %w", p.dest, err)
	}
	if len(points) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %q is a mount point: a directory can't take its place. Unmount it first (`sitefs umount %s`, if it is an environment), or choose another directory", ErrDest, points[0], points[0])
}

// mountsBelow returns the mount points at and below a directory.
func mountsBelow(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	points, err := mountPoints()
	return slices.DeleteFunc(points, func(p string) bool { return p != dir && !strings.HasPrefix(p, dir+"/") }), err
}

// foreign decides about a directory whose mark can't be read because of err.
func (p *placement) foreign(err error) error {
	if p.o.Force {
		return p.refuseAround()
	}
	names, rerr := os.ReadDir(p.dest)
	if rerr != nil {
		return rerr
	}
	if len(names) == 0 {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no %s in it", MarkName)
	}
	return fmt.Errorf("%w: %q is not an environment that sitefs made (%w): --force replaces it, with all that is in it", ErrDest, p.dest, err)
}

// refuseAround refuses to remove what the user is in the midst of: "." may be meant
// for the environment, and is the project.
func (p *placement) refuseAround() error {
	here, err := os.Getwd()
	if err != nil {
		return nil // a directory that is gone is not in this one
	}
	if here, err = resolve(here); err != nil {
		return err
	}
	dest, err := resolve(p.dest)
	if err == nil && within(here, dest) {
		err = fmt.Errorf("%w: %q is not an environment that sitefs made, and you are in it: go elsewhere first, if all that is in it may go", ErrDest, p.dest)
	}
	return err
}

// compare compares an environment of ours with the tree that it was made from.
func (p *placement) compare() error {
	mark := p.old.mark
	t, err := p.src.OpenTree(mark.Tree, mark.Prefix)
	if errors.Is(err, fs.ErrNotExist) {
		if p.o.Force || p.o.DiscardExtra {
			return nil
		}
		return fmt.Errorf("%w: %q was made from tree %s, which the store %q doesn't have, so that what you added to it can't be told from its own files: --discard-extra replaces it, with all that is in it", ErrDest, p.dest, mark.Tree, p.src.Dir())
	}
	if err != nil {
		return err
	}
	p.old.tree = t
	if p.old.found, err = verify.Tree(p.ctx, t, p.dest, p.verifyOptions(mark.Mode, mark.Store)); err != nil {
		return err
	}
	return p.refuseUnseen()
}

// refuseUnseen refuses to replace a folder of the user's in the place of a file, or
// one that can't be read: what was added there has not been seen.
func (p *placement) refuseUnseen() error {
	if p.o.Force || p.o.DiscardExtra {
		return nil
	}
	for _, d := range p.old.found.Changed {
		info, err := os.Lstat(filepath.Join(p.dest, d.Path))
		if err == nil && info.IsDir() {
			return fmt.Errorf("%w: %q is not as it was made, so that what you added there isn't known (%v): move the folder away or make it readable, or give --discard-extra", ErrDest, p.dest, d)
		}
	}
	return nil
}

// verifyOptions returns those for an environment that was made from a store.
func (p *placement) verifyOptions(mode Mode, store string) verify.Options {
	o := verify.Options{Deep: p.o.Deep, Workers: p.o.Workers, Ignore: Own}
	if mode == Symlink {
		o.BlobPath = func(d digest.Digest) string {
			return store + strings.TrimPrefix(p.src.BlobPath(d), p.src.Dir())
		}
	}
	return o
}

// unchanged reports whether the directory is what it is to become.
func (p *placement) unchanged() (bool, error) {
	mark, found := p.old.mark, p.old.found
	same := found != nil && found.Whole() &&
		mark.Tree == p.tree.Digest() && mark.Prefix == p.o.Prefix &&
		(p.o.Mode == Auto || p.o.Mode == mark.Mode) &&
		(mark.Mode != Symlink || mark.Store == p.src.Dir()) &&
		(len(p.extra()) == 0 || !p.o.DiscardExtra)
	if !same || !p.o.Compiled {
		return same, nil
	}
	if !mark.Compiled || len(found.Bytecode) > 0 {
		return false, nil
	}
	return hasCode(p.tree, p.o.Bytecode, p.dest)
}

// extra returns what the user added to the old environment. Copies that a syncing
// folder made are of it: nobody else knows whether they are of use.
func (p *placement) extra() []string {
	if p.old.found == nil {
		return nil
	}
	extra := slices.Concat(p.old.found.Extra, p.old.found.Conflict)
	slices.Sort(extra)
	return extra
}

// make makes the new environment in a new directory, down to the disk.
func (p *placement) make() (made string, err error) {
	a, err := p.try()
	if err == nil && a.mode == Hardlink {
		a, err = p.renewed(a)
	}
	if err == nil {
		err = p.lost(a.found)
	}
	if err == nil && a.mode == Symlink {
		err = p.src.AddRoot(p.dest, p.tree.Digest())
	}
	if err == nil {
		err = p.refuseOther()
	}
	if err == nil {
		err = p.ctx.Err()
	}
	return a.dir, err
}

// An attempt is a new environment, which is on the disk.
type attempt struct {
	dir   string
	mode  Mode
	found *verify.Result // how it differs from the tree
}

// try makes an attempt, the report of which begins anew.
func (p *placement) try() (a attempt, err error) {
	a.dir = p.newName()
	p.report = Report{Tree: p.report.Tree, Dest: p.report.Dest}
	if err := p.build(a.dir); err != nil {
		return a, err
	}
	if a.mode, err = ParseMode(p.report.Mode); err != nil {
		return a, err
	}
	if err := p.mark(a.dir, a.mode); err != nil {
		return a, err
	}
	if !p.o.DiscardExtra {
		p.report.Kept = p.extra()
		if err := p.keep(p.ctx, a.dir, p.report.Kept); err != nil {
			return a, err
		}
	}
	a.found, err = p.settle(a.dir, a.mode)
	return a, err
}

// renewed returns an attempt of hard links, or another one if somebody has changed
// through another environment what the files are linked to.
func (p *placement) renewed(a attempt) (attempt, error) {
	files, err := stale(p.tree, a.found)
	if err != nil || len(files) == 0 {
		return a, err
	}
	if err := p.src.DropLinks(files); err != nil {
		return a, err
	}
	return p.try()
}

// build writes the tree into the new directory made.
func (p *placement) build(made string) error {
	if p.o.Progress != nil {
		root, err := p.tree.Stat(tree.Root)
		if err != nil {
			return err
		}
		p.o.Progress.BeginWrite(root.Size)
		defer p.o.Progress.EndWrite()
	}
	var from *previous
	if p.old.tree != nil {
		from = &previous{tree: p.old.tree, dir: p.dest, mode: p.old.mark.Mode}
	}
	return build(p.ctx, p.sys, p.tree, p.src, made, from, p.o, &p.report)
}

// settle has what was made on the disk, and compares it with the tree meanwhile:
// one waits, the other one computes.
func (p *placement) settle(made string, mode Mode) (found *verify.Result, err error) {
	g, ctx := errgroup.WithContext(p.ctx)
	g.Go(func() error { return durable(made) })
	g.Go(func() (err error) {
		o := p.verifyOptions(mode, p.src.Dir())
		o.Ignore = func(path string) bool { return Own(path) || p.kept(path) }
		o.Times = mode == Hardlink
		found, err = verify.Tree(ctx, p.tree, made, o)
		return err
	})
	err = g.Wait()
	return found, err
}

// kept reports whether a path of the new environment is what the user had added to
// the old one, in a folder that was, or above one.
func (p *placement) kept(path string) bool {
	kept := p.report.Kept // sorted; a folder, which ends in a slash, is all that is in it
	i, found := slices.BinarySearch(kept, path)
	in := i > 0 && strings.HasSuffix(kept[i-1], "/") && strings.HasPrefix(path, kept[i-1])
	j, _ := slices.BinarySearch(kept, path+"/")
	above := j < len(kept) && strings.HasPrefix(kept[j], path+"/")
	return found || in || above
}

// refuseOther refuses to replace what came to the directory since it was inspected,
// as far as inode numbers tell. The rename itself can't be told what to replace.
func (p *placement) refuseOther() error {
	if p.old.info == nil {
		return nil // to put something there fails if it isn't so any more
	}
	now, err := os.Lstat(p.dest)
	if err == nil && !os.SameFile(now, p.old.info) {
		err = fmt.Errorf("%w: another program has put something else there meanwhile: run the same again", ErrDest)
	}
	return err
}

// lost returns an error if what was made is not what the tree has.
func (p *placement) lost(found *verify.Result) error {
	for _, list := range [][]verify.Difference{found.Changed, found.Mode} {
		if len(list) > 0 {
			return fmt.Errorf("the file system at %q didn't keep what was written: %v", p.parent, list[0])
		}
	}
	if lost := slices.Concat(found.Missing, found.Extra, found.Conflict); len(lost) > 0 {
		return fmt.Errorf("the file system at %q didn't keep what was written: look at %q", p.parent, lost[0])
	}
	return nil
}

// mark says in made what it is. The time of the top directory stays the tree's.
func (p *placement) mark(made string, mode Mode) error {
	mark := newMark(p.tree, mode, p.src.Dir(), p.o)
	if err := mark.write(made); err != nil {
		return err
	}
	root, err := p.tree.Stat(tree.Root)
	if err != nil {
		return err
	}
	if err := setTime(unix.AT_FDCWD, made, root.Mtime); err != nil {
		return &fs.PathError{Op: "utimensat", Path: made, Err: err}
	}
	return nil
}

// tell says what became of what was in the old environment.
func (p *placement) tell() {
	found := p.old.found
	if found == nil {
		return
	}
	if n := len(found.Missing); n > 0 {
		p.o.Warn(fmt.Sprintf("%s had lost %s: it is whole again", p.dest, several(n, found.Missing[0])))
	}
	if n := len(found.Changed); n > 0 {
		p.o.Warn(fmt.Sprintf("%s had other contents than its packages in %s: what was written there is gone", p.dest, several(n, found.Changed[0].Path)))
	}
	if extra := p.extra(); p.o.DiscardExtra && len(extra) > 0 {
		p.o.Warn(fmt.Sprintf("%s had more than its packages: %s; it is gone", p.dest, several(len(extra), extra[0])))
	}
}

// several names the first of n paths.
func several(n int, first string) string {
	if n == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, n-1)
}
