package bytecode

import (
	"context"
	"sync"
	"time"
)

// startPatience is how long lookups wait for the first interpreter. One that hangs
// shall not hold up a program for as long as one that compiles.
const startPatience = 2 * time.Second

// A starter starts the interpreters of a host and knows when none runs because the
// first takes too long.
type starter struct {
	start func(context.Context) (interpreter, error)
	slow  func() // called when the first interpreter has had its time

	mu       sync.Mutex
	starting int // interpreters
	running  int // interpreters
	late     bool
}

// new starts an interpreter.
func (s *starter) new(ctx context.Context) (interpreter, error) {
	s.mu.Lock()
	s.starting++
	s.mu.Unlock()
	timer := time.AfterFunc(startPatience, s.check)
	defer timer.Stop()
	python, err := s.start(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting--
	s.late = s.late && err != nil && s.starting > 0
	if err != nil {
		return nil, err
	}
	s.running++
	return &counted{python, s}, nil
}

// check is called when an interpreter has had its time to start.
func (s *starter) check() {
	s.mu.Lock()
	s.late = s.running == 0 && s.starting > 0
	late := s.late
	s.mu.Unlock()
	if late {
		s.slow()
	}
}

// tooLong reports whether no interpreter runs because the first takes too long.
func (s *starter) tooLong() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// A counted interpreter is one of its starter's running ones.
type counted struct {
	interpreter
	starter *starter
}

func (c *counted) Close() error {
	c.starter.mu.Lock()
	c.starter.running--
	c.starter.mu.Unlock()
	return c.interpreter.Close()
}
