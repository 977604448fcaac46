package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sitefs/sitefs/fusefs/mount"
	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/interp"
	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
	"github.com/sitefs/sitefs/store"
	"github.com/sitefs/sitefs/store/bytecode"
)

// codeOf returns what an interpreter compiles to.
func codeOf(py *interp.Python) bytecode.Version {
	return bytecode.Version{Tag: py.CacheTag, Magic: py.Magic}
}

// A Host is what the process that compiles for a mount is told, as the flags of
// a hidden verb.
type Host struct {
	Store  string
	Tree   string
	Python string // the interpreter that compiles
	Code   bytecode.Version
}

// HostVerb is the name of the verb that a compiler host runs as.
const HostVerb = "bytecode-host"

// Compilers of a mount are niced a little: what they compile ahead of need must
// not take the processor from the program that imports.
const (
	hostNice = 5
	hostIdle = 10 * time.Second
)

// flags returns the flags of the verb.
func (h Host) flags() []string {
	return []string{
		"--store", h.Store,
		"--tree", h.Tree,
		"--python", h.Python,
		"--cache-tag", h.Code.Tag,
		"--magic", h.Code.Magic,
	}
}

// Serve compiles what the mount's server asks for, until the server ends or has
// asked for nothing for a while. It is called in the process that the server
// started.
func (h Host) Serve(ctx context.Context) error {
	conn := mount.CompanionConn()
	defer conn.Close()
	c, end, err := h.begin()
	if err != nil {
		return errors.Join(err, bytecode.Refuse(conn, err))
	}
	return errors.Join(bytecode.Serve(ctx, conn, c), end())
}

// begin returns what the host works with until end is called.
func (h Host) begin() (c bytecode.HostConfig, end func() error, err error) {
	st, err := store.Open(h.Store, store.Options{Existing: true})
	if err != nil {
		return c, nil, err
	}
	if c, err = h.config(st); err != nil {
		return c, nil, errors.Join(err, st.Close())
	}
	scratch, err := st.NewScratch()
	if err != nil {
		return c, nil, errors.Join(err, st.Close())
	}
	c.Scratch = scratch.Path()
	return c, func() error { return errors.Join(scratch.Close(), st.Close()) }, nil
}

// config returns all but the folder to write in.
func (h Host) config(st *store.Store) (c bytecode.HostConfig, err error) {
	d, err := digest.Parse(h.Tree)
	if err != nil {
		return c, err
	}
	t, err := st.OpenTree(d, "/") // sources name no prefix
	if err != nil {
		return c, err
	}
	site, err := sitePackages(t)
	if err != nil {
		return c, err
	}
	cache, err := openBytecode(st, h.Code)
	if err != nil {
		return c, err
	}
	return bytecode.HostConfig{
		Cache:     cache,
		Tree:      t,
		Site:      site,
		Python:    h.Python,
		Compilers: runtime.NumCPU(),
		Nice:      hostNice,
		Idle:      hostIdle,
		Log:       log.Default(),
	}, nil
}

func openBytecode(st *store.Store, v bytecode.Version) (*bytecode.Cache, error) {
	return bytecode.Open(st.Bytecode(), v, st)
}

// client returns what the view asks for bytecode. Conn leads to the process that
// compiles, and is not asked where the store can't be written to. What the status
// counts is in area.
func (h Host) client(st *store.Store, conn *os.File, area []byte) (*bytecode.Client, error) {
	cache, err := openBytecode(st, h.Code)
	if err != nil {
		return nil, err
	}
	if err := st.Writable(); err != nil {
		return bytecode.NewClient(cache, nil, err.Error(), area), nil
	}
	return bytecode.NewClient(cache, conn, "", area), nil
}

// CompileProgress is told how far a compilation is.
type CompileProgress interface {
	// BeginCompile is called once, and not at all where nothing is to be done.
	BeginCompile(sources int)
	Compiled(done int)
	EndCompile(s bytecode.Summary, err error)
}

// Compile compiles every source of the environment that isn't yet, so that no
// import waits for it. What is done stays done when ctx ends.
func (s *Session) Compile(ctx context.Context, env *Environment) error {
	t, err := s.Store.OpenTree(env.Tree, "/")
	if err != nil {
		return err
	}
	site, err := sitePackages(t)
	if err != nil {
		return err
	}
	sources, err := treeSources(t, site)
	if err != nil {
		return err
	}
	return s.compileSources(ctx, env.Python, env.Code, sources)
}

// treeSources returns what can be imported from site-packages.
func treeSources(t *tree.Tree, site string) ([]bytecode.Source, error) {
	var sources []bytecode.Source
	err := t.Walk(func(name string, _ tree.ID, a tree.Attr) error {
		if name, ok := strings.CutPrefix(name, site+"/"); ok && a.Kind == tree.File && isSource(name) {
			sources = append(sources, bytecode.Source{Path: name, Digest: a.Digest, Size: a.Size, Mtime: a.Mtime})
		}
		return nil
	})
	return sources, err
}

func isSource(name string) bool { return path.Ext(name) == ".py" }

// CompileWheels is [Session.Compile] for wheels that need not be in any
// environment yet, for the interpreter that python names.
func (s *Session) CompileWheels(ctx context.Context, python string, wheels []digest.Digest) error {
	finder, err := s.finder()
	if err != nil {
		return err
	}
	py, err := finder.Find(ctx, interp.Request{Python: python, Dir: s.Dir})
	if err != nil {
		return err
	}
	var sources []bytecode.Source
	for _, d := range wheels {
		info, err := s.Store.Info(d)
		if err != nil {
			return err
		}
		sources = append(sources, wheelSources(info)...)
	}
	return s.compileSources(ctx, py.Executable, codeOf(py), sources)
}

func wheelSources(info *wheel.Info) []bytecode.Source {
	var sources []bytecode.Source
	for _, f := range info.Files {
		if (f.Scheme == wheel.Purelib || f.Scheme == wheel.Platlib) && isSource(f.Path) {
			sources = append(sources, bytecode.Source{Path: f.Path, Digest: f.Digest, Size: f.Size, Mtime: tree.SourceTime(f.Digest)})
		}
	}
	return sources
}

// compileNice leaves the machine to whoever works at it: 19 is the most.
const compileNice = 19

func (s *Session) compileSources(ctx context.Context, python string, v bytecode.Version, sources []bytecode.Source) (err error) {
	level := optimization(os.Getenv("PYTHONOPTIMIZE"))
	cache, err := openBytecode(s.Store, v)
	if err != nil {
		return err
	}
	missing := cache.Missing(sources, level)
	if len(missing) == 0 {
		return nil
	}
	scratch, err := s.Store.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	s.Progress.BeginCompile(len(missing))
	summary, err := bytecode.CompileAll(ctx, bytecode.AllConfig{
		Cache:     cache,
		Scratch:   scratch.Path(),
		Python:    python,
		Compilers: runtime.NumCPU(),
		Nice:      compileNice,
		Optimize:  level,
	}, missing, s.Progress.Compiled)
	slices.SortFunc(summary.Failures, func(a, b bytecode.Failure) int { return strings.Compare(a.Path, b.Path) })
	s.Progress.EndCompile(summary, err)
	for _, f := range summary.Failures {
		s.Note(fmt.Sprintf("not compiled: %s: %s", f.Path, f.Reason))
	}
	return err
}

// optimization returns the level at which Python will run with that value of
// PYTHONOPTIMIZE: as for Python, any text that is no number means 1. Of levels
// above 2, which compile alike, no mount has .pyc files.
func optimization(value string) int {
	if value == "" {
		return 0
	}
	level, err := strconv.Atoi(value)
	if err != nil || level < 0 {
		return 1
	}
	return min(level, 2)
}

// bytecodeStatus is what a mount's status tells of its compiled files.
func bytecodeStatus(c *bytecode.Client) json.RawMessage {
	b, err := json.Marshal(c.Status())
	if err != nil {
		log.Printf("the status of bytecode: %v", err)
	}
	return b
}
