package materialize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// MarkName is the file in an environment that says what it is. An environment
// without it is not one of ours.
const MarkName = ".sitefs-venv"

// ownPrefix begins the names at the top of an environment that are sitefs's own.
const ownPrefix = ".sitefs-"

// Own reports whether a path, relative to an environment, is of what sitefs keeps
// there for itself: no part of the tree, and nothing that the user added.
func Own(path string) bool {
	return strings.HasPrefix(path, ownPrefix) && !strings.Contains(path, "/")
}

// markFormat is the version of the mark. A mark of another one can't be read.
const markFormat = 1

// A Mark is what an environment says of itself. It is JSON, so that people and
// scripts can read it.
type Mark struct {
	Format   int           `json:"format"`
	Tree     digest.Digest `json:"tree"`
	Prefix   string        `json:"prefix"` // the path in its scripts
	Mode     Mode          `json:"mode"`   // never Auto
	Compiled bool          `json:"compiled"`
	Store    string        `json:"store"` // the directory of the store that it was made from
	Made     time.Time     `json:"made"`
	Version  string        `json:"sitefs"`
}

func newMark(t *tree.Tree, mode Mode, store string, o Options) *Mark {
	return &Mark{
		Format:   markFormat,
		Tree:     t.Digest(),
		Prefix:   o.Prefix,
		Mode:     mode,
		Compiled: o.Compiled,
		Store:    store,
		Made:     time.Now().UTC().Truncate(time.Second),
		Version:  o.Version,
	}
}

// ReadMark returns the mark of the environment dir. One that isn't ours is
// [fs.ErrNotExist].
func ReadMark(dir string) (*Mark, error) {
	file := filepath.Join(dir, MarkName)
	text, err := readMark(file)
	if err != nil {
		return nil, err
	}
	m := new(Mark)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if m.Format != markFormat {
		return nil, fmt.Errorf("%s has format %d, this sitefs knows %d", file, m.Format, markFormat)
	}
	if m.Mode == Auto || !filepath.IsAbs(m.Prefix) {
		return nil, fmt.Errorf("%s has mode %q and prefix %q, want the mode it was made by and an absolute path", file, m.Mode, m.Prefix)
	}
	return m, nil
}

// maxMark bounds what is read: two paths and a few words.
const maxMark = 64 << 10

// readMark reads a file that anybody may have put there. It waits for no pipe.
func readMark(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxMark {
		return nil, fmt.Errorf("%s is %v of %d bytes, want a regular file of at most %d", file, info.Mode(), info.Size(), maxMark)
	}
	return io.ReadAll(io.LimitReader(f, maxMark))
}

// write writes the mark into the new environment dir.
func (m *Mark) write(dir string) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, MarkName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// MarshalText returns the mode's name.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads a mode's name.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMode(string(text))
	return err
}
