package resolve

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Key names everything that the answer to req depends on but what the indexes
// hold: the requirements, the wheels' files, the interpreter, and the
// resolvers' configuration: which tools there are, their environment variables,
// the files these name, and their configuration files. Nothing is run: a few
// dozen stats and small reads. The error is about a wheel that isn't there.
func (r *Resolver) Key(req Request) (string, error) {
	k := keyWriter{sha256.New()}
	k.add("resolve 1", req.Python.Key, req.Python.Executable, req.Dir)
	for _, w := range req.Withs {
		if w.Wheel == "" {
			continue
		}
		if _, err := os.Stat(w.Wheel); err != nil {
			return "", fmt.Errorf("--with: %w", err)
		}
		k.stat(w.Wheel)
	}
	k.set("requirement", req.requirements())
	k.set("constraint", req.Constraints)
	if req.NoDeps {
		k.add("no dependencies")
	}
	r.addConfig(k, req)
	return hex.EncodeToString(k.h.Sum(nil)), nil
}

func (r *Resolver) addConfig(k keyWriter, req Request) {
	for _, name := range []string{"uv", "pip", "pip3"} {
		for _, path := range r.executables(name) {
			k.stat(path)
		}
	}
	variables := r.variables()
	k.set("variable", variables)
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		if slices.Contains(written, name) {
			continue
		}
		for word := range strings.FieldsSeq(value) { // PIP_CONSTRAINT and others take several
			if !filepath.IsAbs(word) {
				word = filepath.Join(req.Dir, word)
			}
			k.stat(word)
		}
	}
	for _, path := range r.configFiles(req) {
		k.file(path)
	}
}

// written are the variables that name what uv and pip write to. Every run of
// them changes it and no answer depends on it.
var written = []string{
	"UV_CACHE_DIR", "UV_PYTHON_CACHE_DIR", "UV_PROJECT_ENVIRONMENT", "UV_TOOL_DIR",
	"PIP_CACHE_DIR", "PIP_LOG",
}

// variables returns what of the environment configures a resolver, sorted.
// PYENV_VERSION decides what a pyenv shim runs.
func (r *Resolver) variables() []string {
	variables := slices.DeleteFunc(slices.Clone(r.Env), func(v string) bool {
		return !strings.HasPrefix(v, "UV_") && !strings.HasPrefix(v, "PIP_") && !strings.HasPrefix(v, "PYENV_VERSION=")
	})
	slices.Sort(variables)
	return variables
}

// configFiles returns where pip and uv look for configuration (pip's
// "Configuration" page, uv's "Configuration files"), there or not.
func (r *Resolver) configFiles(req Request) []string {
	home := r.getenv("HOME")
	user := r.getenv("XDG_CONFIG_HOME")
	if user == "" {
		user = filepath.Join(home, ".config")
	}
	system := filepath.SplitList(r.getenv("XDG_CONFIG_DIRS"))
	if len(system) == 0 {
		system = []string{"/etc/xdg"}
	}
	prefix := filepath.Dir(filepath.Dir(req.Python.Executable))
	files := []string{
		"/etc/pip.conf", filepath.Join(home, ".pip/pip.conf"), filepath.Join(user, "pip/pip.conf"), filepath.Join(prefix, "pip.conf"),
		"/etc/uv/uv.toml", filepath.Join(user, "uv/uv.toml"),
	}
	for _, dir := range system {
		files = append(files, filepath.Join(dir, "pip/pip.conf"), filepath.Join(dir, "uv/uv.toml"))
	}
	if runtime.GOOS == "darwin" {
		files = append(files, "/Library/Application Support/pip/pip.conf", filepath.Join(home, "Library/Application Support/pip/pip.conf"))
	}
	for dir := req.Dir; ; dir = filepath.Dir(dir) {
		files = append(files, filepath.Join(dir, "uv.toml"), filepath.Join(dir, "pyproject.toml"))
		if dir == filepath.Dir(dir) {
			return files
		}
	}
}

// A keyWriter hashes strings so that no two lists give the same bytes.
type keyWriter struct{ h hash.Hash }

func (k keyWriter) add(words ...string) {
	for _, w := range words {
		fmt.Fprintf(k.h, "%d:%s", len(w), w)
	}
}

// set adds words whose order means nothing.
func (k keyWriter) set(kind string, words []string) {
	words = slices.Clone(words)
	slices.Sort(words)
	k.add(kind, fmt.Sprint(len(words)))
	k.add(words...)
}

// stat adds which file is at path, if there is one. The time of its last change
// tells a file that was replaced by one of the same size and mtime, as builds that
// can be reproduced make them.
func (k keyWriter) stat(path string) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err == nil {
		k.add("stat", path, fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()))
	}
}

// file adds the content of a small file, if there is one. One that can't
// be read is another state than none.
func (k keyWriter) file(path string) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	k.add("file", path, fmt.Sprint(err != nil), string(data))
}
