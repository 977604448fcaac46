package materialize

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadWriteDirect: only whole blocks are written direct, and a file has all its
// bytes wherever its end is.
func TestReadWriteDirect(t *testing.T) {
	const block = directBlock
	tests := []struct {
		size    int
		buffers int // that it takes
		ends    bool
	}{
		{1, 1, true},
		{block, 1, false},
		{block + 1, 1, true},
		{directBuffer, 1, false},
		{directBuffer + 1, 2, true},
		{2*directBuffer + 3*block, 3, false},
		{2*directBuffer + 3*block - 1, 3, true},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.size), func(t *testing.T) {
			var direct []bool
			sys := kernel
			sys.direct = func(fd int, on bool) error {
				direct = append(direct, on)
				return kernel.direct(fd, on)
			}
			steps, _ := copyDirect(t, sys, test.size, 0)
			if steps != test.buffers {
				t.Errorf("copied in %d steps, want %d", steps, test.buffers)
			}
			if ends := len(direct) == 1 && !direct[0]; ends != test.ends || len(direct) > 1 {
				t.Errorf("set to write direct: %v, want that it ends: %t", direct, test.ends)
			}
		})
	}
}

// TestReadWriteDirectRefused: what the file system doesn't take direct is written all
// the same. It takes nothing from an odd address.
func TestReadWriteDirectRefused(t *testing.T) {
	sys, off := kernel, 0
	sys.direct = func(fd int, on bool) error {
		if !on {
			off++
		}
		return kernel.direct(fd, on)
	}
	if _, direct := copyDirect(t, sys, 3*directBuffer, 1); !direct {
		t.Skip("the temporary directory is on a file system without direct writes")
	}
	if off == 0 {
		t.Error("a write from an odd address wasn't refused")
	}
}

// copyDirect copies a file of that size from a buffer that begins so much into a page,
// and reports whether the file could be set to be written direct.
func copyDirect(t *testing.T, sys system, size, shift int) (steps int, direct bool) {
	t.Helper()
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789abcdefg"), size/17+1)[:size]
	check(t, os.WriteFile(filepath.Join(dir, "from"), want, 0o600))
	from, err := os.Open(filepath.Join(dir, "from"))
	check(t, err)
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "to"))
	check(t, err)
	defer to.Close()
	buf, err := newDirectBuffer()
	check(t, err)
	defer unix.Munmap(buf)

	direct = kernel.direct(int(to.Fd()), true) == nil
	w := &worker{builder: &builder{sys: sys, ctx: context.Background()}, buf: buf[shift:]}
	step := func(to, from int, most int64) (int64, error) {
		steps++
		return w.readWriteDirect(to, from, most)
	}
	check(t, w.copyBy(step, int(to.Fd()), int(from.Fd()), int64(size)))
	got, err := os.ReadFile(to.Name())
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("of %d bytes %d were copied, or others", len(want), len(got))
	}
	return steps, direct
}

func TestProbeDirect(t *testing.T) {
	tests := []struct {
		kind string
		err  error
		want bool
	}{
		{"ext4", nil, true},
		{"xfs", nil, true},
		{"btrfs", nil, false},
		{"unknown file system", nil, false},
		{"ext4", unix.EINVAL, false},
		{"ext4", unix.EOPNOTSUPP, false},
		{"ext4", unix.EIO, false},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s, %v", test.kind, test.err), func(t *testing.T) {
			sys := kernel
			sys.direct = func(int, bool) error { return test.err }
			dir := t.TempDir()
			p, err := newProbe(sys, newStore(t).dir, dir)
			check(t, err)
			defer p.close()
			p.found.Target.Type = test.kind
			got, err := p.direct()
			if failed := test.err == unix.EIO; got != test.want || (err != nil) != failed {
				t.Errorf("%t, %v, want %t, and an error: %t", got, err, test.want, failed)
			}
			expectEmpty(t, dir)
		})
	}
}

// TestBuildDirect: the large files are written direct, the small ones are not, and
// one that can't be written ends it all.
func TestBuildDirect(t *testing.T) {
	base := mountFS(t, "ext4")
	s := newStore(t)
	large := files{"lib/site/a/more.bin": strings.Repeat("more", directBuffer), "lib/site/c/block.bin": strings.Repeat("x", 20*directBlock)}
	for path, text := range demo {
		large[path] = text
	}
	tr := s.tree(t, large)
	var on atomic.Int32
	sys := kernel
	sys.direct = func(fd int, yes bool) error {
		if yes {
			on.Add(1)
		}
		return kernel.direct(fd, yes)
	}
	var r Report
	check(t, build(context.Background(), sys, tr, s, filepath.Join(base, "venv"), nil, Options{}, &r))
	expectTree(t, s, tr, filepath.Join(base, "venv"))
	if on.Load() != 4 || r.Copied != 10 {
		t.Errorf("%d files were written direct of %d, want 4 of 10, the probe's included", on.Load(), r.Copied)
	}

	sys.direct = func(fd int, yes bool) error {
		if on.Add(1) > 6 {
			return unix.EIO
		}
		return kernel.direct(fd, yes)
	}
	err := build(context.Background(), sys, tr, s, filepath.Join(base, "failed"), nil, Options{}, &r)
	if err == nil || !strings.Contains(err.Error(), ".bin") || !strings.Contains(err.Error(), unix.EIO.Error()) {
		t.Errorf("%v, want %v, and the file's name", err, unix.EIO)
	}
}

// TestBuildCopyShares: where files can be cloned the kernel copies all of them.
func TestBuildCopyShares(t *testing.T) {
	for _, clones := range []bool{true, false} {
		s := newStore(t)
		tr := s.tree(t, demo)
		var copies atomic.Int32
		sys := noClone()
		if clones {
			sys = copyClone()
		}
		sys.direct = func(int, bool) error { return unix.EINVAL }
		sys.copyRange = func(to, from int, n int64) (int64, error) {
			copies.Add(1)
			return kernel.copyRange(to, from, n)
		}
		dir := filepath.Join(t.TempDir(), "venv")
		var r Report
		check(t, build(context.Background(), sys, tr, s, dir, nil, Options{Mode: Copy}, &r))
		expectTree(t, s, tr, dir)
		want := 2 // the probe's and the large file
		if clones {
			want = 6
		}
		if got := int(copies.Load()); got != want || strings.Contains(r.Reason, "shares blocks") != clones {
			t.Errorf("cloning %t: %d copies by the kernel, want %d: %s", clones, got, want, r.Reason)
		}
	}
}
