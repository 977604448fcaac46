// Package overlay tests environments that can be written to, on real mounts of the
// built program: that they are a Linux file system like any other, that what
// people do in one ends as it does on ext4, and that no kill, at whatever moment,
// leaves a tree that nobody made.
//
// The short forms run always; -ops, -runs and -every make them long.
package overlay

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/integration/posix"
	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
)

// bin holds the program under test.
var bin string

func TestMain(m *testing.M) {
	sandbox.MountsAlone()
	sandbox.Main(m, &bin, nil)
}

// An overlay is one over an environment of made wheels, in a home of its own.
type overlay struct {
	*sandbox.Home
	venv  string // where it is mounted
	upper string
	site  string // the mount's site-packages
	flags []string
}

// newOverlay returns an overlay that is not mounted yet.
func newOverlay(t *testing.T, uid int, specs ...wheelhouse.Spec) *overlay {
	t.Helper()
	sandbox.NeedSitefs(t)
	python, err := filepath.EvalSymlinks(sandbox.SystemPython)
	if err != nil {
		t.Skipf("needs an interpreter that every user can run: %v", err)
	}
	if uid != os.Getuid() {
		sandbox.NeedOrdinaryUser(t)
	}
	o := &overlay{Home: sandbox.NewHome(t, bin, python)}
	o.Setenv("SITEFS_PYTHON", python)
	o.venv, o.upper = filepath.Join(o.Dir, "venv"), filepath.Join(o.Dir, "upper")
	o.site = filepath.Join(o.venv, "lib", filepath.Base(python), "site-packages")
	wheels := filepath.Join(o.Dir, "wheels")
	if err := os.Mkdir(wheels, 0o777); err != nil {
		t.Fatal(err)
	}
	var pinned []wheelhouse.Wheel
	for _, s := range specs {
		w, err := wheelhouse.Write(wheels, s)
		if err != nil {
			t.Fatal(err)
		}
		pinned = append(pinned, w)
	}
	lock, err := wheelhouse.PylockPath(pinned, "wheels")
	if err != nil {
		t.Fatal(err)
	}
	o.Write(t, "pylock.toml", string(lock))
	if uid == 0 {
		o.flags = []string{"--allow-other"} // root's threads become others
		if err := os.Chmod(o.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
	} else if uid != os.Getuid() {
		o.GiveTo(t, uid)
	}
	return o
}

// words is the command line that mounts the overlay.
func (o *overlay) words() []string {
	words := append([]string{"sitefs", "mount", "-r", "pylock.toml", "--overlay", o.upper}, o.flags...)
	return append(words, o.venv)
}

func (o *overlay) mount(t *testing.T) {
	t.Helper()
	o.Must(t, o.words()...)
}

func (o *overlay) umount(t *testing.T) {
	t.Helper()
	o.Must(t, "sitefs", "umount", o.venv)
}

func (o *overlay) remount(t *testing.T) {
	t.Helper()
	o.umount(t)
	o.mount(t)
}

// killWorker kills what serves the mount, which gets another.
func (o *overlay) killWorker(t *testing.T) {
	t.Helper()
	servers, err := sandbox.Servers(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range servers {
		if p.Is("mount-worker") {
			sandbox.Kill(t, p.PID)
		}
	}
}

// killAll kills all that serve the mount, first who would notice.
func (o *overlay) killAll(t *testing.T) {
	t.Helper()
	for _, verb := range []string{"mount-server", "mount-worker"} {
		servers, err := sandbox.Servers(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range servers {
			if p.Is(verb) {
				sandbox.Kill(t, p.PID)
			}
		}
	}
}

// dropNames has the kernel forget the names of the mount that nobody uses, and
// ask again.
func (o *overlay) dropNames(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	if err := unix.Mount("", o.venv, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		t.Errorf("remounting: %v", err)
	}
}

// users are those that a test is run as.
func users(t *testing.T, f func(t *testing.T, uid int)) {
	t.Run("root", func(t *testing.T) {
		sandbox.NeedRoot(t, "for mount(2)")
		f(t, 0)
	})
	t.Run("user", func(t *testing.T) {
		uid := os.Getuid()
		if uid == 0 {
			uid = sandbox.Nobody
		}
		f(t, uid)
	})
}

// spec is a wheel of a folder of files.
func spec(folder string, files map[string]string) wheelhouse.Spec {
	members := make(map[string]string)
	for name, content := range files {
		members[folder+"/"+name] = content
	}
	return wheelhouse.Spec{Name: folder, Version: "1.0", Files: members}
}

// numbered is a wheel of so many folders with the same files.
func numbered(folder string, n int, files map[string]string) wheelhouse.Spec {
	members := make(map[string]string)
	for i := range n {
		maps.Copy(members, spec(fmt.Sprintf("%s/%04d", folder, i), files).Files)
	}
	return wheelhouse.Spec{Name: folder, Version: "1.0", Files: members}
}

// only chooses the cases of TestPOSIX.
var only = flag.String("only", "", "run the cases of TestPOSIX whose names begin with `PREFIX`")

// Every rule that ext4 keeps, an overlay keeps, over files from wherever.
func TestPOSIX(t *testing.T) {
	users(t, func(t *testing.T, uid int) {
		o := newOverlay(t, uid, spec("cases", posix.LowerFiles(posix.Cases())))
		o.mount(t)
		p := posix.Place{
			Dir: filepath.Join(o.venv, "made"), UID: uid, GID: uid, LowerDir: filepath.Join(o.site, "cases"), Outside: o.Dir,
			Others: uid == 0, NoDevices: true, NoACL: true, NoTrusted: true,
		}
		o.Must(t, "mkdir", p.Dir)
		for _, origin := range posix.Origins() {
			t.Run(string(origin), func(t *testing.T) {
				for _, k := range posix.Cases() {
					if !p.For(k, origin) || !strings.HasPrefix(k.Name, *only) || k.Large && uid != os.Getuid() {
						continue
					}
					t.Run(k.Name, func(t *testing.T) {
						for _, said := range p.Try(k, origin) {
							t.Error(said)
						}
					})
				}
			})
		}
	})
}
