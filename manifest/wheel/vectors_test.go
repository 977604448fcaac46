package wheel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

// A vector is one case of wheel_install.json: a wheel and what pip made of it.
type vector struct {
	Case            string
	Filename        string
	SpecExpectation string `json:"spec_expectation"`
	Observed        map[string]struct {
		OK   bool
		Tree map[string]struct{ Type, Mode, Sha256 string }
	}
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/wheel_install.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 67 {
		t.Fatalf("%d cases, want 67", len(file.Cases))
	}
	return file.Cases
}

// refused holds the cases that pip installs and sitefs refuses, with the part
// of the error that names the reason. The norm is the case's spec_expectation
// or, where it has none, PACKAGING §1 and §2.
var refused = map[string]string{
	"distinfo_version_differs":   "Version is",
	"metadata_version_99":        "Metadata-Version",
	"record_hash_wrong":          "RECORD says",
	"record_missing_entry":       "RECORD does not list",
	"record_md5":                 "want one of sha256",
	"record_crlf":                "no hash", // CRLF is fine, rows without a hash are not
	"record_lists_itself_hashed": "no hash",
	"inside_dotdot":              `component ".."`,
	"scripts_subdir":             "no subdirectories",
	"data_othername":             "not of the project",
	"data_overlap":               "different bytes",
	"data_into_binpython":        "every virtual environment",
	"ep_slash_inner":             "path separator",
	"dup_diff":                   "different bytes",
	"comp_bzip2":                 "compression method 12",
	"zip_prefix":                 "bytes before the archive",
	"zip_localcrc":               "CRC-32",
	"zip_cdcount":                "end record counts",
}

// accepted holds the cases that pip refuses for what is not the wheel's fault.
var accepted = map[string]string{
	"fn_wrongtag":     "whether a tag fits is for who chooses an interpreter",
	"requires_python": "the same",
}

func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.Case, func(t *testing.T) {
			pip := v.Observed["pip"]
			b, err := os.ReadFile(filepath.Join("testdata/wheels", v.Case, v.Filename))
			if err != nil {
				t.Fatal(err)
			}
			tree, info, err := unpack(b, v.Filename, Options{})
			if reason, ok := refused[v.Case]; ok {
				if err == nil || !strings.Contains(err.Error(), reason) {
					t.Fatalf("error %v, want one with %q", err, reason)
				}
				return
			}
			if _, ok := accepted[v.Case]; !ok && !pip.OK {
				if err == nil {
					t.Fatal("no error, pip refuses it")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !pip.OK {
				return
			}
			want := map[string]string{}
			for path, f := range pip.Tree {
				if path = strings.TrimPrefix(path, "{VENV}/"); f.Type == "file" && !isMade(path, info) {
					want[path] = f.Mode + " " + f.Sha256
				}
			}
			if !maps.Equal(tree, want) {
				t.Errorf("files\n%v\npip has\n%v", tree, want)
			}
		})
	}
}

// isMade reports whether pip wrote path itself: metadata of the installation,
// generated scripts, or a script whose first line it replaced. It also covers
// the bytecode of the wheel, which pip installs and sitefs drops.
func isMade(path string, info *Info) bool {
	dir, name := filepath.Split(path)
	if strings.HasSuffix(dir, "__pycache__/") {
		return true
	}
	if strings.HasSuffix(dir, info.DistInfo+"/") {
		return slices.Contains([]string{"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}, name)
	}
	if dir != "bin/" {
		return false
	}
	python := func(f File) bool { return f.Scheme == Scripts && f.Path == name && f.Python }
	point := func(p EntryPoint) bool { return p.Name == name }
	return slices.ContainsFunc(info.Files, python) || slices.ContainsFunc(info.EntryPoints, point) ||
		info.Name == "pip" || // pip names its own scripts after the interpreter
		name == " tool" // what pip makes of an entry point "my tool"
}

// unpack reads the whole wheel b and returns what goes where, as "mode sum" by
// path in a venv of Python 3.12.
func unpack(b []byte, name string, opt Options) (map[string]string, *Info, error) {
	w, err := Open(bytes.NewReader(b), int64(len(b)), name, opt)
	if err != nil {
		return nil, nil, err
	}
	info := w.Info()
	roots := map[Scheme]string{
		Purelib: "lib/python3.12/site-packages/",
		Platlib: "lib/python3.12/site-packages/",
		Headers: "include/site/python3.12/" + info.Name + "/",
		Scripts: "bin/",
	}
	tree := map[string]string{}
	for i, f := range info.Files {
		var out bytes.Buffer
		d, err := w.Extract(i, &out)
		if err != nil {
			return nil, nil, err
		}
		if d != digest.Of(out.Bytes()) || int64(out.Len()) != f.Size || !f.Digest.IsZero() && f.Digest != d {
			return nil, nil, fmt.Errorf("%q: %d bytes with digest %v, Info says %d and %v", f.Path, out.Len(), d, f.Size, f.Digest)
		}
		mode := "644"
		if f.Exec {
			mode = "755"
		}
		if f.Python {
			continue // what is served starts with another line
		}
		tree[roots[f.Scheme]+f.Path] = mode + " " + d.String()
	}
	return tree, info, w.CheckRest()
}

func TestAllowBadRecord(t *testing.T) {
	for name, warning := range map[string]string{
		"no_record":                  "no \"demo-1.0.dist-info/RECORD\"",
		"record_hash_wrong":          "RECORD says",
		"record_missing_entry":       "RECORD does not list",
		"record_md5":                 "want one of sha256",
		"record_crlf":                "no hash",
		"record_lists_itself_hashed": "no hash",
	} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata/wheels", name, demo))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = unpack(b, demo, Options{})
			if err == nil || !strings.Contains(err.Error(), "--allow-bad-record") {
				t.Errorf("strict: error %v, want one that names --allow-bad-record", err)
			}
			tree, info, err := unpack(b, demo, Options{AllowBadRecord: true})
			if err != nil {
				t.Fatal(err)
			}
			if all := strings.Join(info.Warnings, "\n"); !strings.Contains(all, warning) {
				t.Errorf("warnings %q, want one with %q", all, warning)
			}
			if len(tree) != 3 {
				t.Errorf("files %v, want 3", tree)
			}
		})
	}
}

func TestInfoEncode(t *testing.T) {
	for _, v := range readVectors(t) {
		b, err := os.ReadFile(filepath.Join("testdata/wheels", v.Case, v.Filename))
		if err != nil {
			t.Fatal(err)
		}
		w, err := Open(bytes.NewReader(b), int64(len(b)), v.Filename, Options{})
		if err != nil {
			continue
		}
		enc := w.Info().Encode()
		info, err := DecodeInfo(enc)
		if err != nil {
			t.Fatalf("%s: %v", v.Case, err)
		}
		if again := info.Encode(); !bytes.Equal(again, enc) {
			t.Errorf("%s: encoded\n%s\nagain\n%s", v.Case, enc, again)
		}
	}
	if _, err := DecodeInfo([]byte(`{"Files":[{"Scheme":"lib"}]}`)); err == nil {
		t.Error("an unknown scheme decodes")
	}
}

func TestExtractWriteError(t *testing.T) {
	b, err := os.ReadFile("testdata/wheels/platlib/" + demo)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Open(bytes.NewReader(b), int64(len(b)), demo, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, pw := io.Pipe()
	r.Close()
	if _, err := w.Extract(0, pw); err == nil || !strings.Contains(err.Error(), io.ErrClosedPipe.Error()) {
		t.Errorf("error %v, want %v", err, io.ErrClosedPipe)
	}
}

const demo = "demo-1.0-py3-none-any.whl"
