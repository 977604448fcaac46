package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

const (
	chunk  = 64 << 20
	chunks = 80 // 5 GB

	// heldUp is from which ratio on an ingest counts as held up by the other
	// process: it does share the disk and the processors with it.
	heldUp = 2
)

// writer is the program of the other process: random bytes, which no disk can
// make shorter, as fast as they can be copied. Its file is the one thing that is
// removed between rounds: a single inode.
const writer = `i=0; while [ $i -lt "$3" ]; do cat "$1"; i=$((i+1)); done >"$2"`

// busyDisk measures the ingest of a wheel of ten files while another process
// writes 5 GB to the same disk, and without it. A file of 1 MB that is written and
// synced in turn tells what the disk can do then.
func busyDisk(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.stock(ctx, "disk", paths(b.wheels[:1]))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(b.path("disk-wheels"), 0o755); err != nil {
		return nil, err
	}
	idle, err := m.addSmall(ctx, "idle", func(i int) bool { return i < b.pairs() })
	if err != nil {
		return nil, err
	}
	var busy, floor []float64
	for round := range b.rounds() {
		took, err := b.besideWriter(ctx, func(writing func(int) bool) error {
			samples, err := m.addSmall(ctx, numbered("busy", round), writing)
			busy = append(busy, samples[0]...)
			floor = append(floor, samples[1]...)
			return err
		})
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return nil, err
		}
		b.logf("    5 GB in %.1f s", took)
	}
	rest := beside("ingest of a small wheel, disk at rest", seconds, idle[0], "1 MB file, fsync", idle[1])
	with := alone("ingest of a small wheel beside 5 GB being written", seconds, busy)
	with.Peer, with.Other, with.PeerSamples = "at rest", rest.Sitefs, idle[0]
	with.Ratio = &Ratio{Value: with.Sitefs / with.Other, Rounds: len(busy)}
	with.Goal = ratioAtMost(heldUp)
	with.Note = fmt.Sprintf("slowest of %d: %s; the file: %s, slowest %s", len(busy), seconds.format(slices.Max(busy)),
		seconds.format(median(floor)), seconds.format(slices.Max(floor)))
	return []Row{rest, with}, nil
}

// addSmall adds wheels, and writes and syncs a file in turn, for as long as more
// says so.
func (m *machine) addSmall(ctx context.Context, name string, more func(done int) bool) (samples [2][]float64, err error) {
	dir := m.b.path("disk-wheels")
	for i := 0; more(i); i++ {
		w, err := wheelhouse.Write(dir, made(name, i, 10))
		if err != nil {
			return samples, err
		}
		took, err := timed(m.command(ctx, "add", filepath.Join(dir, w.Filename)))
		if err != nil {
			return samples, err
		}
		file := filepath.Join(dir, numbered(name, i))
		synced, err := timed(m.b.command(ctx, "dd", nil, "if=/dev/urandom", "of="+file, "bs=1M", "count=1", "conv=fsync"))
		if err != nil {
			return samples, err
		}
		samples[0] = append(samples[0], took)
		samples[1] = append(samples[1], synced)
	}
	return samples, nil
}

// besideWriter runs do while another process writes 5 GB, and returns how long
// that took, in seconds. The function that do is given reports whether to go on:
// once at least, and while that process writes.
func (b *bench) besideWriter(ctx context.Context, do func(writing func(int) bool) error) (float64, error) {
	random := make([]byte, chunk)
	rand.Read(random)
	from, to := b.path("random"), b.path("written")
	if err := os.WriteFile(from, random, 0o644); err != nil {
		return 0, err
	}
	c := b.command(ctx, "sh", nil, "-c", writer, "sh", from, to, fmt.Sprint(chunks))
	var took float64
	ended := make(chan error, 1)
	go func() {
		var err error
		took, err = timed(c)
		ended <- err
	}()
	var result error
	running := true
	err := do(func(done int) bool {
		select {
		case result = <-ended:
			running = false
		default:
		}
		return ctx.Err() == nil && (running || done == 0)
	})
	if running {
		result = <-ended
	}
	return took, errors.Join(err, result, os.Remove(to))
}
