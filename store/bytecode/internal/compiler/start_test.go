package compiler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/store/confine"
)

// wrapper writes an interpreter that is a shell script.
func wrapper(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStartThroughWrapper(t *testing.T) {
	p := anyPython(t)
	tests := []struct{ name, text string }{
		{"exec", `exec ` + p.Python + ` "$@"`},
		{"child", p.Python + ` "$@"`},
		{"prints", `echo hello; echo hello >&2; exec ` + p.Python + ` "$@"`},
		{"asks around", `x=$(dirname "$0" 2>/dev/null) && echo "$x" >/dev/null && exec ` + p.Python + ` "$@"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := p.Config
			c.Python = wrapper(t, tt.text)
			if _, err := mustStart(t, c).Compile(context.Background(), []byte("x = 1\n"), "a.py", 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	p := anyPython(t)
	notExecutable := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(notExecutable, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, python, want string }{
		{"missing", filepath.Join(t.TempDir(), "python"), "no such file"},
		{"not executable", notExecutable, "permission denied"},
		{"hangs", wrapper(t, "exec sleep 1000"), "it doesn't answer within 200ms"},
		{"a child hangs", wrapper(t, "sleep 1000; true"), "it doesn't answer within 200ms"},
		{"ends", wrapper(t, "echo 'no license' >&2; exit 3"), "exit status 3): no license"},
		{"ends well", wrapper(t, "exit 0"), "exit status 0"},
		{"dies", wrapper(t, "kill -SEGV $$"), "segmentation fault"},
		{"other words", wrapper(t, `printf '\0\4\0\0\0ohno' >&3`), `it answers "ohno", not what it is`},
		{"no reply", wrapper(t, `printf 'Python 3.12.1\n' >&3`), `"Pytho"`},
		{"other magic", wrapper(t, `printf '\0\23\0\0\0cpython-99 abcd 123' >&3`), `cache tag "cpython-99" and magic number "abcd"`},
		{"another process", wrapper(t, fmt.Sprintf(`printf '\0\%03o\0\0\0%s %s 1' >&3; read x`, len(p.Tag)+len(p.Magic)+3, p.Tag, p.Magic)), "process 1, which is not in its group"},
		{"another program", "/bin/ls", "it ended before it answered"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := p.Config
			c.Python = tt.python
			compiler, err := start(context.Background(), c, 200*time.Millisecond)
			if err == nil {
				compiler.Close()
			}
			var refused *StartError
			if !errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.want) {
				t.Errorf("error %v, want a StartError with %q", err, tt.want)
			}
		})
	}
}

func TestStartAnotherVersion(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		c := p.Config
		c.Tag = "cpython-99"
		_, err := Start(context.Background(), c)
		var refused *StartError
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, p.Tag) {
			t.Errorf("error %v, want a StartError with %q", err, p.Tag)
		}
	})
}

func TestStartCancelled(t *testing.T) {
	c := Config{Python: wrapper(t, "exec sleep 1000")}
	ctx, cancel := context.WithCancel(context.Background())
	begun := &watched{Context: ctx, begun: make(chan struct{})}
	go func() {
		<-begun.begun
		cancel()
	}()
	if _, err := Start(begun, c); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// TestLibraryRemoved proves that a source is not blamed for an interpreter that was
// removed while it ran: what it hadn't loaded yet, like a codec, is gone.
func TestLibraryRemoved(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		prefix := t.TempDir()
		library := filepath.Join(prefix, "lib", filepath.Base(p.stdlib))
		program, err := os.ReadFile(p.Python)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(library), 0o755), os.Symlink(p.stdlib, library), os.WriteFile(prefix+"/python", program, 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		c := p.Config
		c.Python = prefix + "/python"
		compiler := mustStart(t, c)
		if err := os.Remove(library); err != nil {
			t.Fatal(err)
		}
		_, err = compiler.Compile(context.Background(), []byte("# coding: cp1252\nx = '\x80'\n"), "a.py", 0)
		var bad *SourceError
		if err == nil || errors.As(err, &bad) || !strings.Contains(err.Error(), "standard library is gone") {
			t.Errorf("error %v (%T), want one that says that the standard library is gone", err, err)
		}
	})
}

// TestCloseEndsAll proves that a wrapper's child goes with it.
func TestCloseEndsAll(t *testing.T) {
	p, err := startProcess(command(wrapper(t, `sleep 1000 & printf '\0\0\0\0\0' >&3; wait`), ""), confine.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, _, err := p.reply(); err != nil {
		t.Fatal(err)
	}
	p.kill()
	<-p.ended
	if _, _, err := p.reply(); !errors.Is(err, io.EOF) { // nobody else could write one
		t.Errorf("the end of the pipe is %v, want %v", err, io.EOF)
	}
}

func BenchmarkStart(b *testing.B) {
	p := anyPython(b)
	for b.Loop() {
		c, err := Start(context.Background(), p.Config)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func BenchmarkCompileEmpty(b *testing.B) {
	c := mustStart(b, anyPython(b).Config)
	for b.Loop() {
		if _, err := c.Compile(context.Background(), nil, "a.py", 0); err != nil {
			b.Fatal(err)
		}
	}
}
