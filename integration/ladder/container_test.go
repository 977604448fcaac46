package ladder

import (
	"os"
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
	podman := []string{"unshare", "--mount", "sh", "-c", `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"`, "podman",
		"podman", "run", "--rm", "--network=none", "--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
		"--volume=" + p.home + ":" + p.home, "--volume=" + bin + ":" + bin, "--workdir=" + p.home}
	for _, kv := range p.env {
		podman = append(podman, "--env="+kv)
	}
	podman = append(podman, c...)
	podman = append(podman, "--rootfs", "/:O")
	return p.run(append(podman, argv...)...)
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
