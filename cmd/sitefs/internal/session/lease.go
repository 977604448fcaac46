package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/fusefs/upper"
	"github.com/sitefs/sitefs/fusefs/view"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/confine"
)

// Layouts that a mount may have.
const (
	LayoutVenv         = "venv"
	LayoutSitePackages = "site-packages"
)

// A Lease is a place to run in, for as long as this process or one that
// inherits its descriptors lives.
type Lease struct {
	Prefix string // of the environment
	Prompt string

	held *os.File // the lease itself, which survives exec; nil for what no server holds

	// inside is the command that becomes the one that it is followed by, where the
	// environment can be seen only in there; nil where it can be seen from here.
	inside []string
}

// EnterOptions say how an environment is entered.
type EnterOptions struct {
	Keep time.Duration // how long the mount stays warm

	// Overlay is the directory that changes go to. With Scratch there is one that goes
	// with the command. Without either the environment is read-only.
	Overlay string
	Scratch bool

	// Rebase puts the changes over the environment also if they were made over another one.
	Rebase bool
}

// mount returns what is mounted for who enters so, in the place of its own for
// the environment.
func (o EnterOptions) mount(env *Environment) (m MountOptions, first string, err error) {
	m = MountOptions{Layout: LayoutVenv, Overlay: o.Overlay, Rebase: o.Rebase, scratch: o.Scratch}
	identity := env.identity
	switch {
	case o.Scratch:
		identity += "\x00scratch"
		m.Overlay, err = newScratch()
	case o.Overlay != "":
		identity += "\x00overlay\x00" + o.Overlay
	}
	if err == nil {
		first, err = place(env.Name, identity)
	}
	return m, first, err
}

// Enter returns a lease on the environment, by the best way that this machine
// allows, or by the one that the user has named.
func (s *Session) Enter(ctx context.Context, env *Environment, o EnterOptions) (*Lease, error) {
	rung, err := forcedRung()
	if err != nil {
		return nil, err
	}
	if err := SweepScratches(ctx); err != nil {
		s.Warn(fmt.Sprintf("what is left of overlays for one run can't be removed: %v", err))
	}
	if o.Overlay != "" {
		if o.Overlay, err = s.resolved(o.Overlay); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrOverlay, err)
		}
	}
	switch rung {
	case rungNamespace:
		return s.enterNamespace(ctx, env, o)
	case rungCopy:
		if o.Scratch || o.Overlay != "" {
			return nil, fmt.Errorf("%w: %s is %q", errNeedsMount, rungVar, rung)
		}
		return s.enterCopy(ctx, env)
	}
	lease, err := s.enterMount(ctx, env, o)
	if rung == "" && errors.Is(err, mount.ErrNoFUSE) {
		return s.descend(ctx, env, o, err)
	}
	return lease, err
}

// enterMount returns a lease on the environment's own mount, which is mounted if
// it isn't yet. While another tree is in use there, the environment is mounted
// beside it.
func (s *Session) enterMount(ctx context.Context, env *Environment, o EnterOptions) (*Lease, error) {
	m, first, err := o.mount(env)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		dir := sibling(first, n)
		want, undo, err := s.want(ctx, env, dir, m, o.Keep)
		if err != nil {
			return nil, err
		}
		dead := isDead(dir)
		held, err := mount.Lease(ctx, want)
		if errors.Is(err, mount.ErrInUse) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		if dead {
			s.revived(dir)
		}
		s.Note(fmt.Sprintf("mounted on %s: tree %s", dir, env.Tree))
		return &Lease{Prefix: dir, Prompt: env.Name, held: held}, nil
	}
}

// Server is what a mount's supervisor is told, as the flags of a hidden verb: who
// looks at the process list sees what is mounted where.
type Server struct {
	Worker     // serves the mount
	Dir        string
	Keep       time.Duration
	Rung       string // see mount.Config
	AllowOther bool   // see mount.Config
	PythonFile string // of the interpreter, see fileOf
	Info       string // JSON, see Info

	Scratch bool   // the overlay is made for the mount, and goes with it
	Stands  string // tells the directory of another overlay from another one in its place
}

// ServerVerb is the name of the verb that a mount's supervisor runs as.
const ServerVerb = "mount-server"

// A Worker is what the process that serves a mount is told, in the same way.
type Worker struct {
	Host     // compiles for the mount
	Prefix   string
	Layout   string
	UID, GID uint32 // the files' owner

	Overlay string // the directory that changes go to; "" is a read-only mount
	Rebase  bool   // takes an overlay that was made over another tree
}

// WorkerVerb is the name of the verb that a mount's worker runs as.
const WorkerVerb = "mount-worker"

// Info is what a mount's status tells beyond what the mount knows.
type Info struct {
	Name   string `json:"name"`
	Source string `json:"source"`
	Python string `json:"python"`
	Tree   string `json:"tree"`
	Store  string `json:"store"`

	Overlay string `json:"overlay,omitempty"` // the directory that changes go to
	Scratch bool   `json:"scratch,omitempty"` // it goes with the mount

	PythonFile    string `json:"python_file,omitempty"`    // the interpreter's when it was mounted
	PythonProblem string `json:"python_problem,omitempty"` // what is wrong with it now; see [Examine]
}

// want returns the mount of env on dir, and what takes back that an overlay's
// directory was made for it.
func (s *Session) want(ctx context.Context, env *Environment, dir string, o MountOptions, keep time.Duration) (w mount.Want, undo func() error, err error) {
	if o.Prefix == "" {
		o.Prefix = dir
	}
	if err := checkPrefix(o.Prefix); err != nil {
		return w, nil, err
	}
	var u upperDir
	switch {
	case o.scratch:
		u.path = o.Overlay
	case o.Overlay != "":
		if env, err = s.committed(ctx, env, s.absolute(o.Overlay)); err != nil {
			return w, nil, err
		}
		if u, err = s.openUpper(ctx, env, dir, &o); err != nil {
			return w, nil, err
		}
	}
	server, err := s.server(env, dir, u, o, keep)
	if err != nil {
		return w, nil, errors.Join(err, u.undo())
	}
	w, err = server.want()
	if err != nil {
		return w, nil, errors.Join(err, u.undo())
	}
	return w, u.undo, nil
}

// server returns what the server of env on dir is told.
func (s *Session) server(env *Environment, dir string, u upperDir, o MountOptions, keep time.Duration) (v Server, err error) {
	info, err := json.Marshal(Info{
		Name: env.Name, Source: env.Source, Python: env.Python, Tree: env.Tree.String(), Store: s.Store.Dir(),
		Overlay: u.path, Scratch: o.scratch,
		PythonFile: env.File,
	})
	if err != nil {
		return v, err
	}
	rung := o.rung
	if rung == "" {
		if rung, err = mountRung(); err != nil {
			return v, err
		}
	}
	v = Server{
		Worker: Worker{
			Host:    Host{Store: s.Store.Dir(), Tree: env.Tree.String(), Python: env.Python, Code: env.Code},
			Prefix:  o.Prefix,
			Layout:  o.Layout,
			UID:     uint32(os.Getuid()),
			GID:     uint32(os.Getgid()),
			Overlay: u.path,
			Rebase:  o.Rebase,
		},
		Dir:        dir,
		Keep:       keep,
		Rung:       rung,
		AllowOther: o.AllowOther,
		PythonFile: env.File,
		Info:       string(info),
		Scratch:    o.scratch,
		Stands:     u.stands,
	}
	if o.Owner != nil {
		v.UID, v.GID = o.Owner.UID, o.Owner.GID
	}
	return v, nil
}

// want returns the mount that v serves.
func (v Server) want() (mount.Want, error) {
	exe, err := os.Executable()
	if err != nil {
		return mount.Want{}, fmt.Errorf("find the program to serve with: %w", err)
	}
	return mount.Want{
		Dir:    v.Dir,
		Tree:   v.name(),
		Keep:   v.Keep,
		Rung:   v.Rung,
		Server: append([]string{exe, ServerVerb}, v.arguments()...),
	}, nil
}

// flags returns the flags of the verb.
func (w Worker) flags() []string {
	flags := append(w.Host.flags(),
		"--layout", w.Layout,
		"--prefix", w.Prefix,
		"--uid", strconv.Itoa(int(w.UID)),
		"--gid", strconv.Itoa(int(w.GID)),
	)
	if w.Overlay != "" {
		flags = append(flags, "--overlay", w.Overlay, "--rebase="+strconv.FormatBool(w.Rebase))
	}
	return flags
}

// arguments returns the flags of the verb and its argument.
func (v Server) arguments() []string {
	args := append(v.Worker.flags(), "--keep", v.Keep.String(), "--rung", v.Rung, "--python-file", v.PythonFile, "--info", v.Info)
	if v.AllowOther {
		args = append(args, "--allow-other")
	}
	if v.Overlay != "" {
		args = append(args, "--scratch="+strconv.FormatBool(v.Scratch), "--stands", v.Stands)
	}
	return append(args, v.Dir)
}

// checkPrefix refuses paths that no activate script and no shebang can hold.
func checkPrefix(prefix string) error {
	if strings.ContainsAny(prefix, "\n\x00"+string(filepath.ListSeparator)) || !utf8.ValidString(prefix) {
		return fmt.Errorf("%w: %q can't be on PATH, because of a %q, a line end or bytes that are not UTF-8 in it: choose another directory", mount.ErrMountPoint, prefix, filepath.ListSeparator)
	}
	return nil
}

// name names what is mounted: not the tree alone, since its scripts show the
// prefix, and who asks for a way to mount or for other users doesn't want a mount
// made otherwise. Where the interpreter was replaced, what runs on the old one has
// a mount of its own: what it has loaded may not go with the new one's library.
func (v Server) name() string {
	name := v.Tree + " " + v.Layout + " " + v.Prefix
	if v.Rung != "" {
		name += " by " + v.Rung
	}
	if v.AllowOther {
		name += " for all"
	}
	if v.UID != uint32(os.Getuid()) || v.GID != uint32(os.Getgid()) {
		name += fmt.Sprintf(" of %d:%d", v.UID, v.GID)
	}
	if v.PythonFile != "" {
		name += " on " + v.PythonFile
	}
	if v.Overlay != "" {
		name += " with " + v.Overlay + " " + v.Stands
	}
	return name
}

// Serve keeps the tree mounted until the mount goes. It is called in the process
// that mount.Lease or mount.Hold started.
func (v Server) Serve(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return mount.Fail(fmt.Errorf("find the program to serve with: %w", err))
	}
	err = mount.Serve(ctx, mount.Config{
		Dir:        v.Dir,
		Tree:       v.name(),
		Worker:     append([]string{exe, WorkerVerb}, v.Worker.flags()...),
		Companion:  append([]string{exe, HostVerb}, v.Host.flags()...),
		Keep:       v.Keep,
		Rung:       v.Rung,
		AllowOther: v.AllowOther,
		RemoveDir:  filepath.Base(filepath.Dir(v.Dir)) == envFolder,
		Avoid:      v.avoid(),
		Info:       json.RawMessage(v.Info),
		Writable:   v.Overlay != "",
		Files:      v.lock,
	})
	if v.Scratch { // of a mount that another process has by now it stays
		_, rerr := removeScratch(v.Overlay)
		err = errors.Join(err, rerr)
	}
	return err
}

func (v Server) avoid() []string {
	if v.Overlay == "" {
		return []string{v.Store}
	}
	return []string{v.Store, v.Overlay}
}

// lock returns what keeps others from mounting the overlay.
func (v Server) lock() ([]*os.File, error) {
	if v.Overlay == "" {
		return nil, nil
	}
	take := upper.Lock
	if v.Scratch {
		take = makeScratch
	}
	f, err := take(v.Overlay)
	if err != nil {
		return nil, err
	}
	return []*os.File{f}, nil
}

// Serve answers the kernel until the mount goes or another worker takes over. It
// is called in the process that the mount's supervisor started.
//
// It is the first that such a process does: it confines itself by starting anew.
func (v Worker) Serve(ctx context.Context) error {
	confined, err := confine.Self(v.rules())
	if err != nil {
		log.Print(err) // status says that nothing holds
	}
	var lease *store.Lease
	err = mount.Work(ctx, confined, func(s mount.Session) (w mount.Worker, err error) {
		w, lease, err = v.open(s)
		return w, err
	})
	if lease != nil {
		err = errors.Join(err, lease.Close())
	}
	return err
}

// open returns what is served, and the lease that keeps it in the store.
func (v Worker) open(s mount.Session) (w mount.Worker, lease *store.Lease, err error) {
	st, err := store.Open(v.Store, store.Options{Existing: true})
	if err != nil {
		return w, nil, err
	}
	d, err := digest.Parse(v.Tree)
	if err != nil {
		return w, nil, err
	}
	if lease, err = st.Lease(d); err != nil {
		return w, nil, err
	}
	code, err := v.client(st, s.Conn, s.Area)
	if err != nil {
		return w, nil, errors.Join(err, lease.Close())
	}
	t, err := st.OpenTree(d, v.Prefix)
	if err != nil {
		return w, nil, errors.Join(err, lease.Close())
	}
	lower, err := v.view(t, st, code)
	if err != nil {
		return w, nil, errors.Join(err, lease.Close())
	}
	w = mount.Worker{
		FS:        lower,
		Report:    func() json.RawMessage { return bytecodeStatus(code) },
		LastError: lower.LastError,
		Lost:      st.Displaced,
		Idle:      st.Release,
		Describe:  lower.Path,
	}
	if v.Overlay == "" {
		return w, lease, nil
	}
	fs, err := v.overlay(t, lower, s)
	if err != nil {
		return w, nil, errors.Join(err, lease.Close())
	}
	w.FS, w.LastError, w.Describe = fs, fs.LastError, fs.Path
	return w, lease, nil
}

func (v Worker) view(t *tree.Tree, st *store.Store, code view.Bytecode) (*view.FS, error) {
	o := view.Options{UID: v.UID, GID: v.GID, Bytecode: code}
	if v.Layout == LayoutSitePackages {
		var err error
		if o.Dir, err = sitePackages(t); err != nil {
			return nil, err
		}
	}
	return view.New(t, st, o)
}

// sitePackages returns the path of the site-packages directory: the interpreter
// decides the name of the folder above it.
func sitePackages(t *tree.Tree) (string, error) {
	lib, _, err := t.Find("lib")
	if err != nil {
		return "", err
	}
	children, err := t.Children(lib)
	if err != nil {
		return "", err
	}
	for i := range children.Len() {
		name, id, _, err := children.At(i)
		if err != nil {
			return "", err
		}
		if _, a, err := t.Lookup(id, LayoutSitePackages); err == nil && a.Kind == tree.Dir {
			return "lib/" + string(name) + "/" + LayoutSitePackages, nil
		}
	}
	return "", fmt.Errorf("tree %s has no site-packages directory", t.Digest())
}
