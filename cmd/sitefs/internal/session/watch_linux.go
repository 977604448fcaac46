package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
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
	files  []string
	names  map[int32]map[string]bool // in a folder, by its watch descriptor
}

// newWatch watches files, and the links that lead to them.
func newWatch(files []string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watching for changes: %w", err)
	}
	w := &watch{os.NewFile(uintptr(fd), "inotify"), files, map[int32]map[string]bool{}}
	if err := w.addAll(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// addAll watches what leads to the files now. What led to them stays watched: a
// link may be set back.
func (w *watch) addAll() error {
	raw, err := w.events.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, file := range w.files {
			for _, place := range places(file) {
				failed = errors.Join(failed, w.add(int(fd), place))
			}
		}
	})
	return errors.Join(err, failed)
}

// maxLinks is how many links the kernel follows on the way to a file (path_resolution(7)).
const maxLinks = 40

// places returns file, the links on the way to it, and where they lead.
func places(file string) []string {
	list := []string{file}
	for range maxLinks {
		link, target, rest := firstLink(file)
		if link == "" {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		file = filepath.Join(target, rest)
		list = append(list, link, file)
	}
	return list
}

// firstLink returns the first symbolic link on the way to file, which is absolute,
// where it leads, and what of file is behind it; "" where there is none.
func firstLink(file string) (link, target, rest string) {
	for i := 1; i <= len(file); i++ {
		if i < len(file) && file[i] != '/' {
			continue
		}
		if target, err := os.Readlink(file[:i]); err == nil {
			return file[:i], target, file[i:]
		}
	}
	return "", "", ""
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
		changed, lost, err := w.changed(buf[:n])
		if err != nil {
			return err
		}
		if !changed && !lost {
			continue
		}
		err = w.addAll()
		switch {
		case !errors.Is(err, fs.ErrNotExist):
			return err
		case lost:
			return errors.New("the folder of a lock file was moved or removed: watch the one in its place")
		}
		return nil // a link leads nowhere, until it is set again
	}
}

// changed reports whether one of the events is of a watched file, and whether one is
// the end of a folder.
func (w *watch) changed(events []byte) (changed, lost bool, err error) {
	for len(events) > 0 {
		var e unix.InotifyEvent
		if _, err := binary.Decode(events, binary.NativeEndian, &e); err != nil {
			return false, false, fmt.Errorf("watching for changes: %w", err)
		}
		end := int(unsafe.Sizeof(e)) + int(e.Len)
		name := bytes.TrimRight(events[unsafe.Sizeof(e):end], "\x00")
		events = events[end:]
		switch {
		case e.Mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0:
			if w.names[e.Wd] != nil { // else the same was told already
				delete(w.names, e.Wd)
				lost = true
			}
		case e.Mask&unix.IN_Q_OVERFLOW != 0, w.names[e.Wd][string(name)]:
			changed = true
		}
	}
	return changed, lost, nil
}

func (w *watch) close() error { return w.events.Close() }
