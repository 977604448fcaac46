package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// imports is what a second import imports: 1,358 files are opened for it.
const imports = "import numpy, pandas, scipy.stats, sklearn.ensemble, matplotlib.pyplot"

// secondImport measures an import in a mount that has seen it before against the
// same in a plain venv, and what the kernel asks the mount for in it.
func secondImport(ctx context.Context, b *bench) ([]Row, error) {
	native, err := b.native()
	if err != nil {
		return nil, err
	}
	m, mounted, err := b.mounted(ctx, "import")
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{native, mounted} {
		if err := noBytecode(dir); err != nil {
			return nil, err
		}
		if _, err := b.imports(ctx, dir); err != nil {
			return nil, err
		}
	}
	asked, err := m.asked(ctx, mounted, func() error {
		_, err := b.imports(ctx, mounted)
		return err
	})
	if err != nil {
		return nil, err
	}
	samples, err := interleave(ctx, b.pairs(),
		func(int) (float64, error) { return b.imports(ctx, mounted) },
		func(int) (float64, error) { return b.imports(ctx, native) })
	if err != nil {
		return nil, err
	}
	row := beside("second import in a mount", seconds, samples[0], "copied venv", samples[1])
	row.Goal = ratioAtMost(1.02)
	row.Note = strings.TrimPrefix(imports, "import ") + "; neither side has a .pyc of them"
	return []Row{messagesRow(asked), row}, m.umount(ctx, mounted)
}

func (b *bench) imports(ctx context.Context, venv string) (float64, error) {
	return timed(b.command(ctx, filepath.Join(venv, "bin", "python"), nil, "-c", imports))
}

// noBytecode makes sure that a directory has no bytecode.
func noBytecode(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".pyc" {
			err = fmt.Errorf("%s is bytecode, which would be compared with compiling", path)
		}
		return err
	})
}

// asked returns how many requests of each kind the kernel sends to a mount while
// something is done.
func (m *machine) asked(ctx context.Context, dir string, do func() error) (map[string]int64, error) {
	before, err := m.status(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	after, err := m.status(ctx, dir)
	if err != nil {
		return nil, err
	}
	asked := map[string]int64{}
	for kind, n := range after.Requests {
		if n -= before.Requests[kind]; n != 0 {
			asked[kind] = n
		}
	}
	return asked, nil
}

// messagesRow tells of the requests of a second import. Python before 3.14 asks
// of every file it opens whether it is a terminal, and the kernel keeps no answer.
func messagesRow(asked map[string]int64) Row {
	var others int64
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(asked)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, asked[kind]))
		if kind != "IOCTL" {
			others += asked[kind]
		}
	}
	row := alone("second import in a mount, but IOCTL", messages, []float64{float64(others)})
	row.Goal = atMost(0)
	row.Note = "all: " + strings.Join(kinds, ", ")
	return row
}

// find measures listing everything when nothing has to be asked any more: names
// alone, and with a stat of every file.
func find(ctx context.Context, b *bench) ([]Row, error) {
	native, err := b.native()
	if err != nil {
		return nil, err
	}
	m, mounted, err := b.mounted(ctx, "find")
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, walk := range []struct{ what, test string }{
		{"find over everything, hot", "-true"},
		{"find -size over everything, hot", "-size +1000M"},
	} {
		side := func(dir string) side {
			args := append([]string{dir}, strings.Fields(walk.test)...)
			return func(int) (float64, error) { return timed(b.command(ctx, "find", nil, args...)) }
		}
		ours, theirs := side(mounted), side(native)
		if _, err := interleave(ctx, 2, ours, theirs); err != nil { // to warm up
			return nil, err
		}
		samples, err := interleave(ctx, b.pairs(), ours, theirs)
		if err != nil {
			return nil, err
		}
		row := beside(walk.what, seconds, samples[0], "copied venv", samples[1])
		row.Goal = ratioAtMost(1.0)
		rows = append(rows, row)
	}
	return rows, m.umount(ctx, mounted)
}
