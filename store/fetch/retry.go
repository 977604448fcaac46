package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// maxFailures is how often in a row an attempt may bring nothing new. With
	// the waits between them that is about eight seconds: a restart of a
	// server is survived, a wrong address is not waited for.
	maxFailures = 5
	// progressStep is how many new bytes make a failure not count: a file of
	// gigabytes may be cut any number of times as long as it grows.
	progressStep = 64 << 10

	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxRetryAfter bounds what a server may ask for. Whoever is told to wait
	// longer than this wants to know instead.
	maxRetryAfter = 2 * time.Minute
)

// errStalled is the cause of an attempt ended by its watchdog.
var errStalled = errors.New("no byte arrived")

// A finalError is not cured by trying again.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// A busyError is a server's request to come back later.
type busyError struct {
	error
	after time.Duration // 0 when the server doesn't say
}

func (e busyError) Unwrap() error { return e.error }

// final reports whether trying again is in vain. Go's HTTP client has no list
// of errors that are temporary, so this is the list of those that are not.
func final(err error) bool {
	var f finalError
	return errors.As(err, &f) ||
		errors.Is(err, context.Canceled) ||
		badCertificate(err) ||
		errors.As(err, new(tls.RecordHeaderError)) ||
		unknownHost(err)
}

// retry calls attempt until it succeeds, fails for good, or has brought
// nothing new too often. attempt returns how many bytes there are.
func (f *Fetcher) retry(ctx context.Context, size int64, task Task, attempt func() (int64, error)) error {
	failures := 0
	for {
		n, err := attempt()
		if err == nil || ctx.Err() != nil || final(err) {
			return err
		}
		// Only the highest mark counts: a server that ignores ranges and
		// always cuts at the same place brings nothing new.
		if n >= size+progressStep {
			size, failures = n, 0
		}
		failures++
		if failures == maxFailures {
			return fmt.Errorf("%w after %d attempts: %w; see that the server can be reached (it may need a proxy), then run the same again", ErrGaveUp, failures, err)
		}
		wait := f.backoff(failures)
		var busy busyError
		if errors.As(err, &busy) && busy.after > wait {
			wait = busy.after
		}
		if wait > maxRetryAfter {
			return fmt.Errorf("the server asks to wait %s, which is more than %s; try again later: %w", wait.Round(time.Second), maxRetryAfter, err)
		}
		task.Retry(err, wait)
		if err := f.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// backoff doubles with every failure. Half of it is chance, so that many
// clients of one broken server don't come back in step.
func (f *Fetcher) backoff(failures int) time.Duration {
	d := min(firstWait<<(failures-1), maxWait)
	return d/2 + time.Duration(f.jitter()*float64(d/2))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
// What is neither is as good as absent.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(v); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// temporaryStatus reports whether a status asks for another attempt.
func temporaryStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// stallTimeout is for how long no byte may arrive: the time-out of uv and pip,
// in seconds. There is no limit to the whole: wheels of gigabytes exist.
func stallTimeout(getenv func(string) string) (time.Duration, error) {
	for _, name := range []string{"UV_HTTP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT"} {
		v := strings.TrimSpace(getenv(name))
		if v == "" {
			continue
		}
		seconds, err := strconv.ParseFloat(v, 64)
		if err != nil || !(seconds > 0 && seconds < 1e6) {
			return 0, fmt.Errorf("the variable %s is %q; wanted a number of seconds", name, v)
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	return 30 * time.Second, nil
}

// diskFull reports whether there is no room for a download.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
