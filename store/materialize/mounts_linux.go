package materialize

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// mountPoints returns the mount points that this process sees.
func mountPoints() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line) // proc_pid_mountinfo(5): the fifth is the mount point
		if len(fields) < 5 {
			return nil, fmt.Errorf("/proc/self/mountinfo has the line %q", line)
		}
		points = append(points, unescape(fields[4]))
	}
	return points, nil
}

// unescape replaces the octal escapes that the kernel writes for white space and
// backslashes.
func unescape(s string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, `\`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		if len(after) >= 3 {
			if c, err := strconv.ParseUint(after[:3], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[3:]
				continue
			}
		}
		b.WriteByte('\\')
		s = after
	}
}
