package progress

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sitefs/sitefs/store/bytecode"
)

// BeginCompile implements session.CompileProgress.
func (d *Display) BeginCompile(count int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tally = &tally{began: d.now(), total: count}
	d.begin(d.tally, "compiling "+sources(count))
}

// Compiled implements session.CompileProgress.
func (d *Display) Compiled(done int) { d.tally.done.Store(int64(done)) }

// EndCompile implements session.CompileProgress.
func (d *Display) EndCompile(s bytecode.Summary, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
	if d.quiet {
		return
	}
	if err == nil {
		d.say(d.tally.closing(d.now(), s))
	} else if s.Compiled > 0 {
		d.say(d.tally.ended(s))
	}
}

// A tally is what is known of a compilation.
type tally struct {
	began time.Time
	total int
	done  atomic.Int64
}

func (t *tally) closing(now time.Time, s bytecode.Summary) string {
	text := fmt.Sprintf("compiled %s in %s", sources(s.Compiled), seconds(now.Sub(t.began)))
	switch s.Failed {
	case 0:
	case 1:
		text += fmt.Sprintf("; %s can't be", s.Failures[0].Path)
	default:
		text += fmt.Sprintf("; %s and %d more can't be", s.Failures[0].Path, s.Failed-1)
	}
	return text
}

// ended is the closing of a compilation that was interrupted or failed.
func (t *tally) ended(s bytecode.Summary) string {
	return fmt.Sprintf("compiled %d of %s, which is kept", s.Compiled, sources(t.total))
}

func (t *tally) line(now time.Time, width int) string {
	done := int(t.done.Load())
	parts := []string{fmt.Sprintf("compiled %d of %s", done, sources(t.total))}
	if elapsed := now.Sub(t.began); done > 0 && done < t.total && elapsed >= time.Second {
		left := time.Duration(float64(t.total-done) / float64(done) * float64(elapsed))
		parts = append(parts, seconds(left)+" left")
	}
	text := fit(width, parts)
	if room := min(width-len(text)-2, maxBar); room >= minBar {
		text += "  " + bar(int64(done), int64(t.total), room)
	}
	return text
}

// lines are none: sources are too many and too quick to be named.
func (t *tally) lines(time.Time, int) []string { return nil }

func sources(n int) string {
	if n == 1 {
		return "1 source"
	}
	return fmt.Sprintf("%d sources", n)
}
