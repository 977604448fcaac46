package wheelhouse

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

func itoa(n int) string { return strconv.Itoa(n) }

// serve starts a server that ends with the test.
func serve(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Serve(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// demoServer serves three wheels of two projects.
func demoServer(t *testing.T) (s *Server, demo Wheel, content string) {
	t.Helper()
	dir := t.TempDir()
	for _, spec := range []Spec{
		demoSpec,
		{Name: "demo-pkg", Version: "0.9"},
		{Name: "other", Version: "2", RequiresPython: "<4"},
	} {
		w, err := Write(dir, spec)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Name == demoSpec.Name {
			demo = w
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, demo.Filename))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, dir), demo, string(b)
}

// An answer is a response whose body was read, as far as it went.
type answer struct {
	*http.Response
	body string
	err  error // of the connection or the body
}

// get asks without following redirects. Header fields are "Name: value".
func get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b), err}
}

func TestServeJSON(t *testing.T) {
	s, demo, _ := demoServer(t)
	const accept = "Accept: application/vnd.pypi.simple.v1+json, text/html;q=0.1"

	var projects apiProjects
	a := get(t, s.SimpleURL(), accept)
	if err := json.Unmarshal([]byte(a.body), &projects); err != nil {
		t.Fatal(err)
	}
	if want := []apiProject{{"demo-pkg"}, {"other"}}; !slices.Equal(projects.Projects, want) {
		t.Errorf("projects %v, want %v", projects.Projects, want)
	}

	var files apiFiles
	a = get(t, s.SimpleURL()+"demo-pkg/", accept)
	if err := json.Unmarshal([]byte(a.body), &files); err != nil {
		t.Fatal(err)
	}
	if got := a.Header.Get("Content-Type"); got != jsonType {
		t.Errorf("content type %q, want %q", got, jsonType)
	}
	if want := []string{"0.9", "1.0"}; files.Meta.Version != "1.1" || files.Name != "demo-pkg" || !slices.Equal(files.Versions, want) || len(files.Files) != 2 {
		t.Fatalf("got %+v, want demo-pkg with versions %v and two files", files, want)
	}
	f := files.Files[1]
	if f.Filename != demo.Filename || f.Hashes["sha256"] != demo.Digest.String() || f.Size != demo.Size || f.RequiresPython != ">=3.8" {
		t.Errorf("got %+v, want %+v", f, demo)
	}
	metadata := get(t, s.URL+f.URL+".metadata")
	if metadata.body != demoSpec.metadata() {
		t.Errorf("metadata is\n%s\nwant\n%s", metadata.body, demoSpec.metadata())
	}
	if got, want := f.CoreMetadata["sha256"], digest.Of([]byte(metadata.body)).String(); got != want {
		t.Errorf("core-metadata %s, want %s", got, want)
	}
}

func TestServeHTML(t *testing.T) {
	s, demo, _ := demoServer(t)
	a := get(t, s.SimpleURL()+"demo-pkg/", "Accept: text/html")
	if got := a.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	want := `<a href="/files/` + demo.Filename + `#sha256=` + demo.Digest.String() + `" data-requires-python="&gt;=3.8" data-core-metadata="sha256=` +
		digest.Of([]byte(demoSpec.metadata())).String() + `">` + demo.Filename + `</a>`
	if !strings.Contains(a.body, want) {
		t.Errorf("the page is\n%s\nwant in it\n%s", a.body, want)
	}
	if a := get(t, s.SimpleURL()); !strings.Contains(a.body, `<a href="/simple/other/">other</a>`) {
		t.Errorf("the page is\n%s\nwant a link to other", a.body)
	}
}

func TestServeStatus(t *testing.T) {
	s, demo, content := demoServer(t)
	etag := `"` + demo.Digest.String() + `"`
	file := "/files/" + demo.Filename
	for _, tt := range []struct {
		name, path string
		header     []string
		status     int
		location   string
		body       string // "" = any
	}{
		{"file", file, nil, 200, "", content},
		{"range", file, []string{"Range: bytes=10-19"}, 206, "", content[10:20]},
		{"rest", file, []string{"Range: bytes=10-", "If-Range: " + etag}, 206, "", content[10:]},
		{"rest of another file", file, []string{"Range: bytes=10-", `If-Range: "x"`}, 200, "", content},
		{"range behind the end", file, []string{"Range: bytes=999999-"}, 416, "", ""},
		{"known", file, []string{"If-None-Match: " + etag}, 304, "", ""},
		{"no such file", "/files/none-1-py3-none-any.whl", nil, 404, "", ""},
		{"no such metadata", "/files/none-1-py3-none-any.whl.metadata", nil, 404, "", ""},
		{"no wheel", "/files/etc", nil, 404, "", ""},
		{"no such project", "/simple/none/", nil, 404, "", ""},
		{"not canonical", "/simple/Demo.Pkg/", nil, 301, "/simple/demo-pkg/", ""},
		{"no slash", "/simple/demo-pkg", nil, 307, "/simple/demo-pkg/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := get(t, s.URL+tt.path, tt.header...)
			if a.err != nil {
				t.Fatal(a.err)
			}
			if a.StatusCode != tt.status || a.Header.Get("Location") != tt.location {
				t.Errorf("answer %d to %q, want %d to %q", a.StatusCode, a.Header.Get("Location"), tt.status, tt.location)
			}
			if tt.body != "" && a.body != tt.body {
				t.Errorf("a body of %d bytes, want %d and the same", len(a.body), len(tt.body))
			}
			if tt.status == 200 && a.Header.Get("ETag") != etag {
				t.Errorf("ETag %q, want %q", a.Header.Get("ETag"), etag)
			}
		})
	}
}

// TestServeLive adds and replaces a wheel while the server runs.
func TestServeLive(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	if a := get(t, s.SimpleURL()+"demo/"); a.StatusCode != 404 {
		t.Errorf("status %d before there is a wheel, want 404", a.StatusCode)
	}
	for _, content := range []string{"one", "twenty-one"} {
		w, err := Write(dir, Spec{Name: "demo", Version: "1", Files: map[string]string{"demo.py": content}})
		if err != nil {
			t.Fatal(err)
		}
		if a := get(t, s.SimpleURL()+"demo/"); !strings.Contains(a.body, w.Digest.String()) {
			t.Errorf("the page is\n%s\nwant in it %s", a.body, w.Digest)
		}
	}
}

func TestServeBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad-1-py3-none-any.whl"), []byte("no archive"), 0o666); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	if a := get(t, s.SimpleURL()+"bad/"); a.StatusCode != 500 || !strings.Contains(a.body, "bad-1") {
		t.Errorf("status %d, %q; want 500 and the file's name", a.StatusCode, a.body)
	}
}

func TestRequests(t *testing.T) {
	s, _, _ := demoServer(t)
	get(t, s.SimpleURL())
	s.Reset()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { get(t, s.URL+"/files/x", "Range: bytes=1-") })
	}
	wg.Wait()
	got := s.Requests()
	if len(got) != 8 || got[0] != (Request{"GET", "/files/x", "bytes=1-"}) {
		t.Errorf("requests %v, want eight of the file", got)
	}
}

func TestFaults(t *testing.T) {
	s, demo, content := demoServer(t)
	file := s.URL + "/files/" + demo.Filename
	flipped := []byte(content)
	flipped[20] ^= 1
	size := itoa(len(content))
	for _, tt := range []struct {
		name   string
		fault  Fault
		header []string
		status int
		body   string
		err    error
		want   string // header field
	}{
		{"none", nil, nil, 200, content, nil, "Content-Length: " + size},
		{"cut", Cut(100), nil, 200, content[:100], io.ErrUnexpectedEOF, "Content-Length: " + size},
		{"cut at once", Cut(0), nil, 200, "", io.ErrUnexpectedEOF, "Content-Length: " + size},
		{"cut behind the end", Cut(1 << 20), nil, 200, content, nil, ""},
		{"cut of a range", Cut(5), []string{"Range: bytes=50-"}, 206, content[50:55], io.ErrUnexpectedEOF, ""},
		{"flip", Flip(20), nil, 200, string(flipped), nil, `Etag: "` + demo.Digest.String() + `"`},
		{"longer", Lengthen(3), nil, 200, content, io.ErrUnexpectedEOF, "Content-Length: " + itoa(len(content)+3)},
		{"shorter", Lengthen(-3), nil, 200, content[:len(content)-3], nil, "Content-Length: " + itoa(len(content)-3)},
		{"busy", Fail(503, "7"), nil, 503, "503 Service Unavailable\n", nil, "Retry-After: 7"},
		{"error", Fail(500, ""), nil, 500, "500 Internal Server Error\n", nil, ""},
		{"redirect", Redirect("http://127.0.0.1:1"), nil, 302, "", nil, "Location: http://127.0.0.1:1/files/" + demo.Filename},
		{"no ranges", Whole, []string{"Range: bytes=50-"}, 200, content, nil, ""},
		{"elsewhere", On(".metadata", Fail(500, "")), nil, 200, content, nil, ""},
		{"here", On(".whl", Fail(500, "")), nil, 500, "", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Intercept(tt.fault)
			a := get(t, file, tt.header...)
			if a.Response == nil {
				t.Fatal(a.err)
			}
			if a.StatusCode != tt.status || !errors.Is(a.err, tt.err) {
				t.Errorf("status %d, error %v; want %d, %v", a.StatusCode, a.err, tt.status, tt.err)
			}
			if (tt.body != "" || tt.err != nil) && a.body != tt.body {
				t.Errorf("a body of %d bytes, want %d and the same", len(a.body), len(tt.body))
			}
			if name, value, ok := strings.Cut(tt.want, ": "); ok && a.Header.Get(name) != value {
				t.Errorf("%s: %s, want %s", name, a.Header.Get(name), value)
			}
		})
	}
}

// TestFaultMetadata spoils a body that the index keeps in memory.
func TestFaultMetadata(t *testing.T) {
	s, demo, _ := demoServer(t)
	url := s.URL + "/files/" + demo.Filename + ".metadata"
	s.Intercept(Times(1, Flip(0)))
	if a := get(t, url); a.body == demoSpec.metadata() {
		t.Error("the first answer is right")
	}
	if a := get(t, url); a.body != demoSpec.metadata() {
		t.Errorf("the second answer is\n%s\nwant\n%s", a.body, demoSpec.metadata())
	}
}

func TestStall(t *testing.T) {
	s, demo, content := demoServer(t)
	s.Intercept(Stall(10))
	resp, err := http.Get(s.URL + "/files/" + demo.Filename)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 10)
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != content[:10] {
		t.Errorf("got %q and error %v, want the first ten bytes", got, err)
	}
	// Nothing more comes: what ends it is that the server goes.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := resp.Body.Read(got); err == nil {
		t.Errorf("read %d bytes behind the stall", n)
	}
}

func TestHTMLOnly(t *testing.T) {
	s, _, _ := demoServer(t)
	s.Intercept(HTML)
	a := get(t, s.SimpleURL(), "Accept: application/vnd.pypi.simple.v1+json")
	if got := a.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("content type %q, want HTML", got)
	}
}
