package main

import (
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

func newRun() *cobra.Command {
	var e entering
	c := &cobra.Command{
		Use:   "run [-r LOCK]… [--with REQ]… [--overlay DIR | --scratch] [--] [CMD…]",
		Short: "Run a command in an environment",
		Long: `Runs CMD, python by default, in the environment of a lock file or of some
requirements. The environment is mounted for the time the command and what it
started need it, and a while longer, so that the next run starts at once.

The command replaces sitefs: its pid, its signals and its exit code are its own.

The environment is read-only. With --overlay DIR it can be written to, by pip too,
and what is changed is kept in DIR, for the next run with that overlay. With
--scratch it is forgotten when the command ends. Nothing of it gets into the store.

How the environment is mounted depends on what you may do here. sitefs takes the
first of these that works, SITEFS_MOUNT names the only one to try:

  direct       mount(2), for root
  fusermount3  the setuid program of the package fuse3, for everybody
  namespace    mount(2) in a user and mount namespace that the command runs in
  copy         no mount: a copy of the environment, made once, in the store

In a namespace the environment is seen by the command and what it starts, and goes
with them: it doesn't stay warm, and no other run shares it. You keep your uid and
your primary group, and what they may do. But nobody else has a name there:

  - files of other users belong to nobody, those of your other groups to nogroup;
    what the groups allow you they still do
  - sudo, su, ping and whatever else is setuid fail
  - programs that insist on files of root's, as ssh does of its configuration,
    refuse them
  - rootless podman and docker can't map further users`,
		Example: `  sitefs run -r pylock.toml -- python app.py
  sitefs run --with numpy --with httpx -- python -c "import numpy, httpx"
  sitefs run --with ./dist/ -- pytest
  sitefs run --scratch -r pylock.toml -- sh -c "pip install --editable . && pytest"`,
		Annotations: map[string]string{execsCommand: "yes"},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"python"}
			}
			return e.run(c, func(*session.Lease) ([]string, []string, error) {
				return args, os.Environ(), nil
			})
		},
	}
	c.Flags().SetInterspersed(false) // flags end at the first word of CMD
	e.register(c)
	return c
}

// entering is what the verbs are told that become a command.
type entering struct {
	environment
	layer layer
	keep  time.Duration
}

func (e *entering) register(c *cobra.Command) {
	e.environment.register(c)
	e.layer.register(c)
	e.layer.registerScratch(c)
	registerKeep(c, &e.keep)
}

// options returns how the environment is entered. A mount with an overlay doesn't
// stay warm by itself: its user goes on to look at the directory, move or remove it.
func (e *entering) options(c *cobra.Command) (o session.EnterOptions, err error) {
	named, err := keepFromEnv(c, &e.keep)
	if err != nil {
		return o, err
	}
	if e.layer.scratch || e.layer.overlay != "" && !named {
		e.keep = 0
	}
	return session.EnterOptions{Keep: e.keep, Overlay: e.layer.overlay, Scratch: e.layer.scratch, Rebase: e.layer.rebase}, nil
}

// run mounts what the flags name and becomes the command that says returns with the
// environment it starts from.
func (e *entering) run(c *cobra.Command, says func(*session.Lease) (argv, environ []string, err error)) error {
	if err := e.layer.apply(c, &e.environment); err != nil {
		return err
	}
	o, err := e.options(c)
	if err != nil {
		return err
	}
	s, env, err := e.make(c)
	if err != nil {
		return err
	}
	lease, err := s.Enter(c.Context(), env, o)
	if err != nil {
		return err
	}
	argv, environ, err := says(lease)
	if err != nil {
		return err
	}
	return become(c, lease, argv, environ)
}

// become replaces this process by the command.
func become(c *cobra.Command, lease *session.Lease, argv, environ []string) error {
	// From here on a signal is the command's: caught between this and exec it
	// would be lost.
	signal.Reset(heeded()...)
	if err := c.Context().Err(); err != nil {
		return err
	}
	return lease.Exec(argv, environ)
}
