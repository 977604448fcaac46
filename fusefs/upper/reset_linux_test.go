package upper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// topNames returns all names at the top of an upper directory but the side area's.
func topNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != SideDir {
			names = append(names, e.Name())
		}
	}
	return names
}

// layered returns an upper directory with something of every kind at its top.
func layered(t *testing.T) (*Dir, string) {
	t.Helper()
	dir := t.TempDir()
	d := open(t, dir, Options{Base: Base{Tree: "old", Prefix: "/venv"}})
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.MkdirAll(filepath.Join(dir, "dir/below"), 0o755)); err != nil {
		t.Fatal(err)
	}
	gone, err := d.Whiteout(".", "gone")
	if err != nil {
		t.Fatal(err)
	}
	staged, err := d.StageRecord(Record{Name: "moved", Lower: "was"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Do(0, nil, gone, Move(staged, RecordPath(".", "moved"))); err != nil {
		t.Fatal(err)
	}
	return d, dir
}

// TestReset: an empty layer over another tree, in one step.
func TestReset(t *testing.T) {
	d, dir := layered(t)
	if err := d.SetCommitted("new"); err != nil {
		t.Fatal(err)
	}
	if tree, err := d.Committed(); tree != "new" || err != nil {
		t.Errorf("committed is %q, %v", tree, err)
	}
	want := Base{Tree: "new", Prefix: "/venv"}
	if err := d.Reset(want); err != nil {
		t.Fatal(err)
	}
	if names := topNames(t, dir); len(names) > 0 {
		t.Errorf("the layer still has %q", names)
	}
	if tree, err := d.Committed(); tree != "" || err != nil {
		t.Errorf("committed is %q, %v, want nothing", tree, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir, Options{Base: want}); again.Base() != want {
		t.Errorf("the base is %+v, want %+v", again.Base(), want)
	}
}

// TestResetKilled: a layer is emptied with its base, at whatever moment a process is
// killed, and whatever the next one takes it to be over.
func TestResetKilled(t *testing.T) {
	d, dir := layered(t)
	before, full := d.Base(), topNames(t, dir)
	after := Base{Tree: "new", Prefix: "/venv"}
	moments := 0
	idle := []string{"made 0", "written 0", "end 0"} // what is made is the new base, in tmp
	d.hook = func(moment string) error {
		for _, want := range []Base{{}, before, after} {
			moments++
			killed := filepath.Join(t.TempDir(), "upper")
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			checkInterrupted(t, killed, !slices.Contains(idle, moment))
			d, err := Open(killed, Options{Base: want})
			if errors.Is(err, ErrBase) {
				d, err = Open(killed, Options{})
			}
			if err != nil {
				t.Errorf("killed at %q, opened over %q: %v", moment, want.Tree, err)
				continue
			}
			names := topNames(t, killed)
			if base := d.Base(); base != before && base != after || base == before && !slices.Equal(names, full) || base == after && len(names) > 0 {
				t.Errorf("killed at %q, opened over %q: over %q with %q", moment, want.Tree, base.Tree, names)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			checkInterrupted(t, killed, false)
		}
		return nil
	}
	if err := d.Reset(after); err != nil {
		t.Fatal(err)
	}
	if moments == 0 {
		t.Error("no moment was tried")
	}
}

// checkInterrupted holds what Interrupted says of a directory that nobody has open.
func checkInterrupted(t *testing.T, dir string, want bool) {
	t.Helper()
	d, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	have, err := d.Interrupted()
	if err := errors.Join(err, d.Close()); err != nil || have != want {
		t.Errorf("interrupted: %v, %v, want %v", have, err, want)
	}
}

// TestRevert: some paths are as the lower has them again, all or none of them.
func TestRevert(t *testing.T) {
	d, dir := layered(t)
	before := topNames(t, dir)
	if err := d.Revert("file", "untouched"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reverting what was not changed: %v", err)
	}
	if err := d.Revert("dir/untouched/below"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reverting below what was not changed: %v", err)
	}
	if err := d.Revert(".wh.gone"); err == nil {
		t.Error("a name of the format's own was reverted")
	}
	if after := topNames(t, dir); !slices.Equal(after, before) {
		t.Errorf("a refused revert left %q of %q", after, before)
	}
	if err := d.Revert("file", "dir", "gone", "moved"); err != nil {
		t.Fatal(err)
	}
	if names := topNames(t, dir); len(names) > 0 {
		t.Errorf("the layer still has %q", names)
	}
}

// TestSetCommittedTogether: several at once, beside sessions that begin, leave what
// one of them said.
func TestSetCommittedTogether(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	trees := []string{strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)}
	for _, tree := range trees {
		group.Go(func() error {
			d, err := OpenReadOnly(dir)
			for range 20 {
				err = errors.Join(err, d.SetCommitted(tree))
			}
			return errors.Join(err, d.Close())
		})
	}
	for range 20 {
		d, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := d.Committed()
		if tree != "" && !slices.Contains(trees, tree) {
			t.Errorf("committed is %q, %v", tree, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}
