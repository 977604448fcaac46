package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store/confine"
)

const (
	fuseDevice = "/dev/fuse"
	fuseConf   = "/etc/fuse.conf"
)

// mounting looks at the ways to mount, from the best down: each by itself, and then
// what is left of them.
func (m *Machine) mounting(ctx context.Context) []Check {
	if m.OS != "linux" {
		return []Check{{
			Name:   "mount",
			Status: Warning,
			Found:  "sitefs can't mount on " + m.OS + " yet",
			Wanted: "Linux",
			Fix:    "sitefs materialize DIR",
		}}
	}
	kernel, direct := m.Mount(mount.RungMount)
	rung, err := mount.RungMount, direct
	var helped error
	if direct != nil {
		if kernel, helped = m.Mount(mount.RungHelper); helped == nil {
			rung, err = mount.RungHelper, nil
		}
	}
	entered := m.Namespace(ctx)
	if err != nil && entered == nil {
		rung, err = mount.RungNamespace, nil
	}
	checks := []Check{m.device(), m.helper(ctx, direct == nil, helped), namespaces(entered, direct == nil || helped == nil), mountable(rung, err)}
	if kernel.Major > 0 {
		checks = append(checks, offers(kernel))
	}
	return checks
}

// device looks at the device that mounts are served through.
func (m *Machine) device() Check {
	c := Check{Name: "fuse device", Wanted: fuseDevice + ", which you may open for reading and writing"}
	fi, err := m.stat(fuseDevice)
	if err == nil && fi.Mode()&fs.ModeCharDevice == 0 {
		c.Status, c.Found = Warning, fuseDevice+" is no device"
		c.Fix = fmt.Sprintf("as root: rm %[1]s && mknod -m 666 %[1]s c 10 229", fuseDevice)
		return c
	}
	if err == nil {
		err = m.OpenDevice()
	}
	switch {
	case err == nil:
		c.Status, c.Found = OK, fuseDevice+" can be opened"
	case errors.Is(err, fs.ErrPermission):
		c.Status, c.Found = Warning, fmt.Sprintf("%s: permission denied", fuseDevice)
		c.Fix = "as root: chmod 666 " + fuseDevice
	default:
		c.Status, c.Found = Warning, fmt.Sprintf("no %s: %v", fuseDevice, err)
		c.Fix = "as root: modprobe fuse"
	}
	if c.Status != OK && m.container() != "" {
		c.Fix = "start the container with --device " + fuseDevice
	}
	return c
}

// container names what made the container that this is, "" if it is none that says so.
func (m *Machine) container() string {
	switch {
	case m.exists("/run/.containerenv"):
		return "podman"
	case m.exists("/.dockerenv"):
		return "docker"
	}
	return ""
}

// helper looks at fusermount3, which users other than root need. Refused is why it
// didn't mount.
func (m *Machine) helper(ctx context.Context, direct bool, refused error) Check {
	c := Check{Name: "fusermount3", Wanted: "fusermount3 of libfuse, setuid root"}
	path, err := m.LookPath("fusermount3")
	if err != nil {
		path, err = m.LookPath("fusermount") // as systems with libfuse 2 alone call it
	}
	switch {
	case err != nil:
		c.Status, c.Found, c.Fix = Warning, "no fusermount3 on PATH", "install the package fuse3"
	case !m.setuid(path):
		c.Status, c.Found, c.Fix = Warning, path+" is not setuid", "as root: chmod u+s "+path
	case refused != nil && strings.Contains(m.read("/proc/self/status"), "\nNoNewPrivs:\t1\n"):
		c.Status, c.Found = Warning, path+" can't become root: this process and what it starts gain no privileges (no_new_privs)"
		c.Fix = "start from a service without NoNewPrivileges=, or a container without --security-opt no-new-privileges"
	case refused != nil:
		c.Status, c.Found, c.Fix = Warning, refused.Error(), "see what it says; root needs no fusermount3"
	default:
		c.Status, c.Found = OK, path
		if version, err := m.Output(ctx, path, "-V"); err == nil {
			c.Found += ", " + version
		}
	}
	if direct && c.Status == Warning {
		c.Status, c.Wanted = Note, "nothing: you may mount without it"
	}
	return c
}

func (m *Machine) setuid(path string) bool {
	fi, err := m.stat(path)
	return err == nil && fi.Mode()&fs.ModeSetuid != 0
}

// namespaces says why no mount can be made in a namespace, which only matters where
// there is no better way.
func namespaces(refused error, better bool) Check {
	c := Check{Name: "user namespaces", Status: OK, Found: "a command can have a mount of its own in one", Wanted: "a user namespace to mount in"}
	if refused == nil {
		return c
	}
	c.Status, c.Found = Warning, refused.Error()
	if i := strings.LastIndex(c.Found, ": root allows it with "); i >= 0 {
		c.Found, c.Fix = c.Found[:i], "as root: "+strings.Trim(c.Found[i+len(": root allows it with "):], `"`)
	} else if i := strings.LastIndex(c.Found, "; "); i >= 0 {
		c.Found, c.Fix = c.Found[:i], c.Found[i+len("; "):]
	}
	if better {
		c.Status, c.Wanted = Note, "nothing: there is a better way to mount"
	}
	return c
}

// mountable sums the ways up.
func mountable(rung string, err error) Check {
	c := Check{Name: "mount", Status: OK, Found: "by " + rung, Wanted: "a way to mount"}
	switch {
	case err != nil:
		c.Status, c.Found = Failure, err.Error()
		c.Fix = "one of the lines above; until then `sitefs run` makes a copy, and `sitefs materialize` a real environment"
	case rung == mount.RungNamespace:
		c.Status, c.Found = Warning, "in a namespace, for `sitefs run` and `sitefs shell` alone"
		c.Fix = "what fusermount3 and the fuse device lack, for `sitefs mount`"
	}
	return c
}

// offers looks at what the kernel can do for a mount.
func offers(k mount.Kernel) Check {
	c := Check{Name: "kernel", Status: OK, Found: "FUSE " + k.Protocol(), Wanted: "Linux 6.9 or newer: resend, no-open, no-opendir, cached symlinks"}
	var lacks []string
	for _, f := range []struct {
		name string
		has  bool
	}{{"resend", k.Resend}, {"no-open", k.NoOpen}, {"no-opendir", k.NoOpenDir}, {"cached symlinks", k.CacheSymlinks}} {
		if !f.has {
			lacks = append(lacks, f.name)
		}
	}
	switch {
	case len(lacks) == 0:
		c.Found += " with all that mounts use"
	default:
		c.Status = Warning
		c.Found += " without " + strings.Join(lacks, ", ")
		c.Fix = "update the kernel"
		if !k.Resend {
			c.Found += ": a mount ends if the process that serves it crashes"
		}
	}
	return c
}

// allowOther looks at whether users may let others into their mounts.
func (m *Machine) allowOther(context.Context) []Check {
	if m.OS != "linux" || m.UID == 0 {
		return nil
	}
	c := Check{
		Name:   "allow_other",
		Status: OK,
		Found:  "user_allow_other is in " + fuseConf,
		Wanted: "user_allow_other, if root, cron jobs or containers are to look into your mounts",
	}
	for line := range strings.Lines(m.read(fuseConf)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return []Check{c}
		}
	}
	c.Status, c.Found = Note, "no user_allow_other in "+fuseConf+": your mounts are yours alone"
	c.Fix = "as root: echo user_allow_other >>" + fuseConf + ", then mount with --allow-other; or have root mount, with --allow-other or by /etc/fstab; or let the service or the container mount for itself"
	return []Check{c}
}

// confinement looks at what holds a worker back from what it need not do.
func (m *Machine) confinement(context.Context) []Check {
	if m.OS != "linux" {
		return nil
	}
	wanted := []string{confine.Capabilities, confine.Landlock, confine.NoNewPrivs, confine.Read, confine.Seccomp}
	held := m.Confined()
	lacks := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return slices.Contains(held, name) })
	c := Check{Name: "confinement", Status: OK, Found: strings.Join(held, ", "), Wanted: strings.Join(wanted, ", ")}
	if len(lacks) > 0 {
		c.Status = Warning
		c.Found = "who serves mounts isn't held back by " + strings.Join(lacks, ", ")
		c.Fix = "a kernel with Landlock and seccomp: see /sys/kernel/security/lsm, and lsm= of the kernel's command line"
		if m.container() != "" {
			c.Fix = "a container runtime whose filter of system calls knows Landlock"
		}
	}
	return []Check{c}
}

// deadMounts looks for mounts whose processes were killed.
func (m *Machine) deadMounts(ctx context.Context) []Check {
	if m.OS != "linux" {
		return nil
	}
	mounts, err := m.Mounts(ctx)
	var checks []Check
	for _, s := range mounts {
		if s.State == mount.StateDead {
			checks = append(checks, Check{
				Name:   "dead mount",
				Status: Warning,
				Found:  fmt.Sprintf("%s: its server, pid %d, is gone", s.Dir, s.PID),
				Wanted: "a server that answers",
				Fix:    "sitefs umount " + quote(s.Dir),
			})
		}
	}
	if err != nil {
		checks = append(checks, Check{Name: "mounts", Status: Warning, Found: err.Error(), Wanted: "mounts that answer", Fix: "sitefs umount --all --detach"})
	}
	if checks == nil {
		checks = []Check{{Name: "mounts", Status: OK, Found: fmt.Sprintf("%d, none of them dead", len(mounts)), Wanted: "mounts that answer"}}
	}
	return checks
}

// quote returns a path as a shell takes it.
func quote(path string) string {
	if strings.ContainsAny(path, " '\"\\$`&|;<>()*?[]#~!{}\t\n") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return filepath.Clean(path)
}
