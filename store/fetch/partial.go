package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// bufferSize is what one read of the network and one write to disk move at
// most: large enough that system calls don't count beside hashing.
const bufferSize = 256 << 10

// A partial is the file that a download grows. It is named by the hash that
// its content will have, so bytes of any earlier attempt, from whatever URL,
// are a beginning. Beside it lies NAME.validator, the ETag or Last-Modified of
// the response that began it.
type partial struct {
	file *os.File
	path string // empty for a private copy, which has no name
	size int64
	sums *sums
}

// openPartial opens, or makes, the partial file for s and locks it. If another
// process is at it, the result is an empty private copy.
func openPartial(dir string, s *sums) (*partial, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, s.key+".part")
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			file.Close()
			return privatePartial(dir, s)
		}
		if err != nil {
			file.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		// Its last holder may have removed it between our open and our lock.
		same, err := stillAt(path, file)
		if same {
			return &partial{file: file, path: path, sums: s}, nil
		}
		file.Close()
		if err != nil {
			return nil, err
		}
	}
}

func stillAt(path string, file *os.File) (bool, error) {
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}

// privatePartial makes a file without a name, which no death can leave behind.
func privatePartial(dir string, s *sums) (*partial, error) {
	file, err := os.CreateTemp(dir, "private-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return &partial{file: file, sums: s}, nil
}

// load hashes what an earlier attempt left.
func (p *partial) load(ctx context.Context, task Task) error {
	info, err := p.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	task.Phase(Check, 0, info.Size())
	buf := make([]byte, bufferSize)
	for p.size < info.Size() {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.file.ReadAt(buf[:min(bufferSize, info.Size()-p.size)], p.size)
		p.sums.Write(buf[:n])
		p.size += int64(n)
		task.Add(int64(n))
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("reading the partial download again: %w", err)
		}
	}
	return nil
}

// append puts b at the end.
func (p *partial) append(b []byte) error {
	n, err := p.file.WriteAt(b, p.size)
	p.sums.Write(b[:n])
	p.size += int64(n)
	return err
}

// restart empties the file and notes the validator of what it will hold.
func (p *partial) restart(validator string) error {
	p.size = 0
	p.sums.reset()
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	if p.path == "" {
		return nil
	}
	if validator == "" {
		return removeIfThere(p.validatorPath())
	}
	return os.WriteFile(p.validatorPath(), []byte(validator), 0o600)
}

// validator returns what If-Range may carry. It is "" when that isn't known:
// the hash then tells in the end whether the parts belong together.
func (p *partial) validator() (string, error) {
	if p.path == "" {
		return "", nil
	}
	b, err := os.ReadFile(p.validatorPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

func (p *partial) validatorPath() string {
	return strings.TrimSuffix(p.path, ".part") + ".validator"
}

// remove deletes the file. The lock is still held, so nobody else is at it.
func (p *partial) remove() error {
	p.size = 0
	if p.path == "" {
		return nil
	}
	return errors.Join(removeIfThere(p.validatorPath()), removeIfThere(p.path))
}

// kept is the number of bytes that a later attempt finds.
func (p *partial) kept() int64 {
	if p.path == "" {
		return 0
	}
	return p.size
}

// close gives the lock back.
func (p *partial) close() error { return p.file.Close() }

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
