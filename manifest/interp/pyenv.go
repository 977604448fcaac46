package interp

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// shimRoot returns the root of the pyenv whose shim path is.
func shimRoot(path string) (string, bool) {
	dir := filepath.Dir(path)
	root := filepath.Dir(dir)
	info, err := os.Stat(filepath.Join(root, "versions"))
	return root, filepath.Base(dir) == "shims" && err == nil && info.IsDir()
}

// pyenvWhich returns what the shim of that name runs now, as `pyenv which` finds
// it: the first of the chosen versions that has the program, then the system.
// pyenv itself takes 50 ms for it, in bash.
func (f *Finder) pyenvWhich(root, name string) (string, error) {
	versions, origin := f.pyenvVersions(root)
	var missing []string
	for _, version := range append(versions, "system") {
		if version == "system" {
			if path := f.lookPath(name, filepath.Join(root, "shims")); path != "" {
				return path, nil
			}
			continue
		}
		dir := pyenvDir(root, version)
		if dir == "" {
			missing = append(missing, version)
			continue
		}
		if path := filepath.Join(dir, "bin", name); isExecutable(path) {
			return path, nil
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("it is a pyenv shim, and pyenv has no version %q (set by %s)", missing[0], origin)
	}
	return "", fmt.Errorf("it is a pyenv shim, and none of the versions %q (set by %s) has %q", versions, origin, name)
}

// pyenvVersions returns the versions that are chosen now and what chose them:
// PYENV_VERSION, the next .python-version, the global file.
func (f *Finder) pyenvVersions(root string) (versions []string, origin string) {
	if v := f.Getenv("PYENV_VERSION"); v != "" {
		return strings.Split(v, ":"), "PYENV_VERSION"
	}
	file := filepath.Join(root, "version")
	for _, dir := range []string{f.Getenv("PYENV_DIR"), f.Dir} {
		if dir == "" {
			continue
		}
		if found := upward(f.absolute(dir), ".python-version"); found != "" {
			file = found
			break
		}
	}
	versions, err := readVersionFile(file)
	if err != nil || len(versions) == 0 {
		return []string{"system"}, "pyenv's default"
	}
	return versions, file
}

// readVersionFile reads a .python-version: the first word of every line that
// is not a comment.
func readVersionFile(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var versions []string
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			versions = append(versions, words[0])
		}
	}
	return versions, nil
}

// upward returns the path of the file of that name in dir or the nearest
// directory above it, or "".
func upward(dir, name string) string {
	for {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// pyenvDir returns the directory of an installed version or a named virtual
// environment, or "". As in pyenv, "3.12" stands for the newest 3.12 there is.
func pyenvDir(root, version string) string {
	if strings.ContainsRune(version, filepath.Separator) || version == "." || version == ".." {
		return "" // would leave the versions directory
	}
	versions := filepath.Join(root, "versions")
	for _, name := range []string{version, strings.TrimPrefix(version, "python-")} {
		if info, err := os.Stat(filepath.Join(versions, name)); err == nil && info.IsDir() {
			return filepath.Join(versions, name)
		}
		if latest := pyenvLatest(versions, name); latest != "" {
			return filepath.Join(versions, latest)
		}
	}
	return ""
}

// pyenvLatest returns the newest installed final version that prefix begins,
// free-threaded only if prefix ends in t.
func pyenvLatest(versions, prefix string) string {
	entries, err := os.ReadDir(versions)
	if err != nil {
		return ""
	}
	stem := strings.TrimSuffix(prefix, "t")
	threaded := stem != prefix && stem != "" && isDigit(stem[len(stem)-1])
	if !threaded {
		stem = prefix
	}
	latest := ""
	for _, e := range entries {
		name := e.Name()
		rest, ok := strings.CutPrefix(name, stem)
		if !ok || rest == "" || rest[0] != '.' && rest[0] != '-' {
			continue
		}
		rest = strings.TrimLeft(rest, "-.0123456789")
		if rest == "" && !threaded || rest == "t" && threaded {
			if latest == "" || compareNumbers(name, latest) > 0 {
				latest = name
			}
		}
	}
	return latest
}

// compareNumbers compares names by the numbers in them: 3.12.10 is after 3.12.9.
func compareNumbers(a, b string) int { return slices.Compare(numbersIn(a), numbersIn(b)) }

func numbersIn(s string) []int {
	var numbers []int
	for _, field := range strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(field) // the largest int for a number beyond it, which sorts as it should
		numbers = append(numbers, n)
	}
	return numbers
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// lookPath returns the program of that name in PATH, directories named in but
// left out, or "".
func (f *Finder) lookPath(name string, but ...string) string {
	for _, dir := range filepath.SplitList(f.Getenv("PATH")) {
		dir = filepath.Clean(f.absolute(cmp.Or(dir, ".")))
		if path := filepath.Join(dir, name); !slices.Contains(but, dir) && isExecutable(path) {
			return path
		}
	}
	return ""
}
