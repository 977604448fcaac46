package interp

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// keyVersion changes when probe.py or its report changes, so that no answer to
// another question is taken for this one's.
const keyVersion = "1"

// Key returns the identity of the base interpreter that executable leads to,
// without running it: its path; device, inode, size and mtime of its binary and
// of the loader that brings its C library; the kernel's release, version and
// machine. An interpreter of the same Key gives the same answers. Only a script
// that is neither of a virtual environment nor a pyenv shim has to be run, to
// learn where it leads.
func Key(executable string) (string, error) {
	f, err := New(nil)
	if err != nil {
		return "", err
	}
	return f.Key(context.Background(), executable)
}

// Key is the function Key with f's environment and directory.
func (f *Finder) Key(ctx context.Context, executable string) (string, error) {
	base, err := f.resolve(ctx, executable)
	if err != nil {
		return "", unusable(executable, err)
	}
	key, err := identity(base)
	if err != nil {
		return "", unusable(executable, err)
	}
	return key, nil
}

// identity returns the Key of a binary.
func identity(path string) (string, error) {
	loader, err := elfLoader(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", keyVersion, path)
	if err := hashFile(h, path); err != nil {
		return "", err
	}
	if loader != "" {
		fmt.Fprintf(h, "%s\x00", loader)
		if err := hashFile(h, loader); err != nil {
			return "", err
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	h.Write(u.Release[:])
	h.Write(u.Version[:])
	h.Write(u.Machine[:])
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashFile adds which file stands at path to h.
func hashFile(h io.Writer, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%q: the system gives files no inode", path)
	}
	fmt.Fprintf(h, "%d %d %d %d\x00", st.Dev, st.Ino, info.Size(), info.ModTime().UnixNano())
	return nil
}

// elfLoader returns the program that loads the binary at path and, with it or in
// it, its C library: /lib64/ld-linux-x86-64.so.2. It is "" for a static binary
// and where binaries are not ELF.
func elfLoader(path string) (string, error) {
	f, err := elf.Open(path)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz <= unix.PathMax {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err != nil {
				return "", fmt.Errorf("%q: the name of its loader: %w", path, err)
			}
			return strings.TrimRight(string(name), "\x00"), nil
		}
	}
	return "", nil
}

// maxHops bounds how often one path may lead to another: a virtual environment
// made from a shim is two.
const maxHops = 8

// resolve follows virtual environments, pyenv shims and other scripts from
// executable to a binary.
func (f *Finder) resolve(ctx context.Context, executable string) (string, error) {
	path := executable
	for range maxHops {
		path = f.absolute(path)
		next, err := f.follow(ctx, path)
		if err != nil || next == "" {
			return path, err
		}
		path = next
	}
	return "", fmt.Errorf("it leads from one environment to another without end, last to %q", path)
}

// follow returns where path leads, or "" if it is a binary.
func (f *Finder) follow(ctx context.Context, path string) (string, error) {
	base, err := venvBase(path)
	if err != nil || base != "" {
		return base, err
	}
	script, err := isScript(path)
	if err != nil || !script {
		return "", err
	}
	if root, ok := shimRoot(path); ok {
		return f.pyenvWhich(root, filepath.Base(path))
	}
	out, err := f.run(ctx, path, "import sys; print(sys.executable)", "-I", "-S", "-B", "-")
	if err != nil {
		return "", f.explain(ctx, path, err)
	}
	next := strings.TrimSpace(string(out))
	if !filepath.IsAbs(next) || next == path {
		return "", fmt.Errorf("it is a script and not a Python interpreter: asked for one, it answered %.60q", next)
	}
	return next, nil
}

// isScript reports whether the kernel would run the file by another program.
// It fails for what can't be executed at all.
func isScript(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, errors.New("there is no such file")
	case err != nil:
		return false, err
	case info.IsDir():
		return false, errors.New("it is a directory")
	case info.Mode()&0o111 == 0:
		return false, errors.New("it is not executable")
	}
	file, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return false, nil // may be run and not read: then it is no script either
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	magic := make([]byte, 2)
	if _, err := io.ReadFull(file, magic); err != nil {
		return false, errors.New("it is no program: the file is empty")
	}
	return string(magic) == "#!", nil
}
