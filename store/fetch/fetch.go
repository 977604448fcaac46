// Package fetch makes pinned wheels present: it opens the ones that are files
// and downloads the others over HTTP and HTTPS.
//
// The invariant it keeps: bytes reach the caller only when they are all there
// and have the size and every hash that the pin names. A file that fails that
// check is deleted.
//
// A download survives interruptions of every kind, SIGKILL included: what has
// arrived lies in Config.Dir under the name of its hash, and the next attempt,
// in this process or another, asks the server for the rest (RFC 9110, section
// 14). A partial file is locked while it is written. A process that finds it
// locked downloads a private copy instead of waiting: the other may hold it for
// as long as it likes, and nobody can wait in a circle.
//
// It never resolves anything, never opens the store, never runs a program, and
// sends a credential to no host but the one it is for.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sitefs/sitefs/manifest/lock"
)

// defaultParallel hides the latency of small wheels, most of a lock, without
// being taken for an attack by a modest index server.
const defaultParallel = 16

// Config says how a Fetcher works.
type Config struct {
	// Dir is the directory of partial downloads, made when first needed.
	Dir string
	// Version is the program's version, told to servers.
	Version string
	// Offline refuses whatever is not a local file.
	Offline bool
	// Parallel is the number of wheels fetched at once; 0 means 16.
	Parallel int
	// Getenv reads the environment: proxies, certificates, netrc, time-out.
	// nil means os.Getenv.
	Getenv func(string) string
}

// A Fetcher fetches wheels. It is safe for concurrent use.
type Fetcher struct {
	dir      string
	offline  bool
	parallel int
	stall    time.Duration

	// client is made at the first URL: an environment of local files must not
	// fail over a certificate bundle that nothing needs.
	client func() (*client, error)

	now    func() time.Time
	sleep  func(context.Context, time.Duration) error
	jitter func() float64
}

// New returns a Fetcher. It touches neither disk nor network; an environment
// variable without a meaning is an error.
func New(c Config) (*Fetcher, error) {
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.Parallel <= 0 {
		c.Parallel = defaultParallel
	}
	stall, err := stallTimeout(c.Getenv)
	if err != nil {
		return nil, err
	}
	return &Fetcher{
		dir:      c.Dir,
		offline:  c.Offline,
		parallel: c.Parallel,
		stall:    stall,
		client: sync.OnceValues(func() (*client, error) {
			return newClient(c.Getenv, "sitefs/"+cmp.Or(c.Version, "unknown"))
		}),
		now:    time.Now,
		sleep:  sleep,
		jitter: rand.Float64,
	}, nil
}

var (
	// ErrOffline is what a *LackingError is.
	ErrOffline = errors.New("offline")

	// ErrGaveUp is a server that can't be reached, or breaks off, again and again.
	ErrGaveUp = errors.New("gave up")
)

// AddFunc takes a wheel that is present and checked. The reader is valid until
// it returns; progress may be told of bytes as they are stored. It is called
// from several goroutines at once. Its errors name the wheel.
type AddFunc func(ctx context.Context, pin lock.Pin, r io.ReaderAt, size int64, progress func(n int64)) error

// Fetch hands every pin for which have is false to add, a download as soon as
// it is complete. The size and the hashes of a local file are left to add,
// which reads it anyway. p may be nil.
//
// The first failure stops the rest. What had arrived by then is kept for the
// next time, also when ctx is cancelled. Offline, nothing is handed over if
// one pin needs the network: the error is a *LackingError.
func (f *Fetcher) Fetch(ctx context.Context, pins []lock.Pin, have func(lock.Pin) bool, add AddFunc, p Progress) error {
	jobs, err := f.plan(pins, have)
	if err != nil || len(jobs) == 0 {
		return err
	}
	if p == nil {
		p = silent{}
	}
	p.Begin(jobPins(jobs))
	err = f.fetchAll(ctx, jobs, add, p)
	p.End(err)
	return err
}

func (f *Fetcher) fetchAll(ctx context.Context, jobs []job, add AddFunc, p Progress) error {
	// The largest first: a big wheel that starts last is waited for alone.
	slices.SortStableFunc(jobs, func(a, b job) int { return cmp.Compare(b.pin.Size, a.pin.Size) })

	var kept tally
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(f.parallel)
	for _, j := range jobs {
		g.Go(func() error {
			if err := groupCtx.Err(); err != nil {
				return err
			}
			task := p.Start(j.pin)
			var refused error // by add, which names the wheel itself
			adding := func(ctx context.Context, pin lock.Pin, r io.ReaderAt, size int64, progress func(int64)) error {
				refused = add(ctx, pin, r, size, progress)
				return refused
			}
			err := f.fetch(groupCtx, j, adding, task, &kept)
			if err != nil && refused == nil {
				err = fmt.Errorf("%s: %w", label(j.pin), err)
			}
			task.Done(err)
			return err
		})
	}
	err := g.Wait()
	if err != nil && ctx.Err() != nil {
		return kept.interrupted(context.Cause(ctx))
	}
	return err
}

// A job is a pin and where its wheel is: a file or a URL.
type job struct {
	pin  lock.Pin
	path string
	url  *url.URL
}

// plan finds what there is to do, and refuses what can't be done before
// anything is.
func (f *Fetcher) plan(pins []lock.Pin, have func(lock.Pin) bool) ([]job, error) {
	var jobs []job
	var lacking []lock.Pin
	for _, pin := range pins {
		if have(pin) {
			continue
		}
		j, err := locate(pin)
		if f.offline && j.path == "" {
			lacking = append(lacking, pin)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", label(pin), err)
		}
		jobs = append(jobs, j)
	}
	if lacking != nil {
		return nil, &LackingError{Pins: lacking}
	}
	return jobs, nil
}

func locate(pin lock.Pin) (job, error) {
	j := job{pin: pin}
	if pin.Path != "" && (pin.URL == "" || exists(pin.Path)) {
		j.path = pin.Path
		return j, nil
	}
	if pin.URL == "" {
		if pin.Index == "" {
			return j, errors.New("the lock file says neither a URL nor a path for it")
		}
		return j, fmt.Errorf("the lock file names only the index %q, and sitefs does not ask indexes yet; write the lock file with the URLs of the files (uv export --format pylock.toml does)", redact(pin.Index))
	}
	u, err := url.Parse(pin.URL)
	if err != nil {
		// url.Parse repeats the URL, and with it the password.
		return j, errors.New("its URL in the lock file is not a URL")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return j, fmt.Errorf("the URL %q has no host", redactURL(u))
		}
		j.url = u
	case "file":
		if u.Host != "" && !strings.EqualFold(u.Host, "localhost") {
			return j, fmt.Errorf("the URL %q names a file of the host %q; only files of this machine can be opened", redactURL(u), u.Host)
		}
		j.path = filepath.FromSlash(u.Path)
	default:
		return j, fmt.Errorf("the URL %q has the scheme %q; http, https and file can be fetched", redactURL(u), u.Scheme)
	}
	return j, nil
}

// exists is for the pin that gives a URL as well: only a path that certainly
// is not there gives way to it.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (f *Fetcher) fetch(ctx context.Context, j job, add AddFunc, task Task, kept *tally) error {
	if j.path != "" {
		return f.open(ctx, j, add, task)
	}
	return f.download(ctx, j, add, task, kept)
}

func (f *Fetcher) open(ctx context.Context, j job, add AddFunc, task Task) error {
	file, err := os.Open(j.path)
	if err != nil {
		return fmt.Errorf("the file that was locked can't be read: %w; put it there, or lock again", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a regular file", j.path)
	}
	if want := j.pin.Size; want != 0 && info.Size() != want {
		return fmt.Errorf("%q has %d bytes, the lock file says %d: it is another file, or was cut short", j.path, info.Size(), want)
	}
	task.Phase(Store, 0, 0)
	return add(ctx, j.pin, file, info.Size(), task.Add)
}

// A LackingError is Fetch's answer offline: the wheels that are neither
// present nor local files.
type LackingError struct {
	Pins []lock.Pin
}

func (e *LackingError) Is(target error) bool { return target == ErrOffline }

func (e *LackingError) Error() string {
	var b strings.Builder
	if len(e.Pins) == 1 {
		b.WriteString("offline, and a wheel is not in the store:\n")
	} else {
		fmt.Fprintf(&b, "offline, and %d wheels are not in the store:\n", len(e.Pins))
	}
	for _, p := range e.Pins {
		fmt.Fprintf(&b, "  %s %s", p.Name, p.Version)
		if p.Filename != "" {
			fmt.Fprintf(&b, " (%s)", p.Filename)
		}
		b.WriteByte('\n')
	}
	b.WriteString("run it once without --offline, or put the files into the store with sitefs add")
	return b.String()
}

// tally counts the partial downloads that an interruption leaves.
type tally struct {
	files, bytes atomic.Int64
}

func (t *tally) add(n int64) {
	t.files.Add(1)
	t.bytes.Add(n)
}

func (t *tally) interrupted(cause error) error {
	switch n := t.files.Load(); n {
	case 0:
		return fmt.Errorf("interrupted: %w", cause)
	case 1:
		return fmt.Errorf("interrupted; %d bytes of a download are kept and the next run goes on from there: %w", t.bytes.Load(), cause)
	default:
		return fmt.Errorf("interrupted; %d bytes of %d downloads are kept and the next run goes on from there: %w", t.bytes.Load(), n, cause)
	}
}

func jobPins(jobs []job) []lock.Pin {
	pins := make([]lock.Pin, len(jobs))
	for i, j := range jobs {
		pins[i] = j.pin
	}
	return pins
}

// label is how a pin is called in messages.
func label(p lock.Pin) string {
	if p.Filename != "" {
		return p.Filename
	}
	return p.Name + " " + p.Version
}
