package materialize

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/tree"
)

// directTypes are the file systems on which large files are written past the page
// cache ("direct"). Three in four bytes of an environment are in a few large files,
// and the processor was the limit: it copied each byte into pages that the kernel
// had to find first. Direct, the disk fetches them itself, at thrice the speed, while
// the processor makes the small files, and the sync at the end has little left to do.
// Other file systems may well be slower that way.
var directTypes = []string{"ext4", "xfs"}

const (
	// directBlock is what the address, the offset and the length of a direct write
	// are multiples of. No disk asks for more than a page.
	directBlock = 4096

	// directBuffer is what is written at a time. A quarter of it was as fast.
	directBuffer = 1 << 20

	// directWriters is how many files are written at a time, so that the disk never
	// waits for the next one.
	directWriters = 4
)

// A directWriter writes large files past the page cache, a few at a time.
type directWriter struct {
	files   errgroup.Group
	buffers chan []byte
}

func newDirectWriter() (*directWriter, error) {
	d := &directWriter{buffers: make(chan []byte, directWriters)}
	d.files.SetLimit(directWriters)
	for range directWriters {
		buf, err := newDirectBuffer()
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.buffers <- buf
	}
	return d, nil
}

// newDirectBuffer returns memory of whole pages, for [unix.Munmap] to return.
func newDirectBuffer() ([]byte, error) {
	buf, err := unix.Mmap(-1, 0, directBuffer, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("get memory to write files from: %w", err)
	}
	return buf, nil
}

// close waits for the files and returns the first error. A nil writer has none.
func (d *directWriter) close() error {
	if d == nil {
		return nil
	}
	err := d.files.Wait()
	close(d.buffers)
	for buf := range d.buffers {
		if unmapped := unix.Munmap(buf); err == nil {
			err = unmapped
		}
	}
	return err
}

// isLarge reports whether a file is for copyLarge.
func (b *builder) isLarge(a tree.Attr) bool {
	return b.direct && a.Kind == tree.File && a.Size > bufferSize
}

// copyLarge has another goroutine write the new file that is open as fd, set its
// time and close it. It waits for one that is free.
func (b *builder) copyLarge(fd int, id tree.ID, a tree.Attr) {
	b.large.files.Go(func() error {
		w := &worker{builder: b, buf: <-b.large.buffers}
		err := closeAfter(fd, w.fillLarge(fd, a))
		b.large.buffers <- w.buf
		if err != nil {
			b.cancel()
			return b.pathError(id, err)
		}
		return nil
	})
}

func (w *worker) fillLarge(fd int, a tree.Attr) error {
	from, err := w.src.OpenBlob(a.Digest)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if err := w.sys.direct(fd, true); err != nil {
		return err
	}
	if err := w.copyBy(w.readWriteDirect, fd, from, a.Size); err != nil {
		return err
	}
	return setFileTime(fd, a.Mtime)
}

// readWriteDirect is readWrite for a file that is written direct. The end that is no
// whole block goes through the page cache, and so does what a file system doesn't
// take in spite of the probe.
func (w *worker) readWriteDirect(to, from int, most int64) (int64, error) {
	n, err := w.read(from, most)
	if err != nil {
		return 0, err
	}
	rest := w.buf[:n]
	if blocks := n - n%directBlock; blocks > 0 {
		done, err := write(to, rest[:blocks])
		if err != nil && err != unix.EINVAL {
			return 0, err
		}
		rest = rest[done:]
	}
	if len(rest) == 0 {
		return int64(n), nil
	}
	if err := w.sys.direct(to, false); err != nil {
		return 0, err
	}
	return int64(n), writeAll(to, rest)
}

// direct finds out whether a file can be written direct.
func (p *probe) direct() (bool, error) {
	if !slices.Contains(directTypes, p.found.Target.Type) {
		return false, nil
	}
	buf, err := newDirectBuffer()
	if err != nil {
		return false, err
	}
	defer unix.Munmap(buf)
	fd, err := createFile(p.dir, probeName, fileMode)
	if err != nil {
		return false, p.failed("create", err)
	}
	err = p.sys.direct(fd, true)
	if err == nil {
		_, err = write(fd, buf[:directBlock])
	}
	if err == nil {
		err = setFileTime(fd, 0)
	}
	var refused unix.Errno
	err = p.note(&refused, "write", closeAfter(fd, err))
	return err == nil && refused == 0, err
}
