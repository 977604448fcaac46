// Bench measures sitefs on a real environment, side by side with uv on the same
// wheels in the same run, and prints one table.
//
//	go run ./integration/bench [--quick] [--only REGEXP] [--json FILE]
//
// The environment is integration/testdata/bench.txt: 246 wheels for CPython 3.12
// on Linux x86-64, 46,025 files, 1.6 GB. Wheels that are missing are fetched
// once (package wheelhouse); after that nothing talks to a network. Needed are
// uv, a CPython 3.12, FUSE, and 60 GB free where --dir is (--quick: 35 GB).
//
// How it measures, so that the figures can be believed:
//
//   - The sides of a row take turns in the same run, the one that begins changes
//     from round to round, and the figures are medians. A ratio is the median of
//     the rounds' ratios; from 20 rounds on it comes with its 95 % bootstrap
//     interval, and a goal for it counts as met when the lower end meets it.
//   - Everything is written under new names and removed at the end: ext4 doesn't
//     reuse the inodes of files deleted seconds ago, so a removal in between
//     would make whoever writes next look slow.
//   - Python writes bytecode as it does by default. Which side has which bytecode
//     is part of each row; the interpreter's own library has its own throughout.
//   - Each side's programs are started directly: a pyenv shim costs more than
//     some of the rows.
//
// A program's time is from its start to its end. Nothing here fails because
// something is slow: the table says what was met and what was not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// An experiment makes rows of the table.
type experiment struct {
	name string
	run  func(context.Context, *bench) ([]Row, error)
}

var experiments = []experiment{
	{"ingest", ingest},
	{"start", start},
	{"newlock", newLock},
	{"family", family},
	{"mount", mountTimes},
	{"memory", memory},
	{"takeover", takeover},
	{"first", firstImport},
	{"fresh", freshMount},
	{"import", secondImport},
	{"compile", compileAll},
	{"find", find},
	{"overlay-import", overlayImport},
	{"overlay-pip", overlayPip},
	{"overlay-files", overlayFiles},
	{"materialize", materializeOnOurs},
	{"materialize-xfs", materializeOnXFS},
	{"materialize-btrfs", materializeOnBtrfs},
	{"builds", builds},
	{"disk", busyDisk},
	{"faults", withFaults},
}

func run(ctx context.Context, args []string) (err error) {
	var o options
	var only, jsonFile string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "fewer rounds: to see that all works, not to quote")
	f.StringVar(&only, "only", "", "run only the experiments whose name matches `REGEXP`")
	f.StringVar(&jsonFile, "json", "", "also write the rows with all samples to `FILE`, one JSON object per line")
	f.StringVar(&o.dir, "dir", "", "measure in a new folder in `DIR` (default: the user's cache directory)")
	f.StringVar(&o.sitefs, "sitefs", "", "measure this `PROGRAM` (default: built from this checkout)")
	f.StringVar(&o.beside, "beside", "", "measure imports beside those of another build of sitefs, this `PROGRAM`")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	chosen, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}

	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	out, err := newReport(os.Stdout, jsonFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()

	out.heading(b.describe(ctx))
	for _, e := range experiments {
		if !chosen.MatchString(e.name) {
			continue
		}
		b.logf("%s", e.name)
		rows, err := e.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if err := out.rows(rows); err != nil {
			return err
		}
	}
	return nil
}
