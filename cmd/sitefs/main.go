// Sitefs mounts a Python virtual environment from a content-addressed store of
// wheels. This package parses flags, wires the rooms together and prints; one
// file per verb. What a verb does is in the rooms below it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/fusefs/mount"
)

func main() {
	if slices.Contains(helperNames, filepath.Base(os.Args[0])) {
		os.Exit(mountHelper(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), heeded()...)
	defer stop()

	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	verb, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "sitefs: error: %v\n", err)
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	code := exitCode(err)
	if h := hint(err, verb); h != "" {
		fmt.Fprintf(stderr, "sitefs: hint: %s\n", h)
	}
	if verb.Annotations[execsCommand] != "" {
		return commandExitCode(err, code)
	}
	return code
}

// hint returns the next step where the message of err doesn't name it, else "".
func hint(err error, verb *cobra.Command) string {
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return fmt.Sprintf("see `%s --help`", verb.CommandPath())
	case errors.Is(err, mount.ErrNotMounted):
		return "`sitefs status` lists what is mounted"
	case mendable(err, verb):
		return "--repair restores what is missing or changed"
	}
	return ""
}

// heeded returns the signals that end a verb early. One that this process was
// started to ignore stays ignored, through exec too: a shell's background job
// doesn't die of the Ctrl-C that is meant for another.
func heeded() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM}, signal.Ignored)
}

// newRoot returns the command tree: one constructor per verb, a file each.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sitefs",
		Short: "A Python virtual environment as a view, not a copy",
		Long: `sitefs mounts a Python virtual environment, read-only, from a store in which
every file of every wheel exists once. Nothing is linked or copied to get an
environment, so there is never half of one.`,
		Version: version(),
		Args:    knownVerb,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },

		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetVersionTemplate("sitefs {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newRun(), newShell(), newMount(), newUmount(), newStatus(), newReload(), newDoctor(),
		newDiff(), newCommit(), newDiscard(), newSync(),
		newAdd(), newList(), newMaterialize(new(materializing)), newVerify(), newServer(), newWorker(), newHost(), newNamespace(), newExitCodes(),
	)
	return root
}

// knownVerb is called with what is no verb of the command tree.
func knownVerb(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("there is no verb %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w; is it %q?", err, near[0])
	}
	return usageError{err}
}
