package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// execsCommand marks verbs whose exit code is that of the command they exec, so
// that sitefs's own failures get the codes that env(1) and the shells use.
const execsCommand = "execs-command"

const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2

	exitRunFailed     = 125
	exitNotExecutable = 126
	exitNotFound      = 127

	exitInterrupted = 130 // what shells give for SIGINT
)

// usageError is a command line that doesn't parse.
type usageError struct{ error }

// exitCode returns the code for an error of any verb: the first row of the table
// that the error is.
func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	for _, row := range exitCodes {
		if row.match(err) {
			return row.code
		}
	}
	return exitError
}

// commandExitCode returns the code for a failure before the command of run or
// shell was started. Usage errors keep their own, as in env(1) they don't.
func commandExitCode(err error, code int) int {
	for _, row := range commandExitCodes {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	if code == exitUsage {
		return exitUsage
	}
	return exitRunFailed
}

func newExitCodes() *cobra.Command {
	var b strings.Builder
	b.WriteString("Exit codes of sitefs. A code never changes its meaning.\n\n")
	fmt.Fprintf(&b, "  %3d  done\n  %3d  failure that no other code names\n  %3d  the command line is wrong\n", exitOK, exitError, exitUsage)
	for _, row := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", row.code, row.means)
	}
	fmt.Fprintf(&b, `
run and shell exit with the code of their command. When it could not be started:

  %3d  sitefs failed before the command
  %3d  the command is not executable
  %3d  the command was not found

  %3d  interrupted, by Ctrl-C for one
`, exitRunFailed, exitNotExecutable, exitNotFound, exitInterrupted)
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What each exit code means",
		Long:  strings.TrimSuffix(b.String(), "\n"),
	}
}
