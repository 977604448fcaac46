package view

import (
	"fmt"
	"log"
	"sync"
	"time"
)

// reportEvery keeps one bad disk from filling another with log lines: a program
// that retries can cause thousands of errors a second.
const reportEvery = time.Second

// reporter logs errors, at most one every reportEvery, and says how many it
// kept back.
type reporter struct {
	log *log.Logger
	now func() time.Time

	mu   sync.Mutex
	last time.Time
	text string // what was logged then
	kept int
}

func (r *reporter) report(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.last) < reportEvery {
		r.kept++
		return
	}
	r.text = fmt.Sprintf(format, args...)
	msg := r.text
	if r.kept > 0 {
		msg = fmt.Sprintf("%s (and %d more errors before)", msg, r.kept)
	}
	r.log.Print(msg)
	r.last, r.kept = now, 0
}

// lastText returns what was logged last.
func (r *reporter) lastText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}
