package bytecode

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

var (
	killRounds = flag.Int("kills", 6, "how many imports TestKills disturbs")
	killSeed   = flag.Uint64("killseed", uint64(time.Now().UnixNano()), "what decides when TestKills kills what")
)

// withInstallation returns an environment for a copy of an interpreter that lies
// in its home: what runs from it is the test's own, and may be broken.
func withInstallation(t *testing.T, specs ...wheelhouse.Spec) (e *environment, original string) {
	t.Helper()
	original = sandbox.PythonVersion(t, "3.12")
	e = newEnvironment(t, original, specs...)
	e.python = e.install(t, original, "python3.12")
	e.Setenv("SITEFS_PYTHON", e.python)
	return e, original
}

// install puts an interpreter into the home's own installation under a name, and
// its standard library beside it.
func (e *environment) install(t *testing.T, original, name string) string {
	t.Helper()
	program, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	path := e.script(t, "py/bin/"+name, string(program))
	lib := filepath.Join("lib", filepath.Base(original))
	if err := os.MkdirAll(filepath.Join(e.Dir, "py/lib"), 0o777); err != nil {
		t.Fatal(err)
	}
	err = os.Symlink(filepath.Join(filepath.Dir(original), "..", lib), filepath.Join(e.Dir, "py", lib))
	if err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return path
}

// script writes a program, in the place of one that may be running.
func (e *environment) script(t *testing.T, name, text string) string {
	t.Helper()
	written := e.Write(t, name+".new", text)
	if err := os.Chmod(written, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(e.Dir, name)
	if err := os.Rename(written, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// chains are packages of modules that import one another, one for each round of
// a test: none has been asked for before its round.
func chains(n, length int) wheelhouse.Spec {
	files := make(map[string]string)
	for i := range n {
		maps.Copy(files, modules(fmt.Sprintf("chain%d", i), length, 25))
	}
	return wheelhouse.Spec{Name: "chains", Version: "1.0", Files: files}
}

// Workers, compiler hosts and compilers that are killed at any moment leave nothing
// that is wrong, and no import fails.
func TestKills(t *testing.T) {
	const length = 30
	t.Logf("-killseed %d", *killSeed)
	random := rand.New(rand.NewPCG(*killSeed, 0))
	e, _ := withInstallation(t, chains(*killRounds, length))
	kills := 0
	for round := range *killRounds {
		// A mount that saw its compilers die asks for no more for a while: a new
		// one does, and finds what the last left behind.
		venvs := []string{e.mount(t, "one"), e.mount(t, "two")}
		done := make(chan struct{})
		var imports []*sandbox.Command
		for _, venv := range venvs {
			imports = append(imports, e.Start(t, e.Dir, interpreter(venv), "-c", fmt.Sprintf("import chain%d.m0", round)))
		}
		go func() {
			defer close(done)
			for i, c := range imports {
				if err := c.Wait(); err != nil {
					t.Errorf("round %d, import in %s: %v\n%s", round, venvs[i], err, &c.Said)
				}
			}
		}()
		kills += e.killUntil(t, done, random)
		for _, venv := range venvs {
			e.same(t, venv, filepath.Join(sitePackages(t, venv), fmt.Sprintf("chain%d", round)), "")
		}
		e.Must(t, append([]string{"sitefs", "umount"}, venvs...)...)
	}
	t.Logf("%d kills", kills)
	if kills == 0 {
		t.Error("nothing was killed")
	}
	if n, want := e.sameAll(t, e.mount(t, "three")), (length+1)**killRounds; n != want {
		t.Errorf("in a new mount %d sources have bytecode, want %d", n, want)
	}
}

// killUntil kills workers, compiler hosts and compilers at random until done is
// closed, and returns how many.
func (e *environment) killUntil(t *testing.T, done <-chan struct{}, random *rand.Rand) int {
	t.Helper()
	kills := 0
	for {
		select {
		case <-done:
			return kills
		case <-time.After(time.Duration(random.Int64N(int64(20 * time.Millisecond)))):
		}
		servers, err := sandbox.Servers(e.Dir)
		if err != nil {
			t.Error(err)
		}
		workers := slices.DeleteFunc(servers, func(p sandbox.Process) bool { return !p.Is("mount-worker") })
		victims := slices.Concat(workers, hosts(t, e.Dir), compilers(t, e.Dir))
		if len(victims) == 0 {
			continue
		}
		if syscall.Kill(victims[random.IntN(len(victims))].PID, syscall.SIGKILL) == nil {
			kills++
		}
	}
}

// sameAll is same for all of site-packages.
func (e *environment) sameAll(t *testing.T, venv string) int {
	t.Helper()
	return e.same(t, venv, sitePackages(t, venv), "")
}

// A server that is killed while it waits for bytecode takes its compilers with it.
// What the next one serves is right.
func TestServerKilledMeanwhile(t *testing.T) {
	const length = 60
	e, _ := withInstallation(t, chains(1, length))
	venv := e.mount(t, ".venv")
	importing := e.Start(t, e.Dir, interpreter(venv), "-c", "import chain0.m0")
	sandbox.Eventually(t, func() string {
		if len(entries(t, e.Store())) == 0 {
			return "nothing is compiled"
		}
		return ""
	})
	if err := syscall.Kill(e.status(t, venv).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	importing.Wait() // it may have been done, or fail with the mount
	e.awaitNoCompilers(t)
	e.mount(t, ".venv")
	e.Must(t, interpreter(venv), "-c", "import chain0.m0")
	if n := e.sameAll(t, venv); n != length+1 {
		t.Errorf("%d sources have bytecode, want %d", n, length+1)
	}
}
