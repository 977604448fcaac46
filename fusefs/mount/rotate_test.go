package mount

import (
	"os"
	"path/filepath"
	"testing"
)

// The log makes room for whoever has it open, and what was in it is kept once.
func TestRotate(t *testing.T) {
	state := t.TempDir()
	if err := rotate(state, 10); err != nil {
		t.Errorf("without a log: %v", err)
	}
	log, err := os.OpenFile(filepath.Join(state, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, step := range []struct{ write, log, old string }{
		{"short\n", "short\n", ""},
		{"long enough\n", "", "short\nlong enough\n"},
		{"next\n", "next\n", "short\nlong enough\n"},
		{"and the last\n", "", "next\nand the last\n"},
	} {
		if _, err := log.WriteString(step.write); err != nil {
			t.Fatal(err)
		}
		if err := rotate(state, 10); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{logName: step.log, oldLogName: step.old} {
			got, err := os.ReadFile(filepath.Join(state, name))
			if err != nil && (want != "" || !os.IsNotExist(err)) {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("after %q, %s is %q, want %q", step.write, name, got, want)
			}
		}
	}
}
