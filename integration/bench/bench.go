package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/interp"
)

type options struct {
	quick  bool
	dir    string
	sitefs string
	beside string
}

// A bench is a folder to measure in, the programs that are measured, and what
// several experiments need: each of those is made when first asked for.
type bench struct {
	options
	wheels []wheelhouse.Wheel
	python string // absolute, no shim
	uv     string // absolute, no shim

	base    string                   // the URL that locks have the wheels from: uv keeps them by it
	lock    string                   // pylock.toml of all wheels
	stocked func() (*machine, error) // a machine whose store has all wheels
	uvCache func() (string, error)   // a uv cache that has all wheels
	native  func() (string, error)   // all wheels, copied by uv into a plain venv without bytecode
	// all wheels, linked by uv into a plain venv that has the bytecode of an import
	imported func() (string, error)
	overlays func() (*overlays, error)
	sizes    map[int]sized // environments by their number of files

	machines []*machine
}

const (
	list   = "integration/testdata/bench.txt"
	python = "3.12" // what the list's wheels are for
)

func newBench(ctx context.Context, o options) (b *bench, err error) {
	b = &bench{options: o, sizes: map[int]sized{}}
	if b.wheels, err = readList(ctx); err != nil {
		return nil, err
	}
	if err := b.findPrograms(ctx); err != nil {
		return nil, err
	}
	if b.dir == "" {
		if b.dir, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
	}
	if b.dir, err = os.MkdirTemp(b.dir, "sitefs-bench-"); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// readList returns the wheels of the environment, all present.
func readList(ctx context.Context) ([]wheelhouse.Wheel, error) {
	root, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}"))
	if err != nil {
		return nil, err
	}
	wheels, err := wheelhouse.ReadList(filepath.Join(root, list))
	if err != nil {
		return nil, err
	}
	return wheels, wheelhouse.Fetch(ctx, wheels, os.Stderr)
}

// findPrograms finds the interpreter and uv behind whatever shims there are.
func (b *bench) findPrograms(ctx context.Context) error {
	py, err := interp.Find(ctx, interp.Request{Python: python}, nil)
	if err != nil {
		return err
	}
	b.python = py.Executable
	// uv tells its children its own path.
	b.uv, err = output(exec.CommandContext(ctx, "uv", "run", "--no-project", "--no-config", "--offline", "--python", b.python, "printenv", "UV"))
	return err
}

func (b *bench) prepare(ctx context.Context) error {
	if err := os.Mkdir(b.path("home"), 0o755); err != nil {
		return err
	}
	if b.sitefs == "" {
		b.sitefs = b.path("sitefs")
		if _, err := output(exec.CommandContext(ctx, "go", "build", "-o", b.sitefs, "github.com/sitefs/sitefs/cmd/sitefs")); err != nil {
			return err
		}
	}
	server, err := wheelhouse.Serve(wheelhouse.Dir())
	if err != nil {
		return err
	}
	b.base = server.URL
	b.lock = b.path("pylock.toml")
	if err := b.writeLock(b.lock, b.wheels); err != nil {
		return errors.Join(err, server.Close())
	}
	b.stocked = sync.OnceValues(func() (*machine, error) { return b.stock(ctx, "stocked", paths(b.wheels)) })
	b.uvCache = sync.OnceValues(func() (string, error) { return b.fillUVCache(ctx, server) })
	b.native = sync.OnceValues(func() (string, error) { return b.installNative(ctx) })
	b.imported = sync.OnceValues(func() (string, error) { return b.firstImported(ctx) })
	b.overlays = sync.OnceValues(func() (*overlays, error) { return b.newOverlays(ctx) })
	return nil
}

func (b *bench) writeLock(file string, wheels []wheelhouse.Wheel) error {
	data, err := wheelhouse.PylockURL(wheels, b.base)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// close leaves nothing behind.
func (b *bench) close() error {
	var errs []error
	for _, m := range b.machines {
		// Not of the run's context, which an interrupt has ended.
		errs = append(errs, m.umountAll(context.Background()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; %s is left", err, b.dir)
	}
	return os.RemoveAll(b.dir)
}

// path returns the path of a name in the bench's folder.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// rounds is how often a row is measured whose sides differ by much.
func (b *bench) rounds() int {
	if b.quick {
		return 3
	}
	return 5
}

// pairs is how often a row is measured whose sides hardly differ.
func (b *bench) pairs() int {
	if b.quick {
		return 3
	}
	return enoughPairs
}

// describe says what is measured on what.
func (b *bench) describe(ctx context.Context) []string {
	said := func(path string, args ...string) string {
		text, err := output(b.command(ctx, path, nil, args...))
		if err != nil {
			return err.Error()
		}
		return text
	}
	load, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	lines := []string{
		fmt.Sprintf("%s, %d cores of %s", time.Now().Format(time.DateTime), runtime.NumCPU(), processor()),
		fmt.Sprintf("%s; %s on %s; load %s", said("uname", "-sr"), b.dir, said("stat", "-f", "-c", "%T", b.dir), load),
		fmt.Sprintf("%s (%s); %s; %s", said(b.sitefs, "--version"), said("git", "describe", "--always", "--dirty"), said(b.uv, "--version"), said(b.python, "--version")),
		fmt.Sprintf("%d wheels of %s", len(b.wheels), list),
	}
	if reclaims() {
		lines = append(lines, "this kernel frees page cache that is not used for a while, with memory to spare (DAMON)")
	}
	return lines
}

// reclaims reports whether the kernel takes page cache ahead of need, which makes
// every side read again, and a mount's kernel ask again, after a pause.
func reclaims() bool {
	states, err := filepath.Glob("/sys/kernel/mm/damon/admin/kdamonds/*/state")
	return err == nil && slices.ContainsFunc(states, func(f string) bool { return firstLine(f) == "on" })
}

func firstLine(file string) string {
	data, _ := os.ReadFile(file) // "" where there is no such file: it is a heading
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo") // as firstLine
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return runtime.GOARCH
}

// command returns a program in the environment that all of them run in: what the
// user has configured would change the figures.
func (b *bench) command(ctx context.Context, path string, env []string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + b.path("home"),
		"LANG=C.UTF-8",
	}, env...)
	return c
}

// output runs a program and returns what it says, without the last newline.
func output(c *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", c, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// timed runs a program and returns how long it took, in seconds.
func timed(c *exec.Cmd) (float64, error) {
	var stderr bytes.Buffer
	c.Stderr = &stderr
	begin := time.Now()
	err := c.Run()
	took := time.Since(begin).Seconds()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", c, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return took, err
}

// syncDisk writes out what a file system has not written yet, and returns how
// long that took, in seconds.
func (b *bench) syncDisk(ctx context.Context, dir string) (float64, error) {
	return timed(b.command(ctx, "sync", nil, "-f", dir))
}

// A side measures one figure in a round of its own names.
type side func(round int) (float64, error)

// settled has a side begin when nothing that others have written is left for it
// to write out.
func (b *bench) settled(ctx context.Context, s side) side {
	return func(round int) (float64, error) {
		if _, err := b.syncDisk(ctx, b.dir); err != nil {
			return 0, err
		}
		return s(round)
	}
}

// interleave has the sides take turns, another one beginning each round, and
// returns the samples of each.
func interleave(ctx context.Context, rounds int, sides ...side) ([][]float64, error) {
	samples := make([][]float64, len(sides))
	for round := range rounds {
		for i := range sides {
			i = (i + round) % len(sides)
			v, err := sides[i](round)
			if err := cmp.Or(ctx.Err(), err); err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], v)
		}
	}
	return samples, nil
}

func paths(wheels []wheelhouse.Wheel) []string {
	p := make([]string, len(wheels))
	for i, w := range wheels {
		p[i] = w.Path()
	}
	return p
}
