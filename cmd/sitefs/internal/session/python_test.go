package session

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExamine(t *testing.T) {
	there := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(there, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		info Info
		want string
	}{
		{"as it was", Info{Python: there, PythonFile: fileOf(there)}, ""},
		{"of a version that noted nothing", Info{Python: there}, ""},
		{"replaced", Info{Python: there, PythonFile: "7 bytes of 2020-01-01 00:00:00"}, "was replaced: found 3 bytes of "},
		{"removed", Info{Python: there + "3", PythonFile: fileOf(there)}, "is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := json.Marshal(c.info)
			if err != nil {
				t.Fatal(err)
			}
			var got Info
			if err := json.Unmarshal(Examine(info), &got); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.PythonProblem, c.want) || (got.PythonProblem == "") != (c.want == "") {
				t.Errorf("found %q, want %q", got.PythonProblem, c.want)
			}
		})
	}
	if got := string(Examine(json.RawMessage(`"of another version"`))); got != `"of another version"` {
		t.Errorf("what is not understood became %s", got)
	}
}
