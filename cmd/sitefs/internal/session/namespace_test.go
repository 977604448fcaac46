package session

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHasSubordinates(t *testing.T) {
	const uid = 424242 // nobody's
	for _, c := range []struct {
		name           string
		subuid, subgid string
		want           bool
	}{
		{"none", "", "", false},
		{"of both", "ada:1:2\n424242:100000:65536\n", "424242:100000:65536", true},
		{"of users alone", "424242:100000:65536\n", "", false},
		{"another's", "4242421:100000:65536\n", "4242421:100000:65536\n", false},
		{"no line", "424242", "424242", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "subuid"), filepath.Join(dir, "subgid")}
			for i, text := range []string{c.subuid, c.subgid} {
				if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := hasSubordinates(files, uid); got != c.want {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
	if hasSubordinates([]string{filepath.Join(t.TempDir(), "none")}, uid) {
		t.Error("a file that is not there gives ids")
	}
}
