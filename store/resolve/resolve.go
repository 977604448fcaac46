// Package resolve asks the resolver that the user has which wheels satisfy a
// list of requirements. sitefs resolves nothing itself.
//
// uv is asked where it is found, else pip, each with the user's own
// configuration and for wheels only. An answer is a pylock.toml; it is
// kept under everything that was asked (the requirements, the interpreter, the
// resolver's configuration) and given again for a day. Nothing is installed,
// built or written but that, and no password reaches a message.
package resolve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
)

// MaxAge is how long an answer is given again without asking. A day is what the
// design promises: long enough for a second run to be instant, short
// enough for a release with a fix to arrive.
const MaxAge = 24 * time.Hour

var (
	// ErrNoResolver is wrapped when neither uv nor pip can be asked.
	ErrNoResolver = errors.New("neither uv nor a usable pip was found")

	// ErrOffline is wrapped when the resolver may not be asked and hasn't been before.
	ErrOffline = errors.New("not resolved before, and --offline forbids asking")

	// ErrUnreachable is wrapped when the index that the resolver asks isn't there.
	ErrUnreachable = errors.New("index out of reach")
)

// A Request is what is to be resolved together.
type Request struct {
	// Withs are requirements and wheels; folders of wheels are to be listed
	// before ([lock.ChooseWheels]). Wheels are part of the answer, as direct
	// references, and so are their dependencies.
	Withs []lock.With

	// Constraints are requirements that hold where a package is needed, such as
	// the pins of a lock file beside them: numpy==2.0.1.
	Constraints []string

	Python *interp.Python
	Dir    string // absolute: the resolver runs here and finds its project's configuration

	NoDeps bool // what is asked for alone, without what that needs

	Offline bool // ask nobody; an answer of any age will do
	Refresh bool // ask even if there is an answer
}

// An Answer is what satisfies a request.
type Answer struct {
	Pylock []byte     // relative paths in it are relative to the request's Dir
	Pins   []lock.Pin // chosen from Pylock for the request's Python; their URLs may hold a password
	Asked  time.Time  // when a resolver gave the answer
	Notes  []string   // what the user should know: warnings, the age of an answer
}

// A Resolver asks and keeps answers.
type Resolver struct {
	Cache interp.Cache // may be nil
	Env   []string     // the environment of the resolvers, as os.Environ gives it
	Now   func() time.Time
}

// New returns a resolver for this process's environment that keeps its answers in c.
func New(c interp.Cache) *Resolver {
	return &Resolver{Cache: c, Env: os.Environ(), Now: time.Now}
}

// an entry is an answer as the cache keeps it.
type entry struct {
	Asked  time.Time `json:"asked"`
	Pylock string    `json:"pylock"`
}

// With answers req from the cache or by asking. Where asking fails and
// there is an older answer, that one is given with a note, unless req.Refresh
// insists.
func (r *Resolver) With(ctx context.Context, req Request) (*Answer, error) {
	a, err := r.with(ctx, req)
	if err != nil {
		return nil, err
	}
	r.authorize(a.Pins, req)
	return a, nil
}

func (r *Resolver) with(ctx context.Context, req Request) (*Answer, error) {
	key, err := r.Key(req)
	if err != nil {
		return nil, err
	}
	old := r.cached(key, req)
	switch {
	case old != nil && req.Offline:
		return old, nil
	case old == nil && req.Offline:
		return nil, fmt.Errorf("%s: %w: run once without --offline", req.names(), ErrOffline)
	case old != nil && !req.Refresh && r.Now().Sub(old.Asked).Abs() < MaxAge:
		return old, nil
	}
	fresh, err := r.ask(ctx, req)
	if err != nil && old != nil && !req.Refresh && ctx.Err() == nil {
		old.Notes = append(old.Notes, fmt.Sprintf("using the answer of %s, because asking again failed: %v", old.Asked.Format(time.DateTime), err))
		return old, nil
	}
	if err != nil {
		return nil, err
	}
	return fresh, r.keep(key, fresh)
}

// cached returns the answer that the cache has, nil if it has none that can be used.
func (r *Resolver) cached(key string, req Request) *Answer {
	if r.Cache == nil {
		return nil
	}
	data, ok := r.Cache.Get(key)
	if !ok {
		return nil
	}
	var e entry
	if json.Unmarshal(data, &e) != nil {
		return nil // written by another version, or damaged: as good as absent
	}
	a, err := req.answer([]byte(e.Pylock))
	if err != nil {
		return nil
	}
	a.Asked = e.Asked
	return a
}

func (r *Resolver) keep(key string, a *Answer) error {
	if r.Cache == nil {
		return nil
	}
	data, err := json.Marshal(entry{a.Asked, string(a.Pylock)})
	if err != nil {
		return err
	}
	if err := r.Cache.Put(key, data); err != nil {
		return fmt.Errorf("keep the resolver's answer: %w", err)
	}
	return nil
}

// A tool is a resolver that may be there.
type tool func(context.Context, Request) (pylock []byte, notes []string, err error)

// ask asks the first resolver that is there. One that is there and fails is
// the answer: another might choose otherwise.
func (r *Resolver) ask(ctx context.Context, req Request) (*Answer, error) {
	var missing []string
	for _, t := range r.tools() {
		pylock, notes, err := t(ctx, req)
		var absent *absentError
		if errors.As(err, &absent) {
			missing = append(missing, absent.Error())
			continue
		}
		if err != nil {
			return nil, err
		}
		a, err := req.answer(pylock)
		if err != nil {
			return nil, fmt.Errorf("the resolver's answer for %s can't be used: %w", req.names(), err)
		}
		a.Asked, a.Notes = r.Now(), append(a.Notes, notes...)
		return a, nil
	}
	return nil, fmt.Errorf("%s can't be resolved: %w (%s): install uv, or put pip into that Python with \"python -m ensurepip\"; a lock file or a wheel needs no resolver",
		req.names(), ErrNoResolver, strings.Join(missing, "; "))
}

func (r *Resolver) tools() []tool {
	var tools []tool
	for _, path := range r.executables("uv") {
		tools = append(tools, r.uv(path))
	}
	tools = append(tools, r.pipOfPython)
	for _, name := range []string{"pip", "pip3"} {
		for _, path := range r.executables(name) {
			tools = append(tools, r.pip(path))
		}
	}
	return tools
}

// answer reads a pylock.toml and selects from it.
func (q Request) answer(pylock []byte) (*Answer, error) {
	l, err := lock.ReadPylock(pylock, q.Dir)
	if err != nil {
		return nil, err
	}
	var requested []string
	for _, w := range q.Withs {
		requested = append(requested, w.Name)
	}
	pins, err := l.Select(q.Python, lock.Options{Requested: requested})
	if err != nil {
		return nil, err
	}
	return &Answer{Pylock: pylock, Pins: pins, Notes: l.Warnings}, nil
}

// requirements are the lines for a resolver.
func (q Request) requirements() []string {
	var lines []string
	for _, w := range q.Withs {
		if w.Wheel != "" {
			lines = append(lines, w.Reference())
		} else {
			lines = append(lines, w.Requirement)
		}
	}
	return lines
}

// names lists what is asked for, to the user.
func (q Request) names() string {
	var names []string
	for _, w := range q.Withs {
		name := w.Wheel
		if name == "" {
			name = lock.Redacted(w.Requirement)
		}
		names = append(names, fmt.Sprintf("%q", name))
	}
	return strings.Join(names, ", ")
}
