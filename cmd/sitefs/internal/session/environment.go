package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sitefs/sitefs/manifest"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/lock"
	"github.com/sitefs/sitefs/manifest/pyver"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/bytecode"
	"github.com/sitefs/sitefs/store/resolve"
)

// ErrCollision is wrapped when distributions collide and the request is strict.
var ErrCollision = errors.New("distributions collide")

// An Environment is a tree of the store and where it came from.
type Environment struct {
	Tree   digest.Digest
	Name   string           // for people: the project's folder, or the first requirement
	Source string           // what it was made from, as a user would type it
	Python string           // path of the interpreter it is for
	File   string           // of that interpreter, see fileOf
	Code   bytecode.Version // what that interpreter compiles to

	identity string
}

// proof is what a known entry notes besides the tree: what must still hold for
// the entry to count, and can be checked only once the entry is read.
type proof struct {
	Found      string // the interpreter, as it was found
	Key        string // its interp.Key
	Executable string // the base interpreter that it led to
	File       string `json:",omitempty"` // of the base interpreter, see fileOf
	Code       bytecode.Version

	// Of an environment that a resolver was asked for: its configuration, and
	// when its answer is too old, in Unix seconds.
	Resolver string `json:",omitempty"`
	Until    int64  `json:",omitempty"`
}

// Environment returns the environment that the request names, making in the
// store what is missing there.
func (s *Session) Environment(ctx context.Context, req Request) (*Environment, error) {
	finder, err := s.finder()
	if err != nil {
		return nil, err
	}
	in, err := s.read(req, finder)
	if err != nil {
		return nil, err
	}
	env := &Environment{Name: in.name, Source: in.source(), identity: in.identity}
	if entry, ok := s.Store.Known(in.key); ok && !s.Refresh {
		var p proof
		if json.Unmarshal([]byte(entry.Note), &p) == nil {
			if s.holds(ctx, finder, p) {
				env.Tree, env.Python, env.File, env.Code = entry.Tree, p.Executable, fileOf(p.Executable), p.Code
				return env, nil
			}
			if text, _ := fate(p.Executable, p.File); p.Executable != "" && text != "" {
				s.Warn(text + "; the environment is made anew, and what runs in the old one should be started anew")
			}
		}
	}
	p, err := s.make(ctx, finder, in, env)
	if err != nil {
		return nil, err
	}
	note, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return env, s.Store.PutKnown(in.key, store.KnownEntry{Tree: env.Tree, Added: time.Now(), Note: string(note)})
}

// holds reports whether what an entry was proved with is still so.
func (s *Session) holds(ctx context.Context, finder *interp.Finder, p proof) bool {
	key, err := finder.Key(ctx, p.Found)
	if err != nil || key != p.Key || p.Code.Magic == "" { // not noted yet, before sitefs kept bytecode
		return false
	}
	if p.Resolver == "" {
		return true
	}
	if !s.Offline && time.Now().Unix() >= p.Until {
		return false
	}
	config, err := s.resolverConfig(&interp.Python{Key: key, Executable: p.Executable})
	return err == nil && config == p.Resolver
}

// resolverConfig names the resolvers that there are and how they are configured.
func (s *Session) resolverConfig(py *interp.Python) (string, error) {
	return s.resolver().Key(resolve.Request{Python: py, Dir: s.Dir})
}

// make does what a known entry saves: it finds the interpreter, chooses the
// wheels, fetches those that are missing and compiles the tree.
func (s *Session) make(ctx context.Context, finder *interp.Finder, in *inputs, env *Environment) (proof, error) {
	locks, requires, err := in.parse()
	if err != nil {
		return proof{}, err
	}
	py, err := finder.Find(ctx, interp.Request{Python: in.request.Python, Requires: requires, Dir: in.dir})
	if err != nil {
		return proof{}, err
	}
	s.Note(fmt.Sprintf("python: %s, from %s", py, py.Source))
	env.Python, env.File, env.Code = py.Executable, fileOf(py.Executable), codeOf(py)
	p := proof{Found: py.Found, Key: py.Key, Executable: py.Executable, File: env.File, Code: env.Code}
	pins, err := s.locked(locks, py, in)
	if err != nil {
		return proof{}, err
	}
	if len(in.withs) > 0 {
		answer, err := s.resolve(ctx, in, pins, py)
		if err != nil {
			return proof{}, err
		}
		if pins, err = mergePins(pins, answer.Pins, "--with"); err != nil {
			return proof{}, err
		}
		p.Until = answer.Asked.Add(resolve.MaxAge).Unix()
		if p.Resolver, err = s.resolverConfig(py); err != nil {
			return proof{}, err
		}
	}
	if in.request.Seed {
		if pins, err = s.seed(ctx, finder, py, pins); err != nil {
			return proof{}, err
		}
	}
	wheels, err := s.wheels(ctx, pins, in.request.Leniency)
	if err != nil {
		return proof{}, err
	}
	env.Tree, err = s.compile(in, wheels, py)
	return p, err
}

// parse reads the lock files, and returns what they require of a Python.
func (in *inputs) parse() (locks []*lock.Pylock, requires pyver.SpecifierSet, err error) {
	var all []string
	for _, f := range in.locks {
		l, err := lock.Read(f.Path, f.Data)
		if err != nil {
			return nil, requires, err
		}
		locks = append(locks, l)
		if r := l.RequiresPython.String(); r != "" {
			all = append(all, r)
		}
	}
	requires, err = pyver.ParseSpecifiers(strings.Join(all, ","))
	return locks, requires, err
}

// locked returns the pins of the lock files.
func (s *Session) locked(locks []*lock.Pylock, py *interp.Python, in *inputs) ([]lock.Pin, error) {
	var pins []lock.Pin
	for i, l := range locks {
		path := in.locks[i].Path
		for _, w := range l.Warnings {
			s.Warn(path + ": " + w)
		}
		chosen, err := l.Select(py, in.request.Select)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if pins, err = mergePins(pins, chosen, path); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// mergePins adds pins of another source. Equal pins are one, the first: another
// source may name another wheel of the version. Pins of another version, or of
// another file of the same name, are an error.
func mergePins(pins, more []lock.Pin, source string) ([]lock.Pin, error) {
	byName := make(map[string]int, len(pins))
	for i, p := range pins {
		byName[p.Name] = i
	}
	for _, p := range more {
		i, twice := byName[p.Name]
		if !twice {
			pins = append(pins, p)
			continue
		}
		if old := pins[i]; old.Version != p.Version {
			return nil, fmt.Errorf("%s wants %s, but %s is what the lock files before it want: an environment holds one version of a package", source, p, old)
		}
		if old := pins[i]; old.Filename == p.Filename && !agree(old.Hashes, p.Hashes) {
			return nil, fmt.Errorf("%s has other hashes for %s than the lock files before it: one of them was made of another file, lock again", source, p.Filename)
		}
		pins[i].Requested = pins[i].Requested || p.Requested
	}
	return pins, nil
}

// agree reports whether two files may be one: no algorithm gives them two hashes.
func agree(a, b map[string]string) bool {
	for algorithm, sum := range a {
		if other, ok := b[algorithm]; ok && other != sum {
			return false
		}
	}
	return true
}

// resolve asks for the requirements, with the locked pins as constraints.
func (s *Session) resolve(ctx context.Context, in *inputs, pins []lock.Pin, py *interp.Python) (*resolve.Answer, error) {
	withs, err := s.listed(in, py)
	if err != nil {
		return nil, err
	}
	var constraints []string
	for _, p := range pins {
		constraints = append(constraints, p.Name+"=="+p.Version)
	}
	answer, err := s.resolver().With(ctx, resolve.Request{
		Withs:       withs,
		Constraints: constraints,
		Python:      py,
		Dir:         s.Dir,
		Offline:     s.Offline,
		Refresh:     s.Refresh,
	})
	if err != nil {
		return nil, err
	}
	for _, n := range answer.Notes {
		s.Warn(n)
	}
	return answer, nil
}

// listed returns what --with asks for, with a wheel for each package of a folder.
func (s *Session) listed(in *inputs, py *interp.Python) ([]lock.With, error) {
	var withs []lock.With
	for _, w := range in.withs {
		if w.Dir == "" {
			withs = append(withs, w)
			continue
		}
		names := make([]string, len(in.folders[w.Dir]))
		for i, f := range in.folders[w.Dir] {
			names[i] = f.Name
		}
		chosen, notes, err := lock.ChooseWheels(names, py)
		if err != nil {
			return nil, fmt.Errorf("--with %q: %w", w.Dir, err)
		}
		for _, n := range notes {
			s.Note(n)
		}
		for _, name := range chosen {
			wheel, err := lock.ParseWith(filepath.Join(w.Dir, name), s.Dir)
			if err != nil {
				return nil, err
			}
			withs = append(withs, wheel)
		}
	}
	return withs, nil
}

// compile puts the tree of the wheels into the store.
func (s *Session) compile(in *inputs, wheels []manifest.Wheel, py *interp.Python) (digest.Digest, error) {
	m := &manifest.Manifest{
		Python:             manifest.PythonOf(py),
		Wheels:             wheels,
		Prompt:             in.name,
		SystemSitePackages: in.request.SystemSitePackages,
		Relocatable:        in.request.Relocatable,
	}
	result, err := manifest.Compile(m, py, s.Store, time.Now())
	if err != nil {
		return digest.Digest{}, err
	}
	for _, d := range result.Diagnostics {
		if in.request.Strict {
			return digest.Digest{}, fmt.Errorf("%w: %s; leave out --strict to have it so", ErrCollision, d)
		}
		s.Warn(d.String())
	}
	return s.Store.PutTree(result.Tree)
}
