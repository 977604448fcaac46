package wheelhouse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/manifest/digest"
)

// The interpreter that every list is for.
const (
	pythonVersion = "3.12"
	pythonABI     = "cp312"
)

const (
	// fetchers is how many pips run at once: a pip waits for the index about as long
	// as it works, and an index is not to be pressed.
	fetchers = 4
	// batch is how many wheels one pip is asked for: enough to hide its start of
	// half a second, few enough that a failure loses little.
	batch = 16
)

// Fetch brings the wheels of a list that the cache lacks into it, and says on log
// what it does. The user's pip downloads, as the user configured it. What has
// another size or SHA-256 than the list says is thrown away and is an error. Two
// processes that fetch at once wait for each other.
func Fetch(ctx context.Context, list []Wheel, log io.Writer) error {
	if len(Missing(list)) == 0 {
		return nil
	}
	dir := Dir()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer unlock()
	missing := Missing(list) // what the holder of the lock before us left
	if len(missing) == 0 {
		return nil
	}
	pip, err := findPip(ctx)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	fmt.Fprintf(log, "fetching %d wheels into %s with %s\n", len(missing), dir, strings.Join(pip, " "))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	var said sync.Mutex
	n := 0
	for wheels := range slices.Chunk(missing, batch) {
		n++
		to := filepath.Join(tmp, fmt.Sprint(n))
		g.Go(func() error {
			if err := download(ctx, pip, wheels, to); err != nil {
				return err
			}
			if err := admit(wheels, to); err != nil {
				return err
			}
			said.Lock()
			defer said.Unlock()
			for _, w := range wheels {
				fmt.Fprintln(log, w.Filename)
			}
			return nil
		})
	}
	return g.Wait()
}

// findPip returns the command line of a pip that runs.
func findPip(ctx context.Context) ([]string, error) {
	candidates := [][]string{
		{"python3", "-m", "pip"},
		{"python", "-m", "pip"},
		{"pip3"},
		{"uv", "tool", "run", "pip"},
	}
	var tried []string
	for _, c := range candidates {
		if exec.CommandContext(ctx, c[0], append(c[1:], "--version")...).Run() == nil {
			return c, nil
		}
		tried = append(tried, fmt.Sprintf("%q", strings.Join(c, " ")))
	}
	return nil, fmt.Errorf("no pip runs here (tried %s): install one to fetch the wheels", strings.Join(tried, ", "))
}

// download has pip download wheels into a directory. The target is spelled out,
// so that any Python on any system fetches the same files; their hashes leave pip
// one file to choose for each.
func download(ctx context.Context, pip []string, wheels []Wheel, to string) error {
	if err := os.Mkdir(to, 0o777); err != nil {
		return err
	}
	requirements := filepath.Join(to, "requirements.txt")
	if err := os.WriteFile(requirements, pinned(wheels), 0o666); err != nil {
		return err
	}
	args := append(pip[1:len(pip):len(pip)], "download", "--quiet", "--no-deps", "--require-hashes",
		"--only-binary", ":all:", "--implementation", "cp",
		"--python-version", pythonVersion, "--abi", pythonABI)
	for _, p := range targets(wheels) {
		args = append(args, "--platform", p)
	}
	args = append(args, "--dest", to, "--requirement", requirements)
	out, err := exec.CommandContext(ctx, pip[0], args...).CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("pip download: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// pinned writes the requirements of pip's hash-checking mode.
func pinned(wheels []Wheel) []byte {
	var b bytes.Buffer
	for _, w := range wheels {
		fmt.Fprintf(&b, "%s==%s --hash=sha256:%s\n", w.Name(), w.Version(), w.Digest)
	}
	return b.Bytes()
}

// targets returns the platform tags of wheels, each once. Where all are "any" pip
// still wants one.
func targets(wheels []Wheel) []string {
	var all []string
	for _, w := range wheels {
		all = append(all, w.platforms()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// admit checks what was downloaded and gives it its name in the cache.
func admit(wheels []Wheel, from string) error {
	for _, w := range wheels {
		file := filepath.Join(from, w.Filename)
		if err := check(file, w); err != nil {
			return err
		}
		if err := os.Rename(file, w.Path()); err != nil {
			return err
		}
	}
	return nil
}

// check compares a file with the wheel it should be.
func check(file string, w Wheel) error {
	info, err := os.Stat(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("pip downloaded no %q: the index has another file of that version", w.Filename)
	}
	if err != nil {
		return err
	}
	if info.Size() != w.Size {
		return fmt.Errorf("%s has %d bytes, want %d", w.Filename, info.Size(), w.Size)
	}
	sum, err := digestFile(file)
	if err != nil {
		return err
	}
	if sum != w.Digest {
		return fmt.Errorf("%s has SHA-256 %s, want %s", w.Filename, sum, w.Digest)
	}
	return nil
}

func digestFile(name string) (digest.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return digest.Digest{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return digest.Digest{}, err
	}
	return digest.Digest(h.Sum(nil)), nil
}

// lockFile waits for the lock file and returns what releases it.
func lockFile(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	locked := make(chan error, 1)
	go func() { locked <- flock(f) }()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", file, err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		go func() { // flock cannot be interrupted; a lock that comes too late is let go
			<-locked
			f.Close()
		}()
		return nil, fmt.Errorf("waiting for another fetch that holds %s: %w", file, context.Cause(ctx))
	}
}

func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}
