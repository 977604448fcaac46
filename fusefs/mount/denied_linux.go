package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// surroundings are what may take from a process rights that it would have. The kernel
// refuses with the same errors as ever and doesn't say who wanted it so.
type surroundings struct {
	read  func(file string) string // what a small file holds, "" if it can't be read
	magic func(dir string) int64   // of the file system that dir is on or would be, see statfs(2)
}

var here = surroundings{readSmall, magicOf}

// Files of the security modules (apparmor(7), selinux(8)).
const (
	appArmorFile = "/proc/self/attr/apparmor/current"
	helperRules  = "/etc/apparmor.d/fusermount3"
	enforceFile  = "/sys/fs/selinux/enforce"
	contextFile  = "/proc/self/attr/current"
)

// explain returns err, of mounting on dir, with what may be behind it where that is a
// lack of rights.
func (s surroundings) explain(dir string, err error) error {
	if !isDenied(err) {
		return err
	}
	for _, reason := range []string{s.network(dir), s.appArmor(err), s.seLinux()} {
		if reason != "" {
			err = fmt.Errorf("%w; %s", err, reason)
		}
	}
	return err
}

// isDenied reports whether err is a lack of rights; fusermount3 has but words for it.
func isDenied(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, fs.ErrPermission) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "Permission denied") || strings.Contains(text, "Operation not permitted")
}

func (s surroundings) network(dir string) string {
	if s.magic(dir) != unix.NFS_SUPER_MAGIC {
		return ""
	}
	return fmt.Sprintf("%q is on NFS, whose server decides what root and other users may do there (root_squash): choose a place on a disk of this machine", dir)
}

func (s surroundings) appArmor(err error) string {
	profile, enforced := strings.CutSuffix(s.read(appArmorFile), " (enforce)")
	if enforced {
		return fmt.Sprintf("the AppArmor profile %q rules this process and may forbid it: allow mount there, or start the container with --security-opt apparmor=unconfined", profile)
	}
	if strings.Contains(err.Error(), "fusermount") && s.read(helperRules) != "" {
		return fmt.Sprintf("the AppArmor profile %s names the places that fusermount3 may mount on: choose a place in your home, or have root add this one to it", helperRules)
	}
	return ""
}

func (s surroundings) seLinux() string {
	if s.read(enforceFile) != "1" {
		return ""
	}
	context := s.read(contextFile)
	if context == "" || strings.Contains(context, ":unconfined_t:") {
		return ""
	}
	return fmt.Sprintf("SELinux rules this process (%s) and may forbid it: \"ausearch -m avc -ts recent\" shows what it refused; start a container with --security-opt label=disable", context)
}

func readSmall(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.Trim(string(b), "\x00\n ")
}

func magicOf(dir string) int64 {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return int64(st.Type)
		}
		above := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) || above == dir {
			return 0
		}
		dir = above
	}
}
