package ladder

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/sandbox"
)

// A container is the flags of one with this machine's own root as its own.
type container []string

// run runs a command in the container, in which p's home is.
//
// The machine that builds has a cgroup hierarchy that podman trips over; what is
// unmounted here is so for podman alone.
func (c container) run(p *person, argv ...string) result {
	p.t.Helper()
	podman := []string{"unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"`, "podman"}
	podman = append(podman, c.podman(p)...)
	podman = append(podman, "--rootfs", "/:O")
	return p.run(append(podman, argv...)...)
}

// podman returns the command that runs the container, but for its root.
func (c container) podman(p *person) []string {
	argv := []string{"podman", "run", "--rm", "--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
		"--volume=" + p.home + ":" + p.home, "--volume=" + bin + ":" + bin, "--workdir=" + p.home}
	for _, kv := range p.env {
		argv = append(argv, "--env="+kv)
	}
	return append(argv, c...)
}

// rootless is run as an ordinary user, who has the uids of a range to give to a
// container. Its root can't be laid over the machine's, and has the machine's
// programs instead.
func (c container) rootless(p *person, argv ...string) result {
	p.t.Helper()
	fs := filepath.Join(p.home, "rootfs")
	script := fmt.Sprintf(`set -e
umount /sys/fs/cgroup/unified 2>/dev/null || true
mount --make-rshared /
mkdir -p %[1]s/root %[1]s/run %[1]s/root/usr
for link in bin lib lib64 sbin; do ln -sfn usr/$link %[1]s/root/$link; done
echo "$(id -un %[2]d):100000:65536" >%[1]s/ids
chown -R %[2]d:%[2]d %[1]s
mount --bind %[1]s/ids /etc/subuid
mount --bind %[1]s/ids /etc/subgid
exec setpriv --reuid=%[2]d --regid=%[2]d --clear-groups env HOME=%[1]s XDG_RUNTIME_DIR=%[1]s/run "$@"`, fs, p.uid)
	// Podman leaves a process behind, which goes with the process namespace.
	podman := []string{"unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "podman"}
	podman = append(podman, c.podman(p)...)
	podman = append(podman, "--volume=/usr:/usr:ro", "--rootfs", fs+"/root")
	as := *p
	as.uid = root
	return as.run(append(podman, argv...)...)
}

func TestContainer(t *testing.T) {
	sandbox.NeedProgram(t, "podman")
	sandbox.NeedProgram(t, "unshare")
	for _, c := range []struct {
		name  string
		flags container
		want  []string // of what show prints of the rung
		says  []string
	}{
		{"device and capability", container{"--device=/dev/fuse", "--cap-add=SYS_ADMIN"}, []string{"mount(2)"}, nil},
		{"device, no filter of system calls", container{"--device=/dev/fuse", "--security-opt=seccomp=unconfined"}, []string{"namespace"},
			[]string{"--cap-add SYS_ADMIN", "namespace"}},
		// The usual filter forbids namespaces, where podman is built with one.
		{"device", container{"--device=/dev/fuse"}, []string{"namespace", "none"}, []string{"--cap-add SYS_ADMIN"}},
		{"capability", container{"--cap-add=SYS_ADMIN"}, []string{"none"}, []string{"--device /dev/fuse", "copy", "MB"}},
		{"neither", nil, []string{"none"}, []string{"--device /dev/fuse", "copy", "MB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPerson(t, root)
			if r := c.flags.run(p, "true"); r.code != 0 {
				t.Skipf("needs podman to run: %s", r.stderr)
			}
			// Its processes are killed when the first ends: what they leave is to go with it.
			p.setenv("XDG_STATE_HOME", "/run/state")
			r := c.flags.run(p, inEnv("python", "-c", show)...)
			rung, ok := strings.CutPrefix(r.stdout, "1.0 0 0 ")
			if r.code != 0 || !ok || !slices.Contains(c.want, rung) {
				t.Fatalf("exit code %d, %q, want a rung of %q\n%s", r.code, r.stdout, c.want, r.stderr)
			}
			expectSays(t, r, c.says)
		})
	}
}

// Root of a user's own container may mount there: the capability holds in the
// user's namespace, which is all that a mount needs. Podman may take 20 seconds to
// find out that the container has ended.
func TestRootlessContainer(t *testing.T) {
	for _, program := range []string{"podman", "unshare", "setpriv", "newuidmap"} {
		sandbox.NeedProgram(t, program)
	}
	p := newPerson(t, user)
	p.setenv("XDG_STATE_HOME", "/run/state")
	r := container{"--device=/dev/fuse", "--cap-add=SYS_ADMIN"}.rootless(p, inEnv("python", "-c", show)...)
	if r.stdout == "" && strings.Contains(r.stderr, "Error: ") { // podman's; sitefs says "error: "
		t.Skipf("needs podman to run without root: %s", r.stderr)
	}
	if want := "1.0 0 0 mount(2)"; r.code != 0 || r.stdout != want {
		t.Errorf("exit code %d, %q, want %q\n%s", r.code, r.stdout, want, r.stderr)
	}
}

// mount says in a container what is missing, and what to start it with.
func TestContainerMount(t *testing.T) {
	sandbox.NeedProgram(t, "podman")
	p := newPerson(t, root)
	device := container{"--device=/dev/fuse"}
	if r := device.run(p, "true"); r.code != 0 {
		t.Skipf("needs podman to run: %s", r.stderr)
	}
	p.setenv("XDG_STATE_HOME", "/run/state")
	const noFUSE = 9 // sitefs help exit-codes
	r := device.run(p, "sitefs", "mount", "-r", "pylock.toml")
	if r.code != noFUSE {
		t.Errorf("exit code %d, want %d", r.code, noFUSE)
	}
	expectSays(t, r, []string{"--device /dev/fuse", "--cap-add SYS_ADMIN"})
	if _, err := os.Lstat(p.home + "/.venv"); err == nil {
		t.Error("left a mount point behind")
	}
}
