package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sitefs/sitefs/manifest/digest"
)

// helperNames are what the program is called by mount(8), which runs
// /sbin/mount.TYPE for a file system that the kernel doesn't know: with them as
// links to it, this is a line of fstab(5).
//
//	/srv/app/pylock.toml /srv/app/.venv fuse.sitefs ro,nofail,python=3.12 0 0
var helperNames = []string{"mount.fuse.sitefs", "mount.sitefs"}

// Exit codes of mount(8) and its helpers.
const (
	helperUsage  = 1
	helperFailed = 32
)

// mountHelper mounts as mount(8) asks for it, and returns its exit code.
func mountHelper(args []string, stdout, stderr io.Writer) int {
	h, err := parseHelper(args)
	if err != nil {
		fmt.Fprintf(stderr, "sitefs: error: %v\n", err)
		return helperUsage
	}
	if h.fake {
		return exitOK
	}
	if err := h.setenv(); err != nil {
		fmt.Fprintf(stderr, "sitefs: error: %v\n", err)
		return helperFailed
	}
	if run(h.arguments(), stdout, stderr) != exitOK {
		return helperFailed
	}
	return exitOK
}

// helper is what mount(8) asks for.
type helper struct {
	source, dir string
	flags       []string // of sitefs mount
	store       string   // "" is the default
	fake        bool     // all but the mount itself
}

// parseHelper reads a command line of mount(8): SOURCE DIR [-sfnv] [-N NAMESPACE]
// [-o OPTIONS] [-t TYPE].
func parseHelper(args []string) (*helper, error) {
	h := &helper{}
	var names []string
	var options string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-o" || arg == "-t" || arg == "-N":
			if len(args) == 0 {
				return nil, fmt.Errorf("%s wants an argument", arg)
			}
			if arg == "-o" {
				options += "," + args[0]
			}
			args = args[1:]
		case len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "sfnv") == "":
			h.fake = h.fake || strings.Contains(arg, "f")
		case strings.HasPrefix(arg, "-"):
			return nil, fmt.Errorf("%q is no flag that mount(8) gives: to mount by hand use `sitefs mount`", arg)
		default:
			names = append(names, arg)
		}
	}
	if len(names) != 2 {
		return nil, fmt.Errorf("%q: want a lock file or the digest of a tree, and a directory, as mount(8) gives them", names)
	}
	h.source, h.dir = names[0], names[1]
	for o := range strings.SplitSeq(options, ",") {
		if err := h.option(o); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// helperFlags are the options that are flags of sitefs mount.
var helperFlags = []string{"python", "prefix", "layout", "uid", "gid", "extra", "group"}

// ignoredOptions change nothing: mount(8) and systemd heed them, or every mount is
// like that. A mount is read-only also where mount(8) says rw by default.
var ignoredOptions = []string{
	"", "defaults", "ro", "rw", "nosuid", "nodev", "exec", "suid", "dev", "async",
	"auto", "noauto", "nofail", "_netdev", "user", "users", "owner", "group", "nouser",
	"atime", "noatime", "nodiratime", "relatime", "norelatime", "strictatime", "lazytime",
}

// option heeds one option.
func (h *helper) option(o string) error {
	name, value, valued := strings.Cut(o, "=")
	switch {
	case valued && slices.Contains(helperFlags, name):
		h.flags = append(h.flags, "--"+name+"="+value)
	case valued && name == "store":
		if !filepath.IsAbs(value) {
			return fmt.Errorf("store is %q, want an absolute path", value)
		}
		h.store = value
	case o == "allow_other":
		h.flags = append(h.flags, "--allow-other")
	case o == "offline":
		h.flags = append(h.flags, "--offline")
	case o == "noexec":
		return errors.New("noexec would keep Python from loading compiled modules: add exec, after user or users too")
	case strings.HasPrefix(name, "x-"), strings.HasPrefix(name, "X-"), name == "comment", valued && name == "user",
		!valued && slices.Contains(ignoredOptions, o):
	default:
		return fmt.Errorf("there is no option %q; there are allow_other, offline, store=DIR, and %s=…", o, strings.Join(helperFlags, "=…, "))
	}
	return nil
}

// arguments returns the command line of sitefs that mounts.
func (h *helper) arguments() []string {
	source := "-r"
	if _, err := digest.Parse(h.source); err == nil {
		source = "--tree"
	}
	args := append([]string{"mount", "--fstab"}, h.flags...)
	return append(args, source, h.source, "--", h.dir)
}

// setenv sets what mount(8) leaves out at the start of the machine.
func (h *helper) setenv() error {
	if h.store != "" {
		if err := os.Setenv("SITEFS_STORE", h.store); err != nil {
			return err
		}
	}
	if os.Getenv("HOME") != "" {
		return nil
	}
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		return fmt.Errorf("HOME is not set, and the home of this user can't be found: %w", err)
	}
	return os.Setenv("HOME", u.HomeDir)
}
