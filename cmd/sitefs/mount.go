package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

func newMount() *cobra.Command {
	var flags environment
	var options session.MountOptions
	owner := session.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	c := &cobra.Command{
		Use:   "mount [-r LOCK]… [--with REQ]… [VENV]",
		Short: "Mount an environment on a directory, .venv by default",
		Long: `Mounts the environment of a lock file or of some requirements on VENV, .venv by
default, and returns when it is ready. It stays until ` + "`sitefs umount`" + `.

The mount is yours alone: root, sudo, other users' services and docker -v can't
look into it. Three ways lead out of that. With the line user_allow_other in
/etc/fuse.conf, which root puts there, --allow-other lets everybody in. Root may
mount with --allow-other as it is. And a service or a container can mount the
environment itself, as the user that it runs as, from the same lock file.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := oneVenv(args)
			if err != nil {
				return err
			}
			switch options.Layout {
			case session.LayoutVenv, session.LayoutSitePackages:
			default:
				return usageError{fmt.Errorf("--layout is %q, want %q or %q", options.Layout, session.LayoutVenv, session.LayoutSitePackages)}
			}
			if options.Prefix != "" && !filepath.IsAbs(options.Prefix) {
				return usageError{fmt.Errorf("--prefix is %q, want the absolute path at which the environment will be seen", options.Prefix)}
			}
			s, env, err := flags.make(c)
			if err != nil {
				return err
			}
			if c.Flags().Changed("uid") || c.Flags().Changed("gid") {
				options.Owner = &owner
			}
			options.Command = session.CommandLine(s.Dir, os.Args[1:])
			return s.Mount(c.Context(), env, dir, options)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&options.Prefix, "prefix", "", "the `PATH` at which the environment is seen, where that is not VENV (a container)")
	c.Flags().StringVar(&options.Layout, "layout", session.LayoutVenv, "`WHAT` to mount: venv or site-packages alone")
	c.Flags().BoolVar(&options.AllowOther, "allow-other", false, "let other users in, root too")
	c.Flags().Uint32Var(&owner.UID, "uid", owner.UID, "the `USER` that the files belong to, by number")
	c.Flags().Uint32Var(&owner.GID, "gid", owner.GID, "the `GROUP` that the files belong to, by number")
	return c
}
