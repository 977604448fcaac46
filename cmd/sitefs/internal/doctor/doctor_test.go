package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/materialize"
)

// healthy returns a machine on which all is well: Ada's.
func healthy(goos string) *Machine {
	home := "/home/ada"
	if goos == "darwin" {
		home = "/Users/ada"
	}
	place := materialize.Place{Type: "btrfs", Device: "0:45"}
	return &Machine{
		OS:      goos,
		Version: "v1.2.3",
		Kernel:  "Linux 6.18.0 #1 SMP",
		UID:     1000,
		Home:    home,
		User:    "ada",
		Host:    "engine.example.com",
		Dir:     home + "/project",
		Store:   home + "/.cache/sitefs",
		Files: fstest.MapFS{
			"dev/fuse":                           {Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666},
			"usr/bin/fusermount3":                {Mode: fs.ModeSetuid | 0o755},
			"etc/fuse.conf":                      {Data: []byte("# comment\nuser_allow_other\n")},
			"etc/os-release":                     {Data: []byte("NAME=\"Debian\"\nPRETTY_NAME=\"Debian 13\"\n")},
			home[1:] + "/project/pyproject.toml": {},
			home[1:] + "/.cache/sitefs/FORMAT":   {},
		},
		Getenv:   env(map[string]string{"PATH": "/usr/local/bin:/usr/bin:relative"}),
		Now:      func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
		LookPath: func(program string) (string, error) { return "/usr/bin/" + program, nil },
		Output: func(_ context.Context, program string, args ...string) (string, error) {
			return program + " 3.1", nil
		},
		Xattr:      func(path, name string) (string, error) { return "", unix.ENODATA },
		OpenDevice: func() error { return nil },
		Mount: func(rung string) (mount.Kernel, error) {
			if rung == mount.RungMount {
				return mount.Kernel{}, fmt.Errorf("%w: mount(2) is for root", mount.ErrNoFUSE)
			}
			return newest, nil
		},
		Namespace: func(context.Context) error { return nil },
		Confined:  func() []string { return []string{"capabilities", "landlock", "no_new_privs", "read", "seccomp"} },
		Mounts:    func(context.Context) ([]mount.Status, error) { return nil, nil },
		Log:       func(string) (string, error) { return "", nil },
		OpenStore: func() error { return nil },
		Links: func(store, dir string) (*materialize.Finding, error) {
			return &materialize.Finding{Store: place, Target: place}, nil
		},
		Names:    func(string) (Names, error) { return Names{}, nil },
		Space:    func(string) (Space, error) { return Space{Bytes: 50e9, Files: 1e6, TotalFiles: 2e6}, nil },
		MaxFiles: func() (uint64, error) { return 1 << 62, nil },
		Python: func(context.Context) (*interp.Python, error) {
			return &interp.Python{Implementation: "cpython", FullVersion: "3.14.0", Executable: "/usr/bin/python3"}, nil
		},
	}
}

// newest is a kernel that has everything.
var newest = mount.Kernel{Major: 7, Minor: 45, Resend: true, NoOpen: true, NoOpenDir: true, CacheSymlinks: true}

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestHealthy(t *testing.T) {
	for _, goos := range []string{"linux", "darwin"} {
		t.Run(goos, func(t *testing.T) {
			checks := healthy(goos).Examine(t.Context())
			for _, c := range checks {
				if c.Status != OK && (goos == "linux" || c.Name != "mount") {
					t.Errorf("found %+v, want it ok", c)
				}
				if c.Name == "" || c.Found == "" || c.Wanted == "" {
					t.Errorf("found %+v, want a name, what was found and what is wanted", c)
				}
			}
			if err := Verdict(checks); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every finding that is not as wanted says what it is and what mends it.
func TestChecks(t *testing.T) {
	for _, c := range []struct {
		name   string
		os     string // "" is linux
		change func(m *Machine, files fstest.MapFS)
		check  string
		status Status
		found  string
		fix    string
	}{
		{"no device", "", func(m *Machine, files fstest.MapFS) { delete(files, "dev/fuse") },
			"fuse device", Warning, "no /dev/fuse", "modprobe fuse"},
		{"no device in a container", "", func(m *Machine, files fstest.MapFS) {
			delete(files, "dev/fuse")
			files["run/.containerenv"] = &fstest.MapFile{}
		}, "fuse device", Warning, "no /dev/fuse", "--device /dev/fuse"},
		{"device of root alone", "", func(m *Machine, _ fstest.MapFS) {
			m.OpenDevice = func() error { return unix.EACCES }
		}, "fuse device", Warning, "permission denied", "chmod 666 /dev/fuse"},
		{"a file for a device", "", func(m *Machine, files fstest.MapFS) { files["dev/fuse"] = &fstest.MapFile{} },
			"fuse device", Warning, "is no device", "mknod"},
		{"no helper", "", func(m *Machine, _ fstest.MapFS) {
			m.LookPath = func(program string) (string, error) { return "", fs.ErrNotExist }
		}, "fusermount3", Warning, "no fusermount3 on PATH", "install the package fuse3"},
		{"helper not setuid", "", func(m *Machine, files fstest.MapFS) { files["usr/bin/fusermount3"].Mode = 0o755 },
			"fusermount3", Warning, "not setuid", "chmod u+s /usr/bin/fusermount3"},
		{"no new privileges", "", func(m *Machine, files fstest.MapFS) {
			files["proc/self/status"] = &fstest.MapFile{Data: []byte("Name:\tx\nNoNewPrivs:\t1\n")}
			m.Mount = refusing
		}, "fusermount3", Warning, "no_new_privs", "NoNewPrivileges="},
		{"root needs no helper", "", func(m *Machine, files fstest.MapFS) {
			delete(files, "usr/bin/fusermount3")
			m.Mount = func(string) (mount.Kernel, error) { return newest, nil }
		}, "fusermount3", Note, "not setuid", ""},
		{"namespaces forbidden", "", func(m *Machine, _ fstest.MapFS) {
			m.Mount = refusing
			m.Namespace = func(context.Context) error {
				return errors.New(`unshare failed; /proc/sys/user/max_user_namespaces is 0, which forbids it: root allows it with "sysctl -w user.max_user_namespaces=15000"`)
			}
		}, "user namespaces", Warning, "max_user_namespaces is 0", "as root: sysctl -w user.max_user_namespaces=15000"},
		{"namespaces not needed", "", func(m *Machine, _ fstest.MapFS) {
			m.Namespace = func(context.Context) error { return errors.New("unshare failed; a filter holds it") }
		}, "user namespaces", Note, "unshare failed", "a filter holds it"},
		{"a namespace alone", "", func(m *Machine, _ fstest.MapFS) { m.Mount = refusing },
			"mount", Warning, "in a namespace", "fusermount3"},
		{"no way to mount", "", func(m *Machine, _ fstest.MapFS) {
			m.Mount = refusing
			m.Namespace = func(context.Context) error { return errors.New("no unshare") }
		}, "mount", Failure, "cannot mount", "sitefs materialize"},
		{"macOS can't mount", "darwin", func(*Machine, fstest.MapFS) {},
			"mount", Warning, "darwin", "sitefs materialize"},
		{"kernel without resend", "", func(m *Machine, _ fstest.MapFS) {
			old := newest
			old.Resend = false
			m.Mount = func(string) (mount.Kernel, error) { return old, nil }
		}, "kernel", Warning, "without resend: a mount ends", "update the kernel"},
		{"no allow_other", "", func(m *Machine, files fstest.MapFS) {
			files["etc/fuse.conf"].Data = []byte("#user_allow_other\n")
		}, "allow_other", Note, "yours alone", "echo user_allow_other >>/etc/fuse.conf, then mount with --allow-other; or have root mount, with --allow-other or by /etc/fstab; or"},
		{"no Landlock", "", func(m *Machine, _ fstest.MapFS) {
			m.Confined = func() []string { return []string{"capabilities", "no_new_privs", "seccomp"} }
		}, "confinement", Warning, "by landlock, read", "lsm="},
		{"dead mount", "", func(m *Machine, _ fstest.MapFS) {
			m.Mounts = func(context.Context) ([]mount.Status, error) {
				return []mount.Status{{Dir: "/home/ada/my project/.venv", State: mount.StateDead, PID: 42}, {Dir: "/b"}}, nil
			}
		}, "dead mount", Warning, "pid 42", "sitefs umount '/home/ada/my project/.venv'"},
		{"no answer", "", func(m *Machine, _ fstest.MapFS) {
			m.Mounts = func(context.Context) ([]mount.Status, error) { return nil, errors.New("no answer") }
		}, "mounts", Warning, "no answer", "sitefs umount --all --detach"},
		{"store not there yet", "", func(m *Machine, _ fstest.MapFS) {
			m.OpenStore = func() error { return fs.ErrNotExist }
		}, "store", OK, "not there yet", ""},
		{"store of another", "", func(m *Machine, _ fstest.MapFS) { m.OpenStore = func() error { return store.ErrOwner } },
			"store", Failure, "another user", "SITEFS_STORE"},
		{"store read-only", "", func(m *Machine, _ fstest.MapFS) { m.OpenStore = func() error { return store.ErrReadOnly } },
			"store", Warning, "read-only", "SITEFS_STORE"},
		{"ext4 can't clone", "", finding("ext4", "8:1", "8:1", unix.EOPNOTSUPP),
			"clone", Note, "EOPNOTSUPP (", "btrfs, XFS"},
		{"two file systems", "", finding("btrfs", "8:1", "8:2", unix.EXDEV),
			"clone", Note, "EXDEV", "on that of the environment"},
		{"two mounts", "", finding("btrfs", "8:1", "8:1", unix.EXDEV),
			"hard links", Note, "EXDEV", "beneath the mount point"},
		{"probe fails", "", func(m *Machine, _ fstest.MapFS) {
			m.Links = func(string, string) (*materialize.Finding, error) { return nil, fs.ErrPermission }
		}, "directory", Warning, "permission", "sitefs doctor DIR"},
		{"little space", "", func(m *Machine, _ fstest.MapFS) {
			m.Space = func(string) (Space, error) { return Space{Bytes: 1e9}, nil }
		}, "space, store", Warning, "1.0 GB left", "make room"},
		{"no space", "", func(m *Machine, _ fstest.MapFS) {
			m.Space = func(string) (Space, error) { return Space{Bytes: 1e6}, nil }
		}, "space, directory", Failure, "0.0 GB left", "make room"},
		{"no inodes", "", func(m *Machine, _ fstest.MapFS) {
			m.Space = func(string) (Space, error) { return Space{Bytes: 50e9, TotalFiles: 1e6}, nil }
		}, "space, store", Failure, "and 0 files", "make room"},
		{"few descriptors", "", func(m *Machine, _ fstest.MapFS) { m.MaxFiles = func() (uint64, error) { return 256, nil } },
			"open files", Warning, "256 at most", "ulimit -n 1024"},
		{"caseless", "darwin", func(m *Machine, _ fstest.MapFS) {
			m.Names = func(string) (Names, error) { return Names{Caseless: true, Normalising: true}, nil }
		}, "file names", Warning, "upper and lower case, and two ways to write an accent", "case-sensitive"},
		{"normalising", "darwin", func(m *Machine, _ fstest.MapFS) {
			m.Names = func(string) (Names, error) { return Names{Normalising: true}, nil }
		}, "file names", Note, "accent", "case-sensitive"},
		{"1979", "", func(m *Machine, _ fstest.MapFS) { m.Now = func() time.Time { return time.Unix(300_000_000, 0) } },
			"clock", Warning, "1979", "timedatectl"},
		{"no python", "", func(m *Machine, _ fstest.MapFS) {
			m.Python = func(context.Context) (*interp.Python, error) { return nil, interp.ErrNoPython }
		}, "python", Failure, "no usable Python", "SITEFS_PYTHON"},
		{"no resolver", "", func(m *Machine, _ fstest.MapFS) {
			m.Output = func(context.Context, string, ...string) (string, error) { return "", errors.New("exit status 127") }
		}, "resolver", Warning, "neither uv nor pip", "install uv"},
		{"two environments", "", func(m *Machine, files fstest.MapFS) {
			files["srv/a/pyvenv.cfg"], files["srv/b/pyvenv.cfg"] = &fstest.MapFile{}, &fstest.MapFile{}
			m.Getenv = env(map[string]string{"PATH": "/srv/a/bin:/usr/bin:/srv/b/bin:/srv/a/bin"})
		}, "PATH", Warning, "/srv/a, /srv/b", "deactivate"},
		{"VIRTUAL_ENV not on PATH", "", func(m *Machine, files fstest.MapFS) {
			m.Getenv = env(map[string]string{"PATH": "/usr/bin", "VIRTUAL_ENV": "/srv/a"})
		}, "PATH", Warning, "/srv/a", "unset VIRTUAL_ENV"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := healthy(cmp.Or(c.os, "linux"))
			c.change(m, m.Files.(fstest.MapFS))
			checks := m.Examine(t.Context())
			i := slices.IndexFunc(checks, func(got Check) bool { return got.Name == c.check })
			if i < 0 {
				t.Fatalf("no check %q in %+v", c.check, checks)
			}
			got := checks[i]
			if got.Status != c.status || !strings.Contains(got.Found, c.found) || !strings.Contains(got.Fix, c.fix) || got.Wanted == "" {
				t.Errorf("found %+v, want %s, %q and %q", got, c.status, c.found, c.fix)
			}
			if err := Verdict(checks); c.status == Failure && (err == nil || !strings.Contains(err.Error(), c.check)) {
				t.Errorf("verdict %v, want one that names %q", err, c.check)
			}
		})
	}
}

// The first resolver that works is told of, and no other is started.
func TestResolver(t *testing.T) {
	for _, c := range []struct {
		works string // a command line
		asked []string
	}{
		{"/usr/bin/uv --version", []string{"/usr/bin/uv --version"}},
		{"/usr/bin/pip3 --version", []string{"/usr/bin/uv --version", "/usr/bin/pip --version", "/usr/bin/pip3 --version"}},
		{"/usr/bin/python3 -m pip --version", []string{"/usr/bin/uv --version", "/usr/bin/pip --version", "/usr/bin/pip3 --version", "/usr/bin/python3 -m pip --version"}},
	} {
		t.Run(c.works, func(t *testing.T) {
			m := healthy("linux")
			var asked []string
			m.Output = func(_ context.Context, program string, args ...string) (string, error) {
				line := strings.Join(append([]string{program}, args...), " ")
				asked = append(asked, line)
				if line != c.works {
					return "", errors.New("exit status 127")
				}
				return "that", nil
			}
			if got := m.resolver(t.Context()); len(got) != 1 || got[0].Status != OK || got[0].Found != "that" {
				t.Errorf("found %+v, want that one", got)
			}
			if !slices.Equal(asked, c.asked) {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
}

// refusing lets nobody mount.
func refusing(string) (mount.Kernel, error) {
	return mount.Kernel{}, fmt.Errorf("%w: operation not permitted", mount.ErrNoFUSE)
}

// finding has the probe between the store and the directory find errno.
func finding(fsType, from, to string, errno unix.Errno) func(*Machine, fstest.MapFS) {
	return func(m *Machine, _ fstest.MapFS) {
		m.Links = func(string, string) (*materialize.Finding, error) {
			return &materialize.Finding{
				Store:  materialize.Place{Type: fsType, Device: from},
				Target: materialize.Place{Type: fsType, Device: to},
				Clone:  errno, Hardlink: errno,
			}, nil
		}
	}
}

// An environment is made beside its place, so that is where things are tried.
func TestExisting(t *testing.T) {
	m := healthy("linux")
	m.Files.(fstest.MapFS)["home/ada/project/.venv/pyvenv.cfg"] = &fstest.MapFile{}
	for _, c := range []struct{ dir, want string }{
		{"/home/ada/project", "/home/ada/project"},
		{"/home/ada/project/.venv", "/home/ada/project"},
		{"/home/ada/project/new/.venv", "/home/ada/project"},
		{"/home/ada/project/pyproject.toml", "/home/ada/project"},
		{"/nowhere/at/all", "/"},
		{"/", "/"},
	} {
		if got := m.existing(c.dir); got != c.want {
			t.Errorf("existing(%q) is %q, want %q", c.dir, got, c.want)
		}
	}
}

func TestWrite(t *testing.T) {
	checks := []Check{
		{Name: "clock", Status: OK, Found: "noon", Wanted: "the time"},
		{Name: "store", Status: Failure, Found: "one\ntwo", Wanted: "a store", Fix: "rm"},
	}
	for _, c := range []struct {
		colour bool
		want   string
	}{
		{false, `ok       clock             noon
failure  store             one; two
                           wanted: a store
                           fix: rm
`},
		{true, "\x1b[32mok     \x1b[0m  clock             noon\n\x1b[31mfailure\x1b[0m  store             one; two\n" +
			"                           wanted: a store\n                           fix: rm\n"},
	} {
		var b strings.Builder
		if err := Write(&b, checks, c.colour); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.want {
			t.Errorf("found\n%s\nwant\n%s", b.String(), c.want)
		}
	}
}

// The names of the fields are a promise.
func TestJSON(t *testing.T) {
	b, err := json.Marshal(Check{"clock", Warning, "1979", "now", "set it"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"name":"clock","status":"warning","found":"1979","wanted":"now","fix":"set it"}`; string(b) != want {
		t.Errorf("found %s, want %s", b, want)
	}
}

// On this machine every probe runs; what it finds is its own affair.
func TestHere(t *testing.T) {
	m, err := New("devel", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m.Namespace = func(context.Context) error { return nil } // it would start this test
	for _, c := range m.Examine(t.Context()) {
		if c.Found == "" || c.Wanted == "" {
			t.Errorf("found %+v", c)
		}
	}
}

func TestTryNames(t *testing.T) {
	dir := t.TempDir()
	if _, err := tryNames(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := fs.ReadDir(os.DirFS(dir), "."); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := tryNames(dir + "/absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found %v, want %v", err, fs.ErrNotExist)
	}
}
