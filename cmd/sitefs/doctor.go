package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/doctor"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
)

func newDoctor() *cobra.Command {
	var asJSON, report, self bool
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

With --self it makes an environment of 1,000 files in a folder of DIR, lets a file
be unreadable, kills sitefs while it writes, and breaks the environment for verify
to find. It tells whether each went as it should, in lines to paste into an issue.

The exit code is 1 if sitefs can't work here. Warnings are no failure.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case asJSON && report:
				return usageError{errors.New("--json and --report are two formats: give one of them")}
			case self && report:
				return usageError{errors.New("--self tells of a trial, --report of the machine: give one of them")}
			}
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			m, err := doctor.New(version(), dir)
			if err != nil {
				return err
			}
			checks, err := examine(c.Context(), m, self)
			if err != nil {
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
	c.Flags().BoolVar(&self, "self", false, "try in DIR whether sitefs keeps its promises: a few seconds, the result is to paste")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	c.Flags().BoolVar(&report, "report", false, "what a bug report needs, without your name and paths")
	return c
}

// examine looks at the machine, or tries this program on it.
func examine(ctx context.Context, m *doctor.Machine, self bool) ([]doctor.Check, error) {
	if !self {
		checks := m.Examine(ctx)
		return checks, ctx.Err()
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program to try: %w", err)
	}
	return m.Self(ctx, program)
}

// coloured reports whether text for out has colours: on a terminal, unless NO_COLOR
// (no-color.org) is set.
func coloured(out io.Writer) bool {
	_, _, terminal := progress.TerminalSize(out)
	return terminal && os.Getenv("NO_COLOR") == ""
}
