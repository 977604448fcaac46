package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// layer is what a verb is told of where changes to an environment go.
type layer struct {
	overlay string
	scratch bool
	rebase  bool
	noSeed  bool
}

func (l *layer) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&l.overlay, "overlay", "", "the environment can be written to, and what is changed is kept in `DIR`")
	f.BoolVar(&l.rebase, "rebase", false, "take an overlay that was made over another environment, if they are the same where it has changes")
	f.BoolVar(&l.noSeed, "no-seed", false, "without pip, which an overlay has by default")
}

func (l *layer) registerScratch(c *cobra.Command) {
	c.Flags().BoolVar(&l.scratch, "scratch", false, "the environment can be written to, and what is changed goes with the command")
}

// apply refuses flags that contradict each other, and has pip where it is wanted.
func (l *layer) apply(c *cobra.Command, e *environment) error {
	writable := l.overlay != "" || l.scratch
	switch {
	case c.Flags().Changed("overlay") && l.overlay == "":
		return usageError{errors.New("--overlay is \"\", want a directory")}
	case l.overlay != "" && l.scratch:
		return usageError{errors.New("--overlay keeps the changes, --scratch doesn't: give one of them")}
	case l.rebase && l.overlay == "":
		return usageError{errors.New("--rebase is about an overlay: give --overlay DIR too")}
	case l.noSeed && e.request.Seed:
		return usageError{errors.New("--seed and --no-seed contradict each other: give one of them")}
	}
	if writable && !l.noSeed {
		e.request.Seed = true
	}
	return nil
}
