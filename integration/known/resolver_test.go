package known

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeUV answers every request with one wheel, and counts the requests.
const fakeUV = `#!/bin/sh
echo asked >>"$CALLS"
cat <<'END'
lock-version = "1.0"
created-by = "fake"
[[packages]]
name = "alpha"
version = "1.0"
wheels = [{ path = "%s", hashes = { sha256 = "%s" } }]
END
`

// TestResolverIsAskedAgain changes each thing that the resolver's answer depends
// on. What is the same is answered from the store.
func TestResolverIsAskedAgain(t *testing.T) {
	m := newMachine(t)
	w := m.wheel("wheels", "alpha", "1.0", "")
	uv := fmt.Sprintf(fakeUV, m.path("work/wheels/"+w.Filename), w.Digest)
	m.write("fake/uv", uv)
	m.setenv("PATH", m.path("work/fake")+":"+bin+":"+filepath.Dir(python)+":/usr/bin:/bin")
	m.setenv("CALLS", m.path("calls"))
	m.setenv("XDG_CONFIG_HOME", m.path("config"))
	m.setenv("XDG_CONFIG_DIRS", m.path("system"))
	calls := func() int {
		data, err := os.ReadFile(m.path("calls"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(data), "asked")
	}
	args := []string{"--with", "alpha"}
	m.good(args...)

	tests := []struct {
		name   string
		change func()
	}{
		{"a variable of uv's", func() { m.setenv("UV_RESOLUTION", "lowest") }},
		{"another value", func() { m.setenv("UV_RESOLUTION", "highest") }},
		{"a variable of pip's", func() { m.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9") }},
		{"a file that a variable names", func() { m.setenv("UV_CONSTRAINT", m.path("work/constraints.txt")) }},
		{"that file", func() { m.write("constraints.txt", "alpha<2\n") }},
		{"uv.toml", func() { m.write("uv.toml", "offline = true\n") }},
		{"its content", func() { m.write("uv.toml", "offline = false\n") }},
		{"uv.toml of the folder above", func() { m.write("../uv.toml", "offline = true\n") }},
		{"pyproject.toml", func() { m.write("pyproject.toml", "[tool.uv]\n") }},
		{"the user's uv.toml", func() { m.write("../config/uv/uv.toml", "offline = true\n") }},
		{"the user's pip.conf", func() { m.write("../config/pip/pip.conf", "[global]\n") }},
		{"the user's old pip.conf", func() { m.write("../.pip/pip.conf", "[global]\n") }},
		{"the system's uv.toml", func() { m.write("../system/uv/uv.toml", "offline = true\n") }},
		{"uv itself", func() { m.write("fake/uv", uv+"# newer\n") }},
		{"another uv, first on PATH", func() {
			m.write("first/uv", uv)
			m.setenv("PATH", m.path("work/first")+":"+m.path("work/fake")+":"+bin+":"+filepath.Dir(python)+":/usr/bin:/bin")
		}},
		{"one more requirement", func() { args = append(args, "--with", "alpha>=1") }},
		{"a lock beside it", func() {
			m.lock("pylock.toml", w)
			args = append(args, "-r", "pylock.toml")
		}},
	}
	for _, tt := range tests {
		before := calls()
		m.good(args...)
		if got := calls(); got != before {
			t.Fatalf("before %s: the resolver was asked again with nothing changed", tt.name)
		}
		tt.change()
		m.good(args...)
		if got := calls(); got != before+1 {
			t.Errorf("%s changed: the resolver was asked %d times, want once", tt.name, got-before)
		}
	}

	t.Run("refresh", func(t *testing.T) {
		before := calls()
		m.good(append(args, "--refresh")...)
		if got := calls(); got != before+1 {
			t.Errorf("the resolver was asked %d times, want once", got-before)
		}
	})
	t.Run("offline", func(t *testing.T) {
		before := calls()
		m.good(append(args, "--offline")...)
		if got := calls(); got != before {
			t.Errorf("the resolver was asked %d times, want never", got-before)
		}
	})
	t.Run("interpreter", func(t *testing.T) {
		_, other := pythons(t)
		before := calls()
		m.good(append(args, "--python", other)...)
		if got := calls(); got != before+1 {
			t.Errorf("the resolver was asked %d times, want once", got-before)
		}
	})
}
