package interp

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBundledPipOfRealPythons(t *testing.T) {
	f, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range realPythons(t) {
		t.Run(path, func(t *testing.T) {
			p, err := f.Probe(context.Background(), path)
			if err != nil {
				t.Skip(err)
			}
			wheel, err := f.BundledPip(context.Background(), p)
			if err != nil {
				if !strings.Contains(err.Error(), "--no-seed") {
					t.Errorf("error %q, want one that says what to do", err)
				}
				t.Skip(err)
			}
			if name := filepath.Base(wheel); !strings.HasPrefix(name, "pip-") || filepath.Ext(name) != ".whl" {
				t.Errorf("pip's wheel is %q", wheel)
			}
			if _, err := os.Stat(wheel); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBundledPipIsLacking(t *testing.T) {
	m := newMachine(t)
	for _, tt := range []struct{ name, script, want string }{
		{"no ensurepip", "echo \"No module named 'ensurepip'\" >&2; exit 1", "No module named 'ensurepip'; install what it lacks"},
		{"no path", "echo pip-23.0.1-py3-none-any.whl", `its pip is "pip-23.0.1-py3-none-any.whl", want the absolute path`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			python := m.file("bin/"+strings.ReplaceAll(tt.name, " ", "-"), "#!/bin/sh\ncat >/dev/null\n"+tt.script+"\n", 0o755)
			f, err := New(nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.BundledPip(context.Background(), &Python{Executable: python})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
