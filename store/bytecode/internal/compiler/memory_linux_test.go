package compiler

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestGroupMemory(t *testing.T) {
	const none = math.MaxUint64
	tests := []struct {
		name, groups string
		files        map[string]string
		want         uint64
	}{
		{"no groups", "", nil, none},
		{"unlimited", "0::/a\n", map[string]string{"a/memory.max": "max\n"}, none},
		{"own", "0::/a/b\n", map[string]string{"a/b/memory.max": "1000\n", "a/memory.max": "max\n"}, 1000},
		{"above", "0::/a/b\n", map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "2000\n"}, 2000},
		{"smallest", "0::/a/b\n", map[string]string{"a/b/memory.max": "3000\n", "a/memory.max": "2000\n"}, 2000},
		{"container", "0::/\n", map[string]string{"memory.max": "4000\n"}, 4000},
		{"outside of the namespace", "0::/../b\n", map[string]string{"memory.max": "4000\n"}, 4000},
		{"version 1", "3:cpuset:/\n2:cpu,memory:/a\n0::/\n", map[string]string{"memory/a/memory.limit_in_bytes": "5000\n"}, 5000},
		{"version 1, path of the host", "2:memory:/docker/1\n", map[string]string{"memory/memory.limit_in_bytes": "6000\n"}, 6000},
		{"another controller", "2:memory_x:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": "5000\n"}, none},
		{"path with a colon", "0::/a:b\n", map[string]string{"a:b/memory.max": "7000\n"}, 7000},
		{"no number", "0::/\nx\n", map[string]string{"memory.max": ""}, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				name = filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("proc/self/cgroup", tt.groups)
			for name, text := range tt.files {
				write("sys/fs/cgroup/"+name, text)
			}
			if got := groupMemory(root); got != tt.want {
				t.Errorf("groupMemory = %d, want %d", got, tt.want)
			}
		})
	}
}

// TestMemoryBound: a compiler gets no more than half of this machine.
func TestMemoryBound(t *testing.T) {
	c := mustStart(t, anyPython(t).Config)
	var got unix.Rlimit
	if err := unix.Prlimit(c.pid, unix.RLIMIT_AS, nil, &got); err != nil {
		t.Fatal(err)
	}
	if got.Cur != c.memory || c.memory > addressSpace || c.memory > max(leastAddressSpace, machineMemory()/2) {
		t.Errorf("a compiler may map %d bytes, and is taken to map %d; the machine has %d", got.Cur, c.memory, machineMemory())
	}
}

func TestWanting(t *testing.T) {
	tests := []struct {
		name        string
		peak, bound uint64
		want        bool
	}{
		{"nested, small machine", 30 << 20, leastAddressSpace, false},
		{"nested, large machine", 30 << 20, addressSpace, false},
		{"large, small machine", 300 << 20, leastAddressSpace, true},
		{"large, middling machine", 3900 << 20, 4 << 30, true},
		{"larger than any may", 3900 << 20, addressSpace, false},
		{"large, no memory left", 300 << 20, addressSpace, true},
		{"killed meanwhile", 0, addressSpace, true},
		{"large, not bounded", 3900 << 20, unbounded, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := wanting(tt.peak, tt.bound); got != tt.want {
				t.Errorf("wanting(%d, %d) = %v", tt.peak, tt.bound, got)
			}
		})
	}
}

// onSmallMachine starts a compiler as on a machine that has the least memory.
func onSmallMachine(t *testing.T, p python) *Compiler {
	c := mustStart(t, p.Config)
	c.memory = leastAddressSpace
	small := unix.Rlimit{Cur: c.memory, Max: c.memory}
	if err := unix.Prlimit(c.pid, unix.RLIMIT_AS, &small, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestExhausted proves that memory is limited, that a source is not blamed for the
// size of the machine, and that a compiler that met its limit is not used again.
func TestExhausted(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		c := onSmallMachine(t, p)
		if _, err := c.Compile(context.Background(), slow, "large.py", 0); !errors.Is(err, ErrMemory) {
			t.Errorf("error %v, want %v", err, ErrMemory)
		}
		if _, err := c.Compile(context.Background(), nil, "empty.py", 0); !errors.Is(err, errDead) {
			t.Errorf("then error %v, want %v", err, errDead)
		}
	})
}

// TestNestedOnSmallMachine proves that a source is blamed for its nesting on any
// machine, though Python says the same of it.
func TestNestedOnSmallMachine(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		_, err := onSmallMachine(t, p).Compile(context.Background(), []byte(nests()["minus"]), "nested.py", 0)
		var bad *SourceError
		if !errors.As(err, &bad) || !strings.Contains(bad.Reason, "MemoryError") {
			t.Errorf("error %v, want a SourceError for memory", err)
		}
	})
}

// TestGrown proves that what a source took is not held against the next one.
func TestGrown(t *testing.T) {
	c := mustStart(t, anyPython(t).Config)
	if _, err := c.Compile(context.Background(), []byte("x = 1\n"), "small.py", 0); err != nil || c.Dead() {
		t.Errorf("after a small source: %v, dead %v", err, c.Dead())
	}
	code, err := c.Compile(context.Background(), slow, "large.py", 0)
	if err != nil || len(code) == 0 || !c.Dead() {
		t.Errorf("after a large source: %d bytes, %v, dead %v, want code of a compiler that has ended", len(code), err, c.Dead())
	}
}
