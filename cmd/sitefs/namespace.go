package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
)

// newNamespace returns the hidden verb that mounts in a namespace of its own and
// becomes the command there. Without a mount it finds out whether it could.
func newNamespace() *cobra.Command {
	var namespace session.Namespace
	c := &cobra.Command{
		Use:         session.NamespaceVerb + " CMD…",
		Short:       "Run a command in a namespace (started by sitefs itself)",
		Hidden:      true,
		Annotations: map[string]string{execsCommand: "yes"},
		RunE: func(c *cobra.Command, args []string) error {
			if namespace.Want == "" || len(args) == 0 {
				return namespace.Try()
			}
			lease, err := namespace.Enter(c.Context())
			if err != nil {
				return err
			}
			return become(c, lease, args, os.Environ())
		},
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&namespace.Want, "mount", "", "")
	f.StringVar(&namespace.Prompt, "prompt", "", "")
	return c
}
