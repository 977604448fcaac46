package compiler

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
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
	p, err := startProcess(cmd)
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

// TestOthersAreFree proves that no thread that runs Go code is confined by the
// start of a compiler.
func TestOthersAreFree(t *testing.T) {
	mustStart(t, anyPython(t).Config)
	var locked, group sync.WaitGroup
	for range 50 { // each on a thread of its own
		locked.Add(1)
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			locked.Done()
			locked.Wait()
			if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); on != 0 || err != nil {
				t.Errorf("no_new_privs is %d (%v) on a thread for goroutines", on, err)
			}
		})
	}
	group.Wait()
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
