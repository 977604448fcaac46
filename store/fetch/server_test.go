package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
)

// content returns n bytes that are the same every time.
func content(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	src.Read(b)
	return b
}

// pinOf returns a pin for data at url.
func pinOf(url string, data []byte) lock.Pin {
	s256, s512 := sha256.Sum256(data), sha512.Sum512(data)
	return lock.Pin{
		Name: "demo", Version: "1.0", Filename: "demo-1.0-py3-none-any.whl",
		URL: url, Size: int64(len(data)),
		Hashes: map[string]string{"sha256": hex.EncodeToString(s256[:]), "sha512": hex.EncodeToString(s512[:])},
	}
}

// A server serves data at every path, after faults: the nth request is answered
// by the nth fault, as long as there are some.
type server struct {
	*httptest.Server
	data   []byte
	etag   string
	faults []http.HandlerFunc

	mu  sync.Mutex
	log []*http.Request
}

func newServer(t *testing.T, data []byte, faults ...http.HandlerFunc) *server {
	s := &server{data: data, etag: `"one"`, faults: faults}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.log)
	s.log = append(s.log, r)
	s.mu.Unlock()
	if n < len(s.faults) && s.faults[n] != nil {
		s.faults[n](w, r)
		return
	}
	s.whole(w, r)
}

// whole answers as a good server does.
func (s *server) whole(w http.ResponseWriter, r *http.Request) {
	if s.etag != "" {
		w.Header().Set("ETag", s.etag)
	}
	http.ServeContent(w, r, "demo.whl", time.Time{}, bytes.NewReader(s.data))
}

// requests returns the values of a header in the order of the requests.
func (s *server) requests(header string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var values []string
	for _, r := range s.log {
		values = append(values, r.Header.Get(header))
	}
	return values
}

func (s *server) wantRequests(t *testing.T, header string, want ...string) {
	t.Helper()
	if got := s.requests(header); !slices.Equal(got, want) {
		t.Errorf("%s of the requests: %q, want %q", header, got, want)
	}
}

// cut sends the length of all of data, n bytes of it, and closes.
func cut(data []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusOK)
		w.Write(data[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func times(n int, h http.HandlerFunc) []http.HandlerFunc {
	return slices.Repeat([]http.HandlerFunc{h}, n)
}

// A rig is a Fetcher whose clock stands still and whose environment is its own.
type rig struct {
	*Fetcher
	dir   string
	env   map[string]string
	waits []time.Duration // the waits before retries; read when Fetch has returned
	mu    sync.Mutex
}

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newRig(t *testing.T, env ...string) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), env: map[string]string{"HOME": t.TempDir(), "PIP_CONFIG_FILE": os.DevNull}}
	for i := 0; i < len(env); i += 2 {
		r.env[env[i]] = env[i+1]
	}
	f, err := New(Config{Dir: r.dir, Version: "1.2", Getenv: func(name string) string { return r.env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	f.now = func() time.Time { return testTime }
	f.jitter = func() float64 { return 1 }
	f.sleep = func(ctx context.Context, d time.Duration) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waits = append(r.waits, d)
		return ctx.Err()
	}
	r.Fetcher = f
	return r
}

func none(lock.Pin) bool { return false }

// get fetches one pin and returns its bytes.
func (r *rig) get(pin lock.Pin) ([]byte, error) {
	var got []byte
	added := false
	err := r.Fetch(context.Background(), []lock.Pin{pin}, none, func(_ context.Context, _ lock.Pin, ra io.ReaderAt, size int64, _ func(int64)) error {
		added = true
		var err error
		got, err = io.ReadAll(io.NewSectionReader(ra, 0, size+1))
		return err
	}, nil)
	if err == nil && !added {
		return nil, errors.New("Fetch succeeded without calling add")
	}
	if err != nil && added {
		return nil, errors.Join(errors.New("add was called with an unchecked file"), err)
	}
	return got, err
}

// mustGet fetches one pin and compares its bytes.
func (r *rig) mustGet(t *testing.T, pin lock.Pin, want []byte) {
	t.Helper()
	got, err := r.get(pin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want other %d", len(got), len(want))
	}
	r.wantFiles(t)
}

// wantFiles compares what lies in the directory of partial downloads.
func (r *rig) wantFiles(t *testing.T, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("left in the directory: %q, want %q", got, want)
	}
}
