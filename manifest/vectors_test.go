package manifest

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// vectorPrefix stands for the environment in what pip was observed to do.
const vectorPrefix = "{VENV}"

// An observed is a path in what pip made of a wheel.
type observed struct {
	Type, Mode, Sha256 string
	Text               *string // of a file that is not binary
}

// otherRecord holds the wheels whose RECORD differs from pip's in more than
// what differs everywhere, each with the reason.
var otherRecord = map[string]string{
	"ep_space":           "pip takes the name of an entry point \"my tool\" apart at the space and writes \" tool\"",
	"record_extra_entry": "pip lists a file that the wheel lacks",
	"record_sha512":      "pip repeats the wheel's hash, sitefs gives SHA-256",
	"record_abs_paths":   "pip lists the path as the wheel spells it and once more without a hash",
	"record_dotslash":    "the same",
	"record_jws":         "pip gives signatures no hash",
	"dup_same":           "pip lists a file twice that is in the archive twice",
	"ep_both":            "pip lists a script twice that is a console and a gui script",
	"ep_shadow":          "pip lists scripts that it did not install",
	"ep_bom":             "pip finds no entry points behind a byte order mark",
}

// TestVectors compares whole environments, generated scripts and RECORD
// included, with what pip made of the same wheels.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("wheel/testdata/wheel_install.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			Case, Filename string
			Observed       map[string]struct {
				OK   bool
				Tree map[string]observed
			}
		}
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, v := range vectors.Cases {
		pip := v.Observed["pip"]
		s := newMemory()
		w, err := unpack(s, filepath.Join("wheel/testdata/wheels", v.Case, v.Filename))
		if err != nil || !pip.OK {
			continue // which wheels are refused is tested in package wheel
		}
		compared++
		t.Run(v.Case, func(t *testing.T) {
			w.Requested = true
			want := make(map[string]observed)
			for p, o := range pip.Tree {
				p = strings.TrimSuffix(strings.TrimPrefix(p, vectorPrefix+"/"), "/")
				want[p] = o
				if path.Base(p) == "direct_url.json" {
					w.DirectURL = *o.Text
				}
			}
			compareVector(t, s, open(t, s, compile(t, s, w), vectorPrefix), v.Case, want)
		})
	}
	if compared < 29 {
		t.Errorf("%d wheels compared, want at least 29 of %d", compared, len(vectors.Cases))
	}
}

// unpack puts a wheel file into s.
func unpack(s *memory, file string) (Wheel, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Wheel{}, err
	}
	w, err := wheel.Open(bytes.NewReader(b), int64(len(b)), filepath.Base(file), wheel.Options{})
	if err != nil {
		return Wheel{}, err
	}
	info := w.Info()
	for i := range info.Files {
		var content bytes.Buffer
		d, err := w.Extract(i, &content)
		if err != nil {
			return Wheel{}, err
		}
		info.Files[i].Digest, s.blobs[d] = d, content.Bytes()
	}
	if err := w.CheckRest(); err != nil {
		return Wheel{}, err
	}
	d := digest.Of(b)
	s.infos[d] = info
	return Wheel{Digest: d, Name: info.Name, Version: info.Version}, nil
}

// compareVector reports every path at which tr and what pip made differ.
func compareVector(t *testing.T, s *memory, tr *tree.Tree, name string, want map[string]observed) {
	t.Helper()
	otherScripts := name == "ep_space" || name == "ep_bom"
	base := newMemory()
	empty := open(t, base, compile(t, base), vectorPrefix)
	err := tr.Walk(func(p string, _ tree.ID, a tree.Attr) error {
		o, ok := want[p]
		delete(want, p)
		_, _, err := empty.Find(p)
		switch {
		case otherScripts && path.Dir(p) == "bin", !ok && err == nil:
			return nil
		case !ok:
			t.Errorf("%q is not in what pip made", p)
			return nil
		case o.Type == "dir":
			if a.Kind != tree.Dir {
				t.Errorf("%q is no directory", p)
			}
			return nil
		case path.Base(p) == "RECORD" && otherRecord[name] != "":
			return nil
		}
		compareFile(t, p, read(t, s, tr, p), a, o)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if strings.Contains(p, "__pycache__") || otherScripts && path.Dir(p) == "bin" {
			continue // bytecode of wheels is dropped
		}
		t.Errorf("%q is missing", p)
	}
}

func compareFile(t *testing.T, p, content string, a tree.Attr, o observed) {
	t.Helper()
	mode := "644"
	if a.Exec {
		mode = "755"
	}
	if mode != o.Mode {
		t.Errorf("%q has mode %s, want %s", p, mode, o.Mode)
	}
	switch path.Base(p) {
	case "INSTALLER":
		return
	case "RECORD":
		if got, want := comparable(content), comparable(*o.Text); !slices.Equal(got, want) {
			t.Errorf("%q is\n%q, want\n%q", p, got, want)
		}
		return
	}
	if o.Text != nil && content != *o.Text {
		t.Errorf("%q is\n%q, want\n%q", p, content, *o.Text)
	}
	if o.Text == nil && digest.Of([]byte(content)).String() != o.Sha256 {
		t.Errorf("%q has another content than pip's", p)
	}
}

// comparable returns the rows of a RECORD file without what differs from pip's
// on purpose (line ends, INSTALLER's content, the hashes of scripts, bytecode)
// and without the hash of direct_url.json, whose URL the vectors shorten.
func comparable(record string) []string {
	var rows []string
	for line := range strings.Lines(record) {
		row := strings.TrimRight(line, "\r\n")
		p, _, _ := strings.Cut(row, ",")
		switch {
		case strings.Contains(p, "__pycache__"):
			continue
		case path.Base(p) == "INSTALLER", path.Base(p) == "direct_url.json", path.Dir(p) == "../../../bin":
			row = p
		}
		rows = append(rows, row)
	}
	return rows
}
