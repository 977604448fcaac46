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
	if err == nil && !d.quiet {
		d.say(d.tally.closing(d.now(), s))
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
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d can't be: templates and the like (-v lists them)", s.Failed)
	}
	return text
}

func (t *tally) line(now time.Time, width int) string {
	done := int(t.done.Load())
	parts := []string{fmt.Sprintf("compiled %d of %s", done, sources(t.total))}
	if elapsed := now.Sub(t.began); done > 0 && elapsed >= time.Second {
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
