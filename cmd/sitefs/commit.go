package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

func newCommit() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "commit [VENV | OVERLAY]",
		Short: "Make the changes of an overlay part of an environment in the store",
		Long: `Puts the environment that VENV, .venv by default, shows with its overlay into the
store, as a tree of its own, and prints its name: any verb that takes a tree takes it.
What pip or uv installed are packages of it like others, whatever its prefix. The
overlay may also be named by its directory.

The mount stays as it is. The next time that the overlay is mounted it lies over the
new tree and is empty, unless more was changed meanwhile.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withLayer(c, args, func(l *session.Layer) error {
				r, err := l.Commit(c.Context(), name)
				if err != nil {
					return err
				}
				for _, note := range r.Notes {
					fmt.Fprintf(c.ErrOrStderr(), "sitefs: warning: %s\n", note)
				}
				fmt.Fprintf(c.ErrOrStderr(), "sitefs: committed %q; it takes effect when the overlay is mounted the next time\n", l.Dir)
				_, err = fmt.Fprintln(c.OutOrStdout(), r.Tree)
				return err
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "the `NAME` that lists show, instead of the environment's")
	return c
}
