package mount

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files of a state folder.
const (
	lockName = "lock"
	sockName = "sock"
	infoName = "info"
	newName  = "info.new" // an info file being written
	logName  = "log"

	oldLogName = "log.old"
	rescueName = "rescue"
)

// Marker is a file in a directory that says the directory is sitefs's own: one
// that isn't empty is mounted on only with the marker in it.
const Marker = ".sitefs"

// info is the file that names the mount a state folder belongs to.
type info struct {
	Dir  string          `json:"dir"`
	Tree string          `json:"tree"`
	PID  int             `json:"pid"`
	Info json.RawMessage `json:"info,omitempty"`

	// RemoveDir says that the mount point goes with the mount; see [Config].
	RemoveDir bool `json:"remove_dir,omitempty"`

	// Server is the command line of the supervisor, for another to take its place;
	// Held and Rung are what that must know besides.
	Server []string `json:"server,omitempty"`
	Held   bool     `json:"held,omitempty"`
	Rung   string   `json:"rung,omitempty"`
}

// StateHome returns the folder for what sitefs keeps of a user's mounts: sitefs in
// $XDG_STATE_HOME, of which a relative value is ignored (XDG Base Directory
// Specification).
func StateHome() (string, error) {
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "sitefs"), nil
	}
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("no place for mounts: HOME is %q, want an absolute path; set HOME or XDG_STATE_HOME", home)
	}
	return filepath.Join(home, ".local", "state", "sitefs"), nil
}

// stateRoot is the folder that holds the state folders of a user.
func stateRoot() (string, error) {
	home, err := StateHome()
	return filepath.Join(home, "mounts"), err
}

// StateDir returns the state folder of a mount point. It depends on the user
// and on where the mount point really is, not on how it is spelled.
func StateDir(dir string) (string, error) {
	root, err := stateRoot()
	if err != nil {
		return "", err
	}
	dir, err = resolve(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d\x00%s", os.Getuid(), dir))
	return filepath.Join(root, hex.EncodeToString(sum[:8])), nil
}

// resolve returns dir as an absolute path without symbolic links. Dir need not
// exist, and what is mounted on it is not touched where that can be helped: a
// mount without a server answers nothing.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if fi, err := os.Lstat(dir); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return filepath.EvalSymlinks(dir)
	}
	parent, base := filepath.Dir(dir), filepath.Base(dir)
	real, err := filepath.EvalSymlinks(parent)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if real, err = resolve(parent); err != nil {
			return "", err
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w: %q can't be reached: %w; choose another place", ErrMountPoint, dir, err)
	}
	return filepath.Join(real, base), nil
}

// lockState makes the state folder if need be, locks it and returns the unlock.
// The lock is held for moments only, never while something is mounted.
func lockState(state string) (unlock func(), err error) {
	for {
		if err := os.MkdirAll(state, 0o700); err != nil {
			return nil, fmt.Errorf("no place to keep the state of mounts: %w; set XDG_STATE_HOME to a folder that can be written", err)
		}
		f, err := os.OpenFile(filepath.Join(state, lockName), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a server that went removed the folder
		}
		if err != nil {
			return nil, err
		}
		if err := flock(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %q: %w", f.Name(), err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			f.Close()
			return nil, err
		}
		if st.Nlink > 0 {
			return func() { f.Close() }, nil
		}
		f.Close() // the same, while we waited
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

// removeState removes a state folder. The caller holds its lock, which goes
// last: who waits for it must find everything gone.
func removeState(state string) error {
	var errs []error
	for _, name := range []string{sockName, rescueName, infoName, newName, logName, oldLogName, lockName} {
		if err := os.Remove(filepath.Join(state, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := os.Remove(state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// writeInfo writes the info file, which is whole whenever it is there.
func writeInfo(state string, i info) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	written := filepath.Join(state, newName)
	if err := os.WriteFile(written, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(written, filepath.Join(state, infoName))
}

// readInfo reads the info file.
func readInfo(state string) (info, error) {
	var i info
	b, err := os.ReadFile(filepath.Join(state, infoName))
	if err != nil {
		return info{}, err
	}
	if err := json.Unmarshal(b, &i); err != nil {
		return info{}, fmt.Errorf("%s: %w", filepath.Join(state, infoName), err)
	}
	return i, nil
}
