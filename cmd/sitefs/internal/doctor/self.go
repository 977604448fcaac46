package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sitefs/sitefs/store"
)

// A trial uses sitefs as its users do, in a folder where nothing else happens: with a
// store of its own, and two versions of one package.
type trial struct {
	program string
	dir     string
	lock    *os.File // on dir
	old     wheelFile
	new     wheelFile
}

// Self tries whether the program sitefs keeps its promises where environments are to
// be: an environment is made, a file that can't be read and kills come in the way, and
// verify finds what was done to it. The checks are what to paste somewhere; they name
// the system, and not the user. Without an error the folder that it took is gone, and
// so are those of trials that were killed.
func (m *Machine) Self(ctx context.Context, program string) (checks []Check, err error) {
	parent := m.existing(m.Dir)
	if err := sweepFolders(parent); err != nil {
		return nil, fmt.Errorf("sweep up after a trial that was killed: %w", err)
	}
	dir, lock, err := takeFolder(parent)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), lock.Close()) }()
	t := trial{program: program, dir: dir, lock: lock}
	if t.old, err = writeWheel(dir, "1.0"); err != nil {
		return nil, err
	}
	if t.new, err = writeWheel(dir, "2.0"); err != nil {
		return nil, err
	}
	checks = []Check{{
		Name:   "self",
		Status: OK,
		Found:  fmt.Sprintf("sitefs %s, %s, %s/%s, %s", m.Version, runtime.Version(), m.OS, runtime.GOARCH, m.Kernel),
		Wanted: "a version to tell of",
	}}
	for _, step := range []struct {
		name, wanted string
		try          func(context.Context) (Status, string, error)
	}{
		{"self: make", "an environment, by clone", t.make},
		{"self: failure", "the old environment, whole, after an error", t.fail},
		{"self: kill", "the old environment or the new one after a kill", t.kill},
		{"self: verify", "what is missing, changed or a conflict copy, found and repaired", t.verify},
	} {
		c := Check{Name: step.name, Wanted: step.wanted}
		if c.Status, c.Found, err = step.try(ctx); err != nil {
			c.Status, c.Found, c.Fix = Failure, err.Error(), "please report this, with `sitefs doctor --report`"
		}
		c.Found = m.scrub(c.Found, []string{dir, program})
		checks = append(checks, c)
		if err != nil {
			break // the next one begins where this one ends
		}
	}
	return checks, ctx.Err()
}

// env is the environment that the trial is about.
func (t *trial) env() string { return filepath.Join(t.dir, "env") }

// command returns sitefs with a store of its own, for what the trial knows alone.
func (t *trial) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.program, args...)
	cmd.Dir = t.dir
	cmd.ExtraFiles = []*os.File{t.lock} // a kill of the trial alone leaves the folder in use
	cmd.Env = append(os.Environ(), "SITEFS_STORE="+t.store(), "XDG_STATE_HOME="+filepath.Join(t.dir, "state"), "SITEFS_LINK_MODE=", "UV_LINK_MODE=")
	return cmd
}

func (t *trial) store() string { return filepath.Join(t.dir, "store") }

// materialize is the command that makes dest of a wheel.
func (t *trial) materialize(ctx context.Context, w wheelFile, dest string) *exec.Cmd {
	return t.command(ctx, "materialize", "--offline", "--json", "--quiet", "-r", w.lock, dest)
}

// say runs a command; where it fails the error says what it said.
func say(cmd *exec.Cmd) (string, error) {
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("sitefs %s: %w: %s", cmd.Args[1], err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// whole compares the environment with what it should be, byte by byte.
func (t *trial) whole(ctx context.Context) error {
	_, err := say(t.command(ctx, "verify", "--deep", t.env()))
	return err
}

// version returns the version of the package in the environment.
func (t *trial) version() (string, error) {
	name, err := t.installed(packageName + "-*.dist-info")
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), packageName+"-"), ".dist-info"), nil
}

// installed returns the path, relative to the trial's folder, of what matches pattern
// in site-packages.
func (t *trial) installed(pattern string) (string, error) {
	found, err := fs.Glob(os.DirFS(t.dir), "env/lib/python*/site-packages/"+pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("found %q, want one %s", found, pattern)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// leftovers returns an error if more than the environment is where it was made.
func (t *trial) leftovers() error {
	left, err := fs.Glob(os.DirFS(t.dir), ".env.sitefs-*")
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind: %q", left)
	}
	return err
}

// make makes the environment of the old version.
func (t *trial) make(ctx context.Context) (Status, string, error) {
	begun := time.Now()
	out, err := say(t.materialize(ctx, t.old, t.env()))
	if err != nil {
		return "", "", err
	}
	took := time.Since(begun).Round(time.Millisecond)
	var report struct {
		Mode, Reason string
		Files        int
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return "", "", fmt.Errorf("sitefs materialize --json printed %q: %w", out, err)
	}
	status := OK
	if report.Mode != "clone" {
		status = Note
	}
	return status, fmt.Sprintf("%d files in %v; %s", report.Files, took, report.Reason), t.whole(ctx)
}

// fail takes a file of the new version out of the store, so that it can't be made, in
// the place of the old one and in none.
func (t *trial) fail(ctx context.Context) (Status, string, error) {
	fresh := filepath.Join(t.dir, "fresh")
	if _, err := say(t.materialize(ctx, t.new, fresh)); err != nil { // all of it is in the store now
		return "", "", err
	}
	s, err := store.Open(t.store(), store.Options{Existing: true})
	if err != nil {
		return "", "", err
	}
	blob := s.BlobPath(t.new.middle)
	if err := errors.Join(s.Close(), os.RemoveAll(fresh), os.Rename(blob, blob+".away")); err != nil {
		return "", "", err
	}
	for _, dest := range []string{t.env(), fresh} {
		if out, err := say(t.materialize(ctx, t.new, dest)); err == nil {
			return "", "", fmt.Errorf("made an environment of which a file can't be read: %s", out)
		}
	}
	if _, err := os.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("half of an environment, where there was none: %v", err)
	}
	version, err := t.version()
	if err == nil && version != t.old.version {
		err = fmt.Errorf("found version %s, want %s", version, t.old.version)
	}
	if err := errors.Join(err, t.whole(ctx), t.leftovers(), os.Rename(blob+".away", blob)); err != nil {
		return "", "", err
	}
	return OK, "the old environment is whole, and nothing is where nothing was", nil
}

// kills is how often a trial kills sitefs: first just after its start, last after one
// and a half of the time that it takes, when it may be done.
const kills = 10

// kill kills sitefs while it writes.
func (t *trial) kill(ctx context.Context) (Status, string, error) {
	begun := time.Now()
	if _, err := say(t.materialize(ctx, t.new, t.env())); err != nil {
		return "", "", err
	}
	took := time.Since(begun)
	versions := map[string]int{}
	for i := range kills {
		if err := t.materializeFor(ctx, took*time.Duration(3*(i+1))/(2*kills), []wheelFile{t.old, t.new}[i%2]); err != nil {
			return "", "", err
		}
		version, err := t.version()
		if err := errors.Join(err, t.whole(ctx)); err != nil {
			return "", "", fmt.Errorf("after kill %d: %w", i+1, err)
		}
		versions[version]++
	}
	_, err := say(t.materialize(ctx, t.new, t.env()))
	found := fmt.Sprintf("after %d kills: version %s whole %d times, version %s whole %d times; the next run left nothing else", kills,
		t.old.version, versions[t.old.version], t.new.version, versions[t.new.version])
	return OK, found, errors.Join(err, t.whole(ctx), t.leftovers())
}

// materializeFor writes a version, and is killed if it takes longer than limit.
func (t *trial) materializeFor(ctx context.Context, limit time.Duration, w wheelFile) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := say(t.materialize(limited, w, t.env()))
	if limited.Err() != nil {
		return ctx.Err()
	}
	return err
}

// verify breaks the environment as syncing services and people do.
func (t *trial) verify(ctx context.Context) (Status, string, error) {
	installed, err := t.installed(packageName)
	if err != nil {
		return "", "", err
	}
	folder := filepath.Join(t.dir, installed)
	missing, changed, conflict := filepath.Join(folder, moduleName(1)), filepath.Join(folder, moduleName(2)), filepath.Join(t.env(), "bin 2")
	err = errors.Join(os.Remove(missing), os.Remove(changed), os.WriteFile(changed, []byte("edited\n"), 0o644), os.Mkdir(conflict, 0o755))
	if err != nil {
		return "", "", err
	}
	out, err := say(t.command(ctx, "verify", t.env()))
	for _, path := range []string{missing, changed, conflict} {
		rel, rerr := filepath.Rel(t.env(), path)
		if rerr != nil || err == nil || !strings.Contains(out, rel) {
			return "", "", fmt.Errorf("verify didn't find %q in %q: %w", rel, out, errors.Join(rerr, err))
		}
	}
	if err := os.Remove(conflict); err != nil {
		return "", "", err
	}
	_, err = say(t.command(ctx, "verify", "--repair", "--offline", t.env()))
	return OK, "found a missing file, a changed one and a conflict copy, and repaired", errors.Join(err, t.whole(ctx))
}
