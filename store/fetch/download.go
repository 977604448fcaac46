package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/lock"
)

// A MismatchError says that what a URL gives is not the file that was locked.
type MismatchError struct {
	URL  string // without credentials
	What string // "size" or a hash algorithm
	// Want and Found are numbers of bytes, or digests in lower-case hex.
	Want, Found string
	ContentType string // as the server says
}

func (e *MismatchError) Error() string {
	s := fmt.Sprintf("%s is not the file that was locked: its %s is %s, wanted %s", e.URL, e.What, e.Found, e.Want)
	if strings.HasPrefix(e.ContentType, "text/html") {
		return s + "; the server sent a web page: a login or a proxy may be in the way"
	}
	return s + "; if the file was replaced on purpose, lock it again"
}

// A transfer is the download of one pin.
type transfer struct {
	f      *Fetcher
	client *client
	pin    lock.Pin
	url    *url.URL
	part   *partial
	task   Task
	// contentType is of the last response, for the message about a mismatch.
	contentType string
}

func (f *Fetcher) download(ctx context.Context, j job, add AddFunc, task Task, kept *tally) (err error) {
	sums, err := newSums(j.pin)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	part, err := openPartial(f.dir, sums)
	if err != nil {
		return fmt.Errorf("making room for the download: %w", err)
	}
	defer part.close()

	t := &transfer{f: f, client: c, pin: j.pin, url: j.url, part: part, task: task}
	if err := t.complete(ctx); err != nil {
		return t.abandon(ctx, err, kept)
	}
	task.Phase(Store, 0, 0)
	if err := add(ctx, j.pin, part.file, part.size, task.Add); err != nil {
		if ctx.Err() != nil {
			return t.abandon(ctx, err, kept)
		}
		return errors.Join(err, part.remove())
	}
	return part.remove()
}

// abandon decides what stays behind after err, and says it.
func (t *transfer) abandon(ctx context.Context, err error, kept *tally) error {
	n := t.part.kept()
	switch {
	case n == 0:
		return errors.Join(err, t.part.remove())
	case diskFull(err):
		return errors.Join(fmt.Errorf("%w; make room, or let SITEFS_STORE name a directory elsewhere", err), t.part.remove())
	case ctx.Err() != nil:
		kept.add(n)
		return err
	default:
		return fmt.Errorf("%w; the %d bytes that arrived are kept and the next run goes on from there", err, n)
	}
}

// complete makes the partial file whole and checks it. If one that was begun
// earlier turns out wrong, the earlier part may be to blame: it is fetched once
// more from the start.
func (t *transfer) complete(ctx context.Context) error {
	if err := t.part.load(ctx, t.task); err != nil {
		return err
	}
	resumed := t.part.size > 0
	for {
		t.task.Phase(Download, t.part.size, t.pin.Size)
		err := t.f.retry(ctx, t.part.size, t.task, func() (int64, error) {
			err := t.attempt(ctx)
			return t.part.size, err
		})
		if err != nil {
			return err
		}
		err = t.check()
		if err == nil {
			return nil
		}
		if !resumed {
			return errors.Join(fmt.Errorf("%w; what was downloaded has been deleted", err), t.part.remove())
		}
		resumed = false
		if err := t.part.restart(""); err != nil {
			return err
		}
	}
}

func (t *transfer) check() error {
	if want := t.pin.Size; want != 0 && t.part.size != want {
		return t.sizeMismatch(t.part.size)
	}
	if name, want, found, bad := t.part.sums.mismatch(); bad {
		return &MismatchError{redactURL(t.url), name, want, found, t.contentType}
	}
	return nil
}

func (t *transfer) sizeMismatch(found int64) error {
	return &MismatchError{redactURL(t.url), "size", strconv.FormatInt(t.pin.Size, 10), strconv.FormatInt(found, 10), t.contentType}
}

// attempt asks for what is missing, once.
func (t *transfer) attempt(ctx context.Context) (err error) {
	if t.pin.Size != 0 && t.part.size >= t.pin.Size {
		return nil // complete, or too long: check tells
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.f.stall, func() { cancel(errStalled) })
	defer watchdog.Stop()
	defer func() {
		if err != nil && context.Cause(ctx) == errStalled {
			// Not wrapped: the error beneath is that of a cancelled context.
			err = fmt.Errorf("%w from %s for %s", errStalled, t.url.Host, t.f.stall)
		}
	}()

	req, err := t.request(ctx)
	if err != nil {
		return err
	}
	resp, err := t.client.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	t.contentType = resp.Header.Get("Content-Type")
	total, err := t.accept(resp)
	if err != nil || total == t.part.size {
		return err
	}
	return t.receive(resp.Body, total, watchdog)
}

func (t *transfer) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, finalError{fmt.Errorf("asking for %s: the URL can't be used", redactURL(t.url))}
	}
	// A stored wheel that is compressed on the way would have a range of
	// something else.
	req.Header.Set("Accept-Encoding", "identity")
	if t.part.size == 0 {
		return req, nil
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.part.size))
	validator, err := t.part.validator()
	if err != nil {
		return nil, finalError{err}
	}
	if validator != "" {
		req.Header.Set("If-Range", validator)
	}
	return req, nil
}

// accept makes the partial file ready for the body of resp and returns the
// size of the whole file, or -1 if the server doesn't say.
func (t *transfer) accept(resp *http.Response) (int64, error) {
	switch code := resp.StatusCode; code {
	case http.StatusOK, http.StatusPartialContent:
		if enc := resp.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
			return 0, finalError{fmt.Errorf("%s answers with Content-Encoding %q although identity was asked for: its bytes can't be resumed or trusted to be the file's; the server has to be corrected", redactURL(t.url), enc)}
		}
		if code == http.StatusPartialContent {
			return t.acceptRange(resp)
		}
		return t.acceptWhole(resp)
	case http.StatusRequestedRangeNotSatisfiable:
		return t.refusedRange(resp)
	default:
		return 0, t.statusError(resp)
	}
}

func (t *transfer) acceptWhole(resp *http.Response) (int64, error) {
	total := resp.ContentLength
	if want := t.pin.Size; want != 0 && total >= 0 && total != want {
		return 0, finalError{t.sizeMismatch(total)}
	}
	if err := t.part.restart(validatorOf(resp.Header)); err != nil {
		return 0, finalError{err}
	}
	t.task.Phase(Download, 0, max(0, total, t.pin.Size))
	return total, nil
}

func (t *transfer) acceptRange(resp *http.Response) (int64, error) {
	start, total, err := parseContentRange(resp.Header.Get("Content-Range"))
	if err != nil || start != t.part.size {
		return 0, t.startOver(fmt.Errorf("%s answers with the range %q, asked for was %d-", redactURL(t.url), resp.Header.Get("Content-Range"), t.part.size))
	}
	if want := t.pin.Size; want != 0 && total >= 0 && total != want {
		return 0, finalError{t.sizeMismatch(total)}
	}
	t.task.Phase(Download, start, max(0, total, t.pin.Size))
	return total, nil
}

// refusedRange is for a 416: the file may be complete already, which its hash
// tells, or the partial one is of no use.
func (t *transfer) refusedRange(resp *http.Response) (int64, error) {
	if t.part.size > 0 {
		if _, _, _, bad := t.part.sums.mismatch(); !bad {
			return t.part.size, nil
		}
	}
	return 0, t.startOver(fmt.Errorf("%s has no bytes after the first %d (%s)", redactURL(t.url), t.part.size, resp.Status))
}

// startOver empties the partial file; why is the error of an attempt that is
// followed by one for the whole.
func (t *transfer) startOver(why error) error {
	if t.part.size == 0 {
		return finalError{why} // asked for the whole already
	}
	if err := t.part.restart(""); err != nil {
		return finalError{err}
	}
	return why
}

// receive appends body to the partial file. The watchdog runs only while the
// network is waited for, not while the disk is.
func (t *transfer) receive(body io.Reader, total int64, watchdog *time.Timer) error {
	limit := max(total, t.pin.Size)
	buf := make([]byte, bufferSize)
	for {
		watchdog.Reset(t.f.stall)
		n, err := body.Read(buf)
		watchdog.Stop()
		if werr := t.part.append(buf[:n]); werr != nil {
			return finalError{fmt.Errorf("writing the download: %w", werr)}
		}
		t.task.Add(int64(n))
		if err == io.EOF || limit > 0 && t.part.size > limit {
			break // too long is for check to tell
		}
		if err != nil {
			return fmt.Errorf("%s broke off after %d bytes: %w", redactURL(t.url), t.part.size, err)
		}
	}
	// A connection whose end marks the end of the file tells a cut from an end
	// in no other way.
	if t.part.size < limit {
		return fmt.Errorf("%s ended after %d of %d bytes: %w", redactURL(t.url), t.part.size, limit, io.ErrUnexpectedEOF)
	}
	return nil
}

func (t *transfer) statusError(resp *http.Response) error {
	err := fmt.Errorf("%s answers %s", redactURL(t.url), resp.Status)
	switch code := resp.StatusCode; {
	case temporaryStatus(code):
		return busyError{err, retryAfter(resp.Header, t.f.now())}
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return finalError{fmt.Errorf("%w; %s", err, t.client.netrc.hint(t.url))}
	case code == http.StatusNotFound || code == http.StatusGone:
		return finalError{fmt.Errorf("%w: the file isn't there any more, or not for you; lock it again", err)}
	}
	return finalError{err}
}

// validatorOf returns what If-Range may repeat: a strong ETag or a date (RFC
// 9110, section 13.1.5).
func validatorOf(h http.Header) string {
	if etag := h.Get("ETag"); strings.HasPrefix(etag, `"`) {
		return etag
	}
	return h.Get("Last-Modified")
}

// parseContentRange reads "bytes 5-9/10" and "bytes 5-9/*"; total is -1 when
// it isn't known.
func parseContentRange(s string) (start, total int64, err error) {
	bad := fmt.Errorf("malformed Content-Range %q", s)
	span, size, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 || !strings.HasPrefix(s, "bytes ") {
		return 0, 0, bad
	}
	start, err = strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, 0, bad
	}
	end, err := strconv.ParseInt(last, 10, 64)
	if err != nil || start < 0 || end < start {
		return 0, 0, bad
	}
	if size == "*" {
		return start, -1, nil
	}
	total, err = strconv.ParseInt(size, 10, 64)
	if err != nil || total <= end {
		return 0, 0, bad
	}
	return start, total, nil
}
