package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// takeover measures how long requests wait when the worker of a mount is killed:
// from the signal until a name is answered that the kernel has to ask for.
func takeover(ctx context.Context, b *bench) ([]Row, error) {
	m, dir, err := b.mounted(ctx, "takeover")
	if err != nil {
		return nil, err
	}
	kills := 200
	if b.quick {
		kills = 10
	}
	waits := make([]float64, kills)
	for i := range waits {
		if waits[i], err = m.killWorker(ctx, dir, i); err != nil {
			return nil, errors.Join(err, m.umount(ctx, dir))
		}
	}
	row := alone(fmt.Sprintf("wait at a kill of the worker, %d wheels", len(b.wheels)), seconds, waits)
	row.Goal = atMost(0.050)
	row.Note = fmt.Sprintf("worst %s", seconds.format(slices.Max(waits)))
	return []Row{row}, m.umount(ctx, dir)
}

// killWorker kills the worker of a mount and returns how long a look-up waits, in
// seconds.
func (m *machine) killWorker(ctx context.Context, dir string, round int) (float64, error) {
	s, err := m.status(ctx, dir)
	if err != nil {
		return 0, err
	}
	unknown := filepath.Join(dir, numbered("no-such", round))
	begin := time.Now()
	if err := syscall.Kill(s.WorkerPID, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("killing worker %d: %w", s.WorkerPID, err)
	}
	_, err = os.Lstat(unknown)
	took := time.Since(begin).Seconds()
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%s: %v, want no such file", unknown, err)
	}
	return took, nil
}
