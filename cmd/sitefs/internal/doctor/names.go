package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Names is what a file system takes for one name.
type Names struct {
	Caseless    bool // "A" is "a"
	Normalising bool // an accent as a letter of its own is the letter with the accent
}

// The name that a file is made with, and what else may find it: in Unicode's forms
// NFC and NFD.
const (
	composed   = "sitefs-\u00e9"
	decomposed = "sitefs-e\u0301"
)

// tryNames makes a file in a new folder of dir, and looks for it by other names.
func tryNames(dir string) (n Names, err error) {
	dir, err = os.MkdirTemp(dir, ".sitefs-doctor-")
	if err != nil {
		return Names{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, composed), nil, 0o600); err != nil {
		return Names{}, err
	}
	if n.Caseless, err = has(dir, strings.ToUpper(composed)); err != nil {
		return Names{}, err
	}
	n.Normalising, err = has(dir, decomposed)
	return n, err
}

func has(dir, name string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// names looks at whether two files of an environment may be one on disk.
func (m *Machine) names(context.Context) []Check {
	dir := m.existing(m.Dir)
	c := Check{Name: "file names", Status: OK, Found: "every name is a file of its own in " + dir, Wanted: "a file system that tells upper case from lower and accents from accents"}
	n, err := m.Names(dir)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		c.Status, c.Found = Note, "can't be tried: "+err.Error()
		c.Fix = "sitefs doctor DIR, with a directory of yours"
	case err != nil:
		c.Status, c.Found, c.Fix = Warning, err.Error(), "see what it says"
	case n.Caseless || n.Normalising:
		c.Status, c.Found = Warning, dir+" takes "+n.same()+" for one name"
		c.Fix = "mount (a view knows every name), or materialize onto a file system that is case-sensitive"
	}
	if n.Normalising && !n.Caseless { // one name in two forms is no two files of a wheel
		c.Status = Note
	}
	return []Check{c}
}

func (n Names) same() string {
	var same []string
	if n.Caseless {
		same = append(same, "upper and lower case")
	}
	if n.Normalising {
		same = append(same, "two ways to write an accent")
	}
	return strings.Join(same, ", and ")
}
