package sandbox

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"testing"
)

// A Command runs beside the test.
type Command struct {
	*exec.Cmd
	Said bytes.Buffer // on both outputs; to be read when it has ended

	stdin io.Closer
}

// Start starts a command of the home in a directory. Its standard input is empty
// and ends with [Command.End]. It is killed when the test ends.
func (h *Home) Start(t testing.TB, dir string, argv ...string) *Command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &Command{Cmd: h.Command(ctx, dir, argv...)}
	c.Stdout, c.Stderr = &c.Said, &c.Said
	var err error
	if c.stdin, err = c.StdinPipe(); err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		c.Wait() // a second time is an error that says so
	})
	return c
}

// End ends the command's standard input and waits until the command has ended.
func (c *Command) End() error {
	c.stdin.Close()
	return c.Wait()
}
