package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watch notices that files change: those that are written, and those that others
// are renamed over, as most editors and tools do it. It looks at their folders
// (inotify(7)): a watched file would be the one that was replaced.
type watch struct {
	events *os.File
	names  map[int32]map[string]bool // in a folder, by its watch descriptor
}

// newWatch watches files, and where they are links, what they lead to.
func newWatch(files []string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	w := &watch{os.NewFile(uintptr(fd), "inotify"), map[int32]map[string]bool{}}
	for _, file := range files {
		err = w.add(fd, file)
		if real, lerr := filepath.EvalSymlinks(file); err == nil && lerr == nil && real != file {
			err = w.add(fd, real)
		}
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

func (w *watch) add(fd int, file string) error {
	dir, name := filepath.Split(file)
	wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("watching %q: this user's watches are used up: raise fs.inotify.max_user_watches with sysctl", dir)
	}
	if err != nil {
		return fmt.Errorf("watching %q: %w", dir, err)
	}
	if w.names[int32(wd)] == nil {
		w.names[int32(wd)] = map[string]bool{}
	}
	w.names[int32(wd)][name] = true
	return nil
}

// wait returns when a file has changed since the last wait.
func (w *watch) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 16<<10) // many events; one alone may have 272 bytes
	for {
		n, err := w.events.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("watching for changes: %w", err)
		}
		if changed, err := w.changed(buf[:n]); changed || err != nil {
			return err
		}
	}
}

// changed reports whether one of the events is of a watched file.
func (w *watch) changed(events []byte) (changed bool, err error) {
	for len(events) > 0 {
		var e unix.InotifyEvent
		if _, err := binary.Decode(events, binary.NativeEndian, &e); err != nil {
			return false, fmt.Errorf("watching for changes: %w", err)
		}
		end := int(unsafe.Sizeof(e)) + int(e.Len)
		name := bytes.TrimRight(events[unsafe.Sizeof(e):end], "\x00")
		events = events[end:]
		switch {
		case e.Mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0:
			return false, errors.New("the folder of a lock file was moved or removed: watch the one in its place")
		case e.Mask&unix.IN_Q_OVERFLOW != 0, w.names[e.Wd][string(name)]:
			changed = true
		}
	}
	return changed, nil
}

func (w *watch) close() error { return w.events.Close() }
