package bytecode

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// interrupted is the exit code of what Ctrl-C ends.
const interrupted = 130

// Ctrl-C ends --compile: the command fails, nothing is mounted, and what was
// compiled is, so that the next time there is less to do.
func TestCompileInterrupted(t *testing.T) {
	const length = 150
	spec := wheelhouse.Spec{Name: "chain", Version: "1.0", Files: modules("chain", length, 100)}
	for _, argv := range [][]string{
		{"sitefs", "mount", "--compile", "-r", "pylock.toml"},
		{"sitefs", "run", "--compile", "-r", "pylock.toml", "true"},
		{"sitefs", "add", "--compile", "wheels"},
	} {
		t.Run(argv[1], func(t *testing.T) {
			e, _ := withInstallation(t, spec)
			c := e.Start(t, e.Dir, append([]string{filepath.Join(bin, argv[0])}, argv[1:]...)...)
			sandbox.Eventually(t, func() string {
				if n := len(entries(t, e.Store())); n < 5 {
					return fmt.Sprintf("%d sources are compiled", n)
				}
				return ""
			})
			if err := c.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); c.ProcessState.ExitCode() != interrupted {
				t.Errorf("%v, want exit code %d; it said %s", err, interrupted, &c.Said)
			}
			if said := c.Said.String(); !strings.Contains(said, "which is kept") {
				t.Errorf("it said %s, want what is kept", said)
			}
			if left := sandbox.Leaks(e.Dir); left != "" {
				t.Error(left)
			}
			done := len(entries(t, e.Store()))
			t.Logf("%d of %d sources were compiled", done, length+1)
			if done < 5 {
				t.Errorf("%d sources are compiled behind it, want at least the 5 from before", done)
			}
			e.Must(t, argv...)
			if n := len(entries(t, e.Store())); n != length+1 {
				t.Errorf("in the end %d sources are compiled, want %d", n, length+1)
			}
			venv := e.mount(t, ".venv")
			if n := e.sameAll(t, venv); n != length+1 {
				t.Errorf("%d sources have bytecode, want %d", n, length+1)
			}
			if s := e.status(t, venv).Bytecode; s.Compiled != 0 {
				t.Errorf("the status is %+v, want nothing compiled by the mount", s)
			}
		})
	}
}
