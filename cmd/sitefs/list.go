package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/store"
)

// environmentRow is a line of list, and an object of its --json.
type environmentRow struct {
	Tree    string    `json:"tree"`
	Name    string    `json:"name"`
	Python  string    `json:"python"` // such as "cpython 3.12"
	Wheels  int       `json:"wheels"`
	Created time.Time `json:"created"`

	// Of a tree that was committed: what others than sitefs installed, and the tree
	// that it was before.
	Installed []manifest.Distribution `json:"installed,omitempty"`
	Base      string                  `json:"base,omitempty"`
}

// wheelRow is a line of list --wheels, and an object of its --json.
type wheelRow struct {
	Digest   string    `json:"digest"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Filename string    `json:"filename"`
	Files    int       `json:"files"`
	Size     int64     `json:"size"` // of the files, in bytes
	Added    time.Time `json:"added"`
}

func newList() *cobra.Command {
	var wheels, asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the environments in the store, or its wheels",
		Args:  atMost(0),
		RunE: func(c *cobra.Command, _ []string) error {
			warn := func(text string) { fmt.Fprintf(c.ErrOrStderr(), "sitefs: warning: %s\n", text) }
			st, err := openStore(warn)
			if err != nil {
				return err
			}
			if wheels {
				return listWheels(c.Context(), c.OutOrStdout(), st, asJSON)
			}
			return listEnvironments(c.Context(), c.OutOrStdout(), st, asJSON)
		},
	}
	c.Flags().BoolVar(&wheels, "wheels", false, "list the wheels")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object per line")
	return c
}

func listEnvironments(ctx context.Context, out io.Writer, st *store.Store, asJSON bool) error {
	trees, err := st.Trees(ctx)
	if err != nil {
		return err
	}
	rows := make([]environmentRow, 0, len(trees))
	for _, e := range trees {
		t, err := st.OpenTree(e.Digest, "/")
		if err != nil {
			return err
		}
		m, err := manifest.Decode(t.Meta())
		if err != nil {
			return fmt.Errorf("tree %s: %w", e.Digest, err)
		}
		row := environmentRow{
			Tree:    e.Digest.String(),
			Name:    m.Prompt,
			Python:  m.Python.Implementation + " " + m.Python.Version,
			Wheels:  len(m.Wheels),
			Created: e.Created,
		}
		if m.Commit != nil {
			row.Installed, row.Base = m.Commit.Installed, m.Commit.Base.String()
			row.Name = cmp.Or(m.Commit.Name, row.Name)
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b environmentRow) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Tree, b.Tree))
	})
	return printRows(out, asJSON, "TREE\tNAME\tPYTHON\tWHEELS\tCREATED", rows, func(r environmentRow) string {
		packages := strconv.Itoa(r.Wheels)
		if n := len(r.Installed); n > 0 {
			packages += fmt.Sprintf("+%d", n)
		}
		return fmt.Sprintf("%.12s\t%s\t%s\t%s\t%s", r.Tree, r.Name, r.Python, packages, r.Created.Format(time.DateTime))
	})
}

func listWheels(ctx context.Context, out io.Writer, st *store.Store, asJSON bool) error {
	entries, err := st.Wheels(ctx)
	if err != nil {
		return err
	}
	rows := make([]wheelRow, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, wheelRow{e.Digest.String(), e.Name, e.Version, e.Filename, e.Files, e.Unpacked, e.Added})
	}
	slices.SortFunc(rows, func(a, b wheelRow) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Filename, b.Filename))
	})
	return printRows(out, asJSON, "NAME\tVERSION\tFILES\tBYTES\tADDED\tFILE", rows, func(r wheelRow) string {
		return fmt.Sprintf("%s\t%s\t%d\t%d\t%s\t%s", r.Name, r.Version, r.Files, r.Size, r.Added.Format(time.DateTime), r.Filename)
	})
}

// printRows writes rows as a table under a heading, or as one JSON object a line.
// Without rows it writes nothing.
func printRows[T any](out io.Writer, asJSON bool, heading string, rows []T, line func(T) string) error {
	if asJSON {
		enc := json.NewEncoder(out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, r := range rows {
		fmt.Fprintln(w, line(r))
	}
	return w.Flush()
}
