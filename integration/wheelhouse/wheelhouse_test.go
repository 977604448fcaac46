package wheelhouse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

var someDigest = digest.Of([]byte("some bytes"))

func TestParseList(t *testing.T) {
	line := "demo-1.0-py3-none-any.whl " + someDigest.String() + " 7"
	demo := Wheel{"demo-1.0-py3-none-any.whl", someDigest, 7}
	for _, tt := range []struct {
		name, in string
		want     []Wheel
		err      string // part of the error
	}{
		{"empty", "", nil, ""},
		{"comments", "# one\n\n  # two\n", nil, ""},
		{"one", line + "\n", []Wheel{demo}, ""},
		{"no newline at the end, CRLF", "#\r\n" + line, []Wheel{demo}, ""},
		{"build tag", strings.Replace(line, "1.0-", "1.0-2-", 1), []Wheel{{"demo-1.0-2-py3-none-any.whl", someDigest, 7}}, ""},
		{"twice", line + "\n" + line, nil, "2: \"demo-1.0-py3-none-any.whl\" is listed twice"},
		{"two fields", "demo-1.0-py3-none-any.whl 7", nil, "1: found 2 fields"},
		{"no wheel", strings.Replace(line, ".whl", ".zip", 1), nil, "is not the file name of a wheel"},
		{"four parts", strings.Replace(line, "-1.0", "", 1), nil, "is not the file name of a wheel"},
		{"a path", "../" + line, nil, "is not the file name of a wheel"},
		{"short digest", "demo-1.0-py3-none-any.whl abc 7", nil, "1: digest"},
		{"no size", line[:len(line)-1] + "x", nil, `size "x"`},
		{"negative size", line[:len(line)-1] + "-1", nil, `size "-1"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseList([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestLists holds the lists of this repository to their form.
func TestLists(t *testing.T) {
	for name, least := range map[string]int{"bench.txt": 240, "compare.txt": 200} {
		list, err := ReadList(filepath.Join("..", "testdata", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if len(list) < least {
			t.Errorf("%s has %d wheels, want at least %d", name, len(list), least)
		}
		seen := make(map[string]string)
		for _, w := range list {
			if other, ok := seen[canonical(w.Name())]; ok {
				t.Errorf("%s: %s and %s are of one distribution", name, other, w.Filename)
			}
			seen[canonical(w.Name())] = w.Filename
		}
	}
}

func TestReadListNamesFileAndLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte("# fine\nnot fine\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadList(file); err == nil || !strings.HasPrefix(err.Error(), file+":2: ") {
		t.Errorf("error %v, want one that begins with %q", err, file+":2: ")
	}
}

func TestDir(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("SITEFS_TEST_WHEELS", "")
	if base, err := os.UserCacheDir(); err != nil {
		t.Error(err)
	} else if got, want := Dir(), filepath.Join(base, "sitefs-test", "wheels"); got != want {
		t.Errorf("Dir() = %q, want %q", got, want)
	}
	t.Setenv("SITEFS_TEST_WHEELS", "/elsewhere")
	if got := Dir(); got != "/elsewhere" {
		t.Errorf("Dir() = %q, want SITEFS_TEST_WHEELS", got)
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"Demo":         "demo",
		"ruamel.yaml":  "ruamel-yaml",
		"A__b-._.c":    "a-b-c",
		"jaraco_text":  "jaraco-text",
		"already-fine": "already-fine",
	} {
		if got := canonical(in); got != want {
			t.Errorf("canonical(%q) = %q, want %q", in, got, want)
		}
	}
}
