package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
)

// ingest measures wheels on disk -> store against uv's cache and venv, both from
// nothing. Each side is timed twice in one go, as it is and with `sync -f`, so
// that neither has the other's unwritten pages to write.
func ingest(ctx context.Context, b *bench) ([]Row, error) {
	var synced [2][]float64
	after := func(i int, dir string, took float64) error {
		more, err := b.syncDisk(ctx, dir)
		synced[i] = append(synced[i], took+more)
		return err
	}
	samples, err := interleave(ctx, b.rounds(),
		func(round int) (float64, error) {
			m, err := b.machine(numbered("ingest-sitefs", round))
			if err != nil {
				return 0, err
			}
			if err := readFiles(paths(b.wheels)); err != nil {
				return 0, err
			}
			took, err := timed(m.command(ctx, append([]string{"add"}, paths(b.wheels)...)...))
			if err != nil {
				return 0, err
			}
			b.logf("    sitefs %.1f s", took)
			return took, after(0, m.dir, took)
		},
		func(round int) (float64, error) {
			venv, cache := b.path(numbered("ingest-uv", round)), b.path(numbered("ingest-uv-cache", round))
			if _, err := b.uvVenv(ctx, cache, venv); err != nil {
				return 0, err
			}
			if err := readFiles(paths(b.wheels)); err != nil {
				return 0, err
			}
			args := []string{"pip", "install", "--quiet", "--offline", "--no-deps", "--python", filepath.Join(venv, "bin", "python")}
			took, err := timed(b.uvCommand(ctx, cache, append(args, paths(b.wheels)...)...))
			if err != nil {
				return 0, err
			}
			b.logf("    uv %.1f s", took)
			return took, after(1, venv, took)
		})
	if err != nil {
		return nil, err
	}
	plain := beside("wheels on disk -> empty store", seconds, samples[0], "uv pip install", samples[1])
	plain.Goal = ratioAtMost(0.7)
	plain.Note = "sitefs checks every hash and syncs before it commits; uv does neither"
	durable := beside("the same and sync -f", seconds, synced[0], "uv pip install, sync -f", synced[1])
	durable.Goal = ratioAtMost(0.7)
	return []Row{plain, durable}, nil
}

// readFiles has the kernel cache the wheels: what is measured is not the disk
// they lie on.
func readFiles(files []string) error {
	for _, f := range files {
		if err := readFile(f); err != nil {
			return err
		}
	}
	return nil
}

func readFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}
