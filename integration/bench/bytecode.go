package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store/bytecode"
)

// firstImport measures a known lock -> the first import done, with nothing
// mounted, against uv making the venv and the first import in that: where this
// machine has compiled the modules before, and where it never has.
func firstImport(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.compiledMachine(ctx)
	if err != nil {
		return nil, err
	}
	var before, never bytecode.Status // the last round's
	var imports []float64
	samples, err := interleave(ctx, b.rounds(),
		b.settled(ctx, func(int) (took float64, err error) {
			took, before, err = m.firstImport(ctx)
			return took, err
		}),
		b.settled(ctx, func(int) (took float64, err error) {
			if err := m.forget(); err != nil {
				return 0, err
			}
			if took, never, err = m.firstImport(ctx); err == nil && never.Compiled == 0 {
				err = errors.New("nothing was compiled: the store had bytecode, or gets none")
			}
			return took, err
		}),
		b.settled(ctx, func(round int) (float64, error) {
			dir := b.path(numbered("first-uv", round))
			made, err := b.uvMakes(ctx, dir, b.lock)
			if err != nil {
				return 0, err
			}
			took, err := b.imports(ctx, dir, large)
			imports = append(imports, took)
			return made + took, err
		}))
	if err != nil {
		return nil, err
	}
	const peer = "uv venv + sync, import"
	rows := []Row{
		beside("known lock -> first import, compiled before", seconds, samples[0], peer, samples[2]),
		beside("known lock -> first import, never compiled", seconds, samples[1], peer, samples[2]),
		alone("the import alone in uv's new venv", seconds, imports),
	}
	rows[0].Goal, rows[1].Goal = ratioAtMost(0.40), ratioAtMost(0.90)
	rows[0].Note = fmt.Sprintf("sitefs run -- python -c 'import %s', nothing mounted; %s", large, describeBytecode(before))
	rows[1].Note = describeBytecode(never)
	return rows, nil
}

// freshMount measures an import in a mount of which nothing was read yet, its
// bytecode compiled before, against a hot import in a plain venv.
func freshMount(ctx context.Context, b *bench) ([]Row, error) {
	m, err := b.compiledMachine(ctx)
	if err != nil {
		return nil, err
	}
	native, err := b.imported()
	if err != nil {
		return nil, err
	}
	inMount := func(round int, importing func(dir string) (float64, error)) (float64, error) {
		dir := b.path(numbered("fresh", round))
		if _, err := m.mount(ctx, b.lock, dir); err != nil {
			return 0, err
		}
		took, err := importing(dir)
		return took, errors.Join(err, m.umount(ctx, dir))
	}
	imports := func(dir string) (float64, error) { return b.imports(ctx, dir, large) }
	samples, err := interleave(ctx, b.rounds(),
		func(round int) (float64, error) { return inMount(round, imports) },
		func(int) (float64, error) { return imports(native) })
	if err != nil {
		return nil, err
	}
	row := beside("first import of a fresh mount, compiled before", seconds, samples[0], "venv, hot", samples[1])
	// Recording costs time: it has an import of its own.
	_, err = inMount(b.rounds(), func(dir string) (took float64, err error) {
		r, err := m.record(ctx, dir, func() error {
			took, err = imports(dir)
			return err
		})
		row.Note = fmt.Sprintf("one more, recorded: %s; %s", seconds.format(took), r.table(took))
		return took, err
	})
	return []Row{row}, err
}

// compileAll measures compiling the whole environment ahead.
func compileAll(ctx context.Context, b *bench) ([]Row, error) {
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
	if err := m.umountAll(ctx); err != nil {
		return nil, err
	}
	samples, err := interleave(ctx, b.rounds(),
		b.settled(ctx, func(round int) (float64, error) {
			if err := m.forget(); err != nil {
				return 0, err
			}
			dir := b.path(numbered("compile", round))
			took, err := m.mount(ctx, b.lock, dir, "--compile")
			if err != nil {
				return 0, err
			}
			return took, m.umount(ctx, dir)
		}),
		b.settled(ctx, func(round int) (float64, error) {
			return b.uvMakes(ctx, b.path(numbered("compile-uv", round)), b.lock, "--compile-bytecode")
		}))
	if err != nil {
		return nil, err
	}
	return []Row{beside("known lock -> everything compiled", seconds, samples[0], "uv … --compile-bytecode", samples[1])}, nil
}

// compiledMachine returns a machine with nothing mounted and the bytecode of an
// import in its store. What the modules keep for themselves in HOME is there too.
func (b *bench) compiledMachine(ctx context.Context) (*machine, error) {
	m, err := b.stocked()
	if err != nil {
		return nil, err
	}
	if _, err := b.imported(); err != nil {
		return nil, err
	}
	if err := m.umountAll(ctx); err != nil {
		return nil, err
	}
	_, _, err = m.firstImport(ctx)
	return m, err
}

// firstImport mounts, imports and unmounts. It returns how long the command took,
// in seconds, and what the mount told of its bytecode.
func (m *machine) firstImport(ctx context.Context) (float64, bytecode.Status, error) {
	took, err := timed(m.run(ctx, m.b.lock, "python", "-c", "import "+large))
	if err != nil {
		return 0, bytecode.Status{}, err
	}
	s, err := m.bytecode(ctx)
	return took, s, cmp.Or(err, m.umountAll(ctx))
}

// bytecode returns what the machine's only mount tells of its bytecode.
func (m *machine) bytecode(ctx context.Context) (bytecode.Status, error) {
	var s mount.Status
	var b bytecode.Status
	text, err := output(m.command(ctx, "status", "--json"))
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return b, err
	}
	return b, json.Unmarshal(s.Bytecode, &b)
}

// describeBytecode says how the last round of a row went.
func describeBytecode(s bytecode.Status) string {
	return fmt.Sprintf("last round: %d .pyc were there when asked for, %d were waited for; %d compiled ahead; %d failed, %d declined",
		s.Hits, s.Compiled, s.Ahead, s.Failed, s.Declined)
}

// forget takes all bytecode out of the store. It goes to a name of its own: a
// removal would make whoever writes next look slow.
func (m *machine) forget() error {
	aside, err := os.MkdirTemp(m.dir, "forgotten-")
	if err != nil {
		return err
	}
	err = os.Rename(filepath.Join(m.store(), "bytecode"), filepath.Join(aside, "bytecode"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there never was any
	}
	return err
}
