package fetch

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A file cut anywhere is made whole from where it was cut.
func TestCutAnywhere(t *testing.T) {
	data := content(70_000)
	for _, n := range []int{0, 1, 2, 100, 511, 512, 4095, 4096, 32768, 65535, 65536, 69_998, 69_999} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newServer(t, data, cut(data, n))
			r := newRig(t)
			r.mustGet(t, pinOf(s.URL, data), data)
			if n == 0 {
				s.wantRequests(t, "Range", "", "")
				return
			}
			s.wantRequests(t, "Range", "", fmt.Sprintf("bytes=%d-", n))
			s.wantRequests(t, "If-Range", "", `"one"`)
		})
	}
}

// A large file may be cut more often than maxFailures as long as it grows.
func TestCutOften(t *testing.T) {
	data := content(20 * progressStep)
	s := newServer(t, data)
	s.faults = times(19, func(w http.ResponseWriter, r *http.Request) {
		var start int
		if v := r.Header.Get("Range"); v != "" {
			fmt.Sscanf(v, "bytes=%d-", &start)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(data)-1, len(data)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-start))
		if start > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(data[start : start+progressStep])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	r := newRig(t)
	r.mustGet(t, pinOf(s.URL, data), data)
	for _, d := range r.waits {
		if d != firstWait {
			t.Errorf("waits %s, want %s each time", r.waits, firstWait)
			break
		}
	}
}

// A server that ignores ranges and always cuts at the same place must not be
// asked for ever.
func TestCutAlways(t *testing.T) {
	data := content(10 * progressStep)
	s := newServer(t, data, times(100, cut(data, 5*progressStep))...)
	r := newRig(t)
	pin := pinOf(s.URL, data)
	_, err := r.get(pin)
	wantError(t, err, "gave up after 5 attempts")
	wantError(t, err, fmt.Sprintf("the %d bytes that arrived are kept", 5*progressStep))
	key := "sha256-" + pin.Hashes["sha256"]
	r.wantFiles(t, key+".part", key+".validator")
}

func TestRetry(t *testing.T) {
	data := content(100)
	date := testTime.Add(50 * time.Second).Format(http.TimeFormat)
	late := testTime.Add(time.Hour).Format(http.TimeFormat)
	past := testTime.Add(-time.Hour).Format(http.TimeFormat)
	tests := []struct {
		name   string
		faults []http.HandlerFunc
		waits  []time.Duration
		err    string
	}{
		{"408", times(1, status(408)), []time.Duration{firstWait}, ""},
		{"425", times(1, status(425)), []time.Duration{firstWait}, ""},
		{"429", times(1, status(429)), []time.Duration{firstWait}, ""},
		{"500 twice", times(2, status(500)), []time.Duration{firstWait, 2 * firstWait}, ""},
		{"502", times(1, status(502)), []time.Duration{firstWait}, ""},
		{"504 four times", times(4, status(504)), []time.Duration{firstWait, 2 * firstWait, 4 * firstWait, 8 * firstWait}, ""},
		{"503 always", times(9, status(503)), []time.Duration{firstWait, 2 * firstWait, 4 * firstWait, 8 * firstWait}, "gave up after 5 attempts: "},
		{"Retry-After seconds", times(1, status(503, "Retry-After", "7")), []time.Duration{7 * time.Second}, ""},
		{"Retry-After shorter than ours", times(1, status(429, "Retry-After", "0")), []time.Duration{firstWait}, ""},
		{"Retry-After date", times(1, status(429, "Retry-After", date)), []time.Duration{50 * time.Second}, ""},
		{"Retry-After past date", times(1, status(429, "Retry-After", past)), []time.Duration{firstWait}, ""},
		{"Retry-After nonsense", times(1, status(503, "Retry-After", "soon")), []time.Duration{firstWait}, ""},
		{"Retry-After too long", times(1, status(503, "Retry-After", "3600")), nil, "asks to wait 1h0m0s, which is more than 2m0s"},
		{"Retry-After date too far", times(1, status(503, "Retry-After", late)), nil, "asks to wait 1h0m0s"},
		{"closed connection", times(1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), []time.Duration{firstWait}, ""},
		{"404", times(1, status(404)), nil, "answers 404 Not Found: the file isn't there any more"},
		{"410", times(1, status(410)), nil, "lock it again"},
		{"400", times(1, status(400)), nil, "answers 400 Bad Request"},
		{"401", times(1, status(401)), nil, "as a line in ~/.netrc: machine 127.0.0.1 login"},
		{"403", times(1, status(403)), nil, "answers 403 Forbidden"},
		{"204", times(1, status(204)), nil, "answers 204 No Content"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, data, tt.faults...)
			r := newRig(t)
			got, err := r.get(pinOf(s.URL+"/x.whl?token=secret", data))
			if tt.err != "" {
				wantError(t, err, tt.err)
			} else if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes and %v", len(got), err)
			}
			if !slices.Equal(r.waits, tt.waits) {
				t.Errorf("waits %s, want %s", r.waits, tt.waits)
			}
			r.wantFiles(t)
		})
	}
}

func TestBackoffJitter(t *testing.T) {
	f := &Fetcher{jitter: func() float64 { return 0 }}
	if d := f.backoff(3); d != 2*firstWait {
		t.Errorf("the shortest third wait is %s, want %s", d, 2*firstWait)
	}
	f.jitter = func() float64 { return 1 }
	if d := f.backoff(20); d != maxWait {
		t.Errorf("the longest wait is %s, want %s", d, maxWait)
	}
}

// What is wrong is thrown away, and said.
func TestMismatch(t *testing.T) {
	data := content(1000)
	wrong := append(bytes.Clone(data[:999]), data[999]^1)
	html := []byte("<html>log in</html>")
	pin := pinOf("", data)
	sized := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b)
		}
	}
	chunked := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(b)
		}
	}
	tests := []struct {
		name   string
		fault  http.HandlerFunc
		noSize bool
		want   string
	}{
		{"hash", sized(wrong), false, "its sha256 is "},
		{"hash, length unknown", chunked(wrong), true, "wanted " + pin.Hashes["sha256"]},
		{"short", sized(data[:900]), false, "its size is 900, wanted 1000"},
		{"long", sized(append(bytes.Clone(data), 'x')), false, "its size is 1001, wanted 1000"},
		{"long, length unknown", chunked(append(bytes.Clone(data), 'x')), false, "its size is 1001, wanted 1000"},
		{"no size in the lock", sized(data[:900]), true, "its sha256 is "},
		{"web page", sized(html), false, "a login or a proxy"},
		{"web page, no size", sized(html), true, "a login or a proxy"},
		{"empty", sized(nil), true, "its sha256 is e3b0c442"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, data, times(9, tt.fault)...)
			r := newRig(t)
			pin := pinOf(strings.Replace(s.URL, "//", "//user:secret@", 1), data)
			if tt.noSize {
				pin.Size = 0
			}
			_, err := r.get(pin)
			wantError(t, err, tt.want)
			wantError(t, err, s.URL+" is not the file that was locked")
			var m *MismatchError
			if !errors.As(err, &m) {
				t.Errorf("error %T, want a MismatchError", err)
			}
			if len(s.requests("Range")) != 1 {
				t.Errorf("%d requests, want 1", len(s.requests("Range")))
			}
			r.wantFiles(t)
		})
	}
}

func TestEveryHashCounts(t *testing.T) {
	data := content(1000)
	s := newServer(t, data)
	pin := pinOf(s.URL, data)
	pin.Hashes["sha512"] = strings.Repeat("ab", 64)
	pin.Hashes["md5"] = "not looked at"
	_, err := newRig(t).get(pin)
	wantError(t, err, "its sha512 is ")
	delete(pin.Hashes, "sha512")
	newRig(t).mustGet(t, pin, data)
}

func TestContentEncoding(t *testing.T) {
	data := content(1000)
	s := newServer(t, data, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(data)
		z.Close()
	})
	r := newRig(t)
	_, err := r.get(pinOf(s.URL, data))
	wantError(t, err, `answers with Content-Encoding "gzip"`)
	r.wantFiles(t)
}

// Resuming, against servers of every kind. The partial file holds the first
// 400 of 1000 bytes unless the case says otherwise.
func TestResume(t *testing.T) {
	data := content(1000)
	tests := []struct {
		name      string
		part      []byte
		validator string
		faults    []http.HandlerFunc
		etag      string
		noSize    bool
		ranges    []string
		ifRanges  []string
		err       string
	}{
		{name: "the rest", part: data[:400], validator: `"one"`, etag: `"one"`,
			ranges: []string{"bytes=400-"}, ifRanges: []string{`"one"`}},
		{name: "no validator", part: data[:400], etag: `"one"`,
			ranges: []string{"bytes=400-"}, ifRanges: []string{""}},
		{name: "changed ETag", part: []byte("old content, wrong from the start"), validator: `"old"`, etag: `"one"`,
			ranges: []string{"bytes=33-"}, ifRanges: []string{`"old"`}},
		{name: "ranges ignored", part: data[:400], validator: `"one"`,
			faults: times(1, func(w http.ResponseWriter, r *http.Request) { w.Write(data) }),
			ranges: []string{"bytes=400-"}, ifRanges: []string{`"one"`}},
		{name: "damaged part", part: make([]byte, 400), validator: `"one"`, etag: `"one"`,
			ranges: []string{"bytes=400-", ""}, ifRanges: []string{`"one"`, ""}},
		{name: "complete", part: data, etag: `"one"`},
		{name: "complete, size unknown", part: data, etag: `"one"`, noSize: true,
			ranges: []string{"bytes=1000-"}, ifRanges: []string{""}},
		{name: "complete but damaged", part: make([]byte, 1000), etag: `"one"`,
			ranges: []string{""}, ifRanges: []string{""}},
		{name: "too long", part: append(bytes.Clone(data), 'x'), etag: `"one"`,
			ranges: []string{""}, ifRanges: []string{""}},
		{name: "too long, size unknown", part: append(bytes.Clone(data), 'x'), etag: `"one"`, noSize: true,
			ranges: []string{"bytes=1001-", ""}, ifRanges: []string{"", ""}},
		{name: "another range than asked for", part: data[:400],
			faults: times(1, status(206, "Content-Range", "bytes 0-999/1000")),
			ranges: []string{"bytes=400-", ""}, ifRanges: []string{"", ""}},
		{name: "206 without a range", part: data[:400], faults: times(1, status(206)),
			ranges: []string{"bytes=400-", ""}, ifRanges: []string{"", ""}},
		{name: "206 of another size", part: data[:400], faults: times(1, status(206, "Content-Range", "bytes 400-1999/2000")),
			ranges: []string{"bytes=400-"}, ifRanges: []string{""}, err: "its size is 2000, wanted 1000; "},
		{name: "416 always", part: data[:400], faults: times(9, status(416)),
			ranges: []string{"bytes=400-", ""}, ifRanges: []string{"", ""}, err: "has no bytes after the first 0"},
		{name: "a page in the way", part: data[:400], validator: `"one"`,
			faults: times(9, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Length", "5")
				w.Write([]byte("hello"))
			}),
			ranges: []string{"bytes=400-"}, ifRanges: []string{`"one"`}, err: "the 400 bytes that arrived are kept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, data, tt.faults...)
			s.etag = tt.etag
			r := newRig(t)
			pin := pinOf(s.URL, data)
			if tt.noSize {
				pin.Size = 0
			}
			key := filepath.Join(r.dir, "sha256-"+pin.Hashes["sha256"])
			if err := os.WriteFile(key+".part", tt.part, 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.validator != "" {
				if err := os.WriteFile(key+".validator", []byte(tt.validator), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if tt.err != "" {
				_, err := r.get(pin)
				wantError(t, err, tt.err)
			} else {
				r.mustGet(t, pin, data)
			}
			s.wantRequests(t, "Range", tt.ranges...)
			s.wantRequests(t, "If-Range", tt.ifRanges...)
		})
	}
}

// A connection on which nothing comes is given up, and tried again.
func TestStall(t *testing.T) {
	t.Parallel() // it takes as long as it stalls
	data := content(1000)
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	midway := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(data[:400])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	s := newServer(t, data, hang, midway)
	r := newRig(t, "UV_HTTP_TIMEOUT", "1")
	r.mustGet(t, pinOf(s.URL, data), data)
	s.wantRequests(t, "Range", "", "", "bytes=400-")

	s = newServer(t, data, times(9, hang)...)
	r = newRig(t, "UV_HTTP_TIMEOUT", "0.05")
	_, err := r.get(pinOf(s.URL, data))
	wantError(t, err, "gave up after 5 attempts: no byte arrived from 127.0.0.1")
	wantError(t, err, "for 50ms")
}

func TestParseContentRange(t *testing.T) {
	tests := []struct {
		in           string
		start, total int64
		ok           bool
	}{
		{"bytes 0-9/10", 0, 10, true},
		{"bytes 5-9/*", 5, -1, true},
		{"bytes 5-9/9", 0, 0, false},
		{"bytes 9-5/20", 0, 0, false},
		{"bytes */10", 0, 0, false},
		{"bytes -5-9/10", 0, 0, false},
		{"bytes 0-9", 0, 0, false},
		{"items 0-9/10", 0, 0, false},
		{"bytes 0-99999999999999999999/*", 0, 0, false},
		{"", 0, 0, false},
	}
	for _, tt := range tests {
		start, total, err := parseContentRange(tt.in)
		if (err == nil) != tt.ok || tt.ok && (start != tt.start || total != tt.total) {
			t.Errorf("parseContentRange(%q) = %d, %d, %v; want %d, %d, ok %v", tt.in, start, total, err, tt.start, tt.total, tt.ok)
		}
	}
}

func TestValidator(t *testing.T) {
	const date = "Fri, 02 Jan 2026 03:04:05 GMT"
	tests := []struct{ etag, modified, want string }{
		{`"strong"`, date, `"strong"`},
		{`W/"weak"`, date, date},
		{"", date, date},
		{`W/"weak"`, "", ""},
	}
	for _, tt := range tests {
		h := http.Header{"Etag": {tt.etag}, "Last-Modified": {tt.modified}}
		if got := validatorOf(h); got != tt.want {
			t.Errorf("validator of %q and %q is %q, want %q", tt.etag, tt.modified, got, tt.want)
		}
	}
}
