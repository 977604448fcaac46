package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

func newShell() *cobra.Command {
	var flags environment
	var keep time.Duration
	c := &cobra.Command{
		Use:         "shell [-r LOCK]… [--with REQ]…",
		Short:       "Start an interactive shell in an environment",
		Long:        "Starts your shell ($SHELL) as `sitefs run` starts a command, with the\nenvironment activated behind your own start-up files.",
		Args:        atMost(0),
		Annotations: map[string]string{execsCommand: "yes"},
		RunE: func(c *cobra.Command, _ []string) error {
			return enter(c, &flags, keep, func(l *session.Lease) ([]string, []string, error) {
				return session.Shell(l.Prefix, os.Environ())
			})
		},
	}
	flags.register(c)
	registerKeep(c, &keep)
	return c
}
