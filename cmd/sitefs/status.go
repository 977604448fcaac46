package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store/bytecode"
)

func newStatus() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [VENV]",
		Short: "Say what is mounted, and who uses it",
		Args:  atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				mounts, err := mount.List(c.Context())
				for i := range mounts {
					mounts[i] = shown(mounts[i])
				}
				slices.SortFunc(mounts, func(a, b mount.Status) int { return strings.Compare(a.Dir, b.Dir) })
				return errors.Join(err, printRows(c.OutOrStdout(), asJSON, "STATE\tTREE\tLEASES\tREQUESTS\tSINCE\tMOUNT", mounts, statusLine))
			}
			dir, err := oneVenv(args)
			if err != nil {
				return err
			}
			status, err := mount.Look(c.Context(), dir)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(shown(status))
			}
			_, err = fmt.Fprint(c.OutOrStdout(), describe(status))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	return c
}

// shown returns s with the digest alone for its tree: a mount's own name for what
// it holds has the layout and the prefix too.
func shown(s mount.Status) mount.Status {
	s.Tree, _, _ = strings.Cut(s.Tree, " ")
	return s
}

func statusLine(s mount.Status) string {
	since := "-" // of a mount without a server nobody knows
	if !s.Since.IsZero() {
		since = s.Since.Format(time.DateTime)
	}
	return fmt.Sprintf("%s\t%.12s\t%d\t%d\t%s\t%s", s.State, s.Tree, len(s.Leases), total(s.Requests), since, s.Dir)
}

// describe returns all that is known of one mount.
func describe(s mount.Status) string {
	var info session.Info
	if json.Unmarshal(s.Info, &info) != nil {
		info = session.Info{} // of another version: the rest still stands
	}
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("mount", "%s", s.Dir)
	if s.State == mount.StateDead {
		line("state", "%s: its server, pid %d, is gone; mount it again, or umount it", s.State, s.PID)
	} else {
		line("state", "%s since %s, pid %d", s.State, s.Since.Format(time.DateTime), s.PID)
	}
	switch s.Rung {
	case "": // of a server that died
	case mount.RungNamespace:
		line("rung", "%s: see `sitefs run --help` for what doesn't work in it", s.Rung)
	default:
		line("rung", "%s", s.Rung)
	}
	line("tree", "%s", info.Tree)
	line("from", "%s", info.Source)
	line("python", "%s", info.Python)
	for _, p := range s.Leases {
		line("lease", "pid %d, %s", p.PID, p.Name)
	}
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(s.Requests)) {
		if n := s.Requests[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
		}
	}
	line("requests", "%d (%s)", total(s.Requests), strings.Join(kinds, ", "))
	line("errors", "%d", s.Errors)
	for i, text := range describeBytecode(s.Bytecode) {
		name := "bytecode"
		if i > 0 {
			name = ""
		}
		line(name, "%s", text)
	}
	return b.String()
}

// describeBytecode returns what a mount tells of its bytecode, a text per line:
// none for a server that died, or one of another version.
func describeBytecode(told json.RawMessage) []string {
	var s bytecode.Status
	if len(told) == 0 || json.Unmarshal(told, &s) != nil {
		return nil
	}
	counts := fmt.Sprintf("%d found, %d compiled on demand, %d ahead of it, %d failed", s.Hits, s.Compiled, s.Ahead, s.Failed)
	if s.Declined > 0 {
		counts += fmt.Sprintf(", %d left to Python", s.Declined)
	}
	lines := []string{counts}
	if s.Off != "" {
		lines = append(lines, "nothing is compiled now: "+s.Off)
	}
	for _, f := range s.Failures {
		if f.Path != "" { // what is no one source's fault has none
			f.Reason = f.Path + ": " + f.Reason
		}
		lines = append(lines, f.Reason)
	}
	return lines
}

func total(counts map[string]int64) int64 {
	var n int64
	for _, c := range counts {
		n += c
	}
	return n
}
