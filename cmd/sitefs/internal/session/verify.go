package session

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/repair"
	"github.com/sitefs/sitefs/store/resolve"
	"github.com/sitefs/sitefs/store/verify"
)

// Rescue restores what found, a result of verify.Records, says of the environment
// at dir, from the wheels that its metadata name: those in the store, else those
// that the user's resolver finds.
func (s *Session) Rescue(ctx context.Context, dir string, found *verify.Result, o repair.Options) (*repair.Report, error) {
	r := &rescuer{session: s, python: filepath.Join(dir, "bin", "python")}
	return repair.Records(ctx, dir, s.Store, found, r.wheels, o)
}

// A rescuer finds the wheels that an environment was made from.
type rescuer struct {
	session *Session
	python  string // of the environment, as it was asked for

	probed *interp.Python // that Python, once it was needed
	stored []store.WheelEntry
	listed bool // stored is read
}

// wheels yields the wheels of a distribution's version, as [repair.Wheels] has it.
func (r *rescuer) wheels(ctx context.Context, d *verify.Distribution) iter.Seq2[*wheel.Info, error] {
	return func(yield func(*wheel.Info, error) bool) {
		for info, err := range r.inStore(ctx, d) {
			if !yield(info, err) || err != nil {
				return
			}
		}
		info, err := r.fetch(ctx, d)
		yield(info, err)
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

// fetch asks the resolver for the wheel of exactly that version and puts it into
// the store.
func (r *rescuer) fetch(ctx context.Context, d *verify.Distribution) (*wheel.Info, error) {
	py, err := r.interpreter(ctx)
	if err != nil {
		return nil, err
	}
	with, err := lock.ParseWith(d.Name+"=="+d.Version, r.session.Dir)
	if err != nil {
		return nil, err
	}
	answer, err := r.session.resolver().With(ctx, resolve.Request{
		Withs:   []lock.With{with},
		NoDeps:  true,
		Python:  py,
		Dir:     r.session.Dir,
		Offline: r.session.Offline,
		Refresh: r.session.Refresh,
	})
	if err != nil {
		return nil, err
	}
	wheels, err := r.session.wheels(ctx, answer.Pins, Leniency{})
	if err != nil {
		return nil, err
	}
	if len(wheels) != 1 {
		return nil, fmt.Errorf("the resolver gave %d packages for %s, want 1", len(wheels), d)
	}
	return r.session.Store.Info(wheels[0].Digest)
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
