package interp

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

//go:embed bundled.py
var bundledScript string

// BundledPip returns the path of the wheel of pip that p brings along for new
// environments. It runs the interpreter each time: distributors pack the wheel apart,
// so it comes and goes while p stays the same.
func (f *Finder) BundledPip(ctx context.Context, p *Python) (string, error) {
	answer, err := f.run(ctx, p.Executable, bundledScript, "-I", "-S", "-B", "-")
	var failed *runError
	if errors.As(err, &failed) && failed.stderr != "" {
		err = errors.New(strings.TrimSpace(failed.stderr))
	}
	if err != nil {
		return "", fmt.Errorf("%s has no pip of its own to put into an environment: %w; install what it lacks (Debian has it in the package python3-venv), add pip with --with pip, or leave pip out with --no-seed", p, err)
	}
	path := strings.TrimSuffix(string(answer), "\n")
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s says that its pip is %q, want the absolute path of a wheel", p, path)
	}
	return path, nil
}
