package doctor

import (
	"fmt"
	"io"
	"strings"
)

// colours are the SGR parameters of ECMA-48 for each status.
var colours = map[Status]string{OK: "32", Note: "36", Warning: "33", Failure: "31"}

// Columns of the text.
const (
	statusWidth = len(Failure)
	nameWidth   = len("space, directory")
)

// Write writes checks for people: a line where all is well, else what was found,
// what is wanted and what mends it. With colour the status has one.
func Write(out io.Writer, checks []Check, colour bool) error {
	var b strings.Builder
	for _, c := range checks {
		status := fmt.Sprintf("%-*s", statusWidth, c.Status)
		if colour {
			status = "\x1b[" + colours[c.Status] + "m" + status + "\x1b[0m"
		}
		fmt.Fprintf(&b, "%s  %-*s  %s\n", status, nameWidth, c.Name, oneLine(c.Found))
		if c.Status == OK {
			continue
		}
		more := func(what, text string) {
			if text != "" {
				fmt.Fprintf(&b, "%*s  %s: %s\n", statusWidth+2+nameWidth, "", what, oneLine(text))
			}
		}
		more("wanted", c.Wanted)
		more("fix", c.Fix)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// oneLine joins the lines of a joined error.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
