package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	denied := fmt.Errorf("mounting: %w", unix.EPERM)
	helper := errors.New("fusermount3: mount failed: Permission denied (exit status 1)")
	const nfs = int64(unix.NFS_SUPER_MAGIC)
	container := map[string]string{appArmorFile: "docker-default (enforce)"}
	for _, test := range []struct {
		name  string
		err   error
		files map[string]string
		magic int64
		want  string // of the reason; "" is none
	}{
		{"nothing is known", denied, nil, 0, ""},
		{"another error", unix.EBUSY, container, nfs, ""},
		{"NFS", denied, nil, nfs, `"/p/.venv" is on NFS, whose server`},
		{"NFS, no way in", fs.ErrPermission, nil, nfs, "choose a place on a disk of this machine"},
		{"AppArmor", denied, container, 0, `the AppArmor profile "docker-default" rules this process and may forbid it: `},
		{"AppArmor, fusermount3", helper, container, 0, "--security-opt apparmor=unconfined"},
		{"AppArmor only complains", denied, map[string]string{appArmorFile: "docker-default (complain)"}, 0, ""},
		{"AppArmor, of no profile", denied, map[string]string{appArmorFile: "unconfined"}, 0, ""},
		{"AppArmor rules fusermount3", helper, map[string]string{helperRules: "profile fusermount3"}, 0, "/etc/apparmor.d/fusermount3 names the places"},
		{"AppArmor rules fusermount3, which wasn't asked", denied, map[string]string{helperRules: "profile fusermount3"}, 0, ""},
		{"SELinux", denied, map[string]string{enforceFile: "1", contextFile: "system_u:system_r:container_t:s0"}, 0, "SELinux rules this process (system_u:system_r:container_t:s0)"},
		{"SELinux is permissive", denied, map[string]string{enforceFile: "0", contextFile: "system_u:system_r:container_t:s0"}, 0, ""},
		{"SELinux lets users do as they like", denied, map[string]string{enforceFile: "1", contextFile: "unconfined_u:unconfined_r:unconfined_t:s0"}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := surroundings{
				read:  func(file string) string { return test.files[file] },
				magic: func(string) int64 { return test.magic },
			}
			got := s.explain("/p/.venv", test.err)
			if !errors.Is(got, test.err) {
				t.Errorf("%v is not %v", got, test.err)
			}
			reason := strings.TrimPrefix(got.Error(), test.err.Error())
			if !strings.Contains(reason, test.want) || (reason == "") != (test.want == "") {
				t.Errorf("reason %q, want %q", reason, test.want)
			}
		})
	}
}

// Each way to mount says what may be behind a denial.
func TestAttachExplains(t *testing.T) {
	defer func(s surroundings) { here = s }(here)
	here = surroundings{
		read:  func(string) string { return "" },
		magic: func(string) int64 { return unix.NFS_SUPER_MAGIC },
	}
	for name, attach := range map[string]func(dir string) (*device, error){
		"attach":     func(dir string) (*device, error) { return attach(dir, access{}, RungMount) },
		"attachOver": func(dir string) (*device, error) { return attachOver(dir, access{}) },
	} {
		t.Run(name, func(t *testing.T) {
			if f, err := os.OpenFile(fuseDevice, os.O_RDWR, 0); err != nil {
				t.Skipf("needs FUSE: %v", err)
			} else {
				f.Close()
			}
			dir := t.TempDir()
			err := withoutCapabilities(func() error {
				_, err := attach(dir)
				return err
			})
			if !isDenied(err) || !strings.Contains(err.Error(), "is on NFS") {
				t.Errorf("%v, want a denial, and that the place is on NFS", err)
			}
		})
	}
}

// withoutCapabilities calls fn in a thread that has no capability, and ends it.
func withoutCapabilities(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// TestMagicOf: a mount point that isn't there yet is where it will be.
func TestMagicOf(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc", &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		t.Skipf("needs /proc: %v", err)
	}
	for _, dir := range []string{"/proc", "/proc/not/there"} {
		if got := magicOf(dir); got != unix.PROC_SUPER_MAGIC {
			t.Errorf("%s: %#x, want %#x", dir, got, unix.PROC_SUPER_MAGIC)
		}
	}
}
