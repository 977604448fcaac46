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
	c := &cobra.Command{
		Use:   "mount [-r LOCK]… [--with REQ]… [VENV]",
		Short: "Mount an environment on a directory, .venv by default",
		Long: `Mounts the environment of a lock file or of some requirements on VENV, .venv by
default, and returns when it is ready. It stays until ` + "`sitefs umount`" + `.`,
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
			options.Command = session.CommandLine(s.Dir, os.Args[1:])
			return s.Mount(c.Context(), env, dir, options)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&options.Prefix, "prefix", "", "the `PATH` at which the environment is seen, where that is not VENV (a container)")
	c.Flags().StringVar(&options.Layout, "layout", session.LayoutVenv, "`WHAT` to mount: venv or site-packages alone")
	return c
}
