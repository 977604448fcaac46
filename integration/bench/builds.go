package main

import (
	"context"
	"errors"
)

// builds measures imports in mounts of two builds of sitefs, if there is another:
// what a change of the program costs.
func builds(ctx context.Context, b *bench) ([]Row, error) {
	if b.beside == "" {
		return nil, nil
	}
	ours, err := b.compiledMachine(ctx)
	if err != nil {
		return nil, err
	}
	theirs := &machine{b, ours.dir, b.beside}
	first, err := interleave(ctx, b.pairs(), b.firstImports(ctx, ours, "ours"), b.firstImports(ctx, theirs, "theirs"))
	if err != nil {
		return nil, err
	}
	second, err := secondImports(ctx, b, ours, theirs)
	if err != nil {
		return nil, err
	}
	rows := []Row{
		beside("first import of a fresh mount, by build", seconds, first[0], b.beside, first[1]),
		beside("second import, by build", seconds, second[0], b.beside, second[1]),
	}
	for i := range rows {
		rows[i].Goal = ratioAtMost(1.01)
	}
	return rows, nil
}

// firstImports is a side that imports in a mount of which nothing was read yet.
func (b *bench) firstImports(ctx context.Context, m *machine, name string) side {
	return func(round int) (float64, error) {
		dir := b.path(numbered("first-"+name, round))
		if _, err := m.mount(ctx, b.lock, dir); err != nil {
			return 0, err
		}
		took, err := b.imports(ctx, dir, large)
		return took, errors.Join(err, m.umount(ctx, dir))
	}
}

// secondImports imports in a mount of each machine that has seen it before.
func secondImports(ctx context.Context, b *bench, ours, theirs *machine) (samples [][]float64, err error) {
	var sides []side
	var cached mapped
	defer func() { err = errors.Join(err, cached.release(), ours.umountAll(ctx)) }()
	for i, m := range []*machine{ours, theirs} {
		dir := b.path(numbered("second", i))
		if _, err := m.mount(ctx, b.lock, dir); err != nil {
			return nil, err
		}
		kept, err := b.keepCached(ctx, dir)
		cached = append(cached, kept...)
		if err != nil {
			return nil, err
		}
		sides = append(sides, func(int) (float64, error) { return b.imports(ctx, dir, large) })
	}
	return interleave(ctx, b.pairs(), sides...)
}
