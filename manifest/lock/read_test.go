package lock

import (
	"errors"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	good := string(pylockText("packages = []"))
	tests := []struct {
		path, data string
		want       string // part of the error
	}{
		{"/p/pylock.toml", good, ""},
		{"/p/pylock.dev.toml", good, ""},
		{"/tmp/1234.toml", good, ""},
		{"/p/pylock.toml", "lock-version = 1", "/p/pylock.toml: lock-version: found an integer, want a string: lock again"},
		{"/p/uv.lock", "version = 1", "uv export --no-emit-project --format pylock.toml"},
		{"/p/requirements.txt", "numpy", "uv pip compile --format pylock.toml -o pylock.toml requirements.txt"},
		{"/p/requirements.in", "numpy", "pip lock -r requirements.in"},
		{"/p/pyproject.toml", "", "is no lock file"},
		{"/p/poetry.lock", "", "/p/poetry.lock: found a file that isn't named like a pylock.toml"},
	}
	for _, test := range tests {
		t.Run(test.path, func(t *testing.T) {
			_, err := Read(test.path, []byte(test.data))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	var field *FieldError
	if _, err := Read("/p/pylock.toml", []byte("lock-version = 1")); !errors.As(err, &field) || field.Path != "lock-version" {
		t.Errorf("error %v isn't a FieldError of lock-version", err)
	}
}
