package shared

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// New returns new memory and the file that other processes map it from, which is
// closed on exec.
func New() (m *Memory, file *os.File, err error) {
	fd, err := unix.MemfdCreate("sitefs-mount", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd_create: %w", err)
	}
	file = os.NewFile(uintptr(fd), "memory")
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err = file.Truncate(int64(Size)); err != nil {
		return nil, nil, err
	}
	// Nobody can have another process fault by cutting it short.
	if _, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, nil, fmt.Errorf("sealing the shared memory: %w", err)
	}
	if m, err = mapped(file); err != nil {
		return nil, nil, err
	}
	m.format()
	return m, file, nil
}

// Open maps memory that another process has made. Where that was another version
// of sitefs the error is [ErrVersion].
func Open(file *os.File) (*Memory, error) {
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() != int64(Size) {
		return nil, fmt.Errorf("%w: it has %d bytes, want %d", ErrVersion, fi.Size(), Size)
	}
	m, err := mapped(file)
	if err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func mapped(file *os.File) (*Memory, error) {
	b, err := unix.Mmap(int(file.Fd()), 0, Size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the shared memory: %w", err)
	}
	return over(b)
}

// Close unmaps the memory, which nobody may use any more.
func (m *Memory) Close() error { return unix.Munmap(m.mapped) }
