package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/lock"
)

// A stub is what the directory beneath a mount holds: programs that say how to
// mount it. A machine that started anew shows a sentence and not a broken
// interpreter.
//
// It has no pyvenv.cfg, so no tool takes it for an environment that it may repair.
type stub struct {
	dir  string
	made []string // directories that weren't there, from the bottom; gone with the stub
	own  bool     // there was none before
}

// stubMark is what [mount.Marker] holds in a stub.
type stubMark struct {
	About string `json:"about"`
	Made  bool   `json:"made"` // sitefs made the directory: it goes with the stub
}

const stubAbout = "sitefs mounts an environment on this directory; what lies here is seen while it is not mounted"

// stubPrograms say what to do, and stubSources have a shell say it: their one line
// means the same to every shell.
var (
	stubPrograms = []string{"bin/python", "bin/python3", "bin/pip", "bin/pip3"}
	stubSources  = []string{"bin/activate", "bin/activate.csh", "bin/activate.fish"}
)

// errForeign is a directory that a stub must not be put in, of which the mount's
// server says what is wrong.
var errForeign = errors.New("not to be mounted on")

// putStub makes a stub in dir, which may be there if it is empty or holds a stub
// already. Layout is what is mounted, by the command in the first line of the file
// noted: while dir is mounted another one may take its place, and the stub can't be
// reached. Where that file is gone it is command.
//
// The marker comes first: a stub that is half there is known as one, and made
// whole the next time.
func putStub(dir, layout, noted, command string) (s *stub, err error) {
	s = &stub{dir: dir}
	unlock, err := lockStubs()
	if err != nil {
		return s, err
	}
	defer unlock()
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s.made = append(s.made, d)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.clear())
		}
	}()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return s, foreign(err)
	}
	// What is beneath stays so, also if somebody mounts dir meanwhile.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return s, foreign(err)
	}
	defer root.Close()
	if isMountRoot(root) {
		return s, errForeign
	}
	mark, found, err := readMark(root)
	if err != nil {
		return s, err
	}
	if !found {
		if err := checkFree(root); err != nil {
			return s, err
		}
		s.own, mark.Made = true, len(s.made) > 0
	}
	mark.About = stubAbout
	return s, foreign(writeStub(root, mark, layout, noted, command))
}

// lockStubs keeps the user's other commands from making or removing a stub: of
// several that mount the same at once, one alone may find that it makes the directory.
func lockStubs() (unlock func(), err error) {
	home, err := mount.StateHome()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("no place to keep the state of mounts: %w; set XDG_STATE_HOME to a folder that can be written", err)
	}
	f, err := os.OpenFile(filepath.Join(home, "stubs.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %q: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// readMark reads the marker. One that others left in a directory of sitefs's has
// nothing to say.
func readMark(root *os.Root) (mark stubMark, found bool, err error) {
	text, err := root.ReadFile(mount.Marker)
	if errors.Is(err, fs.ErrNotExist) {
		return mark, false, nil
	}
	if err != nil {
		return mark, false, foreign(err)
	}
	if json.Unmarshal(text, &mark) != nil {
		mark = stubMark{}
	}
	return mark, true, nil
}

// isMountRoot reports whether root was opened in something mounted: it is on another
// device than the directory that it is in.
func isMountRoot(root *os.Root) bool {
	in, err := root.Stat(".")
	above, aerr := os.Lstat(filepath.Dir(root.Name()))
	if err != nil || aerr != nil {
		return false
	}
	st, ok := in.Sys().(*syscall.Stat_t)
	stAbove, okAbove := above.Sys().(*syscall.Stat_t)
	return ok && okAbove && st.Dev != stAbove.Dev
}

// checkFree refuses a directory that somebody uses.
func checkFree(root *os.Root) error {
	if _, err := root.Lstat("pyvenv.cfg"); err == nil {
		return fmt.Errorf("%w: %q is a virtual environment of files, which would be hidden: move it away, with `mv %s %s.old` for one, or choose another place",
			mount.ErrMountPoint, root.Name(), shellWord(root.Name()), shellWord(root.Name()))
	}
	d, err := root.Open(".")
	if err != nil {
		return foreign(err)
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return foreign(err)
	}
	return errForeign
}

func writeStub(root *os.Root, mark stubMark, layout, noted, command string) error {
	text, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	if err := root.WriteFile(mount.Marker, append(text, '\n'), 0o666); err != nil {
		return err
	}
	if layout != LayoutVenv {
		return nil // nothing in it is run
	}
	if err := root.Mkdir("bin", 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir := root.Name()
	says := fmt.Sprintf(`#!/bin/sh
{ read -r line <%s; } 2>/dev/null || line=%s
printf 'sitefs: %%s is not mounted: run `+"`%%s`"+`\n' %s "$line" >&2
exit 1
`, quote(noted), quote(command), quote(dir))
	for _, name := range stubPrograms {
		if err := root.WriteFile(name, []byte(says), 0o777); err != nil {
			return err
		}
	}
	for _, name := range stubSources {
		if err := root.WriteFile(name, []byte(quote(filepath.Join(dir, stubPrograms[0]))+"\n"), 0o666); err != nil {
			return err
		}
	}
	return nil
}

// foreign makes an error of a place that can't be written to, or is no directory,
// one that the mount's server tells better.
func foreign(err error) error {
	for _, e := range []error{syscall.EROFS, syscall.ENOTDIR, syscall.ENOTCONN, fs.ErrPermission} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errForeign, err)
		}
	}
	return err
}

// undo takes back what putStub did.
func (s *stub) undo() error {
	unlock, err := lockStubs()
	if err != nil {
		return err
	}
	defer unlock()
	return s.clear()
}

// clear is undo for who has locked the stubs.
func (s *stub) clear() error {
	var errs []error
	if s.own {
		_, err := removeStub(s.dir)
		errs = append(errs, err)
	}
	for _, dir := range s.made {
		if err := removeEmpty(dir); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeStub removes the stub in dir, and dir if sitefs made it, and reports
// whether there was one. What others put there stays. The caller has locked the stubs.
func removeStub(dir string) (found bool, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	mark, found, err := readMark(root)
	if err != nil || !found || mark.About == "" {
		return false, err
	}
	var errs []error
	for _, name := range slices.Concat(stubPrograms, stubSources, []string{"bin", mount.Marker}) {
		if err := root.Remove(name); err != nil && !isKept(err) {
			errs = append(errs, err)
		}
	}
	if mark.Made {
		errs = append(errs, removeEmpty(dir))
	}
	return true, errors.Join(errs...)
}

// removeEmpty removes a directory unless something is in it.
func removeEmpty(dir string) error {
	if err := os.Remove(dir); !isKept(err) {
		return err
	}
	return nil
}

// isKept reports whether a name is gone already, or is a directory that is somebody's.
func isKept(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY)
}

// CommandLine returns the line of sh that runs sitefs in dir with args, without
// what is secret in them.
func CommandLine(dir string, args []string) string {
	words := []string{"sitefs"}
	for _, a := range args {
		words = append(words, lock.Redacted(a))
	}
	return "cd " + shellWord(dir) + " && " + shellLine(words)
}

// shellLine returns words as a line of sh.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellWord(w)
	}
	return strings.Join(quoted, " ")
}

// shellWord returns s as one word of sh, quoted where it has to be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+=:,@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return quote(s)
}
