package wheelhouse

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestPylock(t *testing.T) {
	wheels := []Wheel{
		{"b-1-py3-none-any.whl", someDigest, 2},
		{"A.x-1-py3-none-any.whl", someDigest, 3},
		{"A.x-1-cp312-cp312-any.whl", someDigest, 4},
	}
	sum := someDigest.String()
	url, err := PylockURL(wheels[:1], "http://127.0.0.1:8000")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(url), `lock-version = '1.0'
created-by = 'sitefs-wheelhouse'

[[packages]]
name = 'b'
version = '1'

[[packages.wheels]]
name = 'b-1-py3-none-any.whl'
url = 'http://127.0.0.1:8000/files/b-1-py3-none-any.whl'
size = 2
hashes = {sha256 = '`+sum+`'}
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	path, err := PylockPath(wheels, "../w")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(path), `lock-version = '1.0'
created-by = 'sitefs-wheelhouse'

[[packages]]
name = 'a-x'
version = '1'

[[packages.wheels]]
name = 'A.x-1-cp312-cp312-any.whl'
path = '../w/A.x-1-cp312-cp312-any.whl'
size = 4
hashes = {sha256 = '`+sum+`'}

[[packages.wheels]]
name = 'A.x-1-py3-none-any.whl'
path = '../w/A.x-1-py3-none-any.whl'
size = 3
hashes = {sha256 = '`+sum+`'}

[[packages]]
name = 'b'
version = '1'

[[packages.wheels]]
name = 'b-1-py3-none-any.whl'
path = '../w/b-1-py3-none-any.whl'
size = 2
hashes = {sha256 = '`+sum+`'}
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPylockUV has uv install from both forms, and resolve against the index.
func TestPylockUV(t *testing.T) {
	uv, err := exec.LookPath("uv")
	if err != nil {
		t.Skip("needs uv: ", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3: ", err)
	}
	dir, list := made(t, 2)
	s := serve(t, dir)
	url, err := PylockURL(list, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	path, err := PylockPath(list, dir)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	t.Setenv("UV_CACHE_DIR", filepath.Join(work, "cache"))
	t.Setenv("UV_NO_CONFIG", "1")
	t.Setenv("UV_PYTHON_DOWNLOADS", "never")
	for name, lock := range map[string][]byte{"url": url, "path": path} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "pylock.toml"), lock, 0o666); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(uv, "pip", "install", "--python", python, "--target", "target", "-r", "pylock.toml")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("uv: %v\n%s", err, out)
			}
			for _, w := range list {
				if _, err := os.Stat(filepath.Join(dir, "target", w.Name()+"-1.0.dist-info")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("index", func(t *testing.T) {
		cmd := exec.Command(uv, "pip", "install", "--python", python, "--target", t.TempDir(), "--index-url", s.SimpleURL(), "demo1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("uv: %v\n%s", err, out)
		}
	})
}
