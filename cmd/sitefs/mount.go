package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

// mounting is what `sitefs mount` is told.
type mounting struct {
	environment
	layer   layer
	options session.MountOptions
	owner   session.Owner
	watch   bool
	persist bool

	// For mount(8), whose table remembers the mount: the environment may be named by
	// its tree, and nothing is noted beneath the mount or elsewhere.
	fstab bool
	tree  string
}

func newMount() *cobra.Command {
	var m mounting
	var all bool
	c := &cobra.Command{
		Use:   "mount [-r LOCK]… [--with REQ]… [--overlay DIR] [VENV]",
		Short: "Mount an environment on a directory, .venv by default",
		Long: `Mounts the environment of a lock file or of some requirements on VENV, .venv by
default, and returns when it is ready. It stays until ` + "`sitefs umount`" + `.

The mount is yours alone: root, sudo, other users' services and docker -v can't
look into it. Three ways lead out of that. With the line user_allow_other in
/etc/fuse.conf, which root puts there, --allow-other lets everybody in. Root may
mount with --allow-other as it is. And a service or a container can mount the
environment itself, as the user that it runs as, from the same lock file.

It is read-only. With --overlay DIR it can be written to, by pip too, and what is
changed is kept in DIR, which one mount at a time may have. DIR is an ordinary
directory, in the form of a layer of a container image: touch it only while it is not
mounted. Mounted without --overlay, or with another one, the environment shows
nothing of what is in DIR. Nothing of it gets into the store.

After a restart of the machine --all mounts again what was mounted; --persist has
systemd do that when you log in, or when the machine starts if ` + "`loginctl enable-linger`" + `
says so.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all {
				return m.all(c, args)
			}
			dir, err := oneVenv(args)
			if err != nil {
				return err
			}
			if err := m.check(c); err != nil {
				return err
			}
			return m.run(c, dir)
		},
	}
	m.register(c)
	c.Flags().BoolVar(&all, "all", false, "mount again what was mounted before the machine's restart")
	return c
}

func (m *mounting) register(c *cobra.Command) {
	m.environment.register(c)
	m.layer.register(c)
	m.owner = session.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	f := c.Flags()
	f.StringVar(&m.options.Prefix, "prefix", "", "the `PATH` at which the environment is seen, where that is not VENV (a container)")
	f.StringVar(&m.options.Layout, "layout", session.LayoutVenv, "`WHAT` to mount: venv or site-packages alone")
	f.BoolVar(&m.options.AllowOther, "allow-other", false, "let other users in, root too")
	f.Uint32Var(&m.owner.UID, "uid", m.owner.UID, "the `USER` that the files belong to, by number")
	f.Uint32Var(&m.owner.GID, "gid", m.owner.GID, "the `GROUP` that the files belong to, by number")
	f.BoolVar(&m.watch, "watch", false, "stay, and mount anew each time that a lock file changes")
	f.BoolVar(&m.fstab, "fstab", false, "")
	f.StringVar(&m.tree, "tree", "", "")
	for _, name := range []string{"fstab", "tree"} {
		f.Lookup(name).Hidden = true
	}
	f.BoolVar(&m.persist, "persist", false, "mount it again after each restart of the machine, by a systemd user unit")
}

// check refuses what no flag refuses by itself.
func (m *mounting) check(c *cobra.Command) error {
	switch o := m.options; {
	case o.Layout != session.LayoutVenv && o.Layout != session.LayoutSitePackages:
		return usageError{fmt.Errorf("--layout is %q, want %q or %q", o.Layout, session.LayoutVenv, session.LayoutSitePackages)}
	case o.Prefix != "" && !filepath.IsAbs(o.Prefix):
		return usageError{fmt.Errorf("--prefix is %q, want the absolute path at which the environment will be seen", o.Prefix)}
	case m.watch && len(m.request.Locks) == 0:
		return usageError{errors.New("--watch follows lock files: name one with -r")}
	}
	if err := m.layer.apply(c, &m.environment); err != nil {
		return err
	}
	m.options.Overlay, m.options.Rebase = m.layer.overlay, m.layer.rebase
	if c.Flags().Changed("uid") || c.Flags().Changed("gid") {
		m.options.Owner = &m.owner
	}
	return nil
}

// run mounts on dir.
func (m *mounting) run(c *cobra.Command, dir string) error {
	s, err := m.open(c)
	if err != nil {
		return err
	}
	if !m.fstab {
		m.options.Command = session.CommandLine(s.Dir, os.Args[1:])
	}
	if m.watch {
		return m.follow(c, s, dir)
	}
	env, err := m.named(c.Context(), s)
	if err != nil {
		return err
	}
	if err := s.Mount(c.Context(), env, dir, m.options); err != nil {
		return err
	}
	return m.keep(c)
}

// named returns the environment to mount.
func (m *mounting) named(ctx context.Context, s *session.Session) (*session.Environment, error) {
	if m.tree != "" {
		return s.Stored(ctx, m.tree)
	}
	return m.makeIn(ctx, s)
}

// follow mounts on dir, and anew when a lock file changes, until it is interrupted:
// that is how it ends.
func (m *mounting) follow(c *cobra.Command, s *session.Session, dir string) error {
	err := s.Follow(c.Context(), session.Following{
		Locks: m.request.Locks,
		Dir:   dir,
		Make:  func() (*session.Environment, error) { return m.makeIn(c.Context(), s) },
		Ready: func() error { return m.keep(c) },
		Said:  func(text string) { m.say(c, text) },
	}, m.options)
	if c.Context().Err() != nil {
		return nil
	}
	return err
}

// keep has the mount come back after a restart, if the user wants that.
func (m *mounting) keep(c *cobra.Command) error {
	if !m.persist {
		return nil
	}
	todo, err := session.Persist(c.Context())
	if todo != "" {
		m.say(c, todo)
	}
	return err
}

func (m *mounting) say(c *cobra.Command, text string) {
	if !m.quiet {
		fmt.Fprintf(c.ErrOrStderr(), "sitefs: %s\n", text)
	}
}

// all mounts again what was mounted.
func (m *mounting) all(c *cobra.Command, args []string) error {
	if len(args) > 0 || len(m.request.Locks)+len(m.request.With) > 0 {
		return usageError{errors.New("--all mounts what was mounted before, and takes no VENV, -r or --with")}
	}
	s, err := m.open(c)
	if err != nil {
		return err
	}
	return s.MountAll(c.Context())
}
