package main

import (
	"context"
	"slices"
)

const uvMakes = "uv venv + sync --offline"

// start measures a lock that is known -> the command, without and with a mount
// that is still warm, against uv making the venv from a warm cache.
func start(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	if _, err := b.uvCache(); err != nil {
		return nil, err
	}
	if _, err := timed(m.runTrue(ctx, b.lock)); err != nil { // from here on it is known
		return nil, err
	}
	var warm []float64
	samples, err := interleave(ctx, b.rounds(),
		func(int) (float64, error) {
			cold, again, err := m.starts(ctx, b.lock)
			warm = append(warm, again)
			return cold, err
		},
		func(round int) (float64, error) {
			return b.uvMakes(ctx, b.path(numbered("start-uv", round)), b.lock)
		})
	if err != nil {
		return nil, err
	}
	first := beside("known lock -> first instruction, nothing mounted", seconds, samples[0], uvMakes, samples[1])
	first.Goal = atMost(0.060)
	second := beside("known lock -> first instruction, mount warm", seconds, warm, uvMakes, samples[1])
	second.Goal = atMost(0.015)
	second.Note = "sitefs run -r pylock.toml -- true, from start to the end of true"
	return []Row{first, second}, m.umountAll(ctx)
}

// startsPerRound makes up for how short a start is: one that waits for another
// process's turn on a processor takes twice as long.
const startsPerRound = 5

// starts returns how long runs of true took in the middle, in seconds: with
// nothing mounted, and on the mount that the run before left.
func (m *machine) starts(ctx context.Context, lock string) (cold, warm float64, err error) {
	var colds, warms []float64
	for range startsPerRound {
		if err := m.umountAll(ctx); err != nil {
			return 0, 0, err
		}
		first, err := timed(m.runTrue(ctx, lock))
		if err != nil {
			return 0, 0, err
		}
		second, err := timed(m.runTrue(ctx, lock))
		if err != nil {
			return 0, 0, err
		}
		colds, warms = append(colds, first), append(warms, second)
	}
	return median(colds), median(warms), nil
}

// newLock measures a lock that was never seen, of wheels that are known. Each
// round leaves out two wheels of its own.
func newLock(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	if _, err := timed(m.runTrue(ctx, b.lock)); err != nil { // its wheels are known from here on
		return nil, err
	}
	lock := func(name string, round int) (string, error) {
		file := b.path(numbered(name, round) + ".toml")
		wheels := slices.Delete(slices.Clone(b.wheels), 2*round, 2*round+2)
		return file, b.writeLock(file, wheels)
	}
	samples, err := interleave(ctx, b.rounds(),
		func(round int) (float64, error) {
			file, err := lock("pylock.sitefs", round)
			if err != nil {
				return 0, err
			}
			return timed(m.runTrue(ctx, file))
		},
		func(round int) (float64, error) {
			file, err := lock("pylock.uv", round)
			if err != nil {
				return 0, err
			}
			return b.uvMakes(ctx, b.path(numbered("newlock-uv", round)), file)
		})
	if err != nil {
		return nil, err
	}
	row := beside("new lock of 244 known wheels -> first instruction", seconds, samples[0], uvMakes, samples[1])
	row.Goal = atMost(0.100)
	return []Row{row}, m.umountAll(ctx)
}
