package resolve

import (
	"context"
	"errors"
	"strings"
)

// uv returns the uv at path as a resolver.
func (r *Resolver) uv(path string) tool {
	return func(ctx context.Context, req Request) ([]byte, []string, error) {
		c := command{
			name: "uv",
			path: path,
			args: []string{
				"pip", "compile", "-", "--format", "pylock.toml", "--no-header",
				"--only-binary", ":all:", "--python", req.Python.Executable,
				"--color", "never", "--no-progress", "--no-python-downloads",
			},
			stdin: strings.Join(req.requirements(), "\n") + "\n",
		}
		if len(req.Constraints) > 0 {
			c.args = append(c.args, "--constraints", "/dev/fd/3")
			c.fd3 = strings.Join(req.Constraints, "\n") + "\n"
		}
		if req.NoDeps {
			c.args = append(c.args, "--no-deps")
		}
		if req.Refresh {
			c.args = append(c.args, "--refresh")
		}
		pylock, notes, err := r.run(ctx, req.Dir, c)
		return pylock, notes, req.explain(uvAbsent(path, err))
	}
}

// uvAbsent tells a uv that can't be asked from one that was and failed.
func uvAbsent(path string, err error) error {
	var f *failure
	if errors.As(err, &f) && (strings.Contains(f.stderr, "unexpected argument") || strings.Contains(f.stderr, "invalid value 'pylock.toml'")) {
		return &absentError{path + " is too old to write a pylock.toml"}
	}
	return err
}
