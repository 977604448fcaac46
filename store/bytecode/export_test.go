package bytecode

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

func TestOpenCode(t *testing.T) {
	e := newEnv(t, map[string]string{"m.py": "x = 1", "bad.py": "bad", "torn.py": "y = 1", "absent.py": "z = 1"})
	c := e.cache(t)
	want := map[string]int{"m.py": 0}
	for _, name := range []string{"m.py", "bad.py", "torn.py"} {
		s := e.source(t, name)
		payload, k := "code", kindCode
		if name == "bad.py" {
			payload, k = string(failurePayload(name, "it is bad")), kindFailure
		}
		put(t, c, e.dir, &s, 0, k, payload)
		if name == "torn.py" {
			if err := os.Truncate(c.path(key{s.Digest, 0}), 30); err != nil {
				t.Fatal(err)
			}
		}
	}
	x := c.Export()
	for _, name := range []string{"m.py", "bad.py", "torn.py", "absent.py"} {
		for opt := range maxOpt + 1 {
			s := e.source(t, name)
			fd, size, err := x.OpenCode(s.Digest, s.Size, s.Mtime, opt)
			if level, ok := want[name]; !ok || level != opt {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s at %d: %v, want %v", name, opt, err, fs.ErrNotExist)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, size)
			_, err = os.NewFile(uintptr(fd), name).Read(b)
			h := header(c.magic, &s)
			if err != nil || !bytes.Equal(b, append(h[:], "code"...)) {
				t.Errorf("%s at %d holds %q, %v", name, opt, b, err)
			}
		}
	}
	s := e.source(t, "m.py")
	if _, _, err := x.OpenCode(s.Digest, s.Size, s.Mtime+1, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("for another time: %v, want %v", err, fs.ErrNotExist)
	}
	for opt, want := range []string{"m.cpython-312.pyc", "m.cpython-312.opt-1.pyc", "m.cpython-312.opt-2.pyc"} {
		if got := x.CodeName("m", opt); got != want {
			t.Errorf("name at %d is %q, want %q", opt, got, want)
		}
	}
}
