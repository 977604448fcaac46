package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

func newShell() *cobra.Command {
	var e entering
	c := &cobra.Command{
		Use:         "shell [-r LOCK]… [--with REQ]… [--overlay DIR | --scratch]",
		Short:       "Start an interactive shell in an environment",
		Long:        "Starts your shell ($SHELL) as `sitefs run` starts a command, with the\nenvironment activated behind your own start-up files.",
		Args:        atMost(0),
		Annotations: map[string]string{execsCommand: "yes"},
		RunE: func(c *cobra.Command, _ []string) error {
			return e.run(c, func(l *session.Lease) ([]string, []string, error) {
				return session.Shell(l.Prefix, os.Environ())
			})
		},
	}
	e.register(c)
	return c
}
