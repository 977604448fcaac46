package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/upper"
)

func newSync() *cobra.Command {
	return &cobra.Command{
		Use:   "sync [VENV | OVERLAY]",
		Short: "Have the disk hold what an overlay changes",
		Long: `Returns when all that was written to VENV, .venv by default, that is mounted with an
overlay is on the disk. fsync(2) of a file in it does so for that file; sync(1) and
syncfs(2) don't, since the kernel tells no FUSE file system of them.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := oneVenv(args)
			if err != nil {
				return err
			}
			dir, err := session.OverlayOf(c.Context(), name)
			if err != nil {
				return err
			}
			u, err := upper.OpenReadOnly(dir)
			if err != nil {
				return err
			}
			if err := errors.Join(u.Sync(), u.Close()); err != nil {
				return fmt.Errorf("sync %q: %w", dir, err)
			}
			return nil
		},
	}
}
