package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A materialized environment is one that is measured: its link mode, and the most
// that it may take of uv's time with the same mode.
type materialized struct {
	mode string
	most float64
}

var (
	linked = materialized{"hardlink", 1.0}
	cloned = materialized{"clone", 0.8}
	copied = materialized{"copy", 0.5}
)

// imageSize has room for a store, a cache, and copies of either side for every
// round. It takes space as it is written to.
const imageSize = 40 << 30

// materializeOnOurs measures on the file system of the bench's folder.
func materializeOnOurs(ctx context.Context, b *bench) ([]Row, error) {
	return b.materializeOn(ctx, "", linked, copied)
}

func materializeOnXFS(ctx context.Context, b *bench) ([]Row, error) {
	return b.materializeOn(ctx, "xfs", linked, cloned, copied)
}

func materializeOnBtrfs(ctx context.Context, b *bench) ([]Row, error) {
	return b.materializeOn(ctx, "btrfs", linked, cloned, copied)
}

// materializeOn measures `sitefs materialize`, with verification and until all is on
// the disk, beside `uv venv` and `uv pip sync --offline` of the same lock in the same
// mode, which do neither, and beside these and a sync. Then what there is to do when
// there is nothing to do, and a look at all of it. FileSystem is of a disk in a file,
// "" that of the bench's folder.
func (b *bench) materializeOn(ctx context.Context, fileSystem string, envs ...materialized) (rows []Row, err error) {
	if fileSystem != "" && os.Geteuid() != 0 {
		b.logf("    left out, needs root: %s", fileSystem)
		return nil, nil
	}
	for _, env := range envs {
		more, err := b.materialize(ctx, fileSystem, env)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", fileSystem, env.mode, err)
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (b *bench) materialize(ctx context.Context, fileSystem string, env materialized) (_ []Row, err error) {
	mode := env.mode
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	cache, err := b.uvCache()
	if err != nil {
		return nil, err
	}
	dir, what := b.path("materialize-"+fileSystem+mode), mode
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if fileSystem != "" {
		unmount, err := b.mountImage(ctx, fileSystem, dir)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, unmount()) }()
		if m, cache, err = b.moveIn(ctx, m, cache, dir); err != nil {
			return nil, err
		}
		what += ", " + fileSystem
	}
	var synced []float64 // uv's times, and until it is on the disk
	ours := func(round int) (float64, error) {
		return timed(m.materialize(ctx, b.lock, mode, filepath.Join(dir, numbered("sitefs", round))))
	}
	theirs := func(round int) (float64, error) {
		venv := filepath.Join(dir, numbered("uv", round))
		made, err := b.uvVenv(ctx, cache, venv)
		if err != nil {
			return 0, err
		}
		took, err := b.uvSync(ctx, cache, venv, b.lock, "--offline", "--link-mode", mode)
		if err != nil {
			return 0, err
		}
		sync, err := b.syncDisk(ctx, dir)
		synced = append(synced, made+took+sync)
		return made + took, err
	}
	// From here on the tree is there, the hard links' inodes, and warm caches.
	for _, once := range []side{ours, theirs} {
		if _, err := once(-1); err != nil {
			return nil, err
		}
	}
	synced = nil
	samples, err := interleave(ctx, b.rounds(), b.settled(ctx, ours), b.settled(ctx, theirs))
	if err != nil {
		return nil, err
	}
	row := beside("materialize, "+what, seconds, samples[0], "uv, no sync, no check", samples[1])
	row.Goal = ratioAtMost(env.most)
	durable := beside("the same", seconds, samples[0], "uv and sync -f, no check", synced)
	again, err := b.lookAgain(ctx, m, mode, filepath.Join(dir, numbered("sitefs", 0)), what)
	return append([]Row{row, durable}, again...), err
}

// lookAgain measures materialize where there is nothing to do, and verify.
func (b *bench) lookAgain(ctx context.Context, m *machine, mode, venv, what string) ([]Row, error) {
	samples, err := interleave(ctx, b.rounds(),
		func(int) (float64, error) { return timed(m.materialize(ctx, b.lock, mode, venv)) },
		func(int) (float64, error) { return timed(m.command(ctx, "verify", venv)) })
	if err != nil {
		return nil, err
	}
	nothing := alone("nothing to materialize, "+what, seconds, samples[0])
	nothing.Goal = atMost(0.15)
	look := alone("verify, "+what, seconds, samples[1])
	look.Goal = atMost(0.3)
	return []Row{nothing, look}, nil
}

// materialize returns the command that writes the environment of a lock file.
func (m *machine) materialize(ctx context.Context, lock, mode, dest string) *exec.Cmd {
	return m.command(ctx, "materialize", "--quiet", "--offline", "--python", m.b.python, "-r", lock, "--link-mode", mode, dest)
}

// mountImage mounts a new file system, in a file beside dir, at dir.
func (b *bench) mountImage(ctx context.Context, fileSystem, dir string) (unmount func() error, err error) {
	image := dir + ".img"
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, imageSize); err != nil {
		return nil, err
	}
	for _, c := range [][]string{{"mkfs." + fileSystem, "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if _, err := output(b.command(ctx, c[0], nil, c[1:]...)); err != nil {
			return nil, err
		}
	}
	return func() error {
		// Not of the run's context, which an interrupt has ended.
		_, err := output(b.command(context.Background(), "umount", nil, dir))
		return errors.Join(err, os.Remove(image))
	}, nil
}

// moveIn copies a store and a uv cache to another file system.
func (b *bench) moveIn(ctx context.Context, m *machine, cache, dir string) (*machine, string, error) {
	there := &machine{b, filepath.Join(dir, "machine"), m.sitefs}
	if err := os.Mkdir(there.dir, 0o755); err != nil {
		return nil, "", err
	}
	for from, to := range map[string]string{m.store(): there.store(), cache: filepath.Join(dir, "uv-cache")} {
		if _, err := output(b.command(ctx, "cp", nil, "--archive", "--reflink=auto", from, to)); err != nil {
			return nil, "", err
		}
	}
	return there, filepath.Join(dir, "uv-cache"), nil
}
