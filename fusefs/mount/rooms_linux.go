package mount

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxRooms is how many requests of a writable mount can be read, or be WRITEs that are
// handled, at once. Those wait for the disk, and more at once make it no faster; none
// waits for another request.
const maxRooms = 16

// rooms are what requests are read into on a writable mount, where the kernel wants
// room for the largest WRITE in each read. Readers share them: many requests may wait
// at once, and nearly all are small.
//
// All of a room is faulted in: the kernel fails a request with EIO if the server is
// killed while it faults a page in to deliver it.
type rooms struct {
	size  int
	taken chan struct{} // has an element for each that is taken

	mu   sync.Mutex
	free [][]byte // the one used last, which the processor still caches, at the end
}

func newRooms(size int) *rooms {
	return &rooms{size: size, taken: make(chan struct{}, maxRooms)}
}

// take returns a room, when there is one.
func (r *rooms) take() ([]byte, error) {
	r.taken <- struct{}{}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b, nil
	}
	b, err := buffer(r.size)
	if err != nil {
		<-r.taken
		return nil, err
	}
	touch(b)
	return b, nil
}

// give takes a room back.
func (r *rooms) give(b []byte) {
	r.mu.Lock()
	r.free = append(r.free, b)
	r.mu.Unlock()
	<-r.taken
}

// relax gives back the memory of those that are free.
func (r *rooms) relax() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.free {
		if err := unix.Munmap(b); err != nil {
			return os.NewSyscallError("munmap", err)
		}
	}
	r.free = nil
	return nil
}

// touch faults a buffer in.
func touch(b []byte) {
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 0
	}
}
