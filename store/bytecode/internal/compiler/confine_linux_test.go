package compiler

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/store/confine"
)

// probe tries what a compiler may not do and says what comes of it: the name of
// an error, or "done".
const probe = `
import sys, errno
sys.path[:] = [p for p in sys.path if p]
import posix
replies = open(3, "wb")
def reply(text):
    replies.write(b"\0" + len(text).to_bytes(4, "little") + text.encode())
    replies.flush()
reply("hello")
open(0, "rb").read(1)
said = []
def attempt(name, f, *args):
    try:
        f(*args)
        said.append(name + " done")
    except MemoryError:
        said.append(name + " MemoryError")
    except OSError as e:
        said.append(name + " " + errno.errorcode[e.errno])
def network():
    import _socket
    _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
def unixsocket():
    import _socket
    _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
def wait(pid):
    if pid == 0:
        posix._exit(0)
    posix.waitpid(pid, 0)
dir = sys.argv[1]
attempt("read", open, dir + "/file")
attempt("outside", open, sys.argv[2])
attempt("list", posix.listdir, "/")
attempt("network", network)
attempt("unix", unixsocket)
attempt("write", open, dir + "/file", "r+b")
attempt("truncate", posix.truncate, dir + "/file", 0)
attempt("create", open, dir + "/new", "wb")
attempt("mkdir", posix.mkdir, dir + "/new")
attempt("remove", posix.unlink, dir + "/file")
attempt("rename", posix.rename, dir + "/file", dir + "/other")
attempt("link", posix.link, dir + "/file", dir + "/other")
attempt("symlink", posix.symlink, "x", dir + "/other")
attempt("fifo", posix.mkfifo, dir + "/other")
attempt("chmod", posix.chmod, dir + "/file", 0o777)
attempt("chown", posix.chown, dir + "/file", posix.getuid(), posix.getgid())
attempt("utime", posix.utime, dir + "/file")
attempt("xattr", posix.setxattr, dir + "/file", "user.x", b"x")
attempt("null", open, "/dev/null", "wb")
attempt("signal", posix.kill, posix.getppid(), 0)
attempt("memory", bytearray, 7 << 30)
attempt("fork", lambda: wait(posix.fork()))
for line in open("/proc/self/status"):
    if line.startswith(("NoNewPrivs:", "CapEff:", "CapBnd:")):
        said.append(line.replace(":\t", " "))
said.append("nice %d" % posix.getpriority(posix.PRIO_PROCESS, 0))
said.append("environment %s" % ",".join(sorted(k.decode() for k in posix.environ)))
said.append("directory " + posix.getcwd())
attempt("files", lambda: [posix.dup(1) for i in range(100)])
reply("\n".join(said))
`

// TestConfined runs a program where a compiler runs.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := command(anyPython(t).Python, probe)
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1], dir)
	outside := t.TempDir() + "/file"
	if err := os.WriteFile(outside, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd.Args = append(cmd.Args, outside)
	p, err := startProcess(cmd, confine.Rules{Read: append(readable(cmd.Path), dir, "/proc"), Search: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.reply(); err != nil {
		t.Fatal(err, p.stderr.last())
	}
	held := append(p.held, limit(cmd.Process.Pid, memoryBound())...)
	t.Logf("held: %v", held)
	if err := lower(cmd.Process.Pid, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := p.requests.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	_, text, err := p.reply()
	if err != nil {
		t.Fatal(err, p.stderr.last())
	}
	said := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[name] = strings.TrimSpace(value)
	}

	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ needs, name, want string }{
		{"", "read", "done"},
		{"", "null", "done"},
		{"", "directory", "/"},
		{"", "nice", fmt.Sprint(20 - raw + 3)},
		{"read", "outside", "EACCES"},
		{"read", "list", "EACCES"},
		{"seccomp", "network", "EPERM"},
		{"seccomp", "unix", "EPERM"},
		{"seccomp", "chmod", "EPERM"},
		{"seccomp", "chown", "EPERM"},
		{"seccomp", "utime", "EPERM"},
		{"seccomp", "xattr", "EPERM"},
		{"landlock", "write", "EACCES"},
		{"landlock", "truncate", "EACCES"},
		{"landlock", "create", "EACCES"},
		{"landlock", "mkdir", "EACCES"},
		{"landlock", "remove", "EACCES"},
		{"landlock", "rename", "EACCES"},
		{"landlock", "link", "EACCES"},
		{"landlock", "symlink", "EACCES"},
		{"landlock", "fifo", "EACCES"},
		{"landlock", "signal", "EPERM"},
		{"memory", "memory", "MemoryError"},
		{"nofile", "files", "EMFILE"},
		{"no_new_privs", "NoNewPrivs", "1"},
	}
	if os.Getuid() != 0 {
		tests = append(tests, struct{ needs, name, want string }{"nproc", "fork", "EAGAIN"})
	} else {
		tests = append(tests, struct{ needs, name, want string }{"capabilities", "CapEff", "0000000000000004"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.needs != "" && !slices.Contains(held, tt.needs) {
				t.Skipf("this kernel or container has no %s", tt.needs)
			}
			if said[tt.name] != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, said[tt.name], tt.want)
			}
		})
	}
	if names := said["environment"]; strings.Contains(names, "HOME") || !strings.Contains(names, "PYTHONHASHSEED") {
		t.Errorf("environment %s", names)
	}
	if _, err := os.Stat(dir + "/file"); err != nil {
		t.Error(err)
	}
}

// TestReads proves that every interpreter starts without reading more than its own
// files, has its codecs and the names of characters there, and that one that needs
// more starts all the same, which is said.
func TestReads(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		c := mustStart(t, p.Config)
		if !slices.Contains(c.Confined(), confine.Landlock) {
			t.Skip("this kernel or container has no Landlock")
		}
		if !slices.Contains(c.Confined(), confine.Read) {
			t.Errorf("confined: %v, want %q among it", c.Confined(), confine.Read)
		}
		source := "# coding: shift_jis\nx = '\\N{SNOWMAN}'\n"
		if _, err := c.Compile(t.Context(), []byte(source), "a.py", 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("wrapper", func(t *testing.T) {
		p := anyPython(t)
		p.Python = wrapper(t, "exec "+p.Python+` "$@"`)
		c := mustStart(t, p.Config)
		if slices.Contains(c.Confined(), confine.Read) {
			t.Errorf("confined: %v, of a script that reads what isn't its own", c.Confined())
		}
	})
}

// parentVariable makes this test binary a process that has a compiler.
const parentVariable = "SITEFS_TEST_COMPILER_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		os.Exit(m.Run())
	}
	c, err := Start(context.Background(), pythons()[0].Config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := unix.Kill(c.pid, unix.SIGSTOP); err != nil { // it doesn't see its standard input close
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.pid)
	select {}
}

// TestParentKilled proves that no compiler outlives its host.
func TestParentKilled(t *testing.T) {
	anyPython(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Skip("pidfd_open: ", err)
	}
	defer unix.Close(fd)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 30_000); n != 1 {
		unix.Kill(pid, unix.SIGKILL)
		t.Errorf("the compiler lives on (%v)", err)
	}
}
