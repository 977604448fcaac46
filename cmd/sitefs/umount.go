package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
)

func newUmount() *cobra.Command {
	var all, detach bool
	c := &cobra.Command{
		Use:     "umount [VENV… | --all]",
		Aliases: []string{"unmount"},
		Short:   "Take an environment away, .venv by default",
		Long: `Unmounts VENV, .venv by default. While a process uses the environment it stays,
and the process is named; --detach takes it away from new processes and lets the
ones in it go on.`,
		RunE: func(c *cobra.Command, args []string) error {
			dirs, err := toUnmount(c, args, all)
			failures := []error{err} // one that can't be listed keeps none of the others
			for _, dir := range dirs {
				err := session.Unmount(c.Context(), dir, detach)
				if errors.Is(err, mount.ErrNotMounted) && all {
					err = nil // it went meanwhile
				}
				failures = append(failures, err)
			}
			return errors.Join(failures...)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every environment that is mounted, warm ones too")
	c.Flags().BoolVar(&detach, "detach", false, "also while it is used")
	return c
}

// toUnmount returns the mount points that the command line names. With an error
// it still returns those that are to go.
func toUnmount(c *cobra.Command, args []string, all bool) ([]string, error) {
	if all && len(args) > 0 {
		return nil, usageError{fmt.Errorf("--all unmounts everything, %q names one: give one of them", args[0])}
	}
	if all {
		mounts, err := mount.List(c.Context())
		dirs, herr := session.HeldDirs()
		for _, m := range mounts {
			if !slices.Contains(dirs, m.Dir) {
				dirs = append(dirs, m.Dir)
			}
		}
		return dirs, errors.Join(err, herr)
	}
	return venvPaths(args)
}
