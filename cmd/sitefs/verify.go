package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/store/repair"
	"github.com/sitefs/sitefs/store/verify"
)

// verification is the object that verify --json prints: what was found, and with
// --repair what is left.
type verification struct {
	Dir    string         `json:"dir"`
	Tree   string         `json:"tree,omitempty"` // that the environment was made from; none of pip's and uv's
	Deep   bool           `json:"deep"`
	Repair *repair.Report `json:"repair,omitempty"`
	*verify.Result
}

// verifying is what `sitefs verify` is told.
type verifying struct {
	environment
	deep, json, repair, discard bool
}

func newVerify() *cobra.Command {
	var v verifying
	c := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Compare an environment on disk with what it should be",
		Long: `Compares the environment in DIR, .venv if none is named, with the tree that
sitefs materialize made it from; one that pip or uv made, with its RECORD files. It
prints a line for each path that is missing, changed, of a wrong mode, extra, left
by a syncing folder ("name 2"), or bytecode of another source. Silence means that
all is as it should be; "sitefs help exit-codes" has a code for each finding.

Sizes and modes are compared, and the content of what has another time than sitefs
gave it. --deep reads every file.

--repair restores what is missing or changed and then compares again, reading all.
The bytes come from the store; of an environment that pip or uv made, from the
wheels of exactly its versions, which uv or pip is asked for with your own
configuration. A wheel is taken only if it lists what the package's RECORD does.
There, files that were edited stay unless --discard-changes is given. Extra files
are never touched.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if v.discard && !v.repair {
				return usageError{errors.New("--discard-changes is about --repair: give both")}
			}
			dir, err := oneVenv(args)
			if err != nil {
				return err
			}
			return v.run(c, dir)
		},
	}
	f := c.Flags()
	v.talk.register(c)
	f.BoolVar(&v.deep, "deep", false, "read every file and compare its hash")
	f.BoolVar(&v.repair, "repair", false, "restore what is missing or changed")
	f.BoolVar(&v.discard, "discard-changes", false, "with --repair: restore files that were edited too")
	f.BoolVar(&v.json, "json", false, "one JSON object")
	f.BoolVar(&v.offline, "offline", false, "repair with what the store has, ask no network")
	return c
}

// run compares the environment at dir, and repairs it if that is asked for.
func (v *verifying) run(c *cobra.Command, dir string) error {
	venv, err := session.OpenVenv(dir, func() (*session.Session, error) { return v.open(c) })
	if err != nil {
		return err
	}
	out := verification{Dir: dir, Tree: venv.Tree(), Deep: v.deep || v.repair}
	if out.Result, err = venv.Compare(c.Context(), out.Deep); err != nil {
		return err
	}
	if v.repair && (out.Err() != nil || repair.Interrupted(dir)) {
		if err := v.mend(c.Context(), venv, &out); err != nil {
			return err
		}
	}
	if err := v.print(c.OutOrStdout(), &out); err != nil {
		return err
	}
	if err := out.Err(); err != nil {
		return fmt.Errorf("%q: %w", dir, err)
	}
	return nil
}

// mend repairs what was found and compares the environment again.
func (v *verifying) mend(ctx context.Context, venv *session.Venv, out *verification) (err error) {
	if out.Repair, err = venv.Repair(ctx, out.Result, repair.Options{DiscardChanges: v.discard}); err != nil {
		return err
	}
	s, err := venv.Session()
	if err != nil {
		return err
	}
	for _, n := range out.Repair.Notes {
		s.Warn(n.String())
	}
	for _, r := range out.Repair.Failed {
		s.Warn("not repaired: " + r.String())
	}
	for _, p := range out.Repair.Kept {
		s.Warn(fmt.Sprintf("%s was edited and stays (--discard-changes restores it)", p))
	}
	out.Result, err = venv.Compare(ctx, true)
	return err
}

// print prints what was repaired and what was found, in the format that was asked for.
func (v *verifying) print(w io.Writer, out *verification) error {
	if v.json {
		return json.NewEncoder(w).Encode(out)
	}
	p := &printer{w: w}
	if r := out.Repair; r != nil {
		p.paths("restored", r.Restored)
		p.paths("removed", r.Removed)
	}
	p.paths("missing", out.Missing)
	p.differences("changed", out.Changed)
	p.differences("mode", out.Mode)
	p.differences("unknown", out.Unknown)
	p.paths("conflict", out.Conflict)
	p.differences("bytecode", out.Bytecode)
	p.paths("extra", out.Extra)
	return p.err
}

// A printer prints findings, a line each: the kind, the path, and what differs.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) paths(kind string, paths []string) {
	for _, path := range paths {
		p.line(kind, path)
	}
}

func (p *printer) differences(kind string, list []verify.Difference) {
	for _, d := range list {
		p.line(kind, d.String())
	}
}

func (p *printer) line(kind, text string) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-8s  %s\n", kind, text)
	}
}

// mendable reports whether err says of verify what a repair would be for, and none
// was asked for.
func mendable(err error, verb *cobra.Command) bool {
	repair := verb.Flags().Lookup("repair")
	return repair != nil && !repair.Changed && is(verify.ErrMissing, verify.ErrChanged, verify.ErrMode, verify.ErrUnknown)(err)
}
