package interp

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
)

// Inputs returns what decides which interpreter Find chooses, as lines of text:
// the request, the variables and files that it reads, and when the directories
// that it searches last changed. While the lines stay the same, and Key of the
// chosen Python's Found is still the Python's Key, Find would choose it again.
// It costs a few stats and runs nothing.
func (f *Finder) Inputs(req Request) []string {
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
	for _, path := range f.inputFiles(req) {
		// That a file can't be read is an input as well; Find says why.
		data, err := os.ReadFile(path)
		lines = append(lines, fmt.Sprintf("file %q %q %v", path, data, err == nil))
	}
	for dir := range f.directories() {
		if info, err := os.Stat(dir); err == nil {
			lines = append(lines, fmt.Sprintf("searched %q %d", dir, info.ModTime().UnixNano()))
		}
	}
	return lines
}

// inputFiles are the files that Find may read, there or not.
func (f *Finder) inputFiles(req Request) []string {
	files := []string{
		filepath.Join(f.pyenvRoot(), "version"),
		upward(f.project(req), ".python-version"),
		upward(f.Dir, ".python-version"),
	}
	if dir := f.Getenv("PYENV_DIR"); dir != "" {
		files = append(files, upward(f.absolute(dir), ".python-version"))
	}
	if env := f.Getenv("VIRTUAL_ENV"); env != "" {
		files = append(files, filepath.Join(f.absolute(env), "pyvenv.cfg"))
	}
	if req.Python != "" {
		path := f.absolute(req.Python)
		files = append(files,
			filepath.Join(path, "pyvenv.cfg"),
			filepath.Join(filepath.Dir(path), "pyvenv.cfg"),
			filepath.Join(filepath.Dir(filepath.Dir(path)), "pyvenv.cfg"))
	}
	return files
}

// project is the directory that the search for .python-version begins in.
func (f *Finder) project(req Request) string { return f.absolute(cmp.Or(req.Dir, ".")) }

func (f *Finder) pyenvRoot() string {
	return cmp.Or(f.Getenv("PYENV_ROOT"), filepath.Join(f.Home, ".pyenv"))
}
