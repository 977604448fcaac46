package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// NamespaceVerb is the name of the verb that runs in a namespace of its own.
const NamespaceVerb = "namespace-run"

// A Namespace is what the process is told that mounts in a namespace of its own
// and becomes a command there, as the flags of a hidden verb.
type Namespace struct {
	Want   string // a mount.Want, JSON; "" only finds out whether it would work
	Prompt string
}

// unshareCommand makes the namespaces and becomes what follows it: a Go program
// has threads from its start, and the kernel takes none with threads into another
// user namespace. So the command keeps the pid, and nothing stands between it and
// its signals, its terminal and who waits for it.
//
// In the namespace the user's uid and primary gid are themselves and nothing else
// of this machine has a name. The capabilities, which hold in the namespace alone,
// are kept for the mount and dropped before the command.
var unshareCommand = []string{"unshare", "--user", "--map-current-user", "--keep-caps", "--mount"}

// mapMore gives the other ids of the namespace, root's too, to those that the user
// has been given for that (subuid(5)), by newuidmap(1): util-linux 2.38.
const mapMore = "--map-auto"

// enterNamespace returns a lease whose command runs in a namespace that holds the
// mount, which nobody else sees and which goes with the last of its processes. A
// machine that doesn't let the user is a noNamespaceError.
func (s *Session) enterNamespace(ctx context.Context, env *Environment, o EnterOptions) (*Lease, error) {
	m, dir, err := o.mount(env)
	if err != nil {
		return nil, err
	}
	m.rung = mount.RungNamespace
	want, _, err := s.want(ctx, env, dir, m, 0)
	if err != nil {
		return nil, err
	}
	held, err := join(ctx, want)
	if err == nil {
		return &Lease{Prefix: dir, Prompt: env.Name, held: held}, nil
	}
	if !errors.Is(err, mount.ErrNotMounted) {
		return nil, err
	}
	argv, err := namespaceArgv(ctx)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(want)
	if err != nil {
		return nil, err
	}
	s.Note(fmt.Sprintf("mounting on %s in a namespace: tree %s", dir, env.Tree))
	return &Lease{
		Prefix: dir,
		Prompt: env.Name,
		inside: append(argv, "--mount", string(b), "--prompt", env.Name, "--"),
	}, nil
}

// namespaceArgv is the command line that goes into a namespace of its own, up to the
// flags of the verb there, with as many ids as work here: the user's own are enough.
func namespaceArgv(ctx context.Context) ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program to serve with: %w", err)
	}
	unshare, err := exec.LookPath(unshareCommand[0])
	if err != nil {
		return nil, &noNamespaceError{"no unshare on PATH; install the package util-linux"}
	}
	flags, verb := unshareCommand[1:], []string{"--", exe, NamespaceVerb}
	if hasSubordinates(subordinateFiles, os.Getuid()) {
		argv := slices.Concat([]string{unshare}, flags, []string{mapMore}, verb)
		if tryNamespace(ctx, argv) == nil {
			return argv, nil
		}
	}
	argv := slices.Concat([]string{unshare}, flags, verb)
	return argv, tryNamespace(ctx, argv)
}

// subordinateFiles say which ids users may map besides their own.
var subordinateFiles = []string{"/etc/subuid", "/etc/subgid"}

// hasSubordinates reports whether every one of files gives some to the user.
func hasSubordinates(files []string, uid int) bool {
	names := []string{strconv.Itoa(uid)}
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
			name, _, ok := strings.Cut(line, ":")
			return ok && slices.Contains(names, name)
		}) {
			return false
		}
	}
	return true
}

// ProbeNamespace finds out whether the user can mount in a namespace. The error
// names what forbids it and, where that is known, the line that allows it.
func ProbeNamespace(ctx context.Context) error {
	_, err := namespaceArgv(ctx)
	return err
}

// join returns a lease on a mount that this process is in the namespace of, as in
// a run inside a run; where there is none the error is a mount.ErrNotMounted.
func join(ctx context.Context, want mount.Want) (*os.File, error) {
	c, err := mount.Dial(ctx, want.Dir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if status.Tree != want.Tree {
		return nil, fmt.Errorf("%q holds another environment: %w", want.Dir, mount.ErrNotMounted)
	}
	return c.Lease(ctx, want.Tree, 0)
}

// tryNamespace goes in, mounts something and comes back.
func tryNamespace(ctx context.Context, argv []string) error {
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = &stderr
	err := cmd.Run()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	reason := strings.TrimPrefix(strings.TrimSpace(stderr.String()), "sitefs: error: ")
	if reason == "" {
		reason = err.Error()
	}
	if fix := forbidden(); fix != "" {
		reason += "; " + fix
	} else if strings.HasPrefix(reason, unshareCommand[0]+":") && filtered() {
		reason += "; " + filteredFix
	}
	return &noNamespaceError{reason}
}

// namespaceSettings are the ways to keep users from namespaces that a machine
// tells: the file, what it holds where it forbids, and the setting that allows.
var namespaceSettings = []struct{ file, forbids, allows string }{
	{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
}

// forbidden names what forbids user namespaces and the line that allows them; ""
// is nothing that can be read.
func forbidden() string {
	for _, s := range namespaceSettings {
		if b, err := os.ReadFile(s.file); err == nil && strings.TrimSpace(string(b)) == s.forbids {
			return fmt.Sprintf("%s is %s, which forbids it: root allows it with \"sysctl -w %s\"", s.file, s.forbids, s.allows)
		}
	}
	return ""
}

// filteredFix is for who can't unshare and is behind a filter: a container's, mostly.
const filteredFix = "a filter of system calls (seccomp) holds this process, as in a container: start it with --security-opt seccomp=unconfined, or with --device /dev/fuse and --cap-add SYS_ADMIN"

// filtered reports whether system calls of this process go through a filter, as
// proc(5) tells it.
func filtered() bool {
	b, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(b), "\nSeccomp:\t2\n")
}

// Enter mounts and returns the lease, in the process that is in the namespace.
func (n Namespace) Enter(ctx context.Context) (*Lease, error) {
	var want mount.Want
	if err := json.Unmarshal([]byte(n.Want), &want); err != nil {
		return nil, fmt.Errorf("--mount: %w; this verb is started by sitefs itself, not by hand", err)
	}
	if err := hideMounts(want.Dir); err != nil {
		return nil, err
	}
	held, err := mount.Lease(ctx, want)
	if err != nil {
		return nil, err
	}
	if err := dropCapabilities(); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return &Lease{Prefix: want.Dir, Prompt: n.Prompt, held: held}, nil
}
