package posix

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"
)

// An Exercise does random things to one file and to a model of it in memory, and
// compares what it reads, as Apple's fsx does: reads, writes, and both through a
// shared map; truncation, allocation, holes, copies within the file; fsync; and
// closing it and opening it again.
type Exercise struct {
	Path string // of a file that is there; what it holds is the model's start
	Seed uint64
	Ops  int

	// Disturb, unless it is nil, is called now and then between two operations.
	Disturb func(r *rand.Rand) error
}

// maxSize is how large the file becomes: many pages, and a few requests of 128 KiB.
const maxSize = 300_000

// steps are the things that are done, each as often as it is written here.
var steps = []struct {
	name  string
	often int
	do    func(*exercise) error
}{
	{"read", 10, (*exercise).read},
	{"write", 10, (*exercise).write},
	{"append", 3, (*exercise).append},
	{"map and read", 6, (*exercise).mapRead},
	{"map and write", 6, (*exercise).mapWrite},
	{"truncate", 4, (*exercise).truncate},
	{"allocate", 1, (*exercise).allocate},
	{"punch a hole", 2, (*exercise).punch},
	{"zero", 2, (*exercise).zero},
	{"copy a range", 2, (*exercise).copyRange},
	{"drop from the cache", 1, (*exercise).drop},
	{"sync", 1, (*exercise).sync},
	{"reopen", 1, (*exercise).reopen},
}

type exercise struct {
	Exercise
	r     *rand.Rand
	fd    int
	model []byte
	last  []string // what was done, the newest last
}

// Run does it. The error says the operation, and what led to it.
func (e Exercise) Run() (err error) {
	x := &exercise{Exercise: e, r: rand.New(rand.NewPCG(e.Seed, 0)), fd: -1}
	defer func() {
		unix.Close(x.fd)
		if err != nil {
			err = fmt.Errorf("seed %d: %w; the last operations: %q", e.Seed, err, x.last)
		}
	}()
	if err := x.reopen(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return err
	}
	x.model = make([]byte, st.Size)
	if _, err := unix.Pread(x.fd, x.model, 0); err != nil {
		return err
	}
	for i := range e.Ops {
		if err := x.step(); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return x.compare()
}

// step does one thing, chosen by chance.
func (x *exercise) step() error {
	if x.Disturb != nil && x.r.IntN(500) == 0 {
		if err := x.Disturb(x.r); err != nil {
			return err
		}
	}
	all := 0
	for _, s := range steps {
		all += s.often
	}
	n := x.r.IntN(all)
	for _, s := range steps {
		if n -= s.often; n < 0 {
			x.note("%s", s.name)
			if err := s.do(x); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			break
		}
	}
	return x.size()
}

// note remembers what is done for the message of a failure.
func (x *exercise) note(format string, args ...any) {
	const most = 12
	x.last = append(x.last, fmt.Sprintf(format, args...))
	if len(x.last) > most {
		x.last = slices.Delete(x.last, 0, 1)
	}
}

// size compares the file's.
func (x *exercise) size() error {
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return err
	}
	if st.Size != int64(len(x.model)) {
		return fmt.Errorf("the size is %d, want %d", st.Size, len(x.model))
	}
	return nil
}

// span chooses a range that begins in the file, and may go beyond its end.
func (x *exercise) span() (off, n int) {
	off = x.r.IntN(len(x.model) + 1)
	n = 1 + x.r.IntN(20_000)
	if x.r.IntN(3) == 0 { // of whole pages
		off, n = off&^4095, (n+4095)&^4095
	}
	n = min(n, maxSize-off)
	x.note("at %d, %d bytes", off, n)
	return off, n
}

// inside chooses a range of the file, which may be empty.
func (x *exercise) inside() (off, n int) {
	off, n = x.span()
	return off, min(n, len(x.model)-off)
}

// grow makes the model at least n bytes long.
func (x *exercise) grow(n int) {
	if n > len(x.model) {
		x.model = append(x.model, make([]byte, n-len(x.model))...)
	}
}

// bytes returns n bytes unlike those before.
func (x *exercise) bytes(n int) []byte {
	p := make([]byte, n)
	word := x.r.Uint64() | 1
	for i := range p {
		p[i] = byte(word >> (8 * (i & 7)))
		if i&7 == 7 {
			word = word*6364136223846793005 + 1
		}
	}
	return p
}

// same compares what was read from off on with the model.
func (x *exercise) same(got []byte, off int) error {
	want := x.model[off : off+len(got)]
	if bytes.Equal(got, want) {
		return nil
	}
	i := 0
	for got[i] == want[i] {
		i++
	}
	return fmt.Errorf("byte %d is %#x, want %#x", off+i, got[i], want[i])
}

func (x *exercise) read() error {
	off, n := x.span()
	p := make([]byte, n)
	got, err := unix.Pread(x.fd, p, int64(off))
	if err != nil {
		return err
	}
	if want := min(n, len(x.model)-off); got != want {
		return fmt.Errorf("%d bytes are read, want %d", got, want)
	}
	return x.same(p[:got], off)
}

func (x *exercise) writeAt(off, n int) error {
	p := x.bytes(n)
	x.grow(off + n)
	copy(x.model[off:], p)
	got, err := unix.Pwrite(x.fd, p, int64(off))
	if err == nil && got != n {
		err = fmt.Errorf("%d bytes are written, want %d", got, n)
	}
	return err
}

func (x *exercise) write() error {
	off, n := x.span()
	return x.writeAt(off, n)
}

func (x *exercise) append() error {
	if n := min(1+x.r.IntN(5000), maxSize-len(x.model)); n > 0 {
		return x.writeAt(len(x.model), n)
	}
	return nil
}

// mapped maps the pages of a range of the file and gives f the range.
func (x *exercise) mapped(prot int, f func(m []byte, off int) error) error {
	off, n := x.inside()
	if n == 0 {
		return nil
	}
	skip := off & 4095
	m, err := unix.Mmap(x.fd, int64(off-skip), n+skip, prot, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	return f(m[skip:], off)
}

func (x *exercise) mapRead() error { return x.mapped(unix.PROT_READ, x.same) }

func (x *exercise) mapWrite() error {
	return x.mapped(readWrite, func(m []byte, off int) error {
		p := x.bytes(len(m))
		copy(m, p)
		copy(x.model[off:], p)
		return nil
	})
}

func (x *exercise) truncate() error {
	n := x.r.IntN(maxSize)
	if x.r.IntN(4) > 0 {
		n = x.r.IntN(len(x.model) + 1)
	}
	x.note("to %d", n)
	x.grow(n)
	x.model = x.model[:n:n] // what grows next is zero
	return unix.Ftruncate(x.fd, int64(n))
}

func (x *exercise) allocate() error {
	off, n := x.span()
	if n == 0 {
		return nil
	}
	x.grow(off + n)
	return unix.Fallocate(x.fd, 0, int64(off), int64(n))
}

func (x *exercise) punch() error {
	off, n := x.inside()
	if n == 0 {
		return nil
	}
	clear(x.model[off : off+n])
	return unix.Fallocate(x.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))
}

func (x *exercise) zero() error {
	off, n := x.span()
	if n == 0 {
		return nil
	}
	x.grow(off + n)
	clear(x.model[off : off+n])
	return unix.Fallocate(x.fd, unix.FALLOC_FL_ZERO_RANGE, int64(off), int64(n))
}

// copyRange copies a range of the file to another of it.
func (x *exercise) copyRange() error {
	from, n := x.inside()
	to := x.r.IntN(len(x.model) + 1)
	n = min(n, maxSize-to)
	if n <= 0 || max(from, to)-min(from, to) < n {
		return nil // nothing, or onto itself, which is refused
	}
	x.note("to %d", to)
	x.grow(to + n)
	copy(x.model[to:to+n], x.model[from:from+n])
	for off, at := int64(from), int64(to); n > 0; {
		k, err := unix.CopyFileRange(x.fd, &off, x.fd, &at, n, 0)
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("nothing is copied, want %d bytes more", n)
		}
		n -= k
	}
	return nil
}

// drop has later reads ask the file system again.
func (x *exercise) drop() error {
	if err := unix.Fdatasync(x.fd); err != nil {
		return err
	}
	return unix.Fadvise(x.fd, 0, 0, unix.FADV_DONTNEED)
}

func (x *exercise) sync() error { return unix.Fsync(x.fd) }

func (x *exercise) reopen() error {
	unix.Close(x.fd)
	fd, err := unix.Open(x.Path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	x.fd = fd
	return err
}

// compare reads the whole file.
func (x *exercise) compare() error {
	p := make([]byte, len(x.model)+1)
	n := 0
	for {
		k, err := unix.Pread(x.fd, p[n:], int64(n))
		if err != nil {
			return err
		}
		if k == 0 {
			break
		}
		n += k
	}
	if n != len(x.model) {
		return fmt.Errorf("the file has %d bytes, want %d", n, len(x.model))
	}
	return x.same(p[:n], 0)
}
