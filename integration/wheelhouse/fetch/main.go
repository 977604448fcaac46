// Fetch fills the cache of test wheels with what lists name:
//
//	go run ./integration/wheelhouse/fetch integration/testdata/bench.txt integration/testdata/compare.txt
//
// It prints what it downloads and nothing when all is there. The cache is
// $SITEFS_TEST_WHEELS, else sitefs-test/wheels in the user's cache directory.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return errors.New("no list named, want one or more files such as integration/testdata/compare.txt")
	}
	for _, file := range files {
		list, err := wheelhouse.ReadList(file)
		if err != nil {
			return err
		}
		if err := wheelhouse.Fetch(ctx, list, os.Stderr); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}
