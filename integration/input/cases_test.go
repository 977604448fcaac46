package input

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/integration/wheelhouse"
	"github.com/sitefs/sitefs/manifest/digest"
)

// A refusal is one bad input and what is said to it.
type refusal struct {
	name    string
	setup   func(t *testing.T, s *scene)
	argv    []string // nil is mount
	code    int
	message string
	left    []string // what stays in the store for a next try; DIGEST is the wheel's
}

func testRefusals(t *testing.T, tests []refusal) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // some wait for a server that isn't there
			s := newScene(t)
			if test.setup != nil {
				test.setup(t, s)
			}
			argv := test.argv
			if argv == nil {
				argv = mount
			}
			var left []string
			for _, file := range test.left {
				left = append(left, strings.ReplaceAll(file, "DIGEST", s.wheel.Digest.String()))
			}
			s.refuses(t, argv, test.code, test.message, left...)
		})
	}
}

func TestLockFile(t *testing.T) {
	write := func(name, content string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) { s.Write(t, name, content) }
	}
	testRefusals(t, []refusal{
		{
			name:    "not TOML",
			setup:   write("pylock.toml", "lock-version = \"1.0\"\n[[packages\n"),
			code:    1,
			message: `HOME/pylock.toml: not a TOML file: line 2, column 11: toml: expected ']]' to close array table name: mend it there, or lock again`,
		}, {
			name:    "empty",
			setup:   write("pylock.toml", ""),
			code:    1,
			message: `HOME/pylock.toml: lock-version: missing, want a string: lock again with the tool that wrote it`,
		}, {
			name:    "unknown lock-version",
			setup:   write("pylock.toml", "lock-version = \"2.0\"\ncreated-by = \"test\"\npackages = []\n"),
			code:    1,
			message: `HOME/pylock.toml: found lock-version "2.0", want 1.0: lock again with a tool that writes lock-version 1.0, or use a newer sitefs`,
		}, {
			name: "no hashes",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "wheels = [{name = %q, url = \"%s/files/%[1]s\"}]\n", s.wheel.Filename, s.index.URL)
			},
			code:    1,
			message: `HOME/pylock.toml: packages[0].wheels[0].hashes: missing, and a file without a hash can't be checked: lock again with the tool that wrote it`,
		}, {
			name: "only weak hashes",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "wheels = [{name = %q, url = \"%s/files/%[1]s\", hashes = {md5 = %q}}]\n", s.wheel.Filename, s.index.URL, strings.Repeat("0", 32))
			},
			code:    1,
			message: `HOME/pylock.toml: package demo 1.0: demo-1.0-py3-none-any.whl: found hashes by md5 only, want one of sha256, sha512, sha384, blake2b: lock again`,
		}, {
			name: "wheels for other platforms",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "wheels = [{name = \"demo-1.0-cp312-cp312-win_amd64.whl\", url = \"%s/files/demo-1.0-cp312-cp312-win_amd64.whl\", hashes = {sha256 = %q}}]\n", s.index.URL, s.wheel.Digest)
			},
			code: 4,
			message: `HOME/pylock.toml: no wheel to install for
  demo 1.0: the lock file offers cp312-cp312-win_amd64
  CPython 3.12.… takes cp312-cp312-linux_…: lock again for it, or choose another with --python`,
		}, {
			name: "an sdist",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "sdist = {name = \"demo-1.0.tar.gz\", url = \"%s/files/demo-1.0.tar.gz\", hashes = {sha256 = %q}}\n", s.index.URL, s.wheel.Digest)
			},
			code: 4,
			message: `HOME/pylock.toml: no wheel to install for
  demo 1.0: an sdist (demo-1.0.tar.gz), which must be built first
  sitefs builds nothing: make a wheel of demo (pip wheel, uv build) and lock again with it, by --find-links or as a path`,
		}, {
			name:    "missing",
			code:    1,
			message: "-r \"HOME/pylock.toml\": there is no such file; make it with `uv export --format pylock.toml` or `pip lock`",
		}, {
			name:    "a folder",
			argv:    []string{"sitefs", "mount", "-r", "index"},
			code:    1,
			message: `-r "HOME/index": it is a folder: name the lock file in it`,
		}, {
			name:    "requirements.txt",
			setup:   write("requirements.txt", "demo==1.0\n"),
			argv:    []string{"sitefs", "mount", "-r", "requirements.txt"},
			code:    1,
			message: `HOME/requirements.txt: sitefs doesn't read requirements files yet: make a pylock.toml of it with "uv pip compile --format pylock.toml -o pylock.toml requirements.txt" or "pip lock -r requirements.txt"`,
		}, {
			name:    "uv.lock",
			setup:   write("uv.lock", "version = 1\nrequires-python = \">=3.12\"\n"),
			argv:    []string{"sitefs", "mount", "-r", "uv.lock"},
			code:    1,
			message: `HOME/uv.lock: sitefs doesn't read uv.lock yet: make a pylock.toml of it with "uv export --no-emit-project --format pylock.toml -o pylock.toml"`,
		}, {
			name:    "another tool's",
			setup:   write("poetry.lock", "package = []\n"),
			argv:    []string{"sitefs", "mount", "-r", "poetry.lock"},
			code:    1,
			message: `HOME/poetry.lock: found a file that isn't named like a pylock.toml, the only lock file that sitefs reads: export one with the tool that wrote it`,
		}, {
			name:    "none",
			argv:    []string{"sitefs", "mount"},
			code:    1,
			message: `nothing to run in: name a lock file with -r pylock.toml, or packages with --with`,
		}, {
			name:    "run has one code for all that fails before the command",
			argv:    []string{"sitefs", "run", "-r", "uv.lock"},
			setup:   write("uv.lock", ""),
			code:    125,
			message: `HOME/uv.lock: …`,
		},
	})
}

func TestWheel(t *testing.T) {
	testRefusals(t, []refusal{
		{
			name: "wrong hash",
			setup: func(t *testing.T, s *scene) {
				w := s.wheel
				w.Digest = digest.Of(nil)
				s.lockWheel(t, w)
			},
			code:    6,
			message: `demo-1.0-py3-none-any.whl: INDEX/files/demo-1.0-py3-none-any.whl is not the file that was locked: its sha256 is …, wanted e3b0c442…; if the file was replaced on purpose, lock it again; what was downloaded has been deleted`,
		}, {
			name: "wrong hash of a local file",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "wheels = [{name = %q, path = \"index/%[1]s\", hashes = {sha256 = %q}}]\n", s.wheel.Filename, digest.Of(nil))
			},
			code:    6,
			message: `wheel "demo-1.0-py3-none-any.whl": not the file that was asked for: its sha256 is …, wanted e3b0c442…; if the file was replaced on purpose, lock it again`,
		}, {
			name: "wrong size",
			setup: func(t *testing.T, s *scene) {
				w := s.wheel
				w.Size++
				s.lockWheel(t, w)
			},
			code:    6,
			message: `demo-1.0-py3-none-any.whl: INDEX/files/demo-1.0-py3-none-any.whl is not the file that was locked: its size is …, wanted …; if the file was replaced on purpose, lock it again`,
		}, {
			name: "wrong RECORD",
			setup: func(t *testing.T, s *scene) {
				s.lockWheel(t, s.replace(t, tampered(t)))
			},
			code:    6,
			message: `wheel "demo-1.0-py3-none-any.whl": member "demo.py": sha256 is …, RECORD says … (--allow-bad-record installs the wheel as it is)`,
		}, {
			name: "no archive",
			setup: func(t *testing.T, s *scene) {
				w := s.replace(t, []byte("<html>Sign in to go on</html>"))
				s.lock(t, "wheels = [{name = %q, path = \"index/%[1]s\", hashes = {sha256 = %q}}]\n", w.Filename, w.Digest)
			},
			code:    6,
			message: `wheel "demo-1.0-py3-none-any.whl": …`,
		}, {
			name: "local file that is missing",
			setup: func(t *testing.T, s *scene) {
				s.lock(t, "wheels = [{name = %q, path = \"gone/%[1]s\", hashes = {sha256 = %q}}]\n", s.wheel.Filename, s.wheel.Digest)
			},
			code:    1,
			message: `demo-1.0-py3-none-any.whl: the file that was locked can't be read: open HOME/gone/demo-1.0-py3-none-any.whl: no such file or directory; put it there, or lock again`,
		},
	})
}

func TestNetwork(t *testing.T) {
	testRefusals(t, []refusal{
		{
			name: "a wheel that the index lost",
			setup: func(t *testing.T, s *scene) {
				s.lockWheel(t, s.wheel)
				if err := os.Remove(filepath.Join(s.Dir, "index", s.wheel.Filename)); err != nil {
					t.Fatal(err)
				}
			},
			code:    1,
			message: `demo-1.0-py3-none-any.whl: INDEX/files/demo-1.0-py3-none-any.whl answers 404 Not Found: the file isn't there any more, or not for you; lock it again`,
		}, {
			name: "a download that is truncated",
			setup: func(t *testing.T, s *scene) {
				s.lockWheel(t, s.wheel)
				s.index.Intercept(wheelhouse.Cut(100))
			},
			code:    15,
			message: `demo-1.0-py3-none-any.whl: gave up after 5 attempts: INDEX/files/demo-1.0-py3-none-any.whl broke off after 500 bytes: unexpected EOF; see that the server can be reached (it may need a proxy), then run the same again; the 500 bytes that arrived are kept and the next run goes on from there`,
			left: []string{
				"tmp/downloads/sha256-DIGEST.part",
				"tmp/downloads/sha256-DIGEST.validator",
			},
		}, {
			name: "a server that isn't there",
			setup: func(t *testing.T, s *scene) {
				s.lockWheel(t, s.wheel)
				s.index.Close()
			},
			code:    15,
			message: `demo-1.0-py3-none-any.whl: gave up after 5 attempts: asking HOST: dial tcp HOST: connect: connection refused; see that the server can be reached (it may need a proxy), then run the same again`,
		}, {
			name:  "an index that isn't there",
			setup: func(t *testing.T, s *scene) { s.index.Close() },
			argv:  []string{"sitefs", "mount", "--with", "demo"},
			code:  15,
			message: `"demo" can't be resolved for CPython 3.12.…: uv failed (exit code 2):
  …
uv was asked with your own configuration, for wheels only: see that the index can be reached, or give a lock file (-r), which needs none`,
		}, {
			name: "a requirement that nothing meets",
			argv: []string{"sitefs", "mount", "--with", "nothing"},
			code: 1,
			message: `"nothing" can't be resolved for CPython 3.12.…: uv failed (exit code 1):
  …
uv was asked with your own configuration, for wheels only: change the requirements, or make a wheel of what has none (pip wheel, uv build) and name that`,
		}, {
			name:    "no requirement",
			argv:    []string{"sitefs", "mount", "--with", "demo=1"},
			code:    1,
			message: `--with is no requirement such as "numpy>=2", and no path (a path has a "/"): requirement "demo=1": version specifier "=1" does not begin with one of ~= == != <= >= < > ===`,
		}, {
			name:  "offline",
			setup: func(t *testing.T, s *scene) { s.lockWheel(t, s.wheel) },
			argv:  []string{"sitefs", "mount", "--offline", "-r", "pylock.toml"},
			code:  5,
			message: `offline, and a wheel is not in the store:
  demo 1.0 (demo-1.0-py3-none-any.whl)
run it once without --offline, or put the files into the store with sitefs add`,
		}, {
			name:    "offline, and never resolved",
			argv:    []string{"sitefs", "mount", "--offline", "--with", "demo"},
			code:    5,
			message: `"demo": not resolved before, and --offline forbids asking: run once without --offline`,
		},
	})
}

func TestPython(t *testing.T) {
	asks := func(python string) func(*testing.T, *scene) {
		return func(t *testing.T, s *scene) {
			s.lockWheel(t, s.wheel)
			s.Setenv("SITEFS_PYTHON", python)
		}
	}
	testRefusals(t, []refusal{
		{
			name:    "another program",
			setup:   asks("/bin/echo"),
			code:    3,
			message: `no usable Python: "/bin/echo": it is not a Python interpreter: it answered "-I -S -B -\n"; name another with --python`,
		}, {
			name: "no program",
			setup: func(t *testing.T, s *scene) {
				asks(s.Write(t, "python", "text"))(t, s)
			},
			code:    3,
			message: `no usable Python: "HOME/python": it is not executable; name another with --python`,
		}, {
			name:    "missing",
			setup:   asks("/nowhere/python"),
			code:    3,
			message: `no usable Python: "/nowhere/python": there is no such file; name another with --python`,
		}, {
			name:  "a version that is missing",
			setup: asks("3.99"),
			code:  3,
			message: `no usable Python: --python asks for "3.99", and none of those found fits; install one, or name one with --python:
  …`,
		}, {
			name: "a version that the lock file rules out",
			setup: func(t *testing.T, s *scene) {
				s.Write(t, "pylock.toml", "lock-version = \"1.0\"\ncreated-by = \"test\"\nrequires-python = \">=3.13\"\npackages = []\n")
			},
			code:    3,
			message: `no usable Python: --python asks for CPython 3.12.…, but the lock file requires Python >=3.13: change one of them, or name another with --python`,
		},
	})
}

func TestMountPoint(t *testing.T) {
	locked := func(t *testing.T, s *scene) { s.lockWheel(t, s.wheel) }
	for _, test := range []refusal{
		{
			name:    "not empty",
			argv:    []string{"sitefs", "mount", "-r", "pylock.toml", "index"},
			code:    10,
			message: `not a usable mount point: "HOME/index" is not empty (there is "demo-1.0-py3-none-any.whl"); its files would be hidden: move them away or choose another place`,
		}, {
			name:    "a file",
			argv:    []string{"sitefs", "mount", "-r", "pylock.toml", "pylock.toml"},
			code:    10,
			message: `not a usable mount point: "HOME/pylock.toml" is not a directory; choose another place`,
		}, {
			name:    "below a file",
			argv:    []string{"sitefs", "mount", "-r", "pylock.toml", "pylock.toml/a/b"},
			code:    10,
			message: `not a usable mount point: "HOME/pylock.toml/a/b" can't be reached: not a directory; choose another place`,
		}, {
			name:    "in the store",
			argv:    []string{"sitefs", "mount", "-r", "pylock.toml", "store/a/b"},
			code:    10,
			message: `not a usable mount point: "HOME/store/a/b" and "HOME/store" overlap; choose a place outside`,
		}, {
			name:    "nothing there to unmount",
			argv:    []string{"sitefs", "umount"},
			code:    12,
			message: "\"HOME/.venv\": not mounted\nsitefs: hint: `sitefs status` lists what is mounted",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			locked(t, s)
			s.fails(t, test.argv, test.code, test.message)
			if _, err := os.Lstat(filepath.Join(s.Store(), "a")); err == nil {
				t.Error("a folder is left in the store")
			}
		})
	}
}
