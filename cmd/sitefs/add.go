package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newAdd() *cobra.Command {
	var flags environment
	c := &cobra.Command{
		Use:   "add WHEEL|DIR…",
		Short: "Put wheels into the store",
		Long: `Checks wheels, every file of them against its hash, and puts them into the store.
A folder stands for the wheels in it. What is there already is not stored again.

With --compile their modules are compiled too, for the Python that a run in this
directory would take or --python names.`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("name a wheel or a folder of wheels")}
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			added, err := s.Add(c.Context(), args, flags.request.Leniency)
			if err != nil || !flags.compile {
				return err
			}
			return s.CompileWheels(c.Context(), flags.request.Python, added)
		},
	}
	flags.talk.register(c)
	registerLeniency(c, &flags.request.Leniency)
	registerPython(c, &flags.request.Python)
	registerCompile(c, &flags.compile)
	return c
}
