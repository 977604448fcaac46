package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// newReload returns the verb that replaces the program behind live mounts.
func newReload() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "reload [VENV… | --all]",
		Short: "Have the sitefs now on disk serve a mount, unnoticed by its users",
		Long: `Replaces the program that serves VENV, .venv by default, by the one that is now on
disk, after an upgrade of sitefs. Nobody who uses the environment notices. Where
the new program can't serve it, the mount goes on as it was and the reason is said.`,
		RunE: func(c *cobra.Command, args []string) error {
			dirs, err := toUnmount(c, args, all)
			failures := []error{err} // one that can't be listed keeps none of the others
			for _, dir := range dirs {
				client, err := mount.Dial(c.Context(), dir)
				if err == nil {
					err = errors.Join(client.Reload(c.Context()), client.Close())
				}
				if errors.Is(err, mount.ErrNotMounted) && all {
					err = nil // it went meanwhile
				}
				failures = append(failures, err)
			}
			return errors.Join(failures...)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every environment that is mounted, warm ones too")
	return c
}
