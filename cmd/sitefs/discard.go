package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/diff"
)

func newDiscard() *cobra.Command {
	var force, dry, quiet bool
	c := &cobra.Command{
		Use:   "discard [VENV | OVERLAY] [PATH…]",
		Short: "Take back what an overlay changes",
		Long: `Takes back what was changed in VENV, .venv by default, that is mounted with an
overlay, or in the directory of an overlay that isn't mounted: all of it, or what was
changed at and below each PATH, relative to the top of the environment.

The environment is unmounted for that; mount it again afterwards. While a process
uses it nothing is discarded, and the process is named. --force takes the
environment away from the processes in it and discards the whole overlay.`,
		RunE: func(c *cobra.Command, args []string) error {
			name, err := oneVenv(args)
			if err != nil {
				return err
			}
			paths, err := pathsIn(name, args)
			if err != nil {
				return err
			}
			dir, st, err := overlayOf(c, name)
			if err != nil {
				return err
			}
			gone, err := session.Discard(c.Context(), st, dir, paths, force, dry)
			if err != nil {
				return err
			}
			if dry || !quiet {
				for _, change := range gone {
					if change.Kind != diff.Entered {
						fmt.Fprintf(c.OutOrStdout(), "%c %s\n", change.Kind, oneLine(change.Path))
					}
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&force, "force", false, "discard all, also while it is used")
	f.BoolVarP(&dry, "dry-run", "n", false, "say what would go, and change nothing")
	f.BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return c
}

// pathsIn returns the paths after the name of an environment, relative to its top:
// they may be given as paths in it.
func pathsIn(venv string, args []string) ([]string, error) {
	if len(args) < 2 {
		return nil, nil
	}
	paths := make([]string, len(args)-1)
	for i, arg := range args[1:] {
		p := filepath.Clean(arg)
		if abs, err := filepath.Abs(arg); err == nil {
			if rel, err := filepath.Rel(venv, abs); err == nil && filepath.IsLocal(rel) && rel != "." {
				p = rel
			}
		}
		if !filepath.IsLocal(p) || p == "." || strings.TrimSpace(p) == "" {
			return nil, usageError{fmt.Errorf("%q is no path in %q: name it relative to the top of the environment", arg, venv)}
		}
		paths[i] = filepath.ToSlash(p)
	}
	return paths, nil
}
