package materialize

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadMarkOfAnything: what is in the mark's place may be anybody's.
func TestReadMarkOfAnything(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(file string) error
		want string // of the error
	}{
		{"pipe", func(file string) error { return unix.Mkfifo(file, 0o644) }, "want a regular file"},
		{"folder", func(file string) error { return os.Mkdir(file, 0o755) }, "want a regular file"},
		{"huge", func(file string) error {
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(file, 1<<40)
		}, "want a regular file of at most"},
		{"link", func(file string) error { return os.Symlink("/dev/zero", file) }, "symbolic link"},
		{"other text", func(file string) error { return os.WriteFile(file, []byte("home = /usr"), 0o644) }, "invalid character"},
		{"another format", func(file string) error { return os.WriteFile(file, []byte(`{"format": 2}`), 0o644) }, "format 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := test.make(filepath.Join(dir, MarkName)); err != nil {
				t.Fatal(err)
			}
			_, err := ReadMark(dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want an error with %q that isn't fs.ErrNotExist", err, test.want)
			}
		})
	}
}
