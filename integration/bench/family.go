package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

const (
	relatives = 100 // locks in the family
	changing  = 3   // packages that differ from lock to lock
)

// family measures what 100 locks cost that differ in three packages each: what
// the store holds beyond the changed wheels, against what it held with one lock.
func family(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.stock(ctx, "family", paths(b.wheels))
	if err != nil {
		return nil, err
	}
	dir := b.path("family-wheels")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var one, hundred usage
	for i := range relatives {
		member, err := b.relative(dir, i)
		if err != nil {
			return nil, err
		}
		if err := m.join(ctx, b.path(numbered("pylock.family", i)+".toml"), member); err != nil {
			return nil, err
		}
		if i == 0 {
			if one, err = m.usage(); err != nil {
				return nil, err
			}
		}
	}
	if hundred, err = m.usage(); err != nil {
		return nil, err
	}
	return familyRows(one, hundred), nil
}

func familyRows(one, hundred usage) []Row {
	row := func(what string, u Unit, unit float64, of func(disk) int64) Row {
		first := float64(of(one.all))
		later := first + float64(of(hundred.all)-of(one.all)) - float64(of(hundred.wheels)-of(one.wheels))
		r := Row{What: what, Unit: u, Sitefs: later / unit, Peer: "one lock", Other: first / unit, Goal: ratioAtMost(1.01)}
		r.Ratio = &Ratio{Value: later / first, Rounds: 1}
		return r
	}
	rows := []Row{
		row("100 locks of a family, beyond changed wheels: bytes", mega, 1e6, func(d disk) int64 { return d.bytes }),
		row("100 locks of a family, beyond changed wheels: inodes", count, 1, func(d disk) int64 { return d.inodes }),
	}
	each := (hundred.all.bytes - one.all.bytes - hundred.wheels.bytes + one.wheels.bytes) / (relatives - 1)
	rows[0].Note = fmt.Sprintf("the whole store, blocks on disk, without what 99 × %d wheels of 10 files added to blobs/ and wheels/: %d bytes for each further lock", changing, each)
	return rows
}

// relative writes the wheels in which the i-th lock of the family differs, and
// returns all wheels of that lock.
func (b *bench) relative(dir string, i int) ([]wheelhouse.Wheel, error) {
	wheels := slices.Clone(b.wheels[changing:])
	for k := range changing {
		w, err := wheelhouse.Write(dir, made(numbered("relative", k), i, 10))
		if err != nil {
			return nil, err
		}
		wheels = append(wheels, w)
	}
	return wheels, nil
}

// join adds the changed wheels and has the lock's tree made.
func (m *machine) join(ctx context.Context, lock string, wheels []wheelhouse.Wheel) error {
	add := []string{"add"}
	for _, w := range wheels[len(wheels)-changing:] {
		add = append(add, filepath.Join(m.b.path("family-wheels"), w.Filename))
	}
	if _, err := timed(m.command(ctx, add...)); err != nil {
		return err
	}
	if err := m.b.writeLock(lock, wheels); err != nil {
		return err
	}
	if _, err := timed(m.runTrue(ctx, lock)); err != nil {
		return err
	}
	return m.umountAll(ctx)
}

// usage is what a store takes on disk, and what of it belongs to single wheels.
type usage struct{ all, wheels disk }

type disk struct{ bytes, inodes int64 }

func (m *machine) usage() (usage, error) {
	var u usage
	err := filepath.WalkDir(m.store(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		u.all.add(&st)
		if in := filepath.Base(filepath.Dir(path)); !d.IsDir() && (in == "wheels" || filepath.Base(filepath.Dir(filepath.Dir(path))) == "blobs") {
			u.wheels.add(&st)
		}
		return nil
	})
	return u, err
}

// blockSize is what st_blocks counts, whatever the file system (stat(2)).
const blockSize = 512

func (d *disk) add(st *syscall.Stat_t) {
	d.bytes += st.Blocks * blockSize
	d.inodes++
}

// made returns a wheel of so many modules, whose content nothing else has.
func made(name string, version, files int) wheelhouse.Spec {
	s := wheelhouse.Spec{Name: name, Version: fmt.Sprintf("%d.0", version+1), Files: map[string]string{}}
	for i := range files {
		file := fmt.Sprintf("%s/p%d/m%d.py", name, i/100, i%100)
		s.Files[file] = fmt.Sprintf("name = %q\nversion = %d\nmodule = %d\n", name, version, i)
	}
	return s
}
