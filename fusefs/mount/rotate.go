package mount

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// rotateEvery is how often the log is looked at. A file system that can't be read
// writes a line a second.
const rotateEvery = time.Minute

// maxLog is from which size on, in bytes, a log makes room: a mount that lives for
// months must not fill the disk that the state is on.
const maxLog = 1 << 20

// rotate makes room in the log of a mount when it has grown: what is in it becomes
// the old log, in the place of the one before. The file stays the same, since
// every process of the mount has it open, to append to. Lines that are written
// meanwhile are lost.
func rotate(state string, limit int64) error {
	f, err := os.OpenFile(filepath.Join(state, logName), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < limit {
		return err
	}
	old, err := os.OpenFile(filepath.Join(state, oldLogName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(old, io.LimitReader(f, 2*limit))
	if err = errors.Join(err, old.Close()); err != nil {
		return fmt.Errorf("keeping the log: %w", err)
	}
	return f.Truncate(0)
}
