package session

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// unitName is the unit that mounts again what is held, when the user logs in (or
// the machine starts, for users that linger).
const unitName = "sitefs.service"

// Persist has systemd call MountAll for this user from now on, and returns what is
// left to do, as a sentence, "" for nothing.
func Persist(ctx context.Context) (todo string, err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the program to mount with: %w", err)
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(config, "systemd", "user", unitName)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(file, []byte(unit(exe, os.Environ())), 0o644); err != nil {
		return "", err
	}
	enable := []string{"systemctl", "--user", "enable", unitName}
	if out, err := exec.CommandContext(ctx, enable[0], enable[1:]...).CombinedOutput(); err != nil {
		why, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if why == "" {
			why = err.Error()
		}
		return fmt.Sprintf("%s is written, and systemd can't be told from here (%s): run `%s` in a session of yours", file, why, shellLine(enable)), nil
	}
	return "", nil
}

// unit returns the text of the unit (systemd.service(5)). What it mounts lives in
// its control group, so it stays active after its command.
func unit(exe string, environ []string) string {
	var b strings.Builder
	b.WriteString("[Unit]\nDescription=Python environments that sitefs mounts\n\n")
	b.WriteString("[Service]\nType=oneshot\nRemainAfterExit=yes\n")
	for _, name := range []string{"XDG_STATE_HOME", "SITEFS_STORE", "XDG_CACHE_HOME", "PATH"} {
		if value := variable(environ, name); value != "" {
			fmt.Fprintf(&b, "Environment=%s\n", unitWord(name+"="+value))
		}
	}
	// In a command, but not in Environment=, a $ begins a variable.
	fmt.Fprintf(&b, "ExecStart=%s mount --all\n\n", unitWord(strings.ReplaceAll(exe, "$", "$$")))
	b.WriteString("[Install]\nWantedBy=default.target\n")
	return b.String()
}

// unitWord quotes s as a unit file wants it.
func unitWord(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\n", `\n`).Replace(s) + `"`
}
