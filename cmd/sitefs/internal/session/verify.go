package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/materialize"
	"github.com/sitefs/sitefs/store/repair"
	"github.com/sitefs/sitefs/store/resolve"
	"github.com/sitefs/sitefs/store/verify"
)

// A Venv is an environment on disk, to be compared with what it should be.
type Venv struct {
	Dir string

	mark    *materialize.Mark // nil if pip or uv made it
	open    func() (*Session, error)
	session *Session // nil until it is needed
}

// OpenVenv returns the environment at dir. A session is opened when the store is
// needed: always for an environment that Materialize made, and for the repair of
// one that pip or uv made.
func OpenVenv(dir string, open func() (*Session, error)) (*Venv, error) {
	mark, err := materialize.ReadMark(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Venv{Dir: dir, mark: mark, open: open}, nil
}

// Tree returns the digest of the tree that the environment was made from, "" if pip
// or uv made it.
func (v *Venv) Tree() string {
	if v.mark == nil {
		return ""
	}
	return v.mark.Tree.String()
}

// Session returns the session, opening it if it isn't.
func (v *Venv) Session() (*Session, error) {
	if v.session == nil {
		s, err := v.open()
		if err != nil {
			return nil, err
		}
		v.session = s
	}
	return v.session, nil
}

// Compare compares the environment with its tree or its RECORD files.
func (v *Venv) Compare(ctx context.Context, deep bool) (*verify.Result, error) {
	o := verify.Options{Deep: deep, Ignore: materialize.Own}
	if v.mark == nil {
		return verify.Records(ctx, v.Dir, o)
	}
	t, err := v.tree()
	if err != nil {
		return nil, err
	}
	o.BlobPath = v.blobPath()
	return verify.Tree(ctx, t, v.Dir, o)
}

// Repair restores what was found: from the store, or for an environment of pip or
// uv from the wheels that its metadata name. Those are the ones in the store, else
// the ones that the user's resolver finds.
func (v *Venv) Repair(ctx context.Context, found *verify.Result, o repair.Options) (*repair.Report, error) {
	s, err := v.Session()
	if err != nil {
		return nil, err
	}
	if v.mark == nil {
		r := &rescuer{session: s, python: filepath.Join(v.Dir, "bin", "python")}
		return repair.Records(ctx, v.Dir, s.Store, found, r.wheels, o)
	}
	t, err := v.tree()
	if err != nil {
		return nil, err
	}
	return repair.Tree(ctx, t, s.Store, v.Dir, found, v.blobPath())
}

// tree opens the tree that the environment was made from.
func (v *Venv) tree() (*tree.Tree, error) {
	s, err := v.Session()
	if err != nil {
		return nil, err
	}
	t, err := s.Store.OpenTree(v.mark.Tree, v.mark.Prefix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q was made from tree %.12s of the store %q, which the store %q doesn't have: set SITEFS_STORE, or materialize it again: %w",
			v.Dir, v.mark.Tree, v.mark.Store, s.Store.Dir(), err)
	}
	return t, err
}

// blobPath returns where files are that are symlinks into the store, nil if they are
// files.
func (v *Venv) blobPath() func(digest.Digest) string {
	if v.mark.Mode != materialize.Symlink {
		return nil
	}
	return v.session.Store.BlobPath
}

// A rescuer finds the wheels that an environment was made from.
type rescuer struct {
	session *Session
	python  string // of the environment, as it was asked for
	damaged []*verify.Distribution

	probed  *interp.Python // that Python, once it was needed
	stored  []store.WheelEntry
	listed  bool                                   // stored is read
	fetched map[*verify.Distribution]digest.Digest // nil until the resolver was asked
}

// wheels is a [repair.Wheels].
func (r *rescuer) wheels(ctx context.Context, damaged []*verify.Distribution) func(*verify.Distribution) iter.Seq2[*wheel.Info, error] {
	r.damaged = damaged
	return func(d *verify.Distribution) iter.Seq2[*wheel.Info, error] {
		return func(yield func(*wheel.Info, error) bool) {
			if d.Broken == nil || d.Tags != nil { // else only the resolver knows which build
				for info, err := range r.inStore(ctx, d) {
					if !yield(info, err) || err != nil {
						return
					}
				}
			}
			yield(r.fetch(ctx, d))
		}
	}
}

// inStore yields the wheels that the store has of the version.
func (r *rescuer) inStore(ctx context.Context, d *verify.Distribution) iter.Seq2[*wheel.Info, error] {
	return func(yield func(*wheel.Info, error) bool) {
		if !r.listed {
			var err error
			if r.stored, err = r.session.Store.Wheels(ctx); err != nil {
				yield(nil, err)
				return
			}
			r.listed = true
		}
		for _, e := range r.stored {
			if !isVersion(e, d) {
				continue
			}
			info, err := r.session.Store.Info(e.Digest)
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// isVersion reports whether a wheel is of the distribution's name and version.
func isVersion(e store.WheelEntry, d *verify.Distribution) bool {
	if pyver.CanonicalName(e.Name) != pyver.CanonicalName(d.Name) {
		return false
	}
	a, err := pyver.Parse(e.Version)
	b, otherErr := pyver.Parse(d.Version)
	return err == nil && otherErr == nil && a.Compare(b) == 0
}

// fetch returns the wheel that the resolver names for exactly that version.
func (r *rescuer) fetch(ctx context.Context, d *verify.Distribution) (*wheel.Info, error) {
	if r.fetched == nil {
		r.fetched = map[*verify.Distribution]digest.Digest{}
		r.fetchAll(ctx)
	}
	if r.fetched[d].IsZero() {
		if err := r.ask(ctx, []*verify.Distribution{d}); err != nil {
			return nil, err
		}
	}
	return r.session.Store.Info(r.fetched[d])
}

// fetchAll asks for all that the store lacks at once, which is faster than one by
// one. A package that isn't to be had spoils the answer for all: then each is asked
// for alone, and the error told of that which it is about.
func (r *rescuer) fetchAll(ctx context.Context) {
	var lacking []*verify.Distribution
	for _, d := range r.damaged {
		if !slices.ContainsFunc(r.stored, func(e store.WheelEntry) bool { return isVersion(e, d) }) {
			lacking = append(lacking, d)
		}
	}
	if len(lacking) < 2 {
		return
	}
	if err := r.ask(ctx, lacking); err != nil {
		r.session.Note(fmt.Sprintf("the packages are asked for one by one: %v", err))
	}
}

// ask asks the resolver for the wheels of exactly those versions, or those at the
// URLs that the packages came from, and puts them into the store.
func (r *rescuer) ask(ctx context.Context, all []*verify.Distribution) error {
	py, err := r.interpreter(ctx)
	if err != nil {
		return err
	}
	req := resolve.Request{NoDeps: true, Python: py, Dir: r.session.Dir, Offline: r.session.Offline, Refresh: r.session.Refresh}
	byName := map[string]*verify.Distribution{}
	for _, d := range all {
		requirement := d.Name + "==" + d.Version
		if d.Origin.IsWheel() {
			requirement = d.Name + " @ " + d.Origin.URL
		}
		with, err := lock.ParseWith(requirement, r.session.Dir)
		if err != nil {
			return err
		}
		req.Withs = append(req.Withs, with)
		byName[with.Name] = d
	}
	answer, err := r.session.resolver().With(ctx, req)
	if err != nil {
		return err
	}
	wheels, err := r.session.wheels(ctx, answer.Pins, Leniency{})
	if err != nil {
		return err
	}
	for _, w := range wheels {
		r.fetched[byName[w.Name]] = w.Digest
	}
	return nil
}

// interpreter returns the environment's Python, which says what wheels fit.
func (r *rescuer) interpreter(ctx context.Context) (*interp.Python, error) {
	if r.probed != nil {
		return r.probed, nil
	}
	finder, err := r.session.finder()
	if err != nil {
		return nil, err
	}
	r.probed, err = finder.Find(ctx, interp.Request{Python: r.python, PythonBy: "the environment"})
	if err != nil {
		err = fmt.Errorf("which wheels fit is for the environment's Python to say: %w", err)
	}
	return r.probed, err
}
