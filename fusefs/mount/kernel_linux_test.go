package mount_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// source makes a directory that a tree is built from: a package with modules,
// small and large files, a script, an extension's bytes, links.
func source(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	write := func(name string, mode fs.FileMode, content []byte) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	var all strings.Builder
	for i := range 300 { // several READDIRs long
		write(fmt.Sprintf("lib/pkg/mod%03d.py", i), 0o644, fmt.Appendf(nil, "x = %d\n", i))
		fmt.Fprintf(&all, "from . import mod%03d\n", i)
	}
	write("lib/pkg/__init__.py", 0o644, []byte(all.String()))
	write("lib/pkg/data/large.bin", 0o644, bytes.Repeat([]byte("large "), 1<<20))
	write("lib/pkg/data/odd.bin", 0o644, bytes.Repeat([]byte("odd"), 4097))
	write("lib/pkg/data/none", 0o644, nil)
	write("lib/pkg/data/deeper/naïve name.txt", 0o644, []byte("é"))
	write("bin/tool", 0o755, []byte("#!/bin/sh\necho tool\n"))
	if err := os.Symlink("../lib/pkg/data", filepath.Join(root, "bin/data")); err != nil {
		t.Fatal(err)
	}
	return root
}

// What the tools that copy and measure see in a mount is what they see in a
// plain copy of it.
func TestToolsAgreeWithACopy(t *testing.T) {
	w := newWant(t, serverConfig{Source: source(t)})
	lease(t, w)
	plain := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(plain, os.DirFS(w.Dir)); err != nil {
		t.Fatal(err)
	}

	both := func(t *testing.T, name string, args ...string) {
		t.Helper()
		got, want := run(t, w.Dir, name, args...), run(t, plain, name, args...)
		if got != want {
			t.Errorf("%s %q in the mount:\n%s\nin the copy:\n%s", name, args, got, want)
		}
	}
	script := func(t *testing.T, s string) { both(t, "sh", "-c", s) }
	t.Run("find", func(t *testing.T) {
		script(t, `find . -printf '%P %y %m %l\n' | sort`)
		script(t, `find . -type f -printf '%P %s %n\n' | sort`)
		script(t, `find . -type d -printf '%P %n\n' | sort`) // links of directories
	})
	t.Run("du", func(t *testing.T) {
		script(t, `find . -type f -print0 | sort -z | du --files0-from=-`)
		script(t, `du --apparent-size -sb lib/pkg/data/large.bin`)
	})
	t.Run("ls", func(t *testing.T) { script(t, `ls -aR`) })
	t.Run("content", func(t *testing.T) { script(t, `find . -type f -print0 | sort -z | xargs -0 sha256sum`) })
	t.Run("sparse copy", func(t *testing.T) {
		// cp asks for holes with SEEK_DATA.
		dst := filepath.Join(t.TempDir(), "large")
		run(t, w.Dir, "cp", "--sparse=auto", "lib/pkg/data/large.bin", dst)
		run(t, plain, "cmp", "lib/pkg/data/large.bin", dst)
	})
	t.Run("direct", func(t *testing.T) {
		// Past the page cache the kernel asks for as much as it may at once.
		script(t, `dd if=lib/pkg/data/large.bin bs=4M iflag=direct status=none | sha256sum`)
		script(t, `dd if=lib/pkg/data/odd.bin bs=5000 skip=2 status=none | sha256sum`)
	})
	t.Run("cp -a", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "cp")
		run(t, "/", "cp", "-a", w.Dir, dst)
		run(t, "/", "diff", "-r", "--no-dereference", plain, dst)
		sameTimes(t, w.Dir, dst)
	})
	t.Run("tar", func(t *testing.T) {
		dst := t.TempDir()
		run(t, "/", "sh", "-c", fmt.Sprintf("tar -C %q -cf - . | tar -C %q -xpf -", w.Dir, dst))
		run(t, "/", "diff", "-r", "--no-dereference", plain, dst)
		sameTimes(t, w.Dir, dst)
	})
	t.Run("rsync", func(t *testing.T) {
		dst := filepath.Join(t.TempDir(), "rsync")
		run(t, "/", "rsync", "-a", w.Dir+"/", dst)
		for _, args := range [][]string{{"-ain"}, {"-acin"}} {
			if out := run(t, "/", "rsync", append(args, w.Dir+"/", dst)...); out != "" {
				t.Errorf("rsync %q finds differences after a copy:\n%s", args, out)
			}
		}
	})
	t.Run("statfs", func(t *testing.T) {
		var st unix.Statfs_t
		if err := unix.Statfs(w.Dir, &st); err != nil {
			t.Fatal(err)
		}
		if size := int64(st.Blocks) * st.Bsize; size < 6<<20 || st.Bfree != 0 || st.Flags&unix.ST_RDONLY == 0 || st.Flags&unix.ST_NOSUID == 0 || st.Flags&unix.ST_NODEV == 0 {
			t.Errorf("%d bytes, %d blocks free, flags %#x", size, st.Bfree, st.Flags)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(w.Dir, "new"), nil, 0o644); err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) {
			t.Errorf("writing: %v, want EROFS", err)
		}
	})
}

func sameTimes(t *testing.T, a, b string) {
	t.Helper()
	err := filepath.WalkDir(a, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		want, err := e.Info()
		if err != nil {
			return err
		}
		got, err := os.Lstat(filepath.Join(b, rel))
		if err != nil {
			return err
		}
		if !got.ModTime().Equal(want.ModTime()) || got.Mode() != want.Mode() {
			t.Errorf("%s: %v %v, in the mount %v %v", rel, got.Mode(), got.ModTime(), want.Mode(), want.ModTime())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// asked returns which requests op caused, by kind.
func asked(t *testing.T, w mount.Want, op func()) map[string]int64 {
	t.Helper()
	before := status(t, w).Requests
	op()
	after := status(t, w).Requests
	maps.DeleteFunc(after, func(kind string, n int64) bool { return n == before[kind] })
	for kind := range after {
		after[kind] -= before[kind]
	}
	return after
}

func TestHotMountIsSilent(t *testing.T) {
	w := newWant(t, serverConfig{Source: source(t)})
	lease(t, w)
	lib := filepath.Join(w.Dir, "lib")
	tests := []struct {
		name string
		args []string
	}{
		{"import", []string{"python3", "-I", "-B", "-c", "import sys; sys.path.insert(0, " + fmt.Sprintf("%q", lib) + "); import pkg, importlib.util; assert importlib.util.find_spec('absent_module') is None"}},
		{"find", []string{"find", w.Dir, "-ls"}},
		{"cat", []string{"sh", "-c", "cat " + lib + "/pkg/data/* 2>/dev/null | wc -c"}},
		{"link", []string{"ls", "-l", w.Dir + "/bin/data/", w.Dir + "/lib64/pkg"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			once := func() { run(t, "/", test.args[0], test.args[1:]...) }
			if first := asked(t, w, once); len(first) == 0 {
				t.Error("the first time nothing was asked: does the command use the mount?")
			}
			// The kernel may drop a page of its cache at any moment (DAMON does so on
			// an idle machine), be it of a file, a directory's listing or a link, and
			// asks for it again then. So of five times one must be silent, and no
			// other request may come at all.
			for range 5 {
				again := asked(t, w, once)
				// What the kernel can't keep: isatty(3), and find(1) asking once what
				// kind of file system it walks.
				delete(again, "IOCTL")
				delete(again, "STATFS")
				if len(again) == 0 {
					return
				}
				maps.DeleteFunc(again, func(kind string, _ int64) bool { return strings.HasPrefix(kind, "READ") })
				if len(again) > 0 {
					t.Fatalf("the second time: %v", again)
				}
			}
			t.Error("something is read again each time")
		})
	}
	if s := status(t, w); s.Errors != 0 {
		t.Errorf("%d errors", s.Errors)
	}
}

// Tools that compare times must see that a package was upgraded, although what
// they made of the old one is younger than either release.
func TestUpgradeIsSeen(t *testing.T) {
	write := func(version string) string {
		root := t.TempDir()
		for name, content := range map[string]string{
			"static/admin.css":  "/* " + version + " */",
			"include/header.h":  "// " + version,
			"pkg/mod.py":        "version = '" + version + "'",
			"pkg/same.py":       "same = True",
			"static/added.html": version,
		} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	now := time.Now().Unix()
	config := serverConfig{Source: write("1.0"), Added: now - 1000, Config: mount.Config{Tree: "1.0"}}
	w := newWant(t, config)
	times := func() map[string]time.Time {
		m := make(map[string]time.Time)
		for _, name := range []string{"static/admin.css", "include/header.h", "pkg/mod.py", "pkg/same.py", "pkg"} {
			fi, err := os.Stat(filepath.Join(w.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			m[name] = fi.ModTime()
		}
		return m
	}

	l := lease(t, w)
	old := times()
	work := t.TempDir()
	// What a build and a deployment keep of the old one: a copy with its times,
	// and an output made between the releases.
	run(t, "/", "rsync", "-a", w.Dir+"/static", work)
	output := filepath.Join(work, "output")
	if err := os.WriteFile(output, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	between := time.Unix(now-500, 0)
	if err := os.Chtimes(output, between, between); err != nil {
		t.Fatal(err)
	}
	pid := status(t, w).PID
	l.Close()
	checkGone(t, w, pid)

	config.Source, config.Added, config.Config.Tree, config.Config.Dir = write("2.0"), now, "2.0", w.Dir
	w = wantFor(t, config)
	lease(t, w)
	upgraded := times()

	t.Run("rsync -u", func(t *testing.T) {
		run(t, "/", "rsync", "-au", w.Dir+"/static", work)
		if b, err := os.ReadFile(filepath.Join(work, "static/admin.css")); err != nil || string(b) != "/* 2.0 */" {
			t.Errorf("%q, %v, want the new one", b, err)
		}
	})
	t.Run("collectstatic", func(t *testing.T) {
		// Django copies unless the target's time is the source's or later
		// (contrib/staticfiles/management/commands/collectstatic.py, delete_file).
		if fi, err := os.Stat(output); err != nil || !upgraded["static/admin.css"].After(fi.ModTime()) {
			t.Errorf("made at %v, the source is of %v, %v", between, upgraded["static/admin.css"], err)
		}
	})
	t.Run("ninja", func(t *testing.T) {
		// ninja and make run what makes an output when an input is newer.
		if out := run(t, "/", "find", filepath.Join(w.Dir, "include/header.h"), "-newer", output); out == "" {
			t.Error("the header is not newer than the output")
		}
	})
	t.Run("importlib", func(t *testing.T) {
		if upgraded["pkg/mod.py"].Equal(old["pkg/mod.py"]) {
			t.Error("the source changed and its time did not: a stale .pyc would be valid")
		}
		if !upgraded["pkg/same.py"].Equal(old["pkg/same.py"]) {
			t.Error("the source is the same and its time changed: a .pyc would be made again")
		}
		if upgraded["pkg"].Equal(old["pkg"]) {
			t.Error("the directory changed and its time did not: importlib would not list it again")
		}
	})
}

func TestParallelReaders(t *testing.T) {
	src := source(t)
	w := newWant(t, serverConfig{Source: src})
	lease(t, w)
	cmds := make([]*exec.Cmd, 8)
	for i := range cmds {
		cmds[i] = exec.Command("diff", "-r", filepath.Join(src, "lib/pkg"), filepath.Join(w.Dir, "lib/pkg"))
		if err := cmds[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cmds {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedStore(t *testing.T) {
	src := source(t)
	w := newWant(t, serverConfig{Source: src})
	lease(t, w)
	if err := os.Remove(filepath.Join(src, "lib/pkg/data/odd.bin")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(w.Dir, "lib/pkg/data/odd.bin")); err == nil {
		t.Error("a missing blob was read")
	}
	if s := status(t, w); s.Errors == 0 {
		t.Error("the error is not counted")
	}
	state, err := mount.StateDir(w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if log, err := os.ReadFile(filepath.Join(state, "log")); err != nil || !strings.Contains(string(log), "blob") {
		t.Errorf("log: %q, %v", log, err)
	}
}

func TestNoDescriptorsAreLeaked(t *testing.T) {
	w := newWant(t, serverConfig{Source: source(t)})
	lease(t, w)
	fds := func() int {
		names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", status(t, w).WorkerPID))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	status(t, w)
	before := fds()
	run(t, w.Dir, "sh", "-c", "cat $(find . -type f -name '*.py') >/dev/null")
	lease(t, w).Close()
	eventually(t, testContext(t), func() string {
		// Each reader that was added has an epoll; eight are more than sh causes.
		if now := fds(); now > before+8 {
			return fmt.Sprintf("%d descriptors, %d before", now, before)
		}
		return ""
	})
}
