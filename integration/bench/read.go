package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What is imported. The large one opens 1,372 files and takes seconds: long
// enough for a kernel that reclaims to have taken some directory's listing. The
// small one shows what is asked when nothing is taken.
const (
	large = "numpy, pandas, scipy.stats, sklearn.ensemble, matplotlib.pyplot"
	small = "numpy"
)

// secondImport measures an import in a mount that has seen it before against the
// same in a plain venv, and what the kernel asks the mount for in it. Both have
// the bytecode.
func secondImport(ctx context.Context, b *bench) (rows []Row, err error) {
	native, err := b.imported()
	if err != nil {
		return nil, err
	}
	m, mounted, err := b.mounted(ctx, "import")
	if err != nil {
		return nil, err
	}
	cached, err := b.keepCached(ctx, native, mounted)
	defer func() {
		err = errors.Join(err, cached.release(), m.umount(ctx, mounted)) // a mapped file keeps a mount busy
	}()
	if err != nil {
		return nil, err
	}
	for _, modules := range []string{small, large} {
		more, err := b.importRows(ctx, m, modules, mounted, native)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func (b *bench) importRows(ctx context.Context, m *machine, modules, mounted, native string) ([]Row, error) {
	var asked []map[string]int64
	samples, err := interleave(ctx, b.pairs(),
		func(int) (took float64, err error) {
			kinds, err := m.asked(ctx, mounted, func() error {
				took, err = b.imports(ctx, mounted, modules)
				return err
			})
			asked = append(asked, kinds)
			return took, err
		},
		func(int) (float64, error) { return b.imports(ctx, native, modules) })
	if err != nil {
		return nil, err
	}
	first, _, more := strings.Cut(modules, ",")
	if more {
		first += ", pandas …"
	}
	row := beside("second import of "+first, seconds, samples[0], "venv", samples[1])
	row.Goal = ratioAtMost(1.02)
	row.Note = modules + "; both sides have the bytecode"
	return []Row{messagesRow("but IOCTL, second import of "+first+", fewest", asked), row}, nil
}

func (b *bench) imports(ctx context.Context, venv, modules string) (float64, error) {
	return timed(b.command(ctx, filepath.Join(venv, "bin", "python"), nil, "-c", "import "+modules))
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

// messagesRow tells of the requests of second imports. Python before 3.14 asks of
// every file it opens whether it is a terminal, and the kernel keeps no answer.
// What the kernel dropped from its caches in between it asks again, so the import
// with the fewest requests is the one that shows what an import needs.
func messagesRow(what string, asked []map[string]int64) Row {
	others := make([]float64, len(asked))
	for i, kinds := range asked {
		for kind, n := range kinds {
			if kind != "IOCTL" {
				others[i] += float64(n)
			}
		}
	}
	fewest := asked[slices.Index(others, slices.Min(others))]
	row := alone(what, messages, others)
	row.Sitefs = slices.Min(others)
	row.Goal = atMost(0)
	row.Note = fmt.Sprintf("median %.0f, most %.0f; all of the fewest: %s", median(others), slices.Max(others), listKinds(fewest))
	return row
}

// listKinds lists numbers of requests in one line.
func listKinds(asked map[string]int64) string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(asked)) {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, asked[kind]))
	}
	return strings.Join(kinds, ", ")
}

// mapped are files that are held in the page cache.
type mapped [][]byte

// names is a program that imports and prints the files of the environment that
// were read for it or are mapped.
const names = `
import sys
import %s
files = {getattr(m, "__cached__", None) for m in list(sys.modules.values())}
files.update(line.split()[-1] for line in open("/proc/self/maps") if ".so" in line)
print(*(f for f in files if f and f.startswith(sys.prefix)), sep="\n")
`

// keepCached imports in some environments, and maps what that reads. A kernel that
// frees memory ahead of need (DAMON) leaves mapped pages alone and takes others
// within a minute, of either side: that is not what is measured here.
func (b *bench) keepCached(ctx context.Context, venvs ...string) (mapped, error) {
	var m mapped
	for _, venv := range venvs {
		files, err := output(b.command(ctx, filepath.Join(venv, "bin", "python"), nil, "-c", fmt.Sprintf(names, large)))
		if err != nil {
			return m, err
		}
		for file := range strings.SplitSeq(files, "\n") {
			if err := m.add(file); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

func (m *mapped) add(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return &fs.PathError{Op: "mmap", Path: path, Err: err}
	}
	*m = append(*m, data)
	touch(data)
	return nil
}

// touch reads a byte of every page, so that the pages are mapped and not only
// the address space.
func touch(data []byte) (sum byte) {
	for i := 0; i < len(data); i += os.Getpagesize() {
		sum += data[i]
	}
	return sum
}

func (m mapped) release() error {
	var errs []error
	for _, data := range m {
		errs = append(errs, syscall.Munmap(data))
	}
	return errors.Join(errs...)
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
