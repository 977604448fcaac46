package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/sitefs/sitefs/integration/wheelhouse"
)

const (
	ours          = 0 // the index of sitefs among the kinds
	plainVenv     = "plain venv"
	fuseOverlayfs = "fuse-overlayfs"
)

// overlays make environments that can be written to: the same packages and the same
// pip in each.
type overlays struct {
	b     *bench
	m     *machine // sitefs's
	lock  string   // of what is installed
	plain string   // the same in a plain venv, files of its own and no bytecode
	tried string   // a small wheel for pip to try itself on

	kinds   []kind
	closers []func() error
}

// A kind is a way to have an environment that can be written to. Open makes one at
// venv, which may use the new directory own, and returns what ends it, which
// removes nothing.
type kind struct {
	name string
	open func(ctx context.Context, venv, own string) (end func() error, err error)
}

// newOverlays finds out which kinds there are here.
func (b *bench) newOverlays(ctx context.Context) (*overlays, error) {
	wheels, err := b.choose(scientific)
	if err != nil {
		return nil, err
	}
	o := &overlays{b: b, lock: b.path("overlay.toml"), plain: b.path("overlay-plain")}
	if err := b.writeLock(o.lock, wheels); err != nil {
		return nil, err
	}
	if o.m, err = b.stock(ctx, "overlay", paths(wheels)); err != nil {
		return nil, err
	}
	b.logf("    a plain venv of %d wheels and pip", len(wheels))
	if err := b.installPlain(ctx, o.plain, wheels); err != nil {
		return nil, err
	}
	tried, err := wheelhouse.Write(b.dir, made("tried", 0, 1))
	if err != nil {
		return nil, err
	}
	o.tried = b.path(tried.Filename)
	o.kinds = []kind{{"sitefs", o.openSitefs}, {plainVenv, o.openCopy}}
	if os.Geteuid() == 0 {
		o.kinds = append(o.kinds, kind{"kernel overlayfs", o.openKernel})
	} else {
		b.logf("    left out, needs root: kernel overlayfs")
	}
	if _, err := exec.LookPath(fuseOverlayfs); err == nil {
		o.kinds = append(o.kinds, kind{fuseOverlayfs, o.openFuse})
	} else {
		b.logf("    left out, not installed: %s", fuseOverlayfs)
	}
	return o, nil
}

// installPlain makes a venv as sitefs makes one for an overlay, with the pip that
// the interpreter brings along.
func (b *bench) installPlain(ctx context.Context, dir string, wheels []wheelhouse.Wheel) error {
	const bundled = "import ensurepip, glob, os; print(*glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), '_bundled', 'pip-*.whl')))"
	pip, err := output(b.command(ctx, b.python, nil, "-c", bundled))
	if err != nil {
		return err
	}
	cache := b.path("overlay-uv-cache")
	if _, err := b.uvVenv(ctx, cache, dir); err != nil {
		return err
	}
	args := []string{"pip", "install", "--quiet", "--offline", "--no-deps", "--link-mode", "copy", "--python", filepath.Join(dir, "bin", "python"), pip}
	_, err = timed(b.uvCommand(ctx, cache, append(args, paths(wheels)...)...))
	return err
}

// open makes an environment of the k-th kind.
func (o *overlays) open(ctx context.Context, k int, name string) (venv string, end func() error, err error) {
	own := o.b.path(fmt.Sprintf("overlay-%s-%d", name, k))
	venv = filepath.Join(own, "venv")
	if err := os.Mkdir(own, 0o755); err != nil {
		return "", nil, err
	}
	end, err = o.kinds[k].open(ctx, venv, own)
	return venv, end, err
}

// openAll makes one of each kind, until close.
func (o *overlays) openAll(ctx context.Context, name string) ([]string, error) {
	var venvs []string
	for k := range o.kinds {
		venv, end, err := o.open(ctx, k, name)
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, end)
		venvs = append(venvs, venv)
	}
	return venvs, nil
}

// openForPip makes an environment with no bytecode but pip's.
func (o *overlays) openForPip(ctx context.Context, k int, name string) (venv string, end func() error, err error) {
	if k == ours {
		if err := o.m.forget(); err != nil {
			return "", nil, err
		}
	}
	if venv, end, err = o.open(ctx, k, name); err != nil {
		return "", nil, err
	}
	for _, args := range [][]string{{"install", "--quiet", "--no-index", o.tried}, {"uninstall", "--quiet", "--yes", "tried"}} {
		if _, err := timed(o.b.pip(ctx, venv, args...)); err != nil {
			return "", nil, errors.Join(err, end())
		}
	}
	return venv, end, nil
}

// close ends what openAll has made, the last first: a mapped file keeps a mount
// busy.
func (o *overlays) close() error {
	var errs []error
	for _, end := range slices.Backward(o.closers) {
		errs = append(errs, end())
	}
	o.closers = nil
	return errors.Join(errs...)
}

// asked returns what is asked of an environment while something is done, nil where
// nobody counts it.
func (o *overlays) asked(ctx context.Context, k int, venv string, do func() error) (map[string]int64, error) {
	if k == ours {
		return o.m.asked(ctx, venv, do)
	}
	return nil, do()
}

func (o *overlays) openSitefs(ctx context.Context, venv, own string) (func() error, error) {
	_, err := o.m.mount(ctx, o.lock, venv, "--overlay", filepath.Join(own, "upper"))
	// Not of the run's context, which an interrupt has ended.
	return func() error { return o.m.umount(context.Background(), venv) }, err
}

func (o *overlays) openCopy(ctx context.Context, venv, own string) (func() error, error) {
	_, err := timed(o.b.command(ctx, "cp", nil, "--archive", o.plain, venv))
	return func() error { return nil }, err
}

func (o *overlays) openKernel(ctx context.Context, venv, own string) (func() error, error) {
	return o.mountOver(ctx, venv, own, func(options string) []string {
		return []string{"mount", "-t", "overlay", "overlay", "-o", options, venv}
	})
}

func (o *overlays) openFuse(ctx context.Context, venv, own string) (func() error, error) {
	return o.mountOver(ctx, venv, own, func(options string) []string {
		return []string{fuseOverlayfs, "-o", options, venv}
	})
}

// mountOver mounts an overlay over the plain venv, by the command for some options.
func (o *overlays) mountOver(ctx context.Context, venv, own string, command func(options string) []string) (func() error, error) {
	upper, work := filepath.Join(own, "upper"), filepath.Join(own, "work")
	for _, dir := range []string{venv, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	c := command(fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", o.plain, upper, work))
	if _, err := timed(o.b.command(ctx, c[0], nil, c[1:]...)); err != nil {
		return nil, err
	}
	unmount := []string{"umount", venv}
	if os.Geteuid() != 0 {
		unmount = []string{"fusermount3", "-u", venv}
	}
	return func() error {
		_, err := timed(o.b.command(context.Background(), unmount[0], nil, unmount[1:]...))
		return err
	}, nil
}
