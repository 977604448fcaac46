package mount

import (
	"strings"
	"testing"
)

// TestNameIn has requests as linux/fuse.h lays them out behind the header.
func TestNameIn(t *testing.T) {
	tests := []struct {
		name   string
		opcode uint32
		body   string
		want   string
	}{
		{"LOOKUP", 1, "name\x00", "name"},
		{"SYMLINK", 6, "name\x00target\x00", "name"},
		{"MKNOD", 8, strings.Repeat("m", 16) + "name\x00", "name"},
		{"MKDIR", 9, strings.Repeat("m", 8) + "name\x00", "name"},
		{"UNLINK", 10, "name\x00", "name"},
		{"RMDIR", 11, "name\x00", "name"},
		{"RENAME", 12, strings.Repeat("r", 8) + "name\x00other\x00", "name"},
		{"LINK", 13, strings.Repeat("l", 8) + "name\x00", "name"},
		{"CREATE", 35, strings.Repeat("c", 16) + "name\x00", "name"},
		{"RENAME2", 45, strings.Repeat("r", 16) + "name\x00other\x00", "name"},
		{"READ", 15, strings.Repeat("r", 40), ""},
		{"GETXATTR", 22, strings.Repeat("g", 8) + "user.any\x00", ""},
		{"RENAME2", 45, "short", ""},
		{"LOOKUP", 1, "no end", "no end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := strings.Repeat("h", inHeaderSize) + tt.body
			if got := string(nameIn(tt.opcode, []byte(request))); got != tt.want {
				t.Errorf("the name is %q, want %q", got, tt.want)
			}
			if opName(tt.opcode) != tt.name {
				t.Errorf("opcode %d is %s, want %s", tt.opcode, opName(tt.opcode), tt.name)
			}
		})
	}
}
