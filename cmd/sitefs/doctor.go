package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/doctor"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
)

func newDoctor() *cobra.Command {
	var asJSON, report bool
	c := &cobra.Command{
		Use:   "doctor [DIR]",
		Short: "Say what on this machine is in the way of sitefs, and what mends it",
		Long: `Tries what sitefs needs: to mount in each of the ways there are, to clone and link
between the store and DIR (the working directory by default), and looks for what
else goes wrong: a full disk, a folder that a sync service rewrites, two
environments on PATH. Where something isn't as it is wanted, the line that mends it
is there too. Nothing is changed.

With --report it prints what a bug report needs: also the versions, the mounts and
the end of their logs, and nothing that names you, your machine or your files.

The exit code is 1 if sitefs can't work here. Warnings are no failure.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if asJSON && report {
				return usageError{errors.New("--json and --report are two formats: give one of them")}
			}
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			m, err := doctor.New(version(), dir)
			if err != nil {
				return err
			}
			checks := m.Examine(c.Context())
			if err := c.Context().Err(); err != nil {
				return err
			}
			out := c.OutOrStdout()
			switch {
			case report:
				err = m.Report(c.Context(), out, checks)
			case asJSON:
				err = printRows(out, true, "", checks, nil)
			default:
				err = doctor.Write(out, checks, coloured(out))
			}
			if err != nil {
				return err
			}
			return doctor.Verdict(checks)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	c.Flags().BoolVar(&report, "report", false, "what a bug report needs, without your name and paths")
	return c
}

// coloured reports whether text for out has colours: on a terminal, unless NO_COLOR
// (no-color.org) is set.
func coloured(out io.Writer) bool {
	_, _, terminal := progress.TerminalSize(out)
	return terminal && os.Getenv("NO_COLOR") == ""
}
