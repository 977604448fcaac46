package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of Exec, one per exit code that a shell gives for the same failure.
var (
	ErrNotFound      = errors.New("command not found")
	ErrNotExecutable = errors.New("command not executable")
)

// Exec replaces this process by the command, run inside the environment, which
// takes the lease over. It returns only if that fails, before anything of the
// command ran.
func (l *Lease) Exec(argv, environ []string) error {
	if l.inside != nil {
		err := syscall.Exec(l.inside[0], append(l.inside, argv...), environ)
		return fmt.Errorf("run %q: %w", l.inside[0], err)
	}
	environ = Activate(environ, l.Prefix, l.Prompt)
	path, err := lookPath(argv[0], variable(environ, "PATH"))
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, environ)
	if errors.Is(err, syscall.ENOEXEC) { // a script without a first line for the kernel, as execvp(3) has it
		err = syscall.Exec("/bin/sh", append([]string{argv[0], path}, argv[1:]...), environ)
	}
	runtime.KeepAlive(l.held) // or a collection on the way here may have closed it
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// The file is there: what its first line names is not.
		return fmt.Errorf("%w: the interpreter that %q names is missing", ErrNotFound, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %q: %w", ErrNotExecutable, path, err)
	}
	return fmt.Errorf("run %q: %w", path, err)
}

// Activate returns environ as bin/activate of the venv at prefix would leave it.
// UV_NO_SYNC keeps a `uv run` inside the command from writing to the read-only venv.
func Activate(environ []string, prefix, prompt string) []string {
	path := filepath.Join(prefix, "bin")
	if old := variable(environ, "PATH"); old != "" {
		path += string(filepath.ListSeparator) + old
	}
	return override(environ, map[string]string{
		"VIRTUAL_ENV":        prefix,
		"VIRTUAL_ENV_PROMPT": prompt,
		"PATH":               path,
		"UV_NO_SYNC":         "1",
	}, "PYTHONHOME")
}

// override returns environ with the variables set, and the dropped ones gone.
func override(environ []string, set map[string]string, drop ...string) []string {
	out := make([]string, 0, len(environ)+len(set))
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := set[name]; !replaced && !slices.Contains(drop, name) {
			out = append(out, kv)
		}
	}
	added := make([]string, 0, len(set))
	for name, value := range set {
		added = append(added, name+"="+value)
	}
	slices.Sort(added)
	return append(out, added...)
}

// variable returns the value of name in environ; as in getenv(3) the first one counts.
func variable(environ []string, name string) string {
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// lookPath finds a command as execvp(3) does, and tells apart a file that is
// missing from one that can't be run, as a shell's 127 and 126 do.
func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	var found error
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := filepath.Join(dir, name)
		if dir == "." {
			file = "./" + name
		}
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, ErrNotExecutable) && found == nil {
			found = err
		}
	}
	if found == nil {
		found = fmt.Errorf("%w: %q is neither in the environment nor on PATH", ErrNotFound, name)
	}
	return "", found
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %q", ErrNotFound, file)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	case info.IsDir():
		return fmt.Errorf("%w: %q is a directory", ErrNotExecutable, file)
	case unix.Access(file, unix.X_OK) != nil:
		return fmt.Errorf("%w: %q has no x bit for you", ErrNotExecutable, file)
	}
	return nil
}
