package wheelhouse

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sitefs/sitefs/manifest/digest"
)

// An Index offers the wheels of a directory as a package index: the simple API of
// PEP 503 (HTML) and PEP 691 (JSON) at /simple/, files at /files/ with ranges and
// a strong ETag, their metadata beside them (PEP 658, PEP 714). The directory is
// read anew for each request. It is an http.Handler, safe for concurrent use.
type Index struct {
	dir string
	mux *http.ServeMux

	mu       sync.Mutex
	fault    Fault
	requests []Request
	known    map[string]*file // by file name
}

// A Request is what the index was asked.
type Request struct {
	Method string
	Path   string
	Range  string // the header
}

// A file is what the index says about one wheel.
type file struct {
	Wheel
	modified       time.Time
	metadata       []byte
	requiresPython string
}

// NewIndex returns an index of the wheels in a directory.
func NewIndex(dir string) *Index {
	x := &Index{dir: dir, mux: http.NewServeMux(), known: make(map[string]*file)}
	x.mux.HandleFunc("GET /simple/{$}", x.serveProjects)
	x.mux.HandleFunc("GET /simple/{name}/{$}", x.serveProject)
	x.mux.HandleFunc("GET /files/{name}", x.serveFile)
	return x
}

// ServeHTTP answers a request, through the fault if one is set.
func (x *Index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	x.requests = append(x.requests, Request{r.Method, r.URL.Path, r.Header.Get("Range")})
	fault := x.fault
	x.mu.Unlock()
	if fault == nil {
		x.mux.ServeHTTP(w, r)
		return
	}
	fault(w, r, x.mux)
}

// Intercept has every later request pass through a fault; nil ends that.
func (x *Index) Intercept(f Fault) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fault = f
}

// Requests returns the requests since the start or the last Reset, in order.
func (x *Index) Requests() []Request {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.requests)
}

// Reset forgets the requests.
func (x *Index) Reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.requests = nil
}

// A Server is an Index that listens on loopback.
type Server struct {
	*Index
	URL    string // "http://127.0.0.1:PORT", without a slash at the end
	server *http.Server
	done   chan struct{} // closed when the listener is
}

// Serve starts a server of the wheels in a directory. Close ends it.
func Serve(dir string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	x := NewIndex(dir)
	s := &Server{
		Index:  x,
		URL:    "http://" + l.Addr().String(),
		server: &http.Server{Handler: x},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		s.server.Serve(l) // returns ErrServerClosed and nothing else worth telling
	}()
	return s, nil
}

// SimpleURL returns what an installer takes as its index.
func (s *Server) SimpleURL() string { return s.URL + "/simple/" }

// Close ends the server and cuts what is under way. It may be called again.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.done
	return err
}

// Media types of the simple API (PEP 691).
const (
	jsonType = "application/vnd.pypi.simple.v1+json"
	htmlType = "text/html"
)

// wantsJSON reports whether the client named the JSON form at all. Installers
// that can read it prefer it; what a q value weighs is not this index's concern.
func wantsJSON(r *http.Request) bool {
	for _, accept := range r.Header["Accept"] {
		for part := range strings.SplitSeq(accept, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && t == jsonType {
				return true
			}
		}
	}
	return false
}

// The JSON form of PEP 691 with the fields of PEP 700 and PEP 714.
type (
	apiMeta struct {
		Version string `json:"api-version"`
	}
	apiProjects struct {
		Meta     apiMeta      `json:"meta"`
		Projects []apiProject `json:"projects"`
	}
	apiProject struct {
		Name string `json:"name"`
	}
	apiFiles struct {
		Meta     apiMeta   `json:"meta"`
		Name     string    `json:"name"`
		Versions []string  `json:"versions"`
		Files    []apiFile `json:"files"`
	}
	apiFile struct {
		Filename       string            `json:"filename"`
		URL            string            `json:"url"`
		Hashes         map[string]string `json:"hashes"`
		Size           int64             `json:"size"`
		UploadTime     time.Time         `json:"upload-time"`
		RequiresPython string            `json:"requires-python,omitempty"`
		CoreMetadata   map[string]string `json:"core-metadata"`
	}
)

var projectsPage = template.Must(template.New("projects").Parse(
	`<!DOCTYPE html>
<html><body>
{{range .Projects}}<a href="/simple/{{.Name}}/">{{.Name}}</a>
{{end}}</body></html>
`))

var filesPage = template.Must(template.New("files").Parse(
	`<!DOCTYPE html>
<html><body>
{{range .Files}}<a href="{{.URL}}#sha256={{.Hashes.sha256}}"{{with .RequiresPython}} data-requires-python="{{.}}"{{end}} data-core-metadata="sha256={{.CoreMetadata.sha256}}">{{.Filename}}</a>
{{end}}</body></html>
`))

func (x *Index) serveProjects(w http.ResponseWriter, r *http.Request) {
	names, err := x.filenames()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	page := apiProjects{Meta: apiMeta{"1.1"}}
	for _, n := range names {
		page.Projects = append(page.Projects, apiProject{canonical(Wheel{Filename: n}.Name())})
	}
	slices.SortFunc(page.Projects, func(a, b apiProject) int { return strings.Compare(a.Name, b.Name) })
	page.Projects = slices.Compact(page.Projects)
	respond(w, r, page, projectsPage)
}

func (x *Index) serveProject(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if c := canonical(name); c != name {
		http.Redirect(w, r, "/simple/"+c+"/", http.StatusMovedPermanently)
		return
	}
	files, err := x.project(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(files) == 0 {
		http.NotFound(w, r)
		return
	}
	page := apiFiles{Meta: apiMeta{"1.1"}, Name: name}
	for _, f := range files {
		page.Versions = append(page.Versions, f.Version())
		page.Files = append(page.Files, apiFile{
			Filename:       f.Filename,
			URL:            "/files/" + f.Filename,
			Hashes:         map[string]string{"sha256": f.Digest.String()},
			Size:           f.Size,
			UploadTime:     f.modified.UTC(),
			RequiresPython: f.requiresPython,
			CoreMetadata:   map[string]string{"sha256": digest.Of(f.metadata).String()},
		})
	}
	slices.Sort(page.Versions)
	page.Versions = slices.Compact(page.Versions)
	respond(w, r, page, filesPage)
}

// respond writes a page in the form the client asks for.
func respond(w http.ResponseWriter, r *http.Request, page any, html *template.Template) {
	w.Header().Set("Vary", "Accept")
	var b bytes.Buffer
	var err error
	if wantsJSON(r) {
		w.Header().Set("Content-Type", jsonType)
		err = json.NewEncoder(&b).Encode(page)
	} else {
		w.Header().Set("Content-Type", htmlType+"; charset=utf-8")
		err = html.Execute(&b, page)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeAll(w, b.Bytes())
}

// writeAll writes a whole body and its length.
func writeAll(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body) // an error is the client's, who is gone
}

func (x *Index) serveFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	wheel, wantsMetadata := strings.CutSuffix(name, ".metadata")
	if !isWheelName(wheel) {
		http.NotFound(w, r)
		return
	}
	f, err := x.file(wheel)
	if err != nil {
		http.Error(w, err.Error(), errorStatus(err))
		return
	}
	if wantsMetadata {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		writeAll(w, f.metadata)
		return
	}
	content, err := os.Open(filepath.Join(x.dir, wheel))
	if err != nil {
		http.Error(w, err.Error(), errorStatus(err))
		return
	}
	defer content.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+f.Digest.String()+`"`)
	http.ServeContent(w, r, wheel, f.modified, content)
}

func errorStatus(err error) int {
	if os.IsNotExist(err) {
		return http.StatusNotFound
	}
	return http.StatusInternalServerError
}

// filenames returns the names of the wheels in the directory, sorted.
func (x *Index) filenames() ([]string, error) {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if isWheelName(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// project returns the wheels of one project.
func (x *Index) project(name string) ([]*file, error) {
	names, err := x.filenames()
	if err != nil {
		return nil, err
	}
	var files []*file
	for _, n := range names {
		if canonical(Wheel{Filename: n}.Name()) != name {
			continue
		}
		f, err := x.file(n)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// file returns what there is to say about a wheel. It is read once, and again
// when its size or time of change differ.
func (x *Index) file(name string) (*file, error) {
	path := filepath.Join(x.dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	f := x.known[name]
	x.mu.Unlock()
	if f != nil && f.Size == info.Size() && f.modified.Equal(info.ModTime()) {
		return f, nil
	}
	f, err = readFile(path, info)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.known[name] = f
	x.mu.Unlock()
	return f, nil
}

func readFile(path string, info os.FileInfo) (*file, error) {
	sum, err := digestFile(path)
	if err != nil {
		return nil, err
	}
	metadata, err := readMetadata(path)
	if err != nil {
		return nil, err
	}
	return &file{
		Wheel:          Wheel{Filename: filepath.Base(path), Digest: sum, Size: info.Size()},
		modified:       info.ModTime(),
		metadata:       metadata,
		requiresPython: header(metadata, "Requires-Python"),
	}, nil
}

// readMetadata returns the METADATA of a wheel. The standard library's reader
// does: the wheels of a test are its own.
func readMetadata(path string) ([]byte, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer z.Close()
	for _, m := range z.File {
		dir, base, _ := strings.Cut(m.Name, "/")
		if base != "METADATA" || !strings.HasSuffix(dir, ".dist-info") {
			continue
		}
		r, err := m.Open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("%s has no METADATA", path)
}

// header returns one field of METADATA, or "".
func header(metadata []byte, field string) string {
	for line := range strings.Lines(string(metadata)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok { // the end of the header
			return ""
		}
		if textproto.CanonicalMIMEHeaderKey(key) == field {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
