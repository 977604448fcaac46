package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/store"
)

// heldFolder is the folder of the state home with a file for each directory that
// the user has mounted and not unmounted, whatever became of the mount: it outlives
// the machine's restart.
const heldFolder = "held"

// held is what such a file holds, as JSON, after a line with Options.Command: all
// that it takes to mount the same again, with no lock file read and no network asked.
type held struct {
	Dir         string       `json:"dir"`
	Store       string       `json:"store"`
	Environment *Environment `json:"environment"`
	Options     MountOptions `json:"options"`
}

// heldFile returns the path of the file for dir.
func heldFile(dir string) (string, error) {
	home, err := mount.StateHome()
	if err != nil {
		return "", err
	}
	state, err := mount.StateDir(dir) // of one name for every spelling of dir
	return filepath.Join(home, heldFolder, filepath.Base(state)), err
}

// remember notes that env is mounted on dir.
func (s *Session) remember(env *Environment, dir string, o MountOptions) error {
	file, err := heldFile(dir)
	if err != nil {
		return err
	}
	text, err := json.Marshal(held{dir, s.Store.Dir(), env, o})
	if err != nil {
		return err
	}
	text = fmt.Appendf(nil, "%s\n%s\n", strings.ReplaceAll(o.Command, "\n", " "), text)
	if old, err := os.ReadFile(file); err == nil && string(old) == string(text) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), newHeld+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// newHeld begins the name of a file that is being written.
const newHeld = "new-"

// forget takes back what was remembered of dir.
func forget(dir string) error {
	file, err := heldFile(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// heldMounts returns what is remembered. With an error it still returns those that
// can be read.
func heldMounts() ([]held, error) {
	home, err := mount.StateHome()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(home, heldFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []held
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newHeld) {
			continue
		}
		file := filepath.Join(home, heldFolder, e.Name())
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // unmounted just now
		}
		var h held
		if err == nil {
			_, text, _ = bytes.Cut(text, []byte("\n"))
			err = json.Unmarshal(text, &h)
		}
		if err == nil && (h.Dir == "" || h.Environment == nil) {
			err = errors.New("names no mount")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w; remove it", file, err))
			continue
		}
		list = append(list, h)
	}
	return list, errors.Join(errs...)
}

// HeldDirs returns the directories that are mounted until they are unmounted, also
// where they aren't now. With an error it still returns those that it knows.
func HeldDirs() ([]string, error) {
	list, err := heldMounts()
	dirs := make([]string, len(list))
	for i, h := range list {
		dirs[i] = h.Dir
	}
	return dirs, err
}

// MountAll mounts again what was mounted and not unmounted: after a restart of the
// machine all of it.
func (s *Session) MountAll(ctx context.Context) error {
	list, err := heldMounts()
	errs := []error{err}
	for _, h := range list {
		errs = append(errs, s.mountHeld(ctx, h))
	}
	return errors.Join(errs...)
}

func (s *Session) mountHeld(ctx context.Context, h held) error {
	if _, err := os.Stat(filepath.Dir(h.Dir)); errors.Is(err, fs.ErrNotExist) {
		s.Warn(fmt.Sprintf("%s is not mounted any more: the folder that it was in is gone", h.Dir))
		return forget(h.Dir)
	}
	there := *s
	if h.Store != s.Store.Dir() {
		st, err := store.Open(h.Store, store.Options{Warn: s.Warn})
		if err != nil {
			return fmt.Errorf("%s: %w", h.Dir, err)
		}
		defer st.Close()
		there.Store = st
	}
	if !there.Store.HasTree(h.Environment.Tree) {
		return fmt.Errorf("%s: the store %s has no tree %s any more: run `%s`", h.Dir, h.Store, h.Environment.Tree, h.Options.Command)
	}
	text, gone := fate(h.Environment.Python, h.Environment.File)
	switch {
	case gone:
		return fmt.Errorf("%s: %s: install it again, or run `%s`", h.Dir, text, h.Options.Command)
	case text != "":
		s.Warn(fmt.Sprintf("%s: %s; if it is of another version now, run `%s`", h.Dir, text, h.Options.Command))
		h.Environment.File = fileOf(h.Environment.Python)
	}
	return there.Mount(ctx, h.Environment, h.Dir, h.Options)
}
