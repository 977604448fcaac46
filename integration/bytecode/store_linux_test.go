package bytecode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/manifest/digest"
)

const importDemo = "import demo.work; print(demo.work.double(3))"

// expectWorks imports demo by a mount's interpreter.
func (e *environment) expectWorks(t *testing.T, venv string, flags ...string) {
	t.Helper()
	argv := append(append([]string{interpreter(venv)}, flags...), "-c", importDemo)
	if r, want := e.Run(t, argv...), (sandbox.Result{Stdout: "6\n"}); r != want {
		t.Errorf("%q: %+v, want %+v", argv, r, want)
	}
}

// expectReason checks what a status says about bytecode that there is not.
func (e *environment) expectReason(t *testing.T, venv, want string) {
	t.Helper()
	if got := e.status(t, venv).reasons(); !strings.Contains(got, want) {
		t.Errorf("status says %q, want %q in it", got, want)
	}
}

// On a full disk imports go on without bytecode; there is some when there is room.
func TestFullDisk(t *testing.T) {
	disk := sandbox.Tmpfs(t, "32m")
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	store := filepath.Join(disk, "store")
	e.Setenv("SITEFS_STORE", store)
	venv := e.mount(t, ".venv")
	e.expectWorks(t, venv, "-O") // what need be made at all is made
	before := entries(t, store)

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	e.expectWorks(t, venv)
	e.expectReason(t, venv, "no space left on device")
	if got := entries(t, store); len(got) != len(before) {
		t.Errorf("the full disk has %d files of bytecode, want the %d from before", len(got), len(before))
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	other := e.mount(t, "other")
	e.expectWorks(t, other)
	site := sitePackages(t, other)
	if n := e.same(t, other, filepath.Join(site, "demo"), ""); n != len(demo.Files) {
		t.Errorf("with room again %d sources have bytecode, want %d", n, len(demo.Files))
	}
	e.sweep(t)
}

// fill takes what is free on the file system of a new file.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; block = block[:len(block)/2] {
		for err == nil {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// sweep unmounts all and waits until no process has a file of the store open.
func (e *environment) sweep(t *testing.T) {
	t.Helper()
	e.Must(t, "sitefs", "umount", "--all")
	sandbox.Eventually(t, func() string { return sandbox.Leaks(e.Dir) })
	e.awaitNoCompilers(t)
}

// A store that can't be written to serves the bytecode that it has. Of the rest
// there is none, plainly.
func TestReadOnlyStore(t *testing.T) {
	disk := sandbox.Tmpfs(t, "32m")
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	e.Setenv("SITEFS_STORE", filepath.Join(disk, "store"))
	e.expectWorks(t, e.mount(t, ".venv"))
	e.sweep(t)
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	venv := e.mount(t, ".venv")
	e.expectWorks(t, venv)
	e.expectWorks(t, venv, "-O")
	work := filepath.Join(sitePackages(t, venv), "demo/work.py")
	if !served(t, work, "cpython-312") {
		t.Error("what was compiled before isn't served")
	}
	if served(t, work, "cpython-312.opt-1") {
		t.Error("something was compiled in a store that can't be written to")
	}
	e.expectReason(t, venv, "read-only")
	e.sweep(t)
}

// The same as somebody who may read a store of root's, as a container image has
// it, and no more.
func TestStoreOfRoot(t *testing.T) {
	sandbox.NeedOrdinaryUser(t)
	e := newEnvironment(t, findPython(t, "system"), demo)
	e.expectWorks(t, e.mount(t, ".venv"))
	e.sweep(t)
	before := entries(t, e.Store())
	for _, dir := range []string{"mine", "state"} {
		if err := os.MkdirAll(filepath.Join(e.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e.Must(t, "chmod", "755", ".")
	e.Must(t, "chmod", "-R", "a+rX", "store")
	e.Must(t, "chown", "-R", fmt.Sprintf("%d:%[1]d", sandbox.Nobody), "mine", "state")
	as := func(argv ...string) string {
		t.Helper()
		return e.Must(t, append(sandbox.As(sandbox.Nobody), argv...)...)
	}

	venv := filepath.Join(e.Dir, "mine/.venv")
	as("sitefs", "mount", "-r", "pylock.toml", venv)
	defer as("sitefs", "umount", venv)
	const script = importDemo + `
import os
print(os.path.exists(demo.work.__cached__), os.path.exists(demo.work.__cached__.replace(".pyc", ".opt-1.pyc")))`
	if got, want := as(interpreter(venv), "-c", script), "6\nTrue False\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if said := as("sitefs", "status", venv); !strings.Contains(said, "read-only") {
		t.Errorf("status says %s, want why nothing is compiled", said)
	}
	if got := entries(t, e.Store()); len(got) != len(before) {
		t.Errorf("the store has %d files of bytecode, want the %d from before", len(got), len(before))
	}
}

// Bytecode is gone with the source that it was made of, and a source that isn't
// what its name says has none.
func TestDamagedSource(t *testing.T) {
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), demo)
	venv := e.mount(t, ".venv")
	e.expectWorks(t, venv)
	e.sweep(t)
	d := digest.Of([]byte(demoWork)).String()
	blob := filepath.Join(e.Store(), "blobs", d[:2], d[2:])

	t.Run("changed", func(t *testing.T) {
		rewrite(t, blob, strings.Replace(demoWork, "2 * x", "3 * x", 1))
		venv := e.mount(t, "changed")
		work := filepath.Join(sitePackages(t, venv), "demo/work.py")
		if served(t, work, "cpython-312.opt-1") {
			t.Error("a changed source was compiled")
		}
		e.expectReason(t, venv, "demo/work.py")
		rewrite(t, blob, demoWork)
	})
	t.Run("gone", func(t *testing.T) {
		if err := os.Remove(blob); err != nil {
			t.Fatal(err)
		}
		work := filepath.Join(sitePackages(t, e.mount(t, "gone")), "demo/work.py")
		if served(t, work, "cpython-312") {
			t.Error("there is bytecode of a source that is gone")
		}
	})
}

// Files of bytecode that a power loss tore, or that stand in another's place, are
// made again.
func TestDamagedEntries(t *testing.T) {
	const length = 8
	e := newEnvironment(t, sandbox.PythonVersion(t, "3.12"), chains(1, length))
	e.Must(t, interpreter(e.mount(t, ".venv")), "-c", "import chain0.m0")
	e.sweep(t)
	dir := filepath.Join(e.Store(), "bytecode")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	all := entries(t, e.Store())
	if len(all) != length+1 {
		t.Fatalf("the store has %d files of bytecode, want %d", len(all), length+1)
	}
	foreign := read(all[0])
	for i, name := range all {
		data := read(name)
		switch i {
		case 0:
			data = nil
		case 1:
			data = data[:len(data)-1]
		case 2:
			data = data[:len(data)/2]
		case 3:
			data = append(data, 0)
		case 4:
			data[len(data)/2] ^= 1
		case 5:
			data = make([]byte, len(data))
		case 6:
			data = foreign
		}
		rewrite(t, filepath.Join(dir, name), string(data))
	}
	venv := e.mount(t, ".venv")
	if n := e.sameAll(t, venv); n != length+1 {
		t.Errorf("%d sources have bytecode, want %d", n, length+1)
	}
	if s := e.status(t, venv).Bytecode; s.Compiled+s.Ahead != 7 || s.Hits < 2 {
		t.Errorf("the status is %+v, want 7 compiled and 2 found", s)
	}
}

// rewrite changes a file of the store, as only a broken disk or root does.
func rewrite(t *testing.T, name, content string) {
	t.Helper()
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0); err != nil {
		t.Fatal(err)
	}
}
