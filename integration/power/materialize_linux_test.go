package power

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/digest"
)

// bin holds the program, python is the interpreter to use.
var bin, python string

func TestMain(m *testing.M) {
	sandbox.MountsAlone()
	sandbox.Main(m, &bin, &python)
}

// linkModes are those that a file system has.
var linkModes = map[string][]string{
	"ext4":  {"copy", "symlink", "hardlink"},
	"xfs":   {"clone", "hardlink", "symlink"},
	"btrfs": {"clone", "copy", "symlink"},
}

// Whenever the power goes, an environment is the old one or the new one, whole,
// and the new one as soon as the program has said so.
func TestMaterialize(t *testing.T) {
	sandbox.NeedSitefs(t)
	eachFileSystem(t, func(t *testing.T, fs fileSystem) {
		modes := linkModes[fs.name]
		for _, mode := range modes {
			t.Run(mode+", over an old one", func(t *testing.T) { testLosses(t, fs, &environment{mode: mode, over: true}) })
		}
		t.Run(modes[0], func(t *testing.T) { testLosses(t, fs, &environment{mode: modes[0]}) })
		last := modes[len(modes)-1]
		t.Run(last+", with its store", func(t *testing.T) { testLosses(t, fs, &environment{mode: last, withStore: true}) })
	})
}

func testLosses(t *testing.T, fs fileSystem, e *environment) {
	e.wheels = t.TempDir()
	e.writeLocks(t)
	s := record(t, fs, e.prepare, e.run)
	for _, err := range s.losses(t, e.check) {
		t.Error(err)
	}
	s.wantDeafLosses(t, e.check)
}

// An environment is one that the program makes on the disk, where the store is too.
type environment struct {
	mode      string
	over      bool   // over an old one
	withStore bool   // and what it needs of the store comes in the same run
	wheels    string // a directory of wheels and locks, on no disk that loses power
	old, new  sandbox.Snapshot
}

// writeLocks writes old.toml and new.toml. From one to the other a wheel changes,
// one comes and one stays.
func (e *environment) writeLocks(t *testing.T) {
	t.Helper()
	pin := func(name, version string) wheelhouse.Wheel {
		s := wheelhouse.Spec{Name: name, Version: version, Files: map[string]string{}, Console: map[string]string{name: name + ":main"}}
		for i := range 10 {
			s.Files[fmt.Sprintf("%s/m%d.py", name, i)] = fmt.Sprintf("version = %q\nnumber = %d\n", version, i)
			s.Files[fmt.Sprintf("%s/d%d/data", name, i)] = strings.Repeat(fmt.Sprint(name, version, i), 1000*i)
		}
		w, err := wheelhouse.Write(e.wheels, s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for name, pins := range map[string][]wheelhouse.Wheel{
		"old.toml": {pin("changes", "1.0"), pin("stays", "1.0")},
		"new.toml": {pin("changes", "2.0"), pin("comes", "1.0"), pin("stays", "1.0")},
	} {
		lock, err := wheelhouse.PylockPath(pins, e.wheels)
		if err == nil {
			err = os.WriteFile(filepath.Join(e.wheels, name), lock, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// materialize has the program make an environment on the file system at dir.
func (e *environment) materialize(dir, lock, target string) error {
	c := exec.Command(filepath.Join(bin, "sitefs"), "materialize", "-r", filepath.Join(e.wheels, lock), "--link-mode", e.mode, filepath.Join(dir, target))
	c.Dir, c.Env = e.wheels, sandbox.Environ(dir, bin, python)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w\n%s", c.Args, err, out)
	}
	return nil
}

// prepare makes the new environment, to know it, and then the old one in its
// place, or leaves nothing.
func (e *environment) prepare(dir string) (err error) {
	if err := e.materialize(dir, "new.toml", "venv"); err != nil {
		return err
	}
	if e.new, err = e.take(dir); err != nil {
		return err
	}
	if e.withStore {
		err = os.RemoveAll(filepath.Join(dir, "store"))
	}
	if !e.over {
		return errors.Join(err, os.RemoveAll(filepath.Join(dir, "venv")))
	}
	if err := e.materialize(dir, "old.toml", "venv"); err != nil {
		return err
	}
	e.old, err = e.take(dir)
	return err
}

// run makes the new environment over the old one.
func (e *environment) run(dir string) error { return e.materialize(dir, "new.toml", "venv") }

func (e *environment) check(dir string, done bool) error {
	now, err := e.take(dir)
	if err != nil {
		return err
	}
	why := now.Differ(e.new)
	if why == "" || !done && now.Differ(e.old) == "" {
		return e.checkBlobs(dir, now)
	}
	return fmt.Errorf("the environment is not the new one: %s", why)
}

// checkBlobs reads the blobs that an environment leads to. Their paths are their
// digests.
func (e *environment) checkBlobs(dir string, venv sandbox.Snapshot) error {
	blobs, read := "-> "+filepath.Join(dir, "store", "blobs")+"/", 0
	for path, what := range venv {
		name, ok := strings.CutPrefix(what, blobs)
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, ", of ")
		content, err := os.ReadFile(filepath.Join(dir, "venv", path))
		if err != nil {
			return err
		}
		if found := digest.Of(content).String(); found != strings.ReplaceAll(name, "/", "") {
			return fmt.Errorf("%q leads to blob %s, whose digest is %s", path, name, found)
		}
		read++
	}
	if read == 0 && e.mode == "symlink" && len(venv) > 0 {
		return errors.New("an environment of symlinks leads to no blob")
	}
	return nil
}

// take returns what is at the target: nothing at all is an empty snapshot. A store
// gives a tree the time at which it first came.
func (e *environment) take(dir string) (sandbox.Snapshot, error) {
	if _, err := os.Lstat(filepath.Join(dir, "venv")); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	const mark = ".sitefs-venv" // says when it was made
	leave := func(path string) bool { return path == mark }
	return sandbox.TakeDated(filepath.Join(dir, "venv"), leave, func(string) bool { return !e.withStore })
}
