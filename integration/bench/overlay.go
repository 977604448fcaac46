package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// What an overlay lies over, and what is installed into it: the five packages of
// the large import with what they need, and what a web service needs.
var (
	scientific = strings.Fields(`
		cloudpickle contourpy cycler fonttools joblib kiwisolver matplotlib narwhals numpy packaging pandas
		pillow pyparsing python_dateutil scikit_learn scipy six threadpoolctl tzdata`)
	webService = strings.Fields(`
		alembic annotated_doc annotated_types anyio blinker certifi cffi charset_normalizer click cryptography
		fastapi flask h11 httpcore httptools httpx idna itsdangerous jinja2 mako
		markupsafe pycparser pydantic pydantic_core pyjwt python_dotenv pyyaml redis requests shellingham
		sqlalchemy starlette typer typing_extensions typing_inspection urllib3 uvicorn watchfiles websockets werkzeug`)
)

const (
	smallFiles = 10_000
	bigMB      = 1 << 10 // a file of 1 GiB
)

// overlayImport measures an import that each kind of environment has seen twice:
// what Python writes of it is there, and what a kernel can keep of it.
func overlayImport(ctx context.Context, b *bench) (rows []Row, err error) {
	o, err := b.overlays()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	venvs, err := o.openAll(ctx, "import")
	if err != nil {
		return nil, err
	}
	for _, venv := range venvs {
		if _, err := b.imports(ctx, venv, large); err != nil {
			return nil, err
		}
	}
	cached, err := b.keepCached(ctx, venvs...) // the second import
	o.closers = append(o.closers, cached.release)
	if err != nil {
		return nil, err
	}
	var asked []map[string]int64
	sides := make([]side, len(venvs))
	for i, venv := range venvs {
		sides[i] = func(int) (took float64, err error) {
			kinds, err := o.asked(ctx, i, venv, func() error {
				took, err = b.imports(ctx, venv, large)
				return err
			})
			if i == ours {
				asked = append(asked, kinds)
			}
			return took, err
		}
	}
	const oftener = 2 // the sides hardly differ
	samples, err := interleave(ctx, oftener*b.rounds(), sides...)
	if err != nil {
		return nil, err
	}
	rows = o.rows("overlay: hot import", 1.03, samples)
	rows[0].Note = large + "; third import and later, bytecode on all sides"
	return append([]Row{messagesRow("overlay: hot import, but IOCTL, fewest", asked)}, rows...), nil
}

// overlayPip measures pip, the same one everywhere. It compiles what it installs, as it
// does by default; what it finds installed has no bytecode anywhere.
func overlayPip(ctx context.Context, b *bench) ([]Row, error) {
	o, err := b.overlays()
	if err != nil {
		return nil, err
	}
	install := []string{"install", "--quiet", "--no-index", "--no-deps", "--find-links", wheelhouse.Dir()}
	packages, err := b.choose(webService)
	if err != nil {
		return nil, err
	}
	scipy, err := b.choose([]string{"scipy"})
	if err != nil {
		return nil, err
	}
	pip := func(args ...string) func(string, int) (float64, error) {
		return func(venv string, _ int) (float64, error) { return timed(b.pip(ctx, venv, args...)) }
	}
	rows, err := o.inNewOnes(ctx, "pip",
		act{
			what: fmt.Sprintf("overlay: pip install of %d packages", len(packages)), most: 1.3,
			do: pip(append(install, pinned(packages)...)...),
		},
		act{
			what: "overlay: pip upgrade of scipy", most: 1.5,
			note: "--force-reinstall of the same version: uninstalls that of the environment, installs that of the wheel",
			do:   pip(append(install, "--force-reinstall", pinned(scipy)[0])...),
		})
	if err != nil {
		return nil, err
	}
	more, err := o.inNewOnes(ctx, "uninstall",
		act{what: "overlay: pip uninstall of scipy", most: 1.5, do: pip("uninstall", "--quiet", "--yes", "scipy")})
	return append(rows, more...), err
}

// overlayFiles measures what needs no Python.
func overlayFiles(ctx context.Context, b *bench) (rows []Row, err error) {
	o, err := b.overlays()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	archive := b.path("overlay-small.tar")
	if err := writeSmall(archive); err != nil {
		return nil, err
	}
	repository, err := output(exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel"))
	if err != nil {
		return nil, err
	}
	venvs, err := o.openAll(ctx, "files")
	if err != nil {
		return nil, err
	}
	run := func(path string, args ...string) (float64, error) { return timed(b.command(ctx, path, nil, args...)) }
	at := func(venv, name string, round int) string { return filepath.Join(venv, numbered(name, round)) }
	return o.inTurn(ctx, venvs,
		act{what: fmt.Sprintf("overlay: untar of %d small files", smallFiles), do: func(venv string, round int) (float64, error) {
			dir := at(venv, "small", round)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return 0, err
			}
			return run("tar", "-x", "-f", archive, "-C", dir)
		}},
		act{what: "overlay: find -size over these", do: func(venv string, round int) (float64, error) {
			return run("find", at(venv, "small", round), "-size", "+1000M")
		}},
		act{what: "overlay: git clone of this repository", do: func(venv string, round int) (float64, error) {
			return run("git", "clone", "--quiet", "file://"+repository, at(venv, "clone", round))
		}},
		act{what: "overlay: write of 1 GiB", do: func(venv string, round int) (float64, error) {
			return run("dd", "status=none", "if=/dev/zero", "of="+at(venv, "big", round), "bs=1M", fmt.Sprint("count=", bigMB))
		}},
		act{what: "overlay: write of 1 GiB over that, and fsync", do: func(venv string, round int) (float64, error) {
			big := at(venv, "big", round)
			took, err := run("dd", "status=none", "if=/dev/zero", "of="+big, "bs=1M", fmt.Sprint("count=", bigMB), "conv=notrunc,fsync")
			// All rounds' would fill the disk. It is one inode.
			return took, errors.Join(err, os.Truncate(big, 0))
		}},
		// The last row, for what a removal does to who writes next.
		act{what: fmt.Sprintf("overlay: rm -r of the %d files", smallFiles), do: func(venv string, round int) (float64, error) {
			return run("rm", "-r", at(venv, "small", round))
		}})
}

// An act is what one row measures.
type act struct {
	what string
	most float64 // of a plain venv's time; 0 for no goal
	note string
	do   func(venv string, round int) (float64, error)
}

// inNewOnes does some acts one after the other in a new environment of each kind
// and round.
func (o *overlays) inNewOnes(ctx context.Context, name string, acts ...act) ([]Row, error) {
	samples := make([][][]float64, len(acts)) // by act, by kind
	for i := range samples {
		samples[i] = make([][]float64, len(o.kinds))
	}
	asked := make([]map[string]int64, len(acts)) // in the last round
	sides := make([]side, len(o.kinds))
	for k := range o.kinds {
		sides[k] = func(round int) (_ float64, err error) {
			venv, closeVenv, err := o.openForPip(ctx, k, numbered(name, round))
			if err != nil {
				return 0, err
			}
			defer func() { err = errors.Join(err, closeVenv()) }()
			for i, a := range acts {
				took, kinds, err := o.measure(ctx, k, a, venv, round)
				if err != nil {
					return 0, err
				}
				samples[i][k] = append(samples[i][k], took)
				if k == ours {
					asked[i] = kinds
				}
			}
			return 0, nil
		}
	}
	o.b.logf("    %s", acts[0].what)
	if _, err := interleave(ctx, o.b.rounds(), sides...); err != nil {
		return nil, err
	}
	var rows []Row
	for i, a := range acts {
		rows = append(rows, o.actRows(a, samples[i], asked[i])...)
	}
	return rows, nil
}

// inTurn does one act after the other, each in all rounds, in one environment of
// each kind.
func (o *overlays) inTurn(ctx context.Context, venvs []string, acts ...act) ([]Row, error) {
	var rows []Row
	for _, a := range acts {
		o.b.logf("    %s", a.what)
		var asked map[string]int64 // in the last round
		sides := make([]side, len(venvs))
		for k, venv := range venvs {
			sides[k] = func(round int) (float64, error) {
				took, kinds, err := o.measure(ctx, k, a, venv, round)
				if k == ours {
					asked = kinds
				}
				return took, err
			}
		}
		samples, err := interleave(ctx, o.b.rounds(), sides...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.what, err)
		}
		rows = append(rows, o.actRows(a, samples, asked)...)
	}
	return rows, nil
}

// measure does an act in an environment of the k-th kind, when nothing that others
// have written is left to be written out.
func (o *overlays) measure(ctx context.Context, k int, a act, venv string, round int) (took float64, asked map[string]int64, err error) {
	asked, err = o.asked(ctx, k, venv, func() error {
		took, err = o.b.settled(ctx, func(round int) (float64, error) { return a.do(venv, round) })(round)
		return err
	})
	return took, asked, err
}

func (o *overlays) actRows(a act, samples [][]float64, asked map[string]int64) []Row {
	rows := o.rows(a.what, a.most, samples)
	rows[0].Note = strings.TrimPrefix(a.note+"; last round: "+listKinds(asked), "; ")
	return rows
}

// rows compares sitefs with each of the others: with a plain venv, where most is
// the goal, and with fuse-overlayfs, which is to be slower.
func (o *overlays) rows(what string, most float64, samples [][]float64) []Row {
	var rows []Row
	for k, kind := range o.kinds {
		if k == ours {
			continue
		}
		row := beside(what, seconds, samples[ours], kind.name, samples[k])
		switch {
		case kind.name == plainVenv && most > 0:
			row.Goal = ratioAtMost(most)
		case kind.name == fuseOverlayfs:
			row.Goal = ratioAtMost(1)
		}
		rows = append(rows, row)
		what = "  the same"
	}
	return rows
}

// choose returns the wheels of some distributions.
func (b *bench) choose(names []string) ([]wheelhouse.Wheel, error) {
	var chosen []wheelhouse.Wheel
	for _, name := range names {
		i := slices.IndexFunc(b.wheels, func(w wheelhouse.Wheel) bool { return w.Name() == name })
		if i < 0 {
			return nil, fmt.Errorf("%s has no %q", list, name)
		}
		chosen = append(chosen, b.wheels[i])
	}
	return chosen, nil
}

func pinned(wheels []wheelhouse.Wheel) []string {
	p := make([]string, len(wheels))
	for i, w := range wheels {
		p[i] = w.Name() + "==" + w.Version()
	}
	return p
}

// pip returns pip's command in an environment. It asks no network.
func (b *bench) pip(ctx context.Context, venv string, args ...string) *exec.Cmd {
	args = append([]string{"-m", "pip", "--disable-pip-version-check"}, args...)
	return b.command(ctx, filepath.Join(venv, "bin", "python"), []string{"PIP_ROOT_USER_ACTION=ignore", "PIP_CONFIG_FILE=" + os.DevNull}, args...)
}

// writeSmall writes an archive of small files, 100 to a directory.
func writeSmall(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	for i := range smallFiles {
		content := strings.Repeat(fmt.Sprintf("line of file %d\n", i), 1+i%100) // 0.8 KB, as modules' median is
		h := &tar.Header{Name: fmt.Sprintf("d%d/f%d", i/100, i), Mode: 0o644, Size: int64(len(content))}
		if err := w.WriteHeader(h); err != nil {
			return errors.Join(err, f.Close())
		}
		if _, err := w.Write([]byte(content)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Close(), f.Close())
}
