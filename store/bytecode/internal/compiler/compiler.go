// Package compiler runs one Python interpreter that turns sources into code.
//
// A source reaches the process by pipe and its code comes back by pipe. compile()
// runs no code of the source, but it is a parser in C that reads what a stranger
// wrote, so the process is confined as far as the kernel can: nothing read but the
// interpreter's own files, no network, no file written, no other process touched,
// memory and time bounded (see [Compiler.Confined]).
//
// What a source does to its compiler is told apart from what happens to the
// compiler: a [SourceError] is the source's own fault, would be the same the next
// time, and may be remembered; any other error says nothing about the source.
//
// The package writes no file and keeps none: names, headers and caches are its
// caller's.
package compiler

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sitefs/sitefs/store/confine"
)

// Bounds of one compiler.
const (
	// maxSource is the largest source that is compiled: more than any package is
	// known to have.
	maxSource = 64 << 20
	// maxReply is the largest code that is taken back. Of the files of the standard
	// library (3.12) none has more than 4 times its source, the average is 1.3.
	maxReply = 4 * maxSource
	// compileTime is the processor time that one source may take: 50 MB of numbers
	// in one list take 9 s (3.12).
	compileTime = 15 * time.Second
	// patience is what may pass on the clock meanwhile: the machine is busy with
	// other things, or was suspended.
	patience = 4 * compileTime
	// startTime is how long an interpreter may take to answer at first: some
	// 15 ms from a warm disk, and seconds over a network.
	startTime = 10 * time.Second
	// parting is how long an end that has begun may take: the process has closed
	// its pipe and is not gone yet, or is gone and a child of it has the pipe.
	parting = time.Second
	// addressSpace is what a compiler may map, in bytes, if the machine has twice as
	// much. A literal of 50 MB takes 460 MB if it is one string, and 5.3 GB (3.12,
	// 3.13) to 5.9 GB (3.8) if it is a list of numbers: no more than in a plain
	// Python, which also has to compile it.
	addressSpace = 6 << 30
	// leastAddressSpace is what a compiler may map on the smallest machine: 50 MB in
	// one string.
	leastAddressSpace = 512 << 20
	// grown is the peak of resident memory, in bytes, after which a compiler is not
	// used for another source: it would be taken for that one's.
	grown = 128 << 20
	// modest is the peak, in bytes, up to which a failure is not for want of memory.
	// The parser's own bound for nested expressions, which is a MemoryError too, is
	// met 20 MB above the start (3.8 to 3.13).
	modest = 192 << 20
)

// script is what the interpreter runs.
//
//go:embed compiler.py
var script string

// Config says which interpreter to run and what it must be.
type Config struct {
	Python string // absolute path of the base interpreter
	Tag    string // the sys.implementation.cache_tag it must have
	Magic  string // the importlib.util.MAGIC_NUMBER it must have, in hex: "cb0d0d0a"
	Nice   int    // added to this process's niceness
}

// A StartError says why an interpreter can't be used as a compiler: it is gone,
// does not start, does not answer, or is another Python.
type StartError struct {
	Python string
	Reason string
}

func (e *StartError) Error() string { return fmt.Sprintf("compiler %q: %s", e.Python, e.Reason) }

// A SourceError says why a source can't be compiled. It is the source's own
// fault: the same interpreter will say the same of it the next time.
type SourceError struct {
	Reason string
}

func (e *SourceError) Error() string { return e.Reason }

// ErrMemory is the error of a source that a compiler failed on when it had taken
// much memory: with more, on another machine, it might not have.
var ErrMemory = errors.New("it takes more memory than a compiler has on this machine")

var (
	errDead  = errors.New("the compiler has ended")
	errEnded = errors.New("it ended before it answered")
)

// A Compiler is one running interpreter. Sources are compiled one after the
// other; its methods may be called from any goroutine.
type Compiler struct {
	asking sync.Mutex // held while a source is with the process
	*process
	pid      int           // of the interpreter, which may be a child of the process: a wrapper
	time     time.Duration // processor time for one source
	patience time.Duration // time for one source
}

// Start runs the interpreter and waits until it has said what it is. Its errors
// are a [StartError], and ctx's.
func Start(ctx context.Context, c Config) (*Compiler, error) {
	return start(ctx, c, startTime)
}

func start(ctx context.Context, c Config, within time.Duration) (*Compiler, error) {
	rules := confine.Rules{Read: readable(c.Python), Search: true}
	compiler, err := startConfined(ctx, c, within, rules)
	if errors.Is(err, errEnded) || errors.Is(err, fs.ErrPermission) {
		// It may be a script, or have its library where nobody would think.
		rules.Read = nil
		compiler, err = startConfined(ctx, c, within, rules)
	}
	if err == nil {
		return compiler, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("start compiler %q: %w", c.Python, ctx.Err())
	}
	return nil, &StartError{c.Python, err.Error()}
}

func startConfined(ctx context.Context, c Config, within time.Duration, rules confine.Rules) (*Compiler, error) {
	p, err := startProcess(command(c.Python, script), rules)
	if err != nil {
		return nil, err
	}
	pid, err := p.meet(ctx, c, within)
	if err == nil {
		err = lower(pid, c.Nice)
	}
	if err != nil {
		p.Close() // its end adds nothing to err
		return nil, err
	}
	p.memory = memoryBound()
	p.held = append(p.held, limit(pid, p.memory)...)
	slices.Sort(p.held)
	return &Compiler{process: p, pid: pid, time: compileTime, patience: patience}, nil
}

// meet reads who the interpreter is and returns its process id.
func (p *process) meet(ctx context.Context, c Config, within time.Duration) (pid int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("it doesn't answer within %v", within))
	defer cancel()
	stop := context.AfterFunc(ctx, p.kill)
	_, hello, err := p.reply()
	if !stop() {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errEnded, p.death(err))
	}
	var tag, magic string
	if _, err := fmt.Sscanf(string(hello), "%s %s %d", &tag, &magic, &pid); err != nil {
		return 0, fmt.Errorf("it answers %q, not what it is", hello[:min(len(hello), 100)])
	}
	if tag != c.Tag || magic != c.Magic {
		return 0, fmt.Errorf("it is a Python with cache tag %q and magic number %q, the environment is for %q and %q: the interpreter was replaced",
			tag, magic, c.Tag, c.Magic)
	}
	// What is limited and measured must be it, or a child of it.
	if group, err := unix.Getpgid(pid); pid <= 0 || err != nil || group != p.cmd.Process.Pid {
		return 0, fmt.Errorf("it says that it is process %d, which is not in its group %d", pid, p.cmd.Process.Pid)
	}
	return pid, nil
}

// Compile returns the code of a source, marshalled, without a header: what
// importlib would write behind the header into the .pyc of that optimisation.
// The name becomes co_filename. The error is a [SourceError], or one that says
// nothing about the source, such as [ErrMemory]; then the compiler is dead, as it
// also is after a source that took much memory.
func (c *Compiler) Compile(ctx context.Context, source []byte, name string, optimisation int) ([]byte, error) {
	if len(source) > maxSource {
		return nil, &SourceError{fmt.Sprintf("%d bytes of source, at most %d are compiled", len(source), maxSource)}
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	if c.Dead() {
		return nil, errDead
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := c.watch(ctx)
	status, payload, err := c.ask(source, name, optimisation)
	cause := w.stop()
	switch {
	case cause != nil:
		<-c.ended
		return nil, cause
	case err != nil:
		return nil, c.death(err)
	}
	peak := peakMemory(c.pid)
	if status == exhausted || peak >= grown {
		c.kill()
		<-c.ended
	}
	if status == exhausted && wanting(peak, c.memory) {
		return nil, ErrMemory
	}
	if status != done {
		return nil, &SourceError{string(payload)}
	}
	return payload, nil
}

// ask sends one request and waits for its reply.
func (c *Compiler) ask(source []byte, name string, optimisation int) (status byte, payload []byte, err error) {
	if err := c.request(source, name, optimisation); err != nil {
		return 0, nil, err
	}
	return c.reply()
}

// A watch kills a compiler when a source takes too long, or nobody waits for it.
type watch struct {
	finish chan struct{}
	cause  chan error
}

func (c *Compiler) watch(ctx context.Context) *watch {
	w := &watch{make(chan struct{}), make(chan error, 1)}
	go func() {
		err := c.overdue(ctx, w.finish)
		if err != nil {
			c.kill()
		}
		w.cause <- err
	}()
	return w
}

// stop ends the watch and returns why it has killed the compiler, or nil.
func (w *watch) stop() error {
	close(w.finish)
	return <-w.cause
}

// overdue waits until finish is closed, and returns nil, or until the compiler
// must be killed, and returns why. Only processor time is held against a source:
// on a busy or a suspended machine the clock says nothing about it.
func (c *Compiler) overdue(ctx context.Context, finish <-chan struct{}) error {
	begin, before := time.Now(), processorTime(c.pid)
	timer := time.NewTimer(min(c.time, c.patience))
	defer timer.Stop()
	for {
		select {
		case <-finish:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		used, elapsed := processorTime(c.pid)-before, time.Since(begin)
		if used >= c.time {
			return &SourceError{fmt.Sprintf("compiling it takes more than %v", c.time)}
		}
		if elapsed >= c.patience {
			return fmt.Errorf("no answer within %v, in which the compiler ran for %v", c.patience, used)
		}
		// A clock that is coarse must not make this a busy loop.
		timer.Reset(max(min(c.time-used, c.patience-elapsed), time.Millisecond))
	}
}

// death waits for the end of a process that has broken off, and returns why it
// ended. err is what its pipe said.
func (p *process) death(err error) error {
	select {
	case <-p.ended:
	case <-time.After(parting):
		p.kill()
		<-p.ended
	}
	<-p.stderr.done
	if p.err != nil {
		return p.err
	}
	status, ok := p.state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && ownFault(status.Signal()) {
		return &SourceError{fmt.Sprintf("it kills the compiler: %v", status.Signal())}
	}
	if last := p.stderr.last(); last != "" {
		return fmt.Errorf("the compiler ended (%v): %s", p.state, last)
	}
	return fmt.Errorf("the compiler ended (%v): %w", p.state, err)
}

// ownFault reports whether a process brings a signal on itself. Others come from
// outside; SIGKILL, when memory is short on the machine, is one.
func ownFault(s syscall.Signal) bool {
	switch s {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGABRT, syscall.SIGILL, syscall.SIGFPE, syscall.SIGTRAP, syscall.SIGSYS:
		return true
	}
	return false
}

// wanting reports whether a MemoryError at a peak of resident memory may be because
// this machine, or who runs sitefs on it, gives a compiler less than another would.
// Both are in bytes, and a peak of 0 isn't known; the bound is on what is mapped, and
// a request that fails is for no more than what is there.
func wanting(peak, bound uint64) bool {
	switch {
	case bound == unbounded:
		return false
	case peak == 0:
		return true
	}
	return peak >= modest && (bound < addressSpace || peak < addressSpace/2)
}
