package mount_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// changeableWant returns a mount of a folder that may be written to.
func changeableWant(t *testing.T, c serverConfig) (w mount.Want, full serverConfig) {
	t.Helper()
	dir := t.TempDir()
	c.Config.Writable, c.Upper, c.Lock, c.RefuseTurn = true, filepath.Join(dir, "upper"), filepath.Join(dir, "lock"), filepath.Join(dir, "refuse")
	c.Config.Dir = filepath.Join(dir, "env")
	if err := os.Mkdir(c.Upper, 0o755); err != nil {
		t.Fatal(err)
	}
	return newWant(t, c), c
}

// checkLocked reports an error if the mount has not locked its file.
func checkLocked(t *testing.T, c serverConfig, when string) {
	t.Helper()
	if _, err := lockFiles(c.Lock); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("%s: locking what the mount has locked: %v", when, err)
	}
}

// A mount that may be written to is one, however it is made.
func TestWritable(t *testing.T) {
	for _, rung := range []string{"", mount.RungMount, mount.RungHelper} {
		t.Run("rung "+rung, func(t *testing.T) {
			if _, err := exec.LookPath("fusermount3"); err != nil && rung == mount.RungHelper {
				t.Skip("needs fusermount3")
			}
			w, c := changeableWant(t, serverConfig{Config: mount.Config{Rung: rung}})
			lease(t, w)
			if err := os.WriteFile(filepath.Join(w.Dir, "new"), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := content(filepath.Join(c.Upper, "new")); got != "text" {
				t.Errorf("%q was written, want %q", got, "text")
			}
			value := make([]byte, 10)
			if n, err := unix.Getxattr(filepath.Join(w.Dir, "new"), "user.any", value); err != nil || string(value[:n]) != "value" {
				t.Errorf("an extended attribute is %q, %v", value[:max(n, 0)], err)
			}
			if n := status(t, w).Requests; n["CREATE"] != 1 || n["WRITE"] != 1 {
				t.Errorf("the requests are %v, want one CREATE and one WRITE", n)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(w.Dir, &st); err != nil || st.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_RDONLY) != unix.ST_NOSUID|unix.ST_NODEV {
				t.Errorf("the mount has flags %#x, %v, want nosuid and nodev without ro", st.Flags, err)
			}
		})
	}
}

// The mount that takes the place of another one may be written to as well.
func TestWritableSwitch(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	plain := c
	plain.Upper, plain.Lock, plain.Config.Writable, plain.Config.Tree = "", "", false, "plain"
	if err := mount.Hold(testContext(t), wantFor(t, plain)); err != nil {
		t.Fatal(err)
	}
	if _, err := mount.Switch(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "new"), nil, 0o600); err != nil {
		t.Error(err)
	}
}

// Workers are killed while others write and make files: nothing that was written is
// lost, and nobody sees an error.
func TestKillsDuringWrites(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	lease(t, w)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stop := filepath.Join(t.TempDir(), "stop")
	const kills = 15
	writers := make([]*exec.Cmd, 3)
	output := make([]bytes.Buffer, len(writers))
	for i := range writers {
		writers[i] = exec.Command(exe, "write", fmt.Sprintf("%s:%s", filepath.Join(w.Dir, fmt.Sprint("file", i)), stop))
		writers[i].Stderr = &output[i]
		if err := writers[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	pid := 0
	for n := range kills {
		pid = worker(t, w, pid)
		written := status(t, w).Requests["WRITE"]
		eventually(t, testContext(t), func() string {
			if status(t, w).Requests["WRITE"] < written+int64(n)+5 {
				return "nothing is written"
			}
			return ""
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, cmd := range writers {
		if err := cmd.Wait(); err != nil {
			t.Errorf("writer %d: %v, %s", i, err, output[i].String())
		}
		for _, dir := range []string{c.Upper, w.Dir} {
			got := content(filepath.Join(dir, fmt.Sprint("file", i)))
			for k := range byte(4) {
				if want := strings.Repeat(string(rune('a'+k)), 1<<20); len(got) != 4<<20 || got[int(k)<<20:][:1<<20] != want {
					t.Errorf("block %d of file %d in %q is not what was written (of %d bytes)", k, i, dir, len(got))
				}
			}
		}
	}
	if s := status(t, w); s.Errors > 0 {
		t.Errorf("%d errors, the last %q", s.Errors, s.LastError)
	}
}

// What the mount has locked stays so whoever is killed or replaced, and only as long
// as there is the mount.
func TestFilesLiveWithTheMount(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	checkLocked(t, c, "mounted")
	write := func(when string) {
		t.Helper()
		checkLocked(t, c, when)
		if err := os.WriteFile(filepath.Join(w.Dir, strings.ReplaceAll(when, " ", "-")), []byte(when), 0o600); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		checkLocked(t, c, when)
	}
	pid := worker(t, w, 0)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	write("the worker was killed")
	if err := reload(t, w); err != nil {
		t.Fatal(err)
	}
	write("reloaded")
	if err := reload(t, w); err != nil {
		t.Fatal(err)
	}
	write("reloaded again")
	if err := syscall.Kill(status(t, w).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	write("the supervisor was killed")
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	write("rescued")
	if err := syscall.Kill(worker(t, w, 0), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	write("the worker was killed again")
	if err := mount.Unmount(testContext(t), w.Dir, false); err != nil {
		t.Fatal(err)
	}
	// Who is told that the mount is gone may have what it held.
	files, err := lockFiles(c.Lock)
	if err != nil {
		t.Fatal(err)
	}
	files[0].Close()
}

// What the mount is to hold and can't is why there is none.
func TestFilesAreMissing(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	files, err := lockFiles(c.Lock)
	if err != nil {
		t.Fatal(err)
	}
	defer files[0].Close()
	if err := mount.Hold(testContext(t), w); err == nil || !strings.Contains(err.Error(), "is locked") {
		t.Errorf("%v, want that it is locked", err)
	}
	if _, err := mount.Dial(testContext(t), w.Dir); !errors.Is(err, mount.ErrNotMounted) {
		t.Errorf("%v, want %v", err, mount.ErrNotMounted)
	}
}

// A worker that can't serve when it is its turn is why nothing is mounted.
func TestTurnRefused(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	if err := os.WriteFile(c.RefuseTurn, []byte("of a newer format"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mount.Hold(testContext(t), w); err == nil || !strings.Contains(err.Error(), "of a newer format") {
		t.Errorf("%v, want the reason", err)
	}
	files, err := lockFiles(c.Lock)
	if err != nil {
		t.Fatal(err)
	}
	files[0].Close()
}

// A successor that can't serve when it is its turn is tried again, with errors until
// it can.
func TestSuccessorRefusesItsTurn(t *testing.T) {
	for _, how := range []string{"kill", "reload"} {
		t.Run(how, func(t *testing.T) {
			const reason = "of a newer format"
			w, c := changeableWant(t, serverConfig{})
			lease(t, w)
			pid := worker(t, w, 0)
			if err := os.WriteFile(c.RefuseTurn, []byte(reason), 0o600); err != nil {
				t.Fatal(err)
			}
			if how == "kill" {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else if err := reload(t, w); err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%v, want the reason", err)
			}
			file := filepath.Join(w.Dir, "new")
			if err := os.WriteFile(file, nil, 0o600); !errors.Is(err, syscall.EIO) {
				t.Errorf("%v, want EIO", err)
			}
			if s := status(t, w); !strings.Contains(s.LastError, reason) {
				t.Errorf("the last error is %q, want it to say %q", s.LastError, reason)
			}
			if err := os.Remove(c.RefuseTurn); err != nil {
				t.Fatal(err)
			}
			eventually(t, testContext(t), func() string {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					return err.Error()
				}
				return ""
			})
		})
	}
}

// A successor that is killed when it is its turn has one itself, and nobody notices.
func TestSuccessorIsKilledInItsTurn(t *testing.T) {
	for _, how := range []string{"kill", "reload"} {
		t.Run(how, func(t *testing.T) {
			w, c := changeableWant(t, serverConfig{})
			lease(t, w)
			pid := worker(t, w, 0)
			if err := os.WriteFile(c.RefuseTurn, []byte(dieOnce), 0o600); err != nil {
				t.Fatal(err)
			}
			if how == "kill" {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			} else if err := reload(t, w); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Errorf("%v, want that the worker was killed", err)
			}
			if err := os.WriteFile(filepath.Join(w.Dir, "new"), nil, 0o600); err != nil {
				t.Error(err)
			}
			if s := status(t, w); s.Restarts != 2 || s.Errors > 0 {
				t.Errorf("%d restarts, want 2: %v; %d errors", s.Restarts, s.LastRestarts, s.Errors)
			}
		})
	}
}

// The kernel forgets what it is told to, by each worker that serves.
func TestNotify(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	lease(t, w)
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(c.Upper, "file"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(w.Dir, "file")
	if _, err := os.ReadFile(file); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	put("first")
	if _, err := os.ReadFile(file); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v: the kernel asks again without being told to", err)
	}
	pid := 0
	for _, text := range []string{"first", "later"} {
		pid = worker(t, w, pid)
		put(text)
		if err := os.WriteFile(filepath.Join(w.Dir, forgetName), []byte("file"), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, testContext(t), func() string {
			if got := content(file); got != text {
				return fmt.Sprintf("the file is %q, want %q", got, text)
			}
			return ""
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel tells whether it knows a node, to each worker that asks.
func TestKnown(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	lease(t, w)
	f, err := os.Create(filepath.Join(w.Dir, "file")) // open, so that it isn't forgotten
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	node := fi.Sys().(*syscall.Stat_t).Ino
	pid := 0
	for range 2 {
		pid = worker(t, w, pid)
		for _, want := range []string{fmt.Sprint(node, " true"), fmt.Sprint(node+1<<40, " false")} {
			number, _, _ := strings.Cut(want, " ")
			if err := os.WriteFile(filepath.Join(w.Dir, askName), []byte(number), 0o600); err != nil {
				t.Fatal(err)
			}
			eventually(t, testContext(t), func() string {
				if got := content(c.Upper + askName); got != want {
					return fmt.Sprintf("the kernel knows of the node: %q, want %q", got, want)
				}
				return ""
			})
		}
		if err := os.Remove(c.Upper + askName); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

// A worker that is killed while the kernel is being told to forget what a request to
// it holds has a successor all the same.
func TestKilledWhileTheKernelForgets(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	lease(t, w)
	pid := worker(t, w, 0)
	makes := exec.CommandContext(testContext(t), "sh", "-c", `echo text >"$0"`, filepath.Join(w.Dir, stuckName))
	if err := makes.Start(); err != nil {
		t.Fatal(err)
	}
	supervisor := status(t, w).PID
	eventually(t, testContext(t), func() string {
		if !waits(supervisor) && !waits(pid) {
			return "no thread waits for the kernel to forget"
		}
		return ""
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := makes.Wait(); err != nil {
		t.Error(err)
	}
	if got := content(filepath.Join(c.Upper, stuckName)); got != "text\n" {
		t.Errorf("%q was written", got)
	}
}

// waits reports whether a thread of the process can't be interrupted.
func waits(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, stat := range stats {
		text := content(stat)
		if strings.HasPrefix(text[strings.LastIndexByte(text, ')')+1:], " D ") {
			return true
		}
	}
	return false
}

// A request that takes long and gets on is no reason to end the worker.
func TestProgress(t *testing.T) {
	w, _ := changeableWant(t, serverConfig{Patience: time.Second})
	lease(t, w)
	if err := os.WriteFile(filepath.Join(w.Dir, longName), nil, 0o600); err != nil {
		t.Error(err)
	}
	if s := status(t, w); s.Restarts != 0 {
		t.Errorf("%d restarts: %v", s.Restarts, s.LastRestarts)
	}
}

// A mount that is detached while it is used keeps what it holds until it is not.
func TestFilesOfADetachedMount(t *testing.T) {
	w, c := changeableWant(t, serverConfig{})
	if err := mount.Hold(testContext(t), w); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(w.Dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := mount.Unmount(context.Background(), w.Dir, true); err != nil {
		t.Fatal(err)
	}
	checkLocked(t, c, "detached")
	if _, err := f.WriteString("text"); err != nil {
		t.Error(err)
	}
	f.Close()
	eventually(t, testContext(t), func() string {
		files, err := lockFiles(c.Lock)
		if err != nil {
			return err.Error()
		}
		files[0].Close()
		return ""
	})
}
