package session

import (
	"context"
	"fmt"
	"strings"
)

// Following says what [Session.Follow] follows, and how.
type Following struct {
	Locks []string                     // the lock files
	Dir   string                       // where their environment is mounted
	Make  func() (*Environment, error) // the environment that they name now
	Ready func() error                 // called once it is mounted
	Said  func(text string)            // is told what was done, a line each
}

// Follow mounts an environment as Mount does, and again each time that one of its
// lock files changes, until ctx ends.
//
// What can't be mounted is a warning: a file that is being edited is now and then
// no lock file, and the mount stays as it was.
func (s *Session) Follow(ctx context.Context, f Following, o MountOptions) error {
	files := make([]string, len(f.Locks))
	for i, l := range f.Locks {
		files[i] = s.absolute(l)
	}
	w, err := newWatch(files)
	if err != nil {
		return err
	}
	defer w.close()
	env, err := f.Make()
	if err == nil {
		err = s.Mount(ctx, env, f.Dir, o)
	}
	if err == nil {
		err = f.Ready()
	}
	if err != nil {
		return err
	}
	f.Said(fmt.Sprintf("%s follows %s; Ctrl-C ends that, and leaves the mount", f.Dir, strings.Join(files, ", ")))
	for {
		if err := w.wait(ctx); err != nil {
			return err
		}
		next, err := f.Make()
		if err != nil {
			err = fmt.Errorf("%s stays as it was: %w", f.Dir, err)
		} else if next.Tree != env.Tree {
			err = s.Mount(ctx, next, f.Dir, o)
		} else {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.Warn(err.Error())
			continue
		}
		f.Said(fmt.Sprintf("%s holds tree %.12s now, in place of %.12s", f.Dir, next.Tree, env.Tree))
		env = next
	}
}
