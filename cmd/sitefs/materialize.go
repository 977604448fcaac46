package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/store/materialize"
)

// materializing is what `sitefs materialize` is told.
type materializing struct {
	environment
	options materialize.Options
	mode    string
	json    bool
}

func newMaterialize(m *materializing) *cobra.Command {
	c := &cobra.Command{
		Use:   "materialize [-r LOCK… | --with REQ… | VENV | TREE] DEST",
		Short: "Write an environment to a directory, whole or not at all",
		Long: `Writes the environment of a lock file, of some requirements, of VENV, or of a tree
of the store to the directory DEST: real files, which need no mount and no sitefs.

It is written beside DEST, compared with what it should be, made durable, and put
in the place of DEST in one step. Whatever fails, and whenever sitefs or the
machine dies, DEST is the old environment or the new one. What a run that died has
left is removed by the next one. Where DEST is that environment already nothing is
done; another sitefs that writes to DEST is waited for.

An environment that sitefs made is replaced. Files that you added to it stay, and
are named; --discard-extra leaves them out. Add none while sitefs is writing: it has
looked before. Any other directory that isn't empty is replaced with --force alone,
and all that is in it goes.

What runs in the old environment goes on with the files that it has open or mapped,
and imports from the new one from then on: start it again.

--link-mode (SITEFS_LINK_MODE, else UV_LINK_MODE) says how files get their bytes:

  auto      clone where the file systems can, else copy
  clone     share blocks with the store until one side writes: btrfs, XFS, APFS
  hardlink  share files with other environments of this mode, never with the store:
            an edit in one shows in all
  copy      copy
  symlink   point into the store, which has to stay

A mode that is named never becomes another one; if it can't work here that is said.`,
		Example: `  sitefs materialize -r pylock.toml .venv
  sitefs materialize .venv /srv/app/venv --link-mode copy`,
		RunE: func(c *cobra.Command, args []string) error { return m.run(c, args) },
	}
	m.environment.register(c)
	f := c.Flags()
	f.StringVar(&m.mode, "link-mode", materialize.Auto.String(), "how files get their bytes: auto, clone, hardlink, copy or symlink (`MODE`)")
	f.StringVar(&m.options.Prefix, "prefix", "", "the `PATH` at which the environment will be seen, where that is not DEST (a container)")
	f.BoolVar(&m.options.Force, "force", false, "replace a directory that sitefs didn't make, with all that is in it")
	f.BoolVar(&m.options.DiscardExtra, "discard-extra", false, "leave out what was added to the old environment")
	f.BoolVar(&m.options.Deep, "verify", false, "read all that was written again and compare its hash")
	f.BoolVar(&m.json, "json", false, "one JSON object that says what was done")
	return c
}

func (m *materializing) run(c *cobra.Command, args []string) error {
	source, dest, err := m.arguments(args)
	if err != nil {
		return err
	}
	variable, err := m.linkMode(c)
	if err != nil {
		return err
	}
	if p := m.options.Prefix; p != "" && !filepath.IsAbs(p) {
		return usageError{fmt.Errorf("--prefix is %q, want the absolute path at which the environment will be seen", p)}
	}
	m.options.Compiled = m.compile
	s, env, err := m.chosen(c, source)
	if err != nil {
		return err
	}
	r, err := s.Materialize(c.Context(), env, dest, m.options)
	if errors.Is(err, materialize.ErrMode) && variable != "" {
		return fmt.Errorf("%s is %q: %w", variable, m.options.Mode, err)
	}
	if err != nil {
		return err
	}
	if m.json {
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	m.tell(c, s, r)
	return nil
}

// arguments returns the environment to write, "" for that of the flags, and where to.
func (m *materializing) arguments(args []string) (source, dest string, err error) {
	flags := len(m.request.Locks)+len(m.request.With) > 0
	switch {
	case len(args) == 0:
		return "", "", usageError{errors.New("name the directory to write to (DEST)")}
	case len(args) > 2:
		return "", "", usageError{fmt.Errorf("%q is one argument too many", args[2])}
	case len(args) == 2 && flags:
		return "", "", usageError{fmt.Errorf("the environment is that of -r or --with, or of %q: name one of them", args[0])}
	case len(args) == 1 && !flags:
		return "", "", usageError{fmt.Errorf("name what to write to %q: -r LOCK, --with REQ, a mounted environment or a tree", args[0])}
	case len(args) == 2:
		source = args[0]
	}
	dest, err = venvPath(args[len(args)-1])
	return source, dest, err
}

// linkMode takes the mode that the flag names, else that of a variable, whose name
// it returns then.
func (m *materializing) linkMode(c *cobra.Command) (variable string, err error) {
	name, from := m.mode, "--link-mode"
	if !c.Flags().Changed("link-mode") {
		for _, v := range []string{"SITEFS_LINK_MODE", "UV_LINK_MODE"} {
			if value := os.Getenv(v); value != "" {
				variable, name, from = v, value, v
				break
			}
		}
	}
	if m.options.Mode, err = materialize.ParseMode(name); err != nil {
		return "", usageError{fmt.Errorf("%s: %w", from, err)}
	}
	return variable, nil
}

// chosen returns the environment to write.
func (m *materializing) chosen(c *cobra.Command, source string) (*session.Session, *session.Environment, error) {
	if source == "" {
		return m.make(c)
	}
	s, err := m.open(c)
	if err != nil {
		return nil, nil, err
	}
	env, err := s.Named(c.Context(), source)
	if err == nil && m.compile {
		err = s.Compile(c.Context(), env)
	}
	return s, env, err
}

// tell says what was done. Where nothing was there is nothing to say.
func (m *materializing) tell(c *cobra.Command, s *session.Session, r *materialize.Report) {
	for _, path := range r.Kept {
		s.Note("kept what was added: " + path)
	}
	if r.Unchanged {
		s.Note(r.Reason)
		return
	}
	if m.quiet {
		return
	}
	if len(r.Kept) > 0 {
		s.Warn(fmt.Sprintf("%s has more than its packages, which is kept: %s", r.Dest, listed(r.Kept)))
	}
	var ways []string
	for _, way := range []struct {
		n    int
		done string
	}{{r.Cloned, "cloned"}, {r.Linked, "linked"}, {r.Symlinked, "symlinked"}, {r.Copied, "copied"}, {r.Reused, "from the old environment"}} {
		if way.n > 0 {
			ways = append(ways, fmt.Sprintf("%d %s", way.n, way.done))
		}
	}
	fmt.Fprintf(c.ErrOrStderr(), "sitefs: %s: %d files, %s: %s\nsitefs: %s\n", r.Dest, r.Files, progress.Size(r.Bytes), strings.Join(ways, ", "), r.Reason)
}

// mostListed bounds what a sentence names.
const mostListed = 10

// listed names paths, or the first of many.
func listed(paths []string) string {
	if more := len(paths) - mostListed; more > 0 {
		return fmt.Sprintf("%s and %d more (-v or --json has all)", strings.Join(paths[:mostListed], ", "), more)
	}
	return strings.Join(paths, ", ")
}
