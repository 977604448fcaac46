package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
)

func TestFetchManySources(t *testing.T) {
	one, two, three := content(300_000), content(1000), content(2000)
	s := newServer(t, one)
	r := newRig(t)
	local := filepath.Join(t.TempDir(), "a b.whl")
	if err := os.WriteFile(local, two, 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "c.whl")
	if err := os.WriteFile(other, three, 0o600); err != nil {
		t.Fatal(err)
	}
	pins := []lock.Pin{
		{Name: "known", Version: "1"},
		{Name: "path", Version: "1", Path: local},
		{Name: "fileurl", Version: "1", URL: "file://" + strings.ReplaceAll(local, " ", "%20")},
		{Name: "both", Version: "1", Path: other, URL: s.URL + "/unused.whl"},
		pinOf(s.URL+"/demo.whl", one),
	}
	both := pinOf(s.URL+"/gone.whl", one)
	both.Name, both.Path = "urlonly", filepath.Join(t.TempDir(), "absent.whl")
	pins = append(pins, both)

	want := map[string][]byte{"path": two, "fileurl": two, "both": three, "demo": one, "urlonly": one}
	var mu sync.Mutex
	err := r.Fetch(t.Context(), pins, func(p lock.Pin) bool { return p.Name == "known" },
		func(_ context.Context, p lock.Pin, ra io.ReaderAt, size int64, _ func(int64)) error {
			b, err := io.ReadAll(io.NewSectionReader(ra, 0, size))
			mu.Lock()
			defer mu.Unlock()
			if !bytes.Equal(b, want[p.Name]) {
				t.Errorf("%s: got %d bytes, want other %d", p.Name, len(b), len(want[p.Name]))
			}
			delete(want, p.Name)
			return err
		}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 0 {
		t.Errorf("%d pins were not added", len(want))
	}
	r.wantFiles(t)
	s.wantRequests(t, "User-Agent", "sitefs/1.2", "sitefs/1.2")
	s.wantRequests(t, "Accept-Encoding", "identity", "identity")
}

func TestFetchRefusesPins(t *testing.T) {
	dir := t.TempDir()
	sha := map[string]string{"sha256": strings.Repeat("0", 64)}
	tests := []struct {
		name string
		pin  lock.Pin
		want string
	}{
		{"index only", lock.Pin{Index: "https://user:secret@example.com/simple"}, `names only the index "https://example.com/simple"`},
		{"nothing", lock.Pin{}, "neither a URL nor a path"},
		{"scheme", lock.Pin{URL: "ftp://u:secret@example.com/x.whl"}, `"ftp://example.com/x.whl" has the scheme "ftp"`},
		{"no host", lock.Pin{URL: "https:///x.whl"}, "has no host"},
		{"no URL", lock.Pin{URL: "https://u:secret@exa mple.com/\x7f"}, "is not a URL"},
		{"other host's file", lock.Pin{URL: "file://example.com/x.whl"}, `of the host "example.com"`},
		{"absent file", lock.Pin{Path: filepath.Join(dir, "absent.whl")}, "no such file"},
		{"directory", lock.Pin{Path: dir}, "is not a regular file"},
		{"weak hash", lock.Pin{URL: "http://127.0.0.1:1/x.whl", Hashes: map[string]string{"md5": "00"}}, `found ["md5"], wanted one of`},
		{"short hash", lock.Pin{URL: "http://127.0.0.1:1/x.whl", Hashes: map[string]string{"sha256": "../../x"}}, "wanted 64 hexadecimal digits"},
		{"local size", lock.Pin{Path: os.Args[0], Size: 5}, "the lock file says 5"},
		{"reserved address", lock.Pin{URL: "http://127.0.0.1:1/x.whl", Hashes: sha}, "gave up after 5 attempts: asking 127.0.0.1:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.pin.Name, tt.pin.Version = "demo", "1.0"
			r := newRig(t)
			_, err := r.get(tt.pin)
			wantError(t, err, tt.want)
			wantError(t, err, "demo 1.0: ")
			r.wantFiles(t)
		})
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want one with %q", err, want)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("error %q tells a secret", err)
	}
}

func TestOffline(t *testing.T) {
	r := newRig(t)
	r.offline = true
	local := filepath.Join(t.TempDir(), "x.whl")
	if err := os.WriteFile(local, content(10), 0o600); err != nil {
		t.Fatal(err)
	}
	file := lock.Pin{Name: "local", Version: "1", Path: local}
	far := lock.Pin{Name: "far", Version: "2", Filename: "far-2-py3-none-any.whl", URL: "https://example.com/far.whl"}
	indexed := lock.Pin{Name: "indexed", Version: "3", Index: "https://example.com/simple"}
	added := 0
	add := func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { added++; return nil }

	err := r.Fetch(t.Context(), []lock.Pin{file, far, indexed}, none, add, nil)
	var lacking *LackingError
	if !errors.As(err, &lacking) || !errors.Is(err, ErrOffline) || len(lacking.Pins) != 2 || added != 0 {
		t.Fatalf("error %v and %d wheels added, want two lacking and none added", err, added)
	}
	want := `offline, and 2 wheels are not in the store:
  far 2 (far-2-py3-none-any.whl)
  indexed 3
run it once without --offline, or put the files into the store with sitefs add`
	if err.Error() != want {
		t.Errorf("error\n%s\nwant\n%s", err, want)
	}
	if err := r.Fetch(t.Context(), []lock.Pin{file}, none, add, nil); err != nil || added != 1 {
		t.Errorf("a local file offline: %v, %d added", err, added)
	}
}

// A client that could not be made must not fail what doesn't need it.
func TestNoClientForLocalFiles(t *testing.T) {
	r := newRig(t, "SSL_CERT_FILE", "/nonexistent.pem")
	data := content(10)
	local := filepath.Join(t.TempDir(), "x.whl")
	if err := os.WriteFile(local, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := r.get(lock.Pin{Name: "local", Version: "1", Path: local})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes and %v", len(got), err)
	}
	_, err = r.get(pinOf("http://127.0.0.1:1/x.whl", data))
	wantError(t, err, `"/nonexistent.pem" (SSL_CERT_FILE)`)
}

func TestParallel(t *testing.T) {
	data := content(10)
	r := newRig(t)
	r.parallel = 3
	var pins []lock.Pin
	for i := range 10 {
		local := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(local, data, 0o600); err != nil {
			t.Fatal(err)
		}
		pins = append(pins, lock.Pin{Name: "p", Version: fmt.Sprint(i), Path: local})
	}
	var running, most atomic.Int32
	third := make(chan struct{})
	err := r.Fetch(t.Context(), pins, none, func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 3 && third != nil {
			select {
			case <-third:
			default:
				close(third)
			}
		}
		<-third // three at once are reached, or the test hangs
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if most.Load() != 3 {
		t.Errorf("%d at once, want 3", most.Load())
	}
}

func TestAddFails(t *testing.T) {
	data := content(1000)
	s := newServer(t, data)
	r := newRig(t)
	bad := errors.New("RECORD is wrong")
	err := r.Fetch(t.Context(), []lock.Pin{pinOf(s.URL, data)}, none,
		func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { return bad }, nil)
	if !errors.Is(err, bad) {
		t.Errorf("error %v, want %v", err, bad)
	}
	r.wantFiles(t)
}

// The first failure ends the others, and is the one that is told.
func TestFirstFailureStops(t *testing.T) {
	data := content(1000)
	release := make(chan struct{})
	hang := func(w http.ResponseWriter, r *http.Request) {
		close(release)
		<-r.Context().Done()
	}
	slow := newServer(t, data, hang)
	gone := newServer(t, data, func(w http.ResponseWriter, r *http.Request) {
		<-release
		w.WriteHeader(http.StatusNotFound)
	})
	r := newRig(t)
	err := r.Fetch(t.Context(), []lock.Pin{pinOf(slow.URL, data), pinOf(gone.URL, content(2000))}, none,
		func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { return errors.New("added") }, nil)
	wantError(t, err, "answers 404 Not Found")
}

// events records what a Progress is told about one pin.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(format, args...))
}

func (e *events) Begin(pins []lock.Pin)            { e.add("begin %d", len(pins)) }
func (e *events) Start(pin lock.Pin) Task          { e.add("start %s", pin.Name); return e }
func (e *events) Phase(p Phase, done, total int64) { e.add("%s %d/%d", p, done, total) }
func (e *events) Add(int64)                        {}
func (e *events) Retry(err error, d time.Duration) { e.add("retry %s", d) }
func (e *events) Done(err error)                   { e.add("done %v", err) }
func (e *events) End(err error)                    { e.add("end %v", err) }
func (e *events) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(e.list, want) {
		t.Errorf("progress\n\t%s\nwant\n\t%s", strings.Join(e.list, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestProgress(t *testing.T) {
	data := content(1000)
	s := newServer(t, data, cut(data, 400))
	r := newRig(t)
	var e events
	err := r.Fetch(t.Context(), []lock.Pin{pinOf(s.URL, data)}, none,
		func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { return nil }, &e)
	if err != nil {
		t.Fatal(err)
	}
	e.want(t, "begin 1", "start demo", "download 0/1000", "download 0/1000", "retry 500ms", "download 400/1000", "store 0/0", "done <nil>", "end <nil>")
}

// An interruption keeps what arrived, says so, and the next run goes on.
func TestInterrupt(t *testing.T) {
	data := content(1_000_000)
	half := len(data) / 2
	s := newServer(t, data, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	pin := pinOf(s.URL, data)
	arrived := &arrival{after: int64(half), do: cancel}
	err := r.Fetch(ctx, []lock.Pin{pin}, none, func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error { return nil }, arrived)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	wantError(t, err, "interrupted; 500000 bytes of a download are kept")
	key := "sha256-" + pin.Hashes["sha256"]
	r.wantFiles(t, key+".part", key+".validator")

	// Another Fetcher, as in another process.
	r2 := newRig(t)
	r2.Fetcher.dir, r2.dir = r.dir, r.dir
	r2.mustGet(t, pin, data)
	s.wantRequests(t, "Range", "", "bytes=500000-")
	s.wantRequests(t, "If-Range", "", `"one"`)
}

func TestInterruptedMessage(t *testing.T) {
	var kept tally
	wantError(t, kept.interrupted(context.Canceled), "interrupted: context canceled")
	kept.add(10)
	kept.add(20)
	wantError(t, kept.interrupted(context.Canceled), "interrupted; 30 bytes of 2 downloads are kept")
}

func TestSleep(t *testing.T) {
	if err := sleep(t.Context(), time.Nanosecond); err != nil {
		t.Errorf("a short sleep: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled sleep: %v, want %v", err, context.Canceled)
	}
}

// arrival calls do once that many bytes are written.
type arrival struct {
	silent
	after, n int64
	do       func()
}

func (a *arrival) Start(lock.Pin) Task { return a }
func (a *arrival) Add(n int64) {
	if a.n += n; a.n == a.after {
		a.do()
	}
}

// Two at the same file: the second makes a copy of its own.
func TestSharedDirectory(t *testing.T) {
	data := content(200_000)
	s := newServer(t, data)
	r, other := newRig(t), newRig(t)
	other.Fetcher.dir = r.dir
	pin := pinOf(s.URL, data)
	err := r.Fetch(t.Context(), []lock.Pin{pin}, none, func(context.Context, lock.Pin, io.ReaderAt, int64, func(int64)) error {
		// The lock is held here.
		got, err := other.get(pin)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("beside another download: %d bytes, %v", len(got), err)
		}
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.wantFiles(t)
}

func TestStallTimeout(t *testing.T) {
	tests := []struct {
		name, value string
		want        time.Duration
		bad         bool
	}{
		{"", "", 30 * time.Second, false},
		{"UV_HTTP_TIMEOUT", "5", 5 * time.Second, false},
		{"PIP_DEFAULT_TIMEOUT", "1.5", 1500 * time.Millisecond, false},
		{"PIP_TIMEOUT", "90", 90 * time.Second, false},
		{"UV_HTTP_TIMEOUT", "soon", 0, true},
		{"UV_HTTP_TIMEOUT", "-1", 0, true},
		{"UV_HTTP_TIMEOUT", "NaN", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			f, err := New(Config{Getenv: func(name string) string {
				if name == tt.name {
					return tt.value
				}
				return ""
			}})
			if (err != nil) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if err == nil && f.stall != tt.want {
				t.Errorf("%s, want %s", f.stall, tt.want)
			}
		})
	}
}
