package wheelhouse

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Fault answers a request in next's stead, or has next answer and spoils it.
// It runs for every request, concurrently.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// On limits a fault to requests whose path ends in suffix; others are answered.
func On(suffix string, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Times limits a fault to the first n requests it meets; later ones are answered.
func Times(n int, f Fault) Fault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		left := n
		n--
		mu.Unlock()
		if left <= 0 {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Cut sends the true header and the first n bytes of the body, then ends the
// connection.
func Cut(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&body{ResponseWriter: w, write: func(at int64, p []byte) (int, error) {
			if at+int64(len(p)) <= n {
				return w.Write(p)
			}
			w.Write(p[:n-at])
			abort(w)
			return 0, nil
		}}, r)
	}
}

// Stall sends the true header and the first n bytes of the body, then nothing
// until the client or the server gives up.
func Stall(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&body{ResponseWriter: w, write: func(at int64, p []byte) (int, error) {
			if at+int64(len(p)) <= n {
				return w.Write(p)
			}
			w.Write(p[:n-at])
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			abort(w)
			return 0, nil
		}}, r)
	}
}

// abort ends the connection after what was written has left.
func abort(w http.ResponseWriter) {
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // net/http's way to say it; not logged
}

// Flip inverts the lowest bit of the byte at an offset of the body: the content
// is wrong, everything else is right.
func Flip(offset int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&body{ResponseWriter: w, write: func(at int64, p []byte) (int, error) {
			if i := offset - at; 0 <= i && i < int64(len(p)) {
				p = slices.Clone(p) // a Writer does not change what it is given
				p[i] ^= 1
			}
			return w.Write(p)
		}}, r)
	}
}

// Lengthen adds n to the Content-Length. The body stays: with n > 0 the
// connection ends n bytes early, with n < 0 the body's last bytes are lost.
func Lengthen(n int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&lengthener{ResponseWriter: w, by: n}, r)
	}
}

// Fail answers with a status and, unless it is "", a Retry-After header.
func Fail(status int, retryAfter string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, fmt.Sprintf("%d %s", status, http.StatusText(status)), status)
	}
}

// Redirect answers 302 to the same path beneath base ("http://127.0.0.1:PORT").
func Redirect(base string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, base+r.URL.RequestURI(), http.StatusFound)
	}
}

// Whole ignores the Range of a request: the whole file, 200.
func Whole(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("Range")
	next.ServeHTTP(w, r)
}

// HTML answers as an index does that has the HTML form alone.
func HTML(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("Accept")
	next.ServeHTTP(w, r)
}

// body passes the body of an answer, and the offset of each piece, through write.
type body struct {
	http.ResponseWriter
	at    int64
	write func(at int64, p []byte) (int, error)
}

func (b *body) Write(p []byte) (int, error) {
	n, err := b.write(b.at, p)
	b.at += int64(n)
	return n, err
}

// lengthener changes the Content-Length as the header is written, and ends the
// body there: net/http refuses a longer one.
type lengthener struct {
	http.ResponseWriter
	by    int64
	begun bool
	left  int64 // bytes of body that the header still allows
}

func (l *lengthener) WriteHeader(status int) {
	l.begun = true
	l.left = math.MaxInt64
	if n, err := strconv.ParseInt(l.Header().Get("Content-Length"), 10, 64); err == nil {
		l.left = max(n+l.by, 0)
		l.Header().Set("Content-Length", strconv.FormatInt(l.left, 10))
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *lengthener) Write(p []byte) (int, error) {
	if !l.begun {
		l.WriteHeader(http.StatusOK)
	}
	n, err := l.ResponseWriter.Write(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	if err != nil {
		return n, err
	}
	return len(p), nil
}
