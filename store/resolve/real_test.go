package resolve

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
)

// makeWheel returns a wheel that holds nothing but its metadata.
func makeWheel(t *testing.T, name, version string, requires ...string) []byte {
	t.Helper()
	metadata := "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"
	for _, r := range requires {
		metadata += "Requires-Dist: " + r + "\n"
	}
	info := name + "-" + version + ".dist-info/"
	files := [][2]string{
		{info + "METADATA", metadata},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// serveIndex serves wheels, by file name, as a simple index (PEP 503).
func serveIndex(t *testing.T, wheels map[string][]byte) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/files/{file}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wheels[r.PathValue("file")]))
	})
	mux.HandleFunc("/simple/{project}/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintln(w, "<!DOCTYPE html>")
		for file, data := range wheels {
			if strings.HasPrefix(file, r.PathValue("project")+"-") {
				fmt.Fprintf(w, "<a href=\"/files/%[1]s#sha256=%[2]x\">%[1]s</a>\n", file, sha256.Sum256(data))
			}
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// realPython returns the python3 of this machine.
func realPython(t *testing.T) *interp.Python {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs a python3 on PATH")
	}
	py, err := interp.Probe(context.Background(), path, nil)
	if err != nil {
		t.Skipf("needs a usable python3 on PATH: %v", err)
	}
	return py
}

// TestRealTools has this machine's uv and pip resolve a local wheel whose
// dependencies come from an index on loopback.
func TestRealTools(t *testing.T) {
	if testing.Short() {
		t.Skip("pip takes seconds to start")
	}
	py := realPython(t)
	index := serveIndex(t, map[string][]byte{
		"middle-1.0-py3-none-any.whl": makeWheel(t, "middle", "1.0", "leaf"),
		"leaf-1.0-py3-none-any.whl":   makeWheel(t, "leaf", "1.0"),
		"leaf-2.0-py3-none-any.whl":   makeWheel(t, "leaf", "2.0"), // what the constraint below forbids
	})
	dir := t.TempDir()
	top := makeWheel(t, "top", "1.0", "middle")
	file := filepath.Join(dir, "top-1.0-py3-none-any.whl")
	if err := os.WriteFile(file, top, 0o644); err != nil {
		t.Fatal(err)
	}
	// The machine's own configuration would only add places to look in.
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "UV_") || strings.HasPrefix(v, "PIP_") })
	env = append(env, "UV_DEFAULT_INDEX="+index.URL+"/simple", "PIP_INDEX_URL="+index.URL+"/simple", "UV_CACHE_DIR="+filepath.Join(dir, "cache"), "PIP_CONFIG_FILE="+os.DevNull)
	r := &Resolver{Cache: memory{}, Env: env, Now: time.Now}

	uvs := r.executables("uv")
	pips := r.executables("pip")
	tools := map[string]tool{"pip of python": r.pipOfPython}
	if len(uvs) > 0 {
		tools["uv"] = r.uv(uvs[0])
	}
	if len(pips) > 0 {
		tools["pip"] = r.pip(pips[0])
	}
	for _, name := range []string{"uv", "pip of python", "pip"} {
		t.Run(name, func(t *testing.T) {
			ask, ok := tools[name]
			if !ok {
				t.Skipf("needs %s on PATH", name)
			}
			withTop, err := lock.ParseWith("./top-1.0-py3-none-any.whl", dir)
			if err != nil {
				t.Fatal(err)
			}
			req := Request{Withs: []lock.With{withTop, {Requirement: "leaf>=1", Name: "leaf"}}, Python: py, Dir: dir, Constraints: []string{"leaf<2"}}
			pylock, _, err := ask(context.Background(), req)
			if absent := new(absentError); errors.As(err, &absent) {
				t.Skipf("needs a working %s: %v", name, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			a, err := req.answer(pylock)
			if err != nil {
				t.Fatalf("%v in\n%s", err, pylock)
			}
			slices.SortFunc(a.Pins, func(a, b lock.Pin) int { return strings.Compare(a.Name, b.Name) })
			var got []string
			for _, p := range a.Pins {
				got = append(got, fmt.Sprintf("%s requested=%v direct=%v url=%v path=%v", p, p.Requested, p.Direct, strings.HasPrefix(p.URL, index.URL), p.Path == file))
			}
			want := []string{
				"leaf 1.0 requested=true direct=false url=true path=false",
				"middle 1.0 requested=false direct=false url=true path=false",
				"top 1.0 requested=true direct=true url=false path=true",
			}
			if !slices.Equal(got, want) {
				t.Fatalf("found %q, want %q, in\n%s", got, want, pylock)
			}
			sum := sha256.Sum256(top)
			if got, want := a.Pins[2].Hashes["sha256"], hex.EncodeToString(sum[:]); got != want {
				t.Errorf("found hash %s of the local wheel, want %s", got, want)
			}
		})
	}
}
