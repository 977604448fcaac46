package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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

// memory measures what the processes of a mount take after everything in it was
// listed and read.
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
	s, err := m.status(ctx, dir)
	if err != nil {
		return Row{}, err
	}
	fresh, err := processMemory(s.PID)
	if err != nil {
		return Row{}, err
	}
	if err := readAll(dir); err != nil {
		return Row{}, err
	}
	used, err := processMemory(s.PID)
	if err != nil {
		return Row{}, err
	}
	row := alone("memory of a mount, "+size+", all of it read", mega, []float64{float64(used.total()) / 1e6})
	row.Goal = atMost(20)
	row.Note = fmt.Sprintf("Pss_Anon %.1f MB + text %.1f MB; as mounted %.1f + %.1f MB",
		float64(used.anon)/1e6, float64(used.text)/1e6, float64(fresh.anon)/1e6, float64(fresh.text)/1e6)
	return row, m.umount(ctx, dir)
}

// usedMemory is in bytes.
type usedMemory struct {
	anon int64 // proportional, see proc_pid_smaps(5)
	text int64 // what is resident of mappings of files that may be executed
}

func (u usedMemory) total() int64 { return u.anon + u.text }

func processMemory(pid int) (usedMemory, error) {
	file := fmt.Sprintf("/proc/%d/smaps", pid)
	maps, err := os.ReadFile(file)
	if err != nil {
		return usedMemory{}, err
	}
	sums, err := os.ReadFile(file + "_rollup")
	if err != nil {
		return usedMemory{}, err
	}
	return parseSmaps(string(maps), string(sums))
}

// parseSmaps sums up /proc/PID/smaps and smaps_rollup.
func parseSmaps(maps, rollup string) (usedMemory, error) {
	var u usedMemory
	text := false // in a mapping of text
	for line := range strings.Lines(maps) {
		switch f := strings.Fields(line); {
		case !strings.HasSuffix(f[0], ":"): // "start-end perms offset dev inode path"
			text = len(f) >= 6 && strings.Contains(f[1], "x") && strings.HasPrefix(f[5], "/")
		case text && f[0] == "Rss:":
			n, err := kilobytes(f)
			if err != nil {
				return u, err
			}
			u.text += n
		}
	}
	for line := range strings.Lines(rollup) {
		if f := strings.Fields(line); f[0] == "Pss_Anon:" {
			var err error
			u.anon, err = kilobytes(f)
			return u, err
		}
	}
	return u, fmt.Errorf("smaps_rollup has no Pss_Anon: Linux 5.9 or newer is needed")
}

// kilobytes returns the bytes that "Name: 12 kB" says.
func kilobytes(fields []string) (int64, error) {
	if len(fields) != 3 || fields[2] != "kB" {
		return 0, fmt.Errorf("%q: want a name, a number and kB", fields)
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	return n << 10, err
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
