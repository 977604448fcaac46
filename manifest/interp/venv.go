package interp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// venvBase returns the interpreter that a virtual environment's python was made
// from, or "" if path is in no virtual environment. It looks where Python
// itself looks, beside the unresolved executable and one directory up, and it
// is needed because sys._base_executable is the environment's own python
// before Python 3.11.
func venvBase(path string) (string, error) {
	dir := filepath.Dir(path)
	for _, d := range []string{dir, filepath.Dir(dir)} {
		cfg, err := readVenvConfig(filepath.Join(d, "pyvenv.cfg"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		return cfg.base(filepath.Base(path))
	}
	return "", nil
}

// A venvConfig is a pyvenv.cfg.
type venvConfig struct {
	path   string
	values map[string]string
}

func readVenvConfig(path string) (venvConfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return venvConfig{}, err
	}
	cfg := venvConfig{path, make(map[string]string)}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, "="); ok {
			cfg.values[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return cfg, nil
}

// base returns the executable in the home directory, by the name that the
// environment's own has if there is one.
func (c venvConfig) base(name string) (string, error) {
	home := c.values["home"]
	if !filepath.IsAbs(home) {
		return "", fmt.Errorf("%q has no absolute home (%q): the virtual environment is broken, make it again", c.path, home)
	}
	candidates := []string{
		filepath.Join(home, name), filepath.Join(home, "python3"), filepath.Join(home, "python"),
		filepath.Join(home, "pypy3"), c.values["base-executable"], c.values["executable"],
	}
	for _, path := range candidates {
		if path != "" && isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%q names %q as the home of its Python, and there is none: make the virtual environment again", c.path, home)
}

// isExecutable reports whether path leads to a file that somebody may execute.
func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
