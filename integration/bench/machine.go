package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// A machine has a store and mounts of its own.
type machine struct {
	b      *bench
	dir    string
	sitefs string // the program
}

func (b *bench) machine(name string) (*machine, error) {
	m := &machine{b, b.path(name), b.sitefs}
	b.machines = append(b.machines, m)
	return m, os.Mkdir(m.dir, 0o755)
}

// stock returns a machine whose store has the wheels.
func (b *bench) stock(ctx context.Context, name string, wheels []string) (*machine, error) {
	b.logf("    a store: %s", name)
	m, err := b.machine(name)
	if err != nil {
		return nil, err
	}
	_, err = timed(m.command(ctx, append([]string{"add"}, wheels...)...))
	return m, err
}

func (m *machine) store() string { return filepath.Join(m.dir, "store") }

func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	return m.b.command(ctx, m.sitefs, []string{
		"SITEFS_STORE=" + m.store(),
		"XDG_STATE_HOME=" + filepath.Join(m.dir, "state"),
	}, args...)
}

// run returns the command that runs another one in the environment of a lock file.
func (m *machine) run(ctx context.Context, lock string, command ...string) *exec.Cmd {
	return m.command(ctx, append([]string{"run", "--offline", "--python", m.b.python, "-r", lock, "--"}, command...)...)
}

func (m *machine) runTrue(ctx context.Context, lock string) *exec.Cmd {
	return m.run(ctx, lock, "true")
}

// mount mounts the environment of a lock file and returns how long it took, in
// seconds.
func (m *machine) mount(ctx context.Context, lock, dir string, flags ...string) (float64, error) {
	args := append([]string{"mount", "--offline", "--python", m.b.python, "-r", lock}, flags...)
	return timed(m.command(ctx, append(args, dir)...))
}

func (m *machine) umount(ctx context.Context, dir string) error {
	_, err := timed(m.command(ctx, "umount", dir))
	return err
}

func (m *machine) umountAll(ctx context.Context) error {
	_, err := timed(m.command(ctx, "umount", "--all"))
	return err
}

func (m *machine) status(ctx context.Context, dir string) (mount.Status, error) {
	var s mount.Status
	text, err := output(m.command(ctx, "status", "--json", dir))
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// mounted mounts everything for the time of an experiment. The caller unmounts.
func (b *bench) mounted(ctx context.Context, name string) (m *machine, dir string, err error) {
	if m, err = b.stocked(); err != nil {
		return nil, "", err
	}
	dir = b.path(name)
	_, err = m.mount(ctx, b.lock, dir)
	return m, dir, err
}

// uvCommand returns uv with a cache. It never asks for a Python or an index.
func (b *bench) uvCommand(ctx context.Context, cache string, args ...string) *exec.Cmd {
	return b.command(ctx, b.uv, []string{"UV_CACHE_DIR=" + cache, "UV_PYTHON_DOWNLOADS=never", "UV_NO_CONFIG=1"}, args...)
}

// uvVenv makes an empty venv and returns how long it took, in seconds.
func (b *bench) uvVenv(ctx context.Context, cache, dir string) (float64, error) {
	return timed(b.uvCommand(ctx, cache, "venv", "--quiet", "--python", b.python, dir))
}

// uvSync puts the wheels of a lock file into a venv and returns how long it took,
// in seconds.
func (b *bench) uvSync(ctx context.Context, cache, dir, lock string, flags ...string) (float64, error) {
	args := append([]string{"pip", "sync", "--quiet", "--python", filepath.Join(dir, "bin", "python")}, flags...)
	return timed(b.uvCommand(ctx, cache, append(args, lock)...))
}

func (b *bench) fillUVCache(ctx context.Context, server *wheelhouse.Server) (string, error) {
	b.logf("    a uv cache with all wheels")
	cache, venv := b.path("uv-cache"), b.path("uv-fill")
	if _, err := b.uvVenv(ctx, cache, venv); err != nil {
		return "", err
	}
	if _, err := b.uvSync(ctx, cache, venv, b.lock); err != nil {
		return "", err
	}
	return cache, server.Close()
}

// uvMakes makes a venv of a lock file from a cache that has everything, as uv
// does by default, and returns how long both commands took, in seconds.
func (b *bench) uvMakes(ctx context.Context, dir, lock string, flags ...string) (float64, error) {
	cache, err := b.uvCache()
	if err != nil {
		return 0, err
	}
	venv, err := b.uvVenv(ctx, cache, dir)
	if err != nil {
		return 0, err
	}
	sync, err := b.uvSync(ctx, cache, dir, lock, append(flags, "--offline")...)
	return venv + sync, err
}

// installNative copies everything into a venv: files of its own, as a first
// installation has them.
func (b *bench) installNative(ctx context.Context) (string, error) {
	cache, err := b.uvCache()
	if err != nil {
		return "", err
	}
	b.logf("    a venv with all wheels, copied")
	dir := b.path("native")
	if _, err := b.uvVenv(ctx, cache, dir); err != nil {
		return "", err
	}
	if _, err := b.uvSync(ctx, cache, dir, b.lock, "--offline", "--link-mode", "copy"); err != nil {
		return "", err
	}
	_, err = b.syncDisk(ctx, dir)
	return dir, err
}

// firstImported makes a venv as uv does by default and imports in it once, so that
// it has the bytecode.
func (b *bench) firstImported(ctx context.Context) (string, error) {
	b.logf("    a venv with all wheels, linked, and bytecode")
	dir := b.path("imported")
	if _, err := b.uvMakes(ctx, dir, b.lock); err != nil {
		return "", err
	}
	_, err := b.imports(ctx, dir, large)
	return dir, err
}

// numbered returns name-i.
func numbered(name string, i int) string { return name + "-" + strconv.Itoa(i) }
