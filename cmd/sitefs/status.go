package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sitefs/sitefs/cmd/sitefs/internal/progress"
	"github.com/sitefs/sitefs/cmd/sitefs/internal/session"
	"github.com/sitefs/sitefs/fusefs/mount"
)

// watchEvery is how often status --watch looks: rates are per second.
const watchEvery = time.Second

// looking is what `sitefs status` is told.
type looking struct {
	json, metrics, watch bool

	dir   string // of the one mount that is asked about, "" for all
	meter *meter
}

func newStatus() *cobra.Command {
	l := looking{meter: newMeter()}
	c := &cobra.Command{
		Use:   "status [VENV]",
		Short: "Say what is mounted, and who uses it",
		Long: `Lists what is mounted, or says all that is known of the environment at VENV: what
it was made from, who uses it, what the kernel asked, how long the answers took
and what became of the processes that give them.

A mount is used while commands hold a lease on it, held until it is unmounted, warm
for the next run, or dead: all its processes were killed. The next mount or run
takes a dead one away and makes it anew.

A p50 of 8 µs means that half of the requests took less than that, a p99 that
all but a hundredth did; both are exact to a factor of two.

With --watch rates are those of the last second. It goes on until Ctrl-C or
SIGTERM, which is no failure: the exit code is 0.`,
		Args: atMost(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := l.check(); err != nil {
				return err
			}
			if len(args) > 0 {
				dir, err := venvPath(args[0])
				if err != nil {
					return err
				}
				l.dir = dir
			}
			if l.watch {
				return l.follow(c.Context(), c.OutOrStdout())
			}
			mounts, err := l.ask(c.Context())
			err = errors.Join(err, l.write(c.OutOrStdout(), mounts))
			if l.dir == "" && !l.json && !l.metrics {
				err = errors.Join(err, writeProblems(c.ErrOrStderr(), mounts))
			}
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&l.json, "json", false, "one JSON object per line")
	f.BoolVar(&l.metrics, "metrics", false, "the numbers in the Prometheus text format")
	f.BoolVar(&l.watch, "watch", false, "show it every second until Ctrl-C")
	return c
}

func (l *looking) check() error {
	switch {
	case l.metrics && l.json:
		return usageError{errors.New("--metrics and --json are two formats: give one of them")}
	case l.metrics && l.watch:
		return usageError{errors.New("--metrics is asked for again and again by who collects it: leave out --watch")}
	}
	return nil
}

// ask returns the mounts that are asked about. With an error it still returns those
// that can be told of.
func (l *looking) ask(ctx context.Context) ([]mount.Status, error) {
	if l.dir != "" {
		status, err := mount.Look(ctx, l.dir)
		if err != nil {
			return nil, err
		}
		return []mount.Status{shown(status)}, nil
	}
	mounts, err := mount.List(ctx)
	for i := range mounts {
		mounts[i] = shown(mounts[i])
	}
	slices.SortFunc(mounts, func(a, b mount.Status) int { return strings.Compare(a.Dir, b.Dir) })
	return mounts, err
}

// write writes mounts in the format that was asked for.
func (l *looking) write(out io.Writer, mounts []mount.Status) error {
	switch {
	case l.json:
		return printRows(out, true, "", mounts, nil)
	case l.metrics:
		return writeMetrics(out, mounts)
	case l.dir == "" && l.watch:
		return writeRates(out, mounts, l.meter)
	case l.dir == "":
		return writeTable(out, mounts)
	}
	for _, s := range mounts {
		if _, err := io.WriteString(out, describe(s, l.meter.pace(s))); err != nil {
			return err
		}
	}
	return nil
}

// follow writes mounts every second: over one another on a terminal, else one below
// the other with an empty line between.
func (l *looking) follow(ctx context.Context, out io.Writer) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	if _, _, ok := progress.TerminalSize(out); ok && !l.json {
		return onScreen(out, func(show func(string) error) error {
			return watch(ctx, ticker.C, l.text, show)
		})
	}
	separator := ""
	return watch(ctx, ticker.C, l.text, func(text string) error {
		_, err := io.WriteString(out, separator+text)
		if !l.json {
			separator = "\n"
		}
		return err
	})
}

// text returns what write writes of the mounts as they are now.
func (l *looking) text(ctx context.Context) (string, error) {
	mounts, err := l.ask(ctx)
	if err != nil {
		return "", err
	}
	if len(mounts) == 0 && !l.json {
		return "nothing is mounted\n", nil
	}
	var b strings.Builder
	err = l.write(&b, mounts)
	return b.String(), err
}

// shown returns s with the digest alone for its tree: a mount's own name for what
// it holds has the layout and the prefix too. And it tells of the interpreter what
// the mount, which was made before, can't know.
func shown(s mount.Status) mount.Status {
	s.Tree, _, _ = strings.Cut(s.Tree, " ")
	s.Info = session.Examine(s.Info)
	return s
}
