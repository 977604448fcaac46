package session

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
)

// compileVersion changes when the same inputs give another tree than before.
const compileVersion = 2

// ErrNothing is wrapped when a request names neither a lock file nor a requirement.
var ErrNothing = errors.New("nothing to run in")

// inputs are all that an environment depends on: read once, so that what is
// compiled is what was hashed.
type inputs struct {
	request  Request
	name     string // of the environment, for people
	identity string // tells its mount point from others'
	dir      string // the project's
	locks    []lockFile
	withs    []lock.With // folders are not listed yet
	folders  map[string][]file

	key digest.Digest // names it all, but what Note of a known entry has
}

type lockFile struct {
	Path   string
	Digest digest.Digest // of Data
	Data   []byte        `json:"-"`
}

// A file is one whose content is named without reading it.
type file struct {
	Name                    string
	Device, Inode           uint64
	Size, Modified, Changed int64
}

// read reads what the request names.
func (s *Session) read(req Request, finder *interp.Finder) (*inputs, error) {
	in := &inputs{request: req, dir: s.Dir, folders: map[string][]file{}}
	if len(req.Locks) == 0 && len(req.With) == 0 {
		return nil, fmt.Errorf("%w: name a lock file with -r pylock.toml, or packages with --with", ErrNothing)
	}
	for _, name := range req.Locks {
		if err := in.readLock(s.absolute(name)); err != nil {
			return nil, err
		}
	}
	for _, arg := range req.With {
		if err := in.readWith(arg, s.Dir); err != nil {
			return nil, err
		}
	}
	in.identify()
	var err error
	in.key, err = in.digest(finder.Inputs(interp.Request{Python: req.Python, Dir: in.dir}))
	return in, err
}

func (s *Session) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.Dir, path)
}

func (in *inputs) readLock(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("-r %q: there is no such file; make it with `uv export --format pylock.toml` or `pip lock`", path)
	}
	if errors.Is(err, syscall.EISDIR) {
		return fmt.Errorf("-r %q: it is a folder: name the lock file in it", path)
	}
	if err != nil {
		return fmt.Errorf("-r %w", err)
	}
	if len(in.locks) == 0 {
		in.dir = filepath.Dir(path)
	}
	in.locks = append(in.locks, lockFile{path, digest.Of(data), data})
	return nil
}

func (in *inputs) readWith(arg, dir string) error {
	w, err := lock.ParseWith(arg, dir)
	if err != nil {
		return err
	}
	in.withs = append(in.withs, w)
	switch {
	case w.Dir != "":
		in.folders[w.Dir], err = wheelFiles(w.Dir)
		if err == nil && len(in.folders[w.Dir]) == 0 {
			err = fmt.Errorf("--with %q: the folder holds no wheel (*.whl)", arg)
		}
	case w.Wheel != "":
		var f file
		f, err = statFile(w.Wheel)
		in.folders[w.Wheel] = []file{f}
	}
	if err != nil {
		return fmt.Errorf("--with %q: %w", arg, err)
	}
	return nil
}

// wheelFiles lists the wheels of a folder, by name.
func wheelFiles(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".whl") {
			continue
		}
		f, err := statFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func statFile(path string) (file, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return file{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return file{
		Name:     filepath.Base(path),
		Device:   uint64(st.Dev),
		Inode:    st.Ino,
		Size:     st.Size,
		Modified: modified(&st),
		Changed:  changed(&st),
	}, nil
}

// identify names the environment: by the folder of its first lock file, else by
// what was asked for.
func (in *inputs) identify() {
	var parts []string
	for _, w := range in.withs { // a path names the same from wherever it is seen
		parts = append(parts, cmp.Or(w.Dir, w.Requirement, w.Wheel+" "+strings.Join(w.Extras, ",")))
	}
	slices.Sort(parts)
	for _, l := range in.locks {
		parts = append(parts, l.Path)
	}
	in.identity = strings.Join(parts, "\x00")
	if len(in.locks) > 0 {
		in.name = filepath.Base(in.dir)
		return
	}
	w := in.withs[0]
	in.name = "with-" + cmp.Or(w.Name, filepath.Base(w.Dir))
}

// source is what the environment is made from, as a user types it.
func (in *inputs) source() string {
	var words []string
	for _, l := range in.locks {
		words = append(words, "-r "+l.Path)
	}
	for _, w := range in.request.With {
		words = append(words, "--with "+lock.Redacted(w))
	}
	return strings.Join(words, " ")
}

// digest returns the name of everything that was read.
func (in *inputs) digest(python []string) (digest.Digest, error) {
	b, err := json.Marshal(struct {
		Version int
		Request Request
		Name    string
		Locks   []lockFile
		Folders map[string][]file
		Python  []string
	}{compileVersion, in.request, in.name, in.locks, in.folders, python})
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.Of(b), nil
}
