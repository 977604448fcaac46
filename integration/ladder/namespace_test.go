package ladder

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// inNamespace is a person whose commands run in a namespace.
func inNamespace(t *testing.T, uid int) *person {
	t.Helper()
	sandbox.NeedProgram(t, "unshare")
	p := newPerson(t, uid)
	p.setenv("SITEFS_MOUNT", "namespace")
	return p
}

// The command is the process that was started, in the namespace too.
func TestNamespaceKeepsProcess(t *testing.T) {
	p := inNamespace(t, user)
	cmd := p.command(inEnv("sh", "-c", "echo $$; exit 7")...)
	var out strings.Builder
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("%v, want exit code 7", err)
	}
	if got, want := out.String(), fmt.Sprintln(cmd.Process.Pid); got != want {
		t.Errorf("the command's pid is %s, want %s", got, want)
	}

	cmd = p.command(inEnv("sh", "-c", "kill -TERM $$")...)
	if err := cmd.Run(); err == nil {
		t.Error("the command outlived a signal")
	}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGTERM {
		t.Errorf("the command ended by %v, want SIGTERM", cmd.ProcessState)
	}
	if code := p.run(inEnv("no-such-command")...).code; code != 127 {
		t.Errorf("a command that is not there: exit code %d, want 127", code)
	}
}

// The command has no capability of those that mounted.
func TestNamespaceDropsCapabilities(t *testing.T) {
	p := inNamespace(t, user)
	status := p.output(inEnv("cat", "/proc/self/status")...)
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			if value != "0000000000000000" {
				t.Errorf("%s is %s, want none", name, value)
			}
		}
	}
}

// Nobody outside sees the mount, and a run inside has its own beside it.
func TestNamespaceIsPrivate(t *testing.T) {
	p := inNamespace(t, user)
	table := p.output(inEnv("cat", "/proc/self/mountinfo")...)
	if !strings.Contains(table, "fuse.sitefs") {
		t.Errorf("the command sees no mount:\n%s", table)
	}
	cmd := p.command(inEnv("sh", "-c", "echo ready; read line; python -c 'import alpha; print(alpha.version)'")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ready, version string
	if _, err := fmt.Fscan(out, &ready); err != nil {
		t.Fatal(err)
	}
	mounts, err := sandbox.Mounts(p.home)
	if err != nil || len(mounts) > 0 {
		t.Errorf("mounts outside: %q, %v", mounts, err)
	}
	if got := p.output(inEnv("python", "-c", "import alpha; print(alpha.version)")...); got != "1.0" {
		t.Errorf("a second run beside the first: %q", got)
	}
	fmt.Fprintln(in)
	if _, err := fmt.Fscan(out, &version); err != nil || version != "1.0" {
		t.Errorf("the first run, after the second: %q, %v", version, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := p.output(inEnv("sitefs", "run", "-r", "pylock.toml", "--", "python", "-c", "import alpha; print(alpha.version)")...); got != "1.0" {
		t.Errorf("a run inside a run: %q", got)
	}
	if got := p.output(inEnv("sitefs", "run", "--relocatable", "-r", "pylock.toml", "--", "python", "-c", "import alpha; print(alpha.version)")...); got != "1.0" {
		t.Errorf("a run of another tree inside a run: %q", got)
	}
}

// What `sitefs run --help` says of the namespace, and what it doesn't say.
func TestNamespaceBreaks(t *testing.T) {
	t.Run("one id", func(t *testing.T) { namespaceBreaks(t, inNamespace(t, user)) })
	t.Run("more ids", func(t *testing.T) {
		p := inNamespace(t, user)
		p.withSubIDs()
		namespaceBreaks(t, p)
		// Rootless podman begins with this.
		mapMore := []string{"unshare", "--map-auto", "--map-root-user", "true"}
		if r := p.run(mapMore...); r.code != 0 {
			t.Errorf("mapping further users, outside: %s", r.stderr)
		}
		if r := p.run(inEnv(mapMore...)...); r.code == 0 {
			t.Error("mapping further users works in the namespace: the help of run says that it doesn't")
		}
	})
}

func namespaceBreaks(t *testing.T, p *person) {
	t.Helper()
	shared := filepath.Join(p.home, "shared")
	if err := os.WriteFile(shared, []byte("for the team\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(shared, root, team); err != nil {
		t.Fatal(err)
	}
	id, err := exec.LookPath("id")
	if err != nil {
		t.Skip(err)
	}
	program, err := os.ReadFile(id)
	if err != nil {
		t.Fatal(err)
	}
	setuid := filepath.Join(p.home, "setuid")
	if err := os.WriteFile(setuid, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(setuid, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	const overflow = "65534" // proc(5): what has no name in a namespace
	for _, c := range []struct {
		what    string
		command []string
		outside string
		inside  string
	}{
		{"the primary group", []string{"id", "-g"}, fmt.Sprint(user), fmt.Sprint(user)},
		{"a file of root's", []string{"stat", "-c", "%u", "/etc/passwd"}, "0", overflow},
		{"a file of another group of the user's", []string{"stat", "-c", "%g", shared}, fmt.Sprint(team), overflow},
		{"what that group may read", []string{"cat", shared}, "for the team", "for the team"},
		{"a setuid program", []string{setuid, "-u"}, "0", fmt.Sprint(user)},
		{"ssh, and a file of root's that is configuration", sshTakes(t, p), "taken", "refused"},
	} {
		if got := p.output(c.command...); got != c.outside {
			t.Errorf("%s, outside: %q, want %q", c.what, got, c.outside)
		}
		if got := p.output(inEnv(c.command...)...); got != c.inside {
			t.Errorf("%s, in the namespace: %q, want %q", c.what, got, c.inside)
		}
	}
	const ask = "sitefs status $VIRTUAL_ENV"
	if got := p.output(inEnv("sh", "-c", ask)...); !strings.Contains(got, "namespace: see `sitefs run --help`") {
		t.Errorf("status says\n%s", got)
	}
	help := p.output("sitefs", "run", "--help")
	for _, word := range []string{"nobody", "nogroup", "sudo", "ssh", "podman"} {
		if !strings.Contains(help, word) {
			t.Errorf("the help of run doesn't name %s", word)
		}
	}
}

// sshTakes is a command that says whether ssh takes configuration of root's: what is
// included must be root's or the user's.
func sshTakes(t *testing.T, p *person) []string {
	t.Helper()
	sandbox.NeedProgram(t, "ssh")
	file, included := filepath.Join(p.home, "ssh_config"), filepath.Join(p.home, "included")
	if err := os.WriteFile(included, []byte("Port 2222\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("Include "+included+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"sh", "-c", `if ssh -G -F "$0" host >/dev/null 2>&1; then echo taken; else echo refused; fi`, file}
}

// Who was given ids has them in the namespace, where that works.
func TestNamespaceIDs(t *testing.T) {
	own := fmt.Sprintf("%d %d 1", user, user)
	for _, c := range []struct {
		name  string
		setup func(*person)
		more  bool
	}{
		{"none given", func(*person) {}, false},
		{"some given", (*person).withSubIDs, true},
		{"some given, no newuidmap", func(p *person) { p.withSubIDs(); p.withoutHelper() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := inNamespace(t, user)
			c.setup(p)
			for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
				found := map[string]bool{}
				for line := range strings.Lines(p.output(inEnv("cat", file)...)) {
					found[strings.Join(strings.Fields(line), " ")] = true
				}
				if !found[own] || found["0 200000 1"] != c.more || (len(found) > 1) != c.more {
					t.Errorf("%s: %v, want %q, and more: %v", file, found, own, c.more)
				}
			}
		})
	}
}
