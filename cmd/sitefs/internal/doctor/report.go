package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
)

// logLines is how much of a mount's log a report has: what a crash leaves there.
const logLines = 40

// settings are the variables that change what sitefs does. None holds a secret.
var settings = []string{"SITEFS_STORE", "SITEFS_PYTHON", "SITEFS_KEEP", "SITEFS_MOUNT", "SITEFS_LINK_MODE", "UV_LINK_MODE", "XDG_CACHE_HOME", "XDG_STATE_HOME", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "TMPDIR"}

// Report writes what a bug report needs: this sitefs and its machine, the checks, the
// mounts and the end of their logs. Nothing in it names the user, their home or
// their machine, nor what is in their home.
func (m *Machine) Report(ctx context.Context, out io.Writer, checks []Check) error {
	var b strings.Builder
	fmt.Fprintf(&b, "sitefs   %s, %s, %s/%s\n", m.Version, runtime.Version(), m.OS, runtime.GOARCH)
	fmt.Fprintf(&b, "kernel   %s\n", m.Kernel)
	fmt.Fprintf(&b, "system   %s\n", m.system())
	fmt.Fprintf(&b, "user     %s\n", m.kind())
	for _, name := range settings {
		if value := m.Getenv(name); value != "" {
			fmt.Fprintf(&b, "set      %s=%s\n", name, value)
		}
	}
	b.WriteString("\n")
	if err := Write(&b, checks, false); err != nil {
		return err
	}
	mounts, err := m.Mounts(ctx)
	dirs := []string{m.Dir, m.Store}
	for _, s := range mounts {
		dirs = append(dirs, s.Dir)
		m.describe(&b, s)
	}
	if err != nil {
		fmt.Fprintf(&b, "\nmounts that don't answer: %v\n", err)
	}
	_, err = io.WriteString(out, m.scrub(b.String(), dirs))
	return err
}

// system names the distribution, and the container if this is one.
func (m *Machine) system() string {
	name := m.OS
	for line := range strings.Lines(m.read("/etc/os-release")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			name = strings.Trim(value, `"`)
		}
	}
	if made := m.container(); made != "" {
		name += ", in a container of " + made
	}
	return name
}

// kind says of the user what matters.
func (m *Machine) kind() string {
	if m.UID == 0 {
		return "root"
	}
	return "an ordinary user"
}

// describe writes of a mount how it does, and not what is in it.
func (m *Machine) describe(b *strings.Builder, s mount.Status) {
	log, err := m.Log(s.Dir)
	if err != nil {
		log = err.Error() + "\n"
	}
	s.Dir, s.Tree, s.Info, s.Leases = "", fmt.Sprintf("%.12s", s.Tree), nil, nil
	text, err := json.Marshal(s)
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Fprintf(b, "\nmount    %s\n", text)
	for _, line := range tail(log, logLines) {
		fmt.Fprintf(b, "log      %s", line)
	}
}

// tail returns the last lines of a text.
func tail(text string, n int) []string {
	lines := slices.Collect(strings.Lines(text))
	return lines[max(0, len(lines)-n):]
}
