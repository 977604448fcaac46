package process

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// daemon leaves its session and its parents, tells its pid, and imports
// something more when it is told to.
const daemon = `
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for fd in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), fd)
if "close" in sys.argv:
    os.closerange(3, 4096)
with open("pid", "w") as f:
    print(os.getpid(), file=f)
open("go").read()
import alpha_later
with open("result", "w") as f:
    print(alpha_later.version, file=f)
open("end").read()
`

// A daemon outlives the command, and the mount stays for it, also when it closes
// every descriptor as daemons do, the lease among them.
func TestDaemonGoesOnImporting(t *testing.T) {
	for _, argument := range []string{"keep", "close"} {
		t.Run(argument, func(t *testing.T) {
			u := newUser(t)
			u.write("daemon.py", daemon)
			u.fifo("go")
			u.fifo("end")
			u.output(inProject("--keep", "0", "python", "daemon.py", argument)...)
			pid, err := strconv.Atoi(u.contents("pid"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
			u.write("go", "now")
			if got := u.contents("result"); got != "1.0" {
				t.Errorf("the daemon imported %q, want 1.0", got)
			}
			if argument == "keep" {
				out, err := u.command("sitefs", "umount", "--all").CombinedOutput()
				if want := fmt.Sprintf("(pid %d, ", pid); !strings.Contains(string(out), want) {
					t.Errorf("umount: %v, %q, want it to name the daemon, %s", err, out, want)
				}
			}
			if mounts, err := sandbox.Mounts(u.home); len(mounts) != 1 || err != nil {
				t.Errorf("mounts %q, %v, want one for the daemon", mounts, err)
			}
			u.write("end", "now")
			u.expectNothingLeft()
		})
	}
}

// With --keep 0 nothing is left, whatever ended the command.
func TestNothingIsLeft(t *testing.T) {
	signals := map[string]syscall.Signal{"kill": syscall.SIGKILL, "term": syscall.SIGTERM, "segv": syscall.SIGSEGV}
	for name, signal := range signals {
		t.Run(name, func(t *testing.T) {
			u := newUser(t)
			cmd := u.command(inProject("--keep", "0", "--", "python", "-c", "import os, signal; os.kill(os.getpid(), "+strconv.Itoa(int(signal))+")")...)
			cmd.Run()
			if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != signal {
				t.Errorf("the command ended with %v, want %v", s, signal)
			}
			u.expectNothingLeft()
		})
	}
	t.Run("exit", func(t *testing.T) {
		u := newUser(t)
		if code := u.exitCode(inProject("--keep", "0", "sh", "-c", "exit 9")...); code != 9 {
			t.Errorf("exit code %d, want 9", code)
		}
		u.expectNothingLeft()
	})
	t.Run("not found", func(t *testing.T) {
		u := newUser(t)
		if code := u.exitCode(inProject("--keep", "0", "no-such-command")...); code != 127 {
			t.Errorf("exit code %d, want 127", code)
		}
		u.expectNothingLeft()
	})
}

func TestWarmMountExpires(t *testing.T) {
	u := newUser(t)
	u.output(inProject("--keep", "1s", "true")...)
	u.expectNothingLeft()
}

func TestFirstStartsAtOnceMakeOneMount(t *testing.T) {
	u := newUser(t)
	const starts = 16
	prefixes := make([]string, starts)
	var wg sync.WaitGroup
	for i := range starts {
		wg.Go(func() {
			out, err := u.command(inProject("python", "-c", "import sys, alpha; print(sys.prefix)")...).Output()
			if err != nil {
				t.Errorf("start %d: %v", i, err)
				if exit, ok := err.(*exec.ExitError); ok {
					t.Logf("%s", exit.Stderr)
				}
			}
			prefixes[i] = strings.TrimSpace(string(out))
		})
	}
	wg.Wait()
	dir := u.only().Dir
	for i, p := range prefixes {
		if p != dir {
			t.Errorf("start %d ran in %q, want %q", i, p, dir)
		}
	}
	if servers, err := sandbox.Servers(u.home); len(servers) != 2 || err != nil {
		t.Errorf("processes %v, %v, want a supervisor and its worker", servers, err)
	}
}

// Two trees that want one place: while the first is used the second is mounted
// beside it; behind its last use it makes way.
func TestAnotherTreeInOnePlace(t *testing.T) {
	u := newUser(t)
	u.fifo("end")
	const show = "import sys, alpha; print(sys.prefix, alpha.version)"
	first := u.command(inProject("sh", "-c", "echo ready >ready; cat end")...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	u.contents("ready")
	place := u.only().Dir

	u.lock("alpha 2.0")
	if got, want := u.output(inProject("--keep", "0", "python", "-c", show)...), place+"-2 2.0"; got != want {
		t.Errorf("beside a used mount: %q, want %q", got, want)
	}
	u.awaitState("used")
	u.write("end", "now")
	if err := first.Wait(); err != nil {
		t.Fatal(err)
	}
	u.awaitState("warm")
	if got, want := u.output(inProject("python", "-c", show)...), place+" 2.0"; got != want {
		t.Errorf("in the place of a warm mount: %q, want %q", got, want)
	}
	u.only()
}

// A server that is killed leaves a mount that answers nothing; the next command
// takes it away and mounts anew, whether somebody still runs in the old one or not.
func TestServerIsKilled(t *testing.T) {
	t.Run("warm", func(t *testing.T) {
		u := newUser(t)
		where := u.output(inProject("python", "-c", "import sys; print(sys.prefix)")...)
		killMount(t, u.only())
		u.awaitState("dead")
		if got := u.output(inProject("python", "-c", "import sys, alpha; print(sys.prefix)")...); got != where {
			t.Errorf("the next command runs in %q, want %q", got, where)
		}
		u.only()
	})
	t.Run("unmounted", func(t *testing.T) {
		u := newUser(t)
		u.output(inProject("true")...)
		killMount(t, u.only())
		u.output("sitefs", "umount", "--all")
		u.expectNothingLeft()
	})
	t.Run("used", func(t *testing.T) {
		u := newUser(t)
		u.fifo("end")
		first := u.command(inProject("sh", "-c", "echo ready >ready; cat end")...)
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		u.contents("ready")
		killMount(t, u.only())
		if got := u.output(inProject("python", "-c", "import alpha; print(alpha.version)")...); got != "1.0" {
			t.Errorf("the next command imports %q, want 1.0", got)
		}
		u.write("end", "now")
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// killMount kills the supervisor of a mount, which could start another worker,
// and then its worker.
func killMount(t *testing.T, s status) {
	t.Helper()
	sandbox.Kill(t, s.PID)
	sandbox.Kill(t, s.Worker)
}

func TestUnmountNamesTheCommand(t *testing.T) {
	u := newUser(t)
	u.fifo("end")
	cmd := u.command(inProject("sh", "-c", "echo ready >ready; read line <end")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u.contents("ready")
	out, err := u.command("sitefs", "umount", u.only().Dir).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 11 {
		t.Errorf("umount of a used mount: %v, want exit code 11", err)
	}
	if want := fmt.Sprintf("sh (pid %d, lease)", cmd.Process.Pid); !strings.Contains(string(out), want) {
		t.Errorf("umount says %q, want it to name %s", out, want)
	}
	u.write("end", "now\n")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// As the first process of a PID namespace the command is the namespace: when it
// ends the kernel kills the rest, the server too. The mount goes with the mount
// namespace; what is left is a state folder that the next run clears away. The
// server is its child, as every orphan of the namespace is: wait(2) for any child
// waits for it too, and it stays as long as the command has its lease.
func TestFirstProcessOfANamespace(t *testing.T) {
	sandbox.NeedRoot(t, "for a PID namespace")
	sandbox.NeedProgram(t, "unshare")
	u := newUser(t)
	u.output(inProject("--keep", "0", "true")...) // what is made once is made
	u.expectNothingLeft()
	argv := append([]string{"unshare", "--pid", "--fork", "--mount-proc"}, inProject("python", "-c", "import os, alpha; print(os.getpid()); raise SystemExit(7)")...)
	argv[4] = bin + "/sitefs"
	cmd := u.command(argv...)
	cmd.Stderr = os.Stderr
	out, _ := cmd.Output()
	if got := strings.TrimSpace(string(out)); got != "1" {
		t.Errorf("the command's pid is %q, want 1", got)
	}
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if mounts, err := sandbox.Mounts(u.home); len(mounts) != 0 || err != nil {
		t.Errorf("mounts %q, %v, want none", mounts, err)
	}
	if got := u.output(inProject("--keep", "0", "python", "-c", "import alpha; print(alpha.version)")...); got != "1.0" {
		t.Errorf("the next command imports %q, want 1.0", got)
	}
	u.expectNothingLeft()
}

// The control socket reaches into other mount namespaces, the mounts do not: who
// can't see the environment's mount gets one that he sees.
func TestOtherMountNamespace(t *testing.T) {
	sandbox.NeedRoot(t, "for a mount namespace")
	sandbox.NeedProgram(t, "unshare")
	u := newUser(t)
	const script = "import alpha; print(alpha.version)"
	inside := inProject("python3", "-c", script)
	inside[0] = bin + "/sitefs"
	if got := u.output(append([]string{"unshare", "--mount", "--propagation", "private"}, inside...)...); got != "1.0" {
		t.Errorf("in a namespace of its own the command imports %q, want 1.0", got)
	}
	for range 2 {
		if got := u.output(inProject("python3", "-c", script)...); got != "1.0" {
			t.Errorf("the command imports %q, want 1.0", got)
		}
	}
	if all := u.status(); len(all) != 2 {
		t.Errorf("%d mounts, want one in each namespace: %+v", len(all), all)
	}

	mount := []string{bin + "/sitefs", "mount", "-r", "project/pylock.toml", "venv"}
	u.output(append([]string{"unshare", "--mount", "--propagation", "private"}, mount...)...)
	if code := u.exitCode(mount...); code != 10 {
		t.Errorf("mounting where another namespace has a mount: exit code %d, want 10", code)
	}
}
