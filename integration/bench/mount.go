package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

const (
	fewFiles  = 10
	manyFiles = 100_000
)

// A sized environment is one of made wheels.
type sized struct {
	*machine
	lock string
}

// sized returns an environment of so many files, in wheels of 10,000 at most.
func (b *bench) sized(ctx context.Context, files int) (sized, error) {
	if s, ok := b.sizes[files]; ok {
		return s, nil
	}
	const most = 10_000
	name := numbered("files", files)
	dir := b.path(name + "-wheels")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return sized{}, err
	}
	var wheels []wheelhouse.Wheel
	for left := files; left > 0; left -= most {
		w, err := wheelhouse.Write(dir, made(numbered("sized", len(wheels)), 0, min(left, most)))
		if err != nil {
			return sized{}, err
		}
		wheels = append(wheels, w)
	}
	m, err := b.stock(ctx, name, []string{dir})
	if err != nil {
		return sized{}, err
	}
	s := sized{m, b.path(name + ".toml")}
	b.sizes[files] = s
	return s, b.writeLock(s.lock, wheels)
}

// mountTimes measures `sitefs mount` of a known lock, of few files and of many.
func mountTimes(ctx context.Context, b *bench) ([]Row, error) {
	sizes := []int{fewFiles, manyFiles}
	var sides []side
	for _, files := range sizes {
		env, err := b.sized(ctx, files)
		if err != nil {
			return nil, err
		}
		once := func(round int) (float64, error) {
			dir := filepath.Join(env.dir, numbered("mount", round))
			took, err := env.mount(ctx, env.lock, dir)
			if err != nil {
				return 0, err
			}
			return took, env.umount(ctx, dir)
		}
		if _, err := once(-1); err != nil { // from here on the lock is known
			return nil, err
		}
		sides = append(sides, once)
	}
	samples, err := interleave(ctx, b.pairs(), sides...)
	if err != nil {
		return nil, err
	}
	row := beside(fmt.Sprintf("mount of a known lock, %d files", manyFiles), seconds, samples[1], fmt.Sprintf("%d files", fewFiles), samples[0])
	row.Goal = atMost(0.030)
	row.Note = "sitefs mount -r pylock.toml DIR, from start to end"
	return []Row{row}, nil
}

// memory measures what the processes of a mount take when everything in it was
// listed and read, and they have come to rest.
func memory(ctx context.Context, b *bench) ([]Row, error) {
	var rows []Row
	for _, files := range []int{fewFiles, manyFiles} {
		env, err := b.sized(ctx, files)
		if err != nil {
			return nil, err
		}
		row, err := env.memory(ctx, env.lock, fmt.Sprintf("%d files", files))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	row, err := m.memory(ctx, b.lock, fmt.Sprintf("%d wheels", len(b.wheels)))
	return append(rows, row), err
}

func (m *machine) memory(ctx context.Context, lock, size string) (Row, error) {
	dir := filepath.Join(m.dir, "memory")
	if _, err := m.mount(ctx, lock, dir); err != nil {
		return Row{}, err
	}
	fresh, err := m.status(ctx, dir)
	if err != nil {
		return Row{}, err
	}
	if err := readAll(dir); err != nil {
		return Row{}, err
	}
	busy, err := m.status(ctx, dir)
	if err != nil {
		return Row{}, err
	}
	used, err := m.rested(ctx, dir)
	if err != nil {
		return Row{}, err
	}
	tables, err := mappedMemory(used.WorkerPID)
	if err != nil {
		return Row{}, err
	}
	row := alone("memory of a mount, "+size+", all of it read", mega, []float64{float64(used.Memory.Supervisor+used.Memory.Worker) / 1e6})
	row.Goal = atMost(25)
	row.Note = fmt.Sprintf("supervisor %.1f MB + worker %.1f MB (Pss; %.1f MB of it mapped files: the program and the tables); as mounted %.1f + %.1f MB, at once after the reading %.1f + %.1f MB",
		float64(used.Memory.Supervisor)/1e6, float64(used.Memory.Worker)/1e6, float64(tables)/1e6,
		float64(fresh.Memory.Supervisor)/1e6, float64(fresh.Memory.Worker)/1e6,
		float64(busy.Memory.Supervisor)/1e6, float64(busy.Memory.Worker)/1e6)
	return row, m.umount(ctx, dir)
}

// restTime is more than a worker needs to come to rest: it gives memory back when no
// request has come for a second.
const restTime = 2 * time.Second

// rested returns the status of the mount at dir after restTime.
func (m *machine) rested(ctx context.Context, dir string) (mount.Status, error) {
	select {
	case <-time.After(restTime):
		return m.status(ctx, dir)
	case <-ctx.Done():
		return mount.Status{}, ctx.Err()
	}
}

// mappedMemory returns a process's share of the files it has mapped, in bytes.
func mappedMemory(pid int) (int64, error) {
	file := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, text, _ := strings.Cut(string(data), "\nPss_File:")
	var kB int64
	if _, err := fmt.Sscan(text, &kB); err != nil {
		return 0, fmt.Errorf("%s: Pss_File: %w; Linux 5.9 or newer is needed", file, err)
	}
	return kB << 10, nil
}

// readAll reads every file below a directory.
func readAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return readFile(path)
	})
}
