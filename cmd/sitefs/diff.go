package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/diff"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/store"
)

// diffing is what `sitefs diff` is told.
type diffing struct {
	stat, json, verbose bool
	tar                 string
}

func newDiff() *cobra.Command {
	var d diffing
	c := &cobra.Command{
		Use:   "diff [VENV | OVERLAY]",
		Short: "Say what an overlay changes",
		Long: `Says what was changed in VENV, .venv by default, that is mounted with an
overlay, or in the directory of an overlay that isn't mounted: first the packages
that were installed, removed, upgraded or edited, then each path behind a letter.

	A  added          M  its content changed
	D  removed        m  its mode, owner, time or extended attributes changed

Bytecode is left out but with --verbose. --tar writes a layer of an OCI image that
makes, over the materialized environment, exactly what the mount shows.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			return withLayer(c, args, func(l *session.Layer) error { return d.run(c, l) })
		},
	}
	f := c.Flags()
	f.BoolVar(&d.stat, "stat", false, "packages, and counts of files and bytes, alone")
	f.BoolVar(&d.json, "json", false, "one JSON object per changed path")
	f.BoolVarP(&d.verbose, "verbose", "v", false, "bytecode too")
	f.StringVar(&d.tar, "tar", "", "write an OCI layer to `FILE`, - for standard output")
	c.MarkFlagsMutuallyExclusive("stat", "json", "tar")
	return c
}

// withLayer calls f with the changes of the overlay that args name.
func withLayer(c *cobra.Command, args []string, f func(*session.Layer) error) error {
	name, err := oneVenv(args)
	if err != nil {
		return err
	}
	dir, st, err := overlayOf(c, name)
	if err != nil {
		return err
	}
	l, err := session.OpenLayer(c.Context(), st, dir)
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// overlayOf returns the directory of the overlay that is named by it or by its mount,
// and the store.
func overlayOf(c *cobra.Command, name string) (dir string, st *store.Store, err error) {
	if dir, err = session.OverlayOf(c.Context(), name); err != nil {
		return "", nil, err
	}
	st, err = openStore(func(text string) { fmt.Fprintf(c.ErrOrStderr(), "sitefs: warning: %s\n", text) })
	return dir, st, err
}

func (d *diffing) run(c *cobra.Command, l *session.Layer) error {
	if d.tar != "" {
		return d.writeTar(c, l)
	}
	s, err := l.Summary()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.OutOrStdout())
	switch {
	case d.json:
		err = d.printJSON(out, s)
	case d.stat:
		printPackages(out, s)
		printCounts(out, l.Changes)
	default:
		d.printText(out, s)
	}
	return errors.Join(err, out.Flush())
}

// writeTar writes the layer to a file, whole or not at all. What is there and no file,
// such as a pipe, is written to, as standard output is.
func (d *diffing) writeTar(c *cobra.Command, l *session.Layer) (err error) {
	write := func(w io.Writer) error { return layerTo(c.Context(), w, l, c.ErrOrStderr()) }
	if d.tar == "-" {
		return write(c.OutOrStdout())
	}
	if fi, err := os.Stat(d.tar); err == nil && !fi.Mode().IsRegular() {
		f, err := os.OpenFile(d.tar, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(d.tar), ".sitefs-layer-*")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), d.tar)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func layerTo(ctx context.Context, w io.Writer, l *session.Layer, stderr io.Writer) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	sockets, err := l.WriteTar(ctx, buffered)
	for _, p := range sockets {
		fmt.Fprintf(stderr, "sitefs: warning: %q is a socket, which no layer can hold: left out\n", p)
	}
	return errors.Join(err, buffered.Flush())
}

// printText writes the packages, and then every path below what it belongs to.
func (d *diffing) printText(out io.Writer, s *diff.Summary) {
	printPackages(out, s)
	for _, p := range s.Packages {
		printChanges(out, strings.TrimSpace(p.Name+" "+currentVersion(&p)), p.Changes)
	}
	printChanges(out, "other files", s.Other)
	if d.verbose {
		printChanges(out, "bytecode", s.Bytecode)
	}
}

func currentVersion(p *diff.Package) string {
	if p.New == "" {
		return p.Old
	}
	return p.New
}

// printPackages writes a line for each package, as one would tell it.
func printPackages(out io.Writer, s *diff.Summary) {
	for i := range s.Packages {
		fmt.Fprintln(out, told(&s.Packages[i]))
	}
	if n := len(s.Other); n > 0 {
		fmt.Fprintf(out, "changed %s\n", counted(n, "other file"))
	}
}

// told returns what was done to a package.
func told(p *diff.Package) string {
	by := ""
	if p.By != "" {
		by = p.By + " "
	}
	switch {
	case p.Old == "":
		return fmt.Sprintf("%sinstalled %s %s", by, p.Name, p.New)
	case p.New == "":
		return fmt.Sprintf("removed %s %s", p.Name, p.Old)
	case p.Old != p.New:
		return fmt.Sprintf("%s%s %s %s to %s", by, direction(p.Old, p.New), p.Name, p.Old, p.New)
	}
	return fmt.Sprintf("changed %s of %s %s", counted(len(p.Changes), "file"), p.Name, p.New)
}

func direction(from, to string) string {
	x, errX := pyver.Parse(from)
	y, errY := pyver.Parse(to)
	switch {
	case errX != nil || errY != nil:
		return "replaced"
	case x.Compare(y) > 0:
		return "downgraded"
	}
	return "upgraded"
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func printChanges(out io.Writer, heading string, changes []diff.Change) {
	if len(changes) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", heading)
	for _, c := range changes {
		p := oneLine(c.Path)
		if c.IsDir() {
			p += "/"
		}
		fmt.Fprintf(out, "  %c %s\n", c.Kind, p)
	}
}

// oneLine returns a path as one line that a terminal can be given: quoted as Go does
// where it has bytes that do something else there, for any program can make such names.
func oneLine(p string) string {
	if strings.ContainsFunc(p, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return strconv.Quote(p)
	}
	return p
}

// printCounts writes how many paths there are of each kind, and the bytes of those
// that are there.
func printCounts(out io.Writer, changes []diff.Change) {
	var bytes int64
	counts := make(map[diff.Kind]int)
	for _, c := range changes {
		counts[c.Kind]++
		if c.New != nil && c.New.Type == unix.S_IFREG {
			bytes += c.New.Size
		}
	}
	fmt.Fprintf(out, "%d added, %d changed, %d touched, %d removed; %d bytes\n",
		counts[diff.Added], counts[diff.Changed], counts[diff.Touched], counts[diff.Removed], bytes)
}

// changedPath is an object of diff --json.
type changedPath struct {
	Path    string    `json:"path"`
	Change  string    `json:"change"`            // added, changed, touched or removed
	Package string    `json:"package,omitempty"` // whose RECORD lists it
	Old     *pathInfo `json:"old,omitempty"`
	New     *pathInfo `json:"new,omitempty"`
}

type pathInfo struct {
	Type   string    `json:"type"` // file, directory, symlink, fifo or socket
	Mode   string    `json:"mode"` // octal
	Size   int64     `json:"size"`
	Mtime  time.Time `json:"mtime"`
	Target string    `json:"target,omitempty"` // of a symlink
}

var kindNames = map[diff.Kind]string{diff.Added: "added", diff.Changed: "changed", diff.Touched: "touched", diff.Removed: "removed"}

var typeNames = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket",
}

func (d *diffing) printJSON(out io.Writer, s *diff.Summary) error {
	var rows []changedPath
	add := func(name string, changes []diff.Change) {
		for _, c := range changes {
			rows = append(rows, changedPath{c.Path, kindNames[c.Kind], name, describeNode(c.Old), describeNode(c.New)})
		}
	}
	for _, p := range s.Packages {
		add(p.Name, p.Changes)
	}
	add("", s.Other)
	if d.verbose {
		add("", s.Bytecode)
	}
	slices.SortStableFunc(rows, func(a, b changedPath) int { return strings.Compare(a.Path, b.Path) })
	enc := json.NewEncoder(out)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func describeNode(n *diff.Node) *pathInfo {
	if n == nil {
		return nil
	}
	return &pathInfo{typeNames[n.Type], fmt.Sprintf("%04o", n.Mode), n.Size, time.Unix(n.Mtime.Sec, n.Mtime.Nsec).UTC(), n.Target}
}
