// Package input holds what sitefs says to bad input: for each a message that says
// what, why and what to do next, the exit code of the table, and nothing left
// behind.
package input

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/sandbox"
	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/digest"
)

// bin holds the program under test.
var bin string

func TestMain(m *testing.M) { sandbox.Main(m, &bin, nil) }

// demo is the wheel that most cases are about.
var demo = wheelhouse.Spec{
	Name:    "demo",
	Version: "1.0",
	Files:   map[string]string{"demo.py": "answer = 42\n"},
}

// A scene is where a case plays: a home, and an index of some wheels.
type scene struct {
	*sandbox.Home
	index *wheelhouse.Server
	wheel wheelhouse.Wheel // the demo, which the index has
}

func newScene(t *testing.T) *scene {
	t.Helper()
	sandbox.NeedSitefs(t)
	python := sandbox.PythonVersion(t, "3.12")
	h := sandbox.NewHome(t, bin, python)
	dir := filepath.Join(h.Dir, "index")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	wheel, err := wheelhouse.Write(dir, demo)
	if err != nil {
		t.Fatal(err)
	}
	index, err := wheelhouse.Serve(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { index.Close() })
	h.UseIndex(index.SimpleURL())
	h.Setenv("SITEFS_PYTHON", python)
	return &scene{h, index, wheel}
}

// lock writes a lock file of one package, with what the format string says of it.
func (s *scene) lock(t *testing.T, format string, args ...any) {
	t.Helper()
	s.Write(t, "pylock.toml", "lock-version = \"1.0\"\ncreated-by = \"test\"\n\n"+
		"[[packages]]\nname = \"demo\"\nversion = \"1.0\"\n"+fmt.Sprintf(format, args...))
}

// lockWheel writes a lock file that pins a wheel of the index.
func (s *scene) lockWheel(t *testing.T, w wheelhouse.Wheel) {
	t.Helper()
	lock, err := wheelhouse.PylockURL([]wheelhouse.Wheel{w}, s.index.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.Write(t, "pylock.toml", string(lock))
}

// mount is what most cases try: unlike run, it has an exit code for each failure.
var mount = []string{"sitefs", "mount", "-r", "pylock.toml"}

// refuses runs a command that fails and leaves no more in the store than left.
func (s *scene) refuses(t *testing.T, argv []string, code int, message string, left ...string) {
	t.Helper()
	s.fails(t, argv, code, message)
	if stored := sandbox.Stored(t, s.Store()); !slices.Equal(stored, left) {
		t.Errorf("the store has %q, want %q", stored, left)
	}
}

// fails runs a command that has to fail, with that exit code and message, and has
// to leave nothing behind: no mount, no server, no mount point. In the message
// HOME, INDEX and HOST stand for those of the scene and "…" for any text. Progress
// may be told before it.
func (s *scene) fails(t *testing.T, argv []string, code int, message string) {
	t.Helper()
	r := s.Run(t, argv...)
	if r.Code != code {
		t.Errorf("exit code %d, want %d", r.Code, code)
	}
	if r.Stdout != "" {
		t.Errorf("standard output %q, want none", r.Stdout)
	}
	const prefix = "sitefs: error: "
	_, said, _ := strings.Cut(s.shown(r.Stderr), prefix)
	if want := message + "\n"; !matches(said, want) {
		t.Errorf("found message\n%swant\n%s", prefix+said, prefix+want)
	}
	// A server that has told why it can't serve may take a moment to end.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := sandbox.Await(ctx, func() string { return sandbox.Leaks(s.Dir) }); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(s.Dir, ".venv")); err == nil {
		t.Error("a .venv is left")
	}
}

// shown returns what was printed, with what differs from run to run replaced.
func (s *scene) shown(text string) string {
	return strings.NewReplacer(
		s.index.URL, "INDEX",
		strings.TrimPrefix(s.index.URL, "http://"), "HOST",
		s.Dir, "HOME",
	).Replace(text)
}

// matches reports whether text is want, in which "…" stands for any text.
func matches(text, want string) bool {
	parts := strings.Split(want, "…")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile(`(?s)\A` + strings.Join(parts, ".*?") + `\z`).MatchString(text)
}

// tampered returns the demo with another demo.py than its RECORD says.
func tampered(t *testing.T) []byte {
	t.Helper()
	data, err := wheelhouse.Make(demo)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		src, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(src)
		if err != nil {
			t.Fatal(err)
		}
		if f.Name == "demo.py" {
			body = bytes.Replace(body, []byte("42"), []byte("41"), 1)
		}
		dst, err := w.Create(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dst.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// replace puts a wheel of the given bytes in the place of the demo.
func (s *scene) replace(t *testing.T, data []byte) wheelhouse.Wheel {
	t.Helper()
	s.Write(t, filepath.Join("index", s.wheel.Filename), string(data))
	return wheelhouse.Wheel{Filename: s.wheel.Filename, Digest: digest.Of(data), Size: int64(len(data))}
}
