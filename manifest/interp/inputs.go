package interp

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Inputs returns what decides which interpreter Find chooses, as lines of text:
// the request, the variables and files that it reads, and when the directories
// that it searches last changed. While the lines stay the same and [Key] of the
// chosen Executable does, Find would choose it again. It costs a few stats and
// runs nothing.
func (f *Finder) Inputs(req Request) ([]string, error) {
	lines := []string{
		fmt.Sprintf("python %q", req.Python),
		fmt.Sprintf("directory %q", f.Dir),
		fmt.Sprintf("home %q", f.Home),
	}
	for _, name := range []string{
		"PATH", "VIRTUAL_ENV", "PYENV_ROOT", "PYENV_VERSION", "PYENV_DIR", "UV_PYTHON_INSTALL_DIR", "XDG_DATA_HOME",
	} {
		lines = append(lines, fmt.Sprintf("%s %q", name, f.Getenv(name)))
	}
	pyenv := cmp.Or(f.Getenv("PYENV_ROOT"), filepath.Join(f.Home, ".pyenv"))
	files := []string{
		upward(cmp.Or(req.Dir, f.Dir), ".python-version"),
		upward(f.Dir, ".python-version"),
		filepath.Join(f.Getenv("PYENV_DIR"), ".python-version"),
		filepath.Join(pyenv, "version"),
		filepath.Join(f.Getenv("VIRTUAL_ENV"), "pyvenv.cfg"),
		filepath.Join(f.absolute(req.Python), "pyvenv.cfg"),
		filepath.Join(filepath.Dir(filepath.Dir(f.absolute(req.Python))), "pyvenv.cfg"),
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("file %q %q", path, data))
	}
	for dir := range f.directories() {
		info, err := os.Stat(dir)
		if err != nil {
			continue // what is not there is in no line, and in one when it comes
		}
		lines = append(lines, fmt.Sprintf("searched %q %d", dir, info.ModTime().UnixNano()))
	}
	return lines, nil
}
